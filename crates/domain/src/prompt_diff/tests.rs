//! Tests of finding diffs in prompts.

use super::*;

const DIFF: &str = "--- a/one.txt\n+++ b/one.txt\n@@ -1,2 +1,2 @@\n-a\n+b\n c\n";

fn named(prompt: &str) -> Vec<String> {
    find(prompt)
        .iter()
        .map(|diff| match diff {
            PromptDiff::At(url) => url.to_string(),
            PromptDiff::Inline(text) => text.clone(),
        })
        .collect()
}

#[test]
fn the_addresses_of_forges_are_found_wherever_they_stand_in_a_sentence() {
    for (prompt, url, name) in [
        (
            "Review https://github.com/acme/api/pull/12.diff.",
            "https://github.com/acme/api/pull/12.diff",
            "pull-12.diff",
        ),
        (
            "(see <https://git.example:8443/a/b/pulls/3.patch>)",
            "https://git.example:8443/a/b/pulls/3.patch",
            "pulls-3.patch",
        ),
        (
            "[it](https://gitlab.com/g/s/p/-/merge_requests/7.diff), please",
            "https://gitlab.com/g/s/p/-/merge_requests/7.diff",
            "merge_requests-7.diff",
        ),
        (
            "https://github.com/a/b/commit/0123abc.patch",
            "https://github.com/a/b/commit/0123abc.patch",
            "commit-0123abc.patch",
        ),
        (
            "https://github.com/a/b/compare/v1...fix/x.diff",
            "https://github.com/a/b/compare/v1...fix/x.diff",
            "v1...fix-x.diff",
        ),
    ] {
        let found = find(prompt);

        assert_eq!(found, [PromptDiff::At(url.parse().expect("a URL"))], "{prompt}");
        assert_eq!(found[0].file_name(), name);
    }
}

#[test]
fn other_addresses_are_left_alone() {
    for prompt in [
        "https://github.com/acme/api/pull/12",
        "https://example.com/notes.diff",
        "https://github.com/pull/12.diff",
        "https://github.com/acme/api/pull/twelve.diff",
        "https://me:token@github.com/acme/api/pull/12.diff",
        "ftp://github.com/acme/api/pull/12.diff",
        "file:///etc/a/b/pull/12.diff",
    ] {
        assert!(find(prompt).is_empty(), "{prompt}");
    }
}

#[test]
fn the_same_address_counts_once_and_no_more_than_a_few_are_taken() {
    let many: String = (0..20).map(|number| format!("https://github.com/a/b/pull/{number}.diff ")).collect();

    assert_eq!(find(&many).len(), MAX_IN_PROMPT);
    assert_eq!(find("https://github.com/a/b/pull/1.diff and https://github.com/a/b/pull/1.diff").len(), 1);
}

#[test]
fn a_fenced_diff_and_a_bare_one_are_found_and_the_words_around_them_are_not() {
    let fenced = format!("Apply this:\n```diff\n{DIFF}```\n- and then this\n");
    let bare = format!("Apply this:\n{DIFF}- and then this\n+ and that\n");
    let tilde = format!("~~~~patch\n{DIFF}~~~\n~~~~\n");

    assert_eq!(named(&fenced), [DIFF]);
    assert_eq!(named(&bare), [DIFF]);
    assert_eq!(named(&tilde), [format!("{DIFF}~~~\n")]);
}

#[test]
fn a_diff_of_git_with_several_files_binary_data_and_no_newline_at_the_end_is_one() {
    let diff = "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n\
                diff --git a/r.sh b/r.sh\nold mode 100644\nnew mode 100755\n\
                diff --git a/p.bin b/p.bin\nnew file mode 100644\nindex 0000000..1111111\nGIT binary patch\nliteral 2\nJcmZQzU}\n\nliteral 0\nHcmV?d00001\n\n\
                diff --git a/n b/n\nindex 1234567..89abcde 100644\n--- a/n\n+++ b/n\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n";

    assert_eq!(named(&format!("Look:\n\n{diff}\nThanks\n")), [diff]);
    assert_eq!(named(diff.trim_end()), [diff], "the last line end may be missing");
}

#[test]
fn returns_that_the_way_has_put_there_are_taken_out_and_those_of_the_file_are_kept() {
    let through_a_form = DIFF.replace('\n', "\r\n");
    let of_the_file = "--- a/dos.txt\n+++ b/dos.txt\n@@ -1 +1 @@\n-a\r\n+b\r\n";

    assert_eq!(named(&through_a_form), [DIFF]);
    assert_eq!(named(of_the_file), [of_the_file]);
}

#[test]
fn lines_that_only_look_like_a_diff_are_none() {
    for prompt in [
        "- one\n+ two\n@@ here\n",
        "```diff\n- old\n+ new\n```\n",
        "---\ntitle: x\n---\n",
        "```rust\n--- a\n+++ b\n@@ -1 +1 @@\n```\n",
        "diff --git is a command\n",
        "```diff",
    ] {
        assert!(find(prompt).is_empty(), "{prompt}");
    }
}

#[test]
fn a_hunk_that_counts_more_than_there_is_ends_with_the_text() {
    let huge = format!("--- a/x\n+++ b/x\n@@ -1,{0} +1,{0} @@\n-a\n", u64::MAX);

    assert_eq!(named(&huge), std::slice::from_ref(&huge));
}

//! What patches do, case by case. The behaviour is that of the `apply_patch` that models know, except where a test
//! says otherwise.

use std::collections::BTreeMap;

use super::{Original, Planned, parse, plan};

/// The file after a patch to it, or the error.
fn patched(content: &str, hunks: &str) -> Result<String, String> {
    let files = run(&[("f", content)], &format!("*** Begin Patch\n*** Update File: f\n{hunks}\n*** End Patch"))?;
    Ok(files.files["f"].clone().expect("not deleted").0)
}

fn run(files: &[(&str, &str)], patch: &str) -> Result<Planned, String> {
    let originals: BTreeMap<String, Original> = files
        .iter()
        .map(|(path, content)| ((*path).to_owned(), Original::Text { content: (*content).to_owned(), mode: 0o644 }))
        .collect();
    let sections = parse(patch).map_err(|error| error.to_string())?;
    plan(&sections, &originals).map_err(|error| error.to_string())
}

fn error(content: &str, hunks: &str) -> String {
    patched(content, hunks).expect_err("it must not apply")
}

#[test]
fn a_line_is_replaced() {
    assert_eq!(patched("a\nb\nc\n", "@@\n a\n-b\n+B\n c"), Ok("a\nB\nc\n".to_owned()));
}

#[test]
fn the_first_hunk_may_do_without_its_header() {
    assert_eq!(patched("a\nb\n", "-a\n+A\n b"), Ok("A\nb\n".to_owned()));
}

#[test]
fn several_hunks_change_several_places() {
    let result = patched("1\n2\n3\n4\n5\n6\n", "@@\n 1\n-2\n+two\n@@\n 5\n-6\n+six");

    assert_eq!(result, Ok("1\ntwo\n3\n4\n5\nsix\n".to_owned()));
}

#[test]
fn a_header_says_which_of_two_like_places() {
    let file = "def a():\n    pass\ndef b():\n    pass\n";

    assert_eq!(
        patched(file, "@@ def b():\n-    pass\n+    return 1"),
        Ok("def a():\n    pass\ndef b():\n    return 1\n".to_owned())
    );
}

#[test]
fn several_headers_lead_deeper_and_deeper() {
    let file = "class A\n  def f\n    x\nclass B\n  def f\n    x\n";

    assert_eq!(
        patched(file, "@@ class B\n@@   def f\n-    x\n+    y"),
        Ok("class A\n  def f\n    x\nclass B\n  def f\n    y\n".to_owned())
    );
}

#[test]
fn a_header_may_repeat_the_first_line_of_its_hunk() {
    assert_eq!(patched("a\nb\n", "@@ a\n a\n-b\n+c"), Ok("a\nc\n".to_owned()));
}

#[test]
fn the_line_numbers_of_a_unified_diff_are_ignored() {
    assert_eq!(
        patched("a\nb\n", "@@ -1,2 +1,2 @@ fn x\n-b\n+c"),
        Err("`f`, the hunk at line 3 of the patch: the file has no line `fn x`, as its `@@` says".to_owned())
    );
    assert_eq!(patched("a\nb\n", "@@ -1,2 +1,2 @@\n-b\n+c"), Ok("a\nc\n".to_owned()));
}

#[test]
fn new_lines_without_a_place_go_to_the_end() {
    assert_eq!(patched("a\n", "@@\n+b"), Ok("a\nb\n".to_owned()));
}

#[test]
fn new_lines_without_a_place_go_to_the_end_even_when_other_hunks_follow() {
    assert_eq!(patched("a\nb\n", "@@\n+c\n@@\n-a\n+A"), Ok("A\nb\nc\n".to_owned()));
}

#[test]
fn the_end_of_the_last_line_may_be_taken_for_an_empty_line() {
    assert_eq!(patched("a\nb\n", "@@\n a\n-b\n-\n+c\n+"), Ok("a\nc\n".to_owned()));
    assert!(patched("a\nb\nc\n", "@@\n a\n-b\n-\n+c").is_err(), "only at the end of the file");
}

/// Codex's own program puts them at the end of the file, far from the line that the patch names.
#[test]
fn new_lines_under_a_header_follow_it() {
    assert_eq!(patched("a\nb\nc\n", "@@ a\n+new"), Ok("a\nnew\nb\nc\n".to_owned()));
}

#[test]
fn end_of_file_chooses_the_last_of_like_places() {
    assert_eq!(patched("x\ny\nx\n", "@@\n-x\n+z\n*** End of File"), Ok("x\ny\nz\n".to_owned()));
}

#[test]
fn end_of_file_does_not_mind_blank_lines_after_it() {
    assert_eq!(patched("x\ny\nx\n\n", "@@\n-x\n+z\n*** End of File"), Ok("x\ny\nz\n\n".to_owned()));
}

#[test]
fn end_of_file_in_the_middle_of_the_file_is_refused() {
    assert_eq!(
        error("a\nb\nc\n", "@@\n-a\n+A\n*** End of File"),
        "`f`, the hunk at line 3 of the patch: its lines stand at line 1 of the file, but the file does not end there"
    );
}

#[test]
fn white_space_at_the_end_of_lines_may_differ_and_kept_lines_stay_as_they_are() {
    assert_eq!(patched("a  \nb\t\n", "@@\n a\n-b\n+c"), Ok("a  \nc\n".to_owned()));
}

#[test]
fn white_space_around_lines_may_differ() {
    assert_eq!(patched("    a\n    b\n", "@@\n a\n-b\n+    c"), Ok("    a\n    c\n".to_owned()));
}

#[test]
fn typographic_characters_match_plain_ones() {
    let file = "it\u{2019}s \u{201c}so\u{201d}\u{a0}\u{2013} yes\nb\n";

    assert_eq!(patched(file, "@@\n it's \"so\" - yes\n-b\n+c"), Ok(file.replace("b\n", "c\n")));
}

#[test]
fn an_exact_place_is_taken_before_an_earlier_tolerant_one() {
    assert_eq!(patched("  a\na\n", "@@\n-a\n+b"), Ok("  a\nb\n".to_owned()));
}

#[test]
fn windows_line_ends_stay_and_new_lines_get_them() {
    assert_eq!(patched("a\r\nb\r\nc\r\n", "@@\n a\n-b\n+B\n+BB"), Ok("a\r\nB\r\nBB\r\nc\r\n".to_owned()));
}

#[test]
fn a_last_line_without_an_end_does_not_make_the_file_another_systems() {
    assert_eq!(patched("a\r\nb", "@@\n-a\n-b\n+c"), Ok("c\r\n".to_owned()));
}

#[test]
fn mixed_line_ends_stay_where_nothing_changes() {
    assert_eq!(patched("a\r\nb\nc\n", "@@\n-b\n+B"), Ok("a\r\nB\nc\n".to_owned()));
}

#[test]
fn a_missing_line_end_stays_missing_unless_the_last_line_changes() {
    assert_eq!(patched("a\nb", "@@\n-a\n+A"), Ok("A\nb".to_owned()));
    assert_eq!(patched("a\nb", "@@\n-b\n+B"), Ok("a\nB\n".to_owned()));
    assert_eq!(patched("a\nb", "@@\n b\n+c"), Ok("a\nb\nc\n".to_owned()));
}

#[test]
fn an_empty_kept_line_may_have_lost_its_space() {
    assert_eq!(patched("a\n\nb\n", "@@\n a\n\n-b\n+c"), Ok("a\n\nc\n".to_owned()));
}

#[test]
fn an_empty_file_gets_its_first_lines() {
    assert_eq!(patched("", "@@\n+a"), Ok("a\n".to_owned()));
}

#[test]
fn every_line_may_be_removed() {
    assert_eq!(patched("a\nb\n", "@@\n-a\n-b"), Ok(String::new()));
}

#[test]
fn hunks_out_of_the_order_of_the_file_are_refused_with_where_they_are() {
    let problem = error("a\nb\nc\n", "@@\n-c\n+C\n@@\n-a\n+A");

    assert!(problem.contains("line 1 of the file") && problem.contains("order of the file"), "{problem}");
}

#[test]
fn a_hunk_without_a_place_says_where_it_was_nearest() {
    assert_eq!(
        error("a\nb\nc\n", "@@\n a\n b\n-x\n+y"),
        "`f`, the hunk at line 3 of the patch: it is nearest to line 1 of the file, where 2 of its 3 lines stand; but line 3 of the file is `c`, where the hunk has `x`. The file there:\n1:a\n2:b\n3:c"
    );
    assert_eq!(
        error("let count = 1;\nb\n", "@@\n-let counts = 1;\n+y"),
        "`f`, the hunk at line 3 of the patch: none of its lines is in the file, such as `let counts = 1;`; the most like it:\n1:let count = 1;\n2:b\n; read the file again"
    );
    assert_eq!(
        error("a\nb\n", "@@\n-entirely different\n+y"),
        "`f`, the hunk at line 3 of the patch: none of its lines is in the file, such as `entirely different`; read the file again"
    );
}

#[test]
fn what_an_error_shows_of_a_file_is_bounded() {
    let long = format!("{}\n", "x".repeat(100_000));
    let file = format!("a\n{}", long.repeat(200));

    let problem = error(&file, &format!("@@\n a\n{}-y\n+z", format!(" {long}").repeat(150)));

    assert!(problem.len() < 15_000 && problem.contains("more bytes]"), "{}", problem.len());
}

#[test]
fn files_are_added_deleted_moved_and_changed_in_one_patch() {
    let planned = run(
        &[("old", "x\n"), ("gone", "1\n2\n"), ("from", "a\nb\n")],
        "*** Begin Patch\n*** Add File: new/er\n+hello\n+\n*** Update File: old\n@@\n-x\n+y\n*** Delete File: gone\n*** Update File: from\n*** Move to: to\n@@\n-b\n+c\n*** End Patch\n",
    )
    .expect("it applies");

    let content = |path: &str| planned.files[path].as_ref().map(|(content, _)| content.as_str());
    assert_eq!(content("new/er"), Some("hello\n\n"));
    assert_eq!(content("old"), Some("y\n"));
    assert_eq!(content("gone"), None);
    assert_eq!(content("from"), None);
    assert_eq!(content("to"), Some("a\nc\n"));
    let said: Vec<_> =
        planned.changes.iter().map(|change| (change.path.as_str(), change.additions, change.deletions)).collect();
    assert_eq!(said, [("new/er", 2, 0), ("old", 1, 1), ("gone", 0, 2), ("to", 1, 1)]);
}

#[test]
fn a_file_may_be_moved_without_a_change_and_keeps_its_mode() {
    let planned = run(&[("a", "x")], "*** Begin Patch\n*** Update File: a\n*** Move to: b\n*** End Patch");

    assert_eq!(planned.expect("it applies").files["b"], Some(("x".to_owned(), Some(0o644))));
}

#[test]
fn a_file_that_is_moved_replaces_what_is_there() {
    let patch = "*** Begin Patch\n*** Update File: a\n*** Move to: b\n@@\n-x\n+y\n*** End Patch";

    let planned = run(&[("a", "x\n"), ("b", "old\n")], patch).expect("it applies");

    assert_eq!(planned.files["b"], Some(("y\n".to_owned(), Some(0o644))));
    assert_eq!(planned.files["a"], None);
}

#[test]
fn two_sections_for_one_file_follow_each_other() {
    let planned = run(
        &[("f", "a\n")],
        "*** Begin Patch\n*** Update File: f\n@@\n-a\n+b\n*** Update File: f\n@@\n-b\n+c\n*** End Patch",
    );

    assert_eq!(planned.expect("it applies").files["f"].as_ref().map(|file| file.0.as_str()), Some("c\n"));
}

#[test]
fn adding_a_file_that_exists_replaces_it() {
    let planned = run(&[("f", "a\n")], "*** Begin Patch\n*** Add File: f\n+b\n*** End Patch").expect("it applies");

    assert_eq!(planned.files["f"], Some(("b\n".to_owned(), Some(0o644))));
    assert_eq!((planned.changes[0].additions, planned.changes[0].deletions), (1, 1));
}

#[test]
fn what_is_not_there_cannot_be_updated_or_deleted() {
    for (patch, expected) in [
        ("*** Update File: no\n@@\n-a\n+b", "`no` is not there, so it cannot be updated"),
        ("*** Delete File: no", "`no` is not there, so it cannot be deleted"),
    ] {
        let problem = run(&[("f", "a")], &format!("*** Begin Patch\n{patch}\n*** End Patch")).expect_err(patch);
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn white_space_fences_and_here_documents_around_a_patch_do_no_harm() {
    let patch = "*** Begin Patch\n*** Delete File: f\n*** End Patch";
    for text in [
        format!("\n\n{patch}\n\n"),
        format!("```\n{patch}\n```"),
        format!("<<'EOF'\n{patch}\nEOF\n"),
        format!("  {}  ", patch.replace('\n', "  \n")),
        patch.replace('\n', "\r\n"),
    ] {
        assert!(run(&[("f", "a")], &text).is_ok(), "{text:?}");
    }
}

#[test]
fn what_is_no_patch_is_refused_with_the_line_and_what_is_right() {
    for (patch, expected) in [
        ("", "line 1 of the patch: a patch begins with"),
        ("*** Begin Patch\n*** End Patch", "line 2 of the patch: the patch changes no file"),
        ("*** Begin Patch\n*** Delete File: a", "line 2 of the patch: the patch does not end"),
        ("*** Begin Patch\nhello\n*** End Patch", "line 2 of the patch: `hello` begins no section"),
        ("*** Begin Patch\n*** Update File: a\n*** End Patch", "line 2 of the patch: the section for `a` has no hunk"),
        ("*** Begin Patch\n*** Update File: a\n@@\n*** End Patch", "line 3 of the patch: the hunk has no lines"),
        ("*** Begin Patch\n*** Update File: a\n@@\nfoo\n*** End Patch", "line 4 of the patch: every line of a hunk"),
        ("*** Begin Patch\n*** Add File: a\nfoo\n*** End Patch", "line 3 of the patch: every line of an added file"),
        ("*** Begin Patch\n*** Add File:  \n+a\n*** End Patch", "line 2 of the patch: the path is missing"),
        (
            "*** Begin Patch\n*** Delete File: a\n*** End Patch\n*** Delete File: b",
            "line 4 of the patch: there is more",
        ),
    ] {
        let problem = parse(patch).expect_err(patch).to_string();
        assert!(problem.starts_with(expected), "{patch:?}: {problem}");
    }
}

#[test]
fn a_file_with_a_byte_order_mark_keeps_it_whichever_line_is_changed() {
    let file = "\u{feff}first\nsecond\n";

    for (hunks, expected) in [
        ("@@\n-first\n+1st", "\u{feff}1st\nsecond\n"),
        ("@@\n-\u{feff}first\n+\u{feff}1st", "\u{feff}1st\nsecond\n"),
        ("@@ first\n-second\n+2nd", "\u{feff}first\n2nd\n"),
        ("@@\n+zeroth\n first", "\u{feff}zeroth\nfirst\nsecond\n"),
    ] {
        assert_eq!(patched(file, hunks), Ok(expected.to_owned()), "{hunks}");
    }
}

#[test]
fn what_takes_the_place_of_a_file_is_named() {
    let replaced = |patch: &str| {
        let patch = format!("*** Begin Patch\n{patch}\n*** End Patch");
        run(&[("a", "x\n"), ("b", "y\n")], &patch).expect("a patch").replaced
    };

    assert_eq!(replaced("*** Update File: a\n*** Move to: b"), ["b"]);
    assert_eq!(replaced("*** Add File: a\n+z"), ["a"]);
    assert_eq!(replaced("*** Delete File: b\n*** Update File: a\n*** Move to: b"), [""; 0]);
    assert_eq!(replaced("*** Update File: a\n@@\n-x\n+y\n*** Add File: c\n+z"), [""; 0]);
}

#[test]
fn a_removed_line_that_looks_like_a_marker_is_a_removed_line() {
    assert_eq!(patched("*** Begin Patch\nb\n", "@@\n-*** Begin Patch\n+x"), Ok("x\nb\n".to_owned()));
}

#[test]
fn a_patch_of_a_hundred_thousand_lines_takes_no_quadratic_time() {
    let file: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
    let hunks: Vec<String> = (0..1000).map(|number| format!("@@\n-line {}\n+new {number}", number * 100)).collect();

    let result = patched(&file, &hunks.join("\n")).expect("it applies");

    assert_eq!(result.lines().filter(|line| line.starts_with("new")).count(), 1000);
}

#[test]
fn a_line_of_the_file_may_look_like_the_end_of_file_mark() {
    let file = "a\n*** End of File\nb\n";

    assert_eq!(patched(file, "@@\n a\n *** End of File\n-b\n+B"), Ok("a\n*** End of File\nB\n".to_owned()));
}

#[test]
fn a_blank_line_before_the_next_hunk_belongs_to_none() {
    assert_eq!(patched("1\n2\n3\n4\n", "@@\n-1\n+one\n\n@@\n-3\n+three"), Ok("one\n2\nthree\n4\n".to_owned()));
}

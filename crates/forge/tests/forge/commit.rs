//! A patch becomes a commit whose tree is the one the patch was made from; or it is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use carrel_domain::patch::ChangeKind;
use carrel_domain::{CommitOid, PatchSummary};
use carrel_forge::{ForgeError, patch};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::support::{Repository, World, branch, command, git, request};

/// A commit with a bit of everything, and then changes of every kind in the work tree.
fn changed_in_every_way(source: &Repository) -> CommitOid {
    let lines: String = (0..40).map(|number| format!("line {number}\n")).collect();
    let binary: Vec<u8> = (0..5_000_u32).map(|number| (number * 7 % 256) as u8).collect();
    source.write("modified.txt", &lines);
    source.write("moved.txt", lines.replace("line", "row"));
    source.write("moved and changed.txt", lines.replace("line", "verse"));
    source.write("deleted.txt", "gone soon\n");
    source.write("deleted-empty", "");
    source.write("script.sh", "#!/bin/sh\n");
    source.write("binary.bin", &binary);
    source.write("crlf.txt", "one\r\ntwo\r\nthree\r\n");
    source.write("no-newline.txt", "a\nb");
    source.write("kind", "a file\n");
    source.write("latin1.txt", b"caf\xe9\n");
    symlink("modified.txt", source.path.join("link")).expect("a link");
    let base = source.commit("a bit of everything");

    source.write("modified.txt", lines.replace("line 3\n", "-- looks like a header\n").replace("line 39\n", "++ b\n"));
    source.write("added/deep/file.txt", "new\n");
    source.write("added-empty", "");
    source.write("ünï cödé ☃.txt", "snow\n");
    source.write("tab\tquote\"back\\slash\nline", "odd\n");
    source.write(" leading and trailing ", "spaces\n");
    fs::create_dir(source.path.join("dir")).expect("a folder");
    for (from, to) in [("moved.txt", "dir/moved.txt"), ("moved and changed.txt", "dir/moved ünd changed.txt")] {
        fs::rename(source.path.join(from), source.path.join(to)).expect("a move");
    }
    source.write("dir/moved ünd changed.txt", lines.replace("line", "verse").replace("verse 7\n", "VERSE 7\n"));
    for gone in ["deleted.txt", "deleted-empty", "link", "kind"] {
        fs::remove_file(source.path.join(gone)).expect("a file");
    }
    fs::set_permissions(source.path.join("script.sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    source.write("binary.bin", [&binary[..2_000], b"something else", &binary[2_500..]].concat());
    source.write("new.bin", &binary[1_000..]);
    source.write("crlf.txt", "one\r\nTWO\r\nthree\r\n");
    source.write("no-newline.txt", "a\nc");
    source.write("latin1.txt", b"th\xe9\n");
    symlink("/etc/passwd", source.path.join("link")).expect("a link");
    symlink("dir", source.path.join("kind")).expect("a link");
    base
}

/// The work tree against its commit, as a file beside the repository.
fn diff(source: &Repository, options: &[&str]) -> PathBuf {
    source.git(&["add", "--all", "--intent-to-add"]);
    let arguments = [&["diff", "--binary", "--full-index"], options, &["HEAD"]].concat();
    let output = command(&source.path).args(arguments).output().expect("git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = source.path.with_extension("patch");
    fs::write(&file, output.stdout).expect("a patch");
    file
}

#[tokio::test]
async fn a_patch_with_every_kind_of_change_becomes_the_tree_it_was_made_from() {
    let world = World::new();
    let base = changed_in_every_way(&world.source);
    let mirror = world.fetch().await.expect("a mirror");

    for options in [&["-M", "-C"][..], &["--no-renames"], &["-U0"], &["-M", "-B", "-U20"]] {
        let patch = diff(&world.source, options);
        // No context lines at all are git's to refuse: `apply` wants `--unidiff-zero` for them.
        let made = mirror.commit_patch(&request(&base, &patch)).await;
        if options == ["-U0"] {
            assert!(matches!(made, Err(ForgeError::PatchDoesNotApply { .. })), "{made:?}");
            continue;
        }
        let made = made.unwrap_or_else(|error| panic!("{options:?}: {error}"));
        world.source.git(&["add", "--all"]);
        let tree = git(mirror.path(), &["rev-parse", &format!("{made}^{{tree}}")]);
        assert_eq!(tree, world.source.git(&["write-tree"]), "{options:?}");
        world.source.git(&["reset", "--quiet"]);
    }
}

#[tokio::test]
async fn the_summary_of_a_patch_is_what_git_says_of_it() {
    let world = World::new();
    changed_in_every_way(&world.source);
    let file = diff(&world.source, &["-M"]);

    let summary = patch::parse(&fs::read(&file).expect("a patch")).expect("an honest patch");

    assert_eq!(numbers(&summary), numbers_of_git(&world.source.path, &file).expect("git takes it"));
    let of = |path: &str, kind| {
        let found = summary.files.iter().find(|file| file.path == path && file.kind == kind);
        found.unwrap_or_else(|| panic!("no {kind:?} {path}"))
    };
    assert_eq!(of("dir/moved.txt", ChangeKind::Renamed).old_path.as_deref(), Some("moved.txt"));
    assert_eq!(of("dir/moved ünd changed.txt", ChangeKind::Renamed).additions, 1);
    assert!(of("new.bin", ChangeKind::Added).binary && of("binary.bin", ChangeKind::Modified).binary);
    assert_eq!(of("tab\tquote\"back\\slash\nline", ChangeKind::Added).additions, 1);
    of("deleted.txt", ChangeKind::Deleted);
    assert_eq!(of("added-empty", ChangeKind::Renamed).old_path.as_deref(), Some("deleted-empty"));
    of("script.sh", ChangeKind::Modified);
    of("kind", ChangeKind::Deleted);
    of("kind", ChangeKind::Added);
}

#[tokio::test]
async fn the_same_facts_make_the_same_commit_with_the_person_as_author_and_us_as_committer() {
    let world = World::new();
    let (mirror, first) = world.made("new.txt").await;
    let base = world.source.oid("HEAD");

    let second = world.commit_onto(&mirror, &base, "new.txt").await;

    assert_eq!(first, second);
    let shown = git(mirror.path(), &["show", "--no-patch", "--format=%P|%an|%ae|%ai|%cn|%ce|%ci|%B", first.as_str()]);
    assert_eq!(
        shown,
        format!(
            "{base}|Ada|ada@example.com|2026-09-21 14:13:20 +0000|Carrel|carrel@localhost|2026-09-21 14:13:20 +0000|\
             Add a thing\n\nBecause."
        )
    );
    git(mirror.path(), &["gc", "--quiet", "--prune=now"]);
    git(mirror.path(), &["cat-file", "-e", first.as_str()]);
}

#[tokio::test]
async fn odd_names_and_messages_make_a_commit_all_the_same() {
    let world = World::new();
    let (mirror, _) = world.made("new.txt").await;
    let base = world.source.oid("HEAD");
    let patch = world.path("made.patch");

    for (name, email, message, expected) in [
        ("", "<>", "", "unknown|unknown|Changes by an agent"),
        ("A\n<b>", "a@b>\nx: y", "one\0two\x1b[31m\r\nthree", "Ab|a@bx: y|onetwo[31m\nthree"),
        ("--amend", "-x", "--file=/etc/passwd", "--amend|-x|--file=/etc/passwd"),
    ] {
        let request =
            carrel_forge::CommitRequest { author_name: name, author_email: email, message, ..request(&base, &patch) };
        let made = mirror.commit_patch(&request).await.expect("a commit");
        assert_eq!(git(mirror.path(), &["show", "--no-patch", "--format=%an|%ae|%B", made.as_str()]), expected);
    }
}

#[tokio::test]
async fn a_patch_that_does_not_apply_is_refused_in_gits_words_and_leaves_nothing() {
    let world = World::new();
    let mirror = world.fetch().await.expect("a mirror");
    let base = mirror.resolve(&branch("main")).await.expect("main").commit;
    let patch = world.path("bad.patch");
    fs::write(
        &patch,
        "diff --git a/README.md b/README.md\n--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-# Other\n+# New\n",
    )
    .expect("a patch");

    let error = mirror.commit_patch(&request(&base, &patch)).await.expect_err("another context");

    assert!(matches!(&error, ForgeError::PatchDoesNotApply { words } if words.contains("README.md")), "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!(git(mirror.path(), &["for-each-ref", "refs/carrel/made"]), "");
    let left = fs::read_dir(world.path("mirrors")).expect("a folder").count();
    assert_eq!(left, 2, "the mirror and its lock");
}

#[tokio::test]
async fn hostile_patches_are_refused() {
    let world = World::new();
    let mirror = world.fetch().await.expect("a mirror");
    let base = mirror.resolve(&branch("main")).await.expect("main").commit;
    let patch = world.path("bad.patch");
    let add = |path: &str, mode: &str, line: &str| {
        format!(
            "diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{line}\n"
        )
    };

    for (text, expected) in [
        (String::new(), "it is empty"),
        (add(".git/hooks/post-checkout", "100755", "x"), "must not be written"),
        (add("sub/.GiT/config", "100644", "x"), "must not be written"),
        (add("lib", "160000", "Subproject commit e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"), "submodule"),
        (format!("{}{}", add("link", "120000", "/etc"), add("link/passwd", "100644", "x")), "does not apply"),
        (add(".gitmodules", "120000", "x"), "does not apply"),
        (format!("garbage\n{}", add("x", "100644", "x")), "line 1 is not the beginning"),
    ] {
        fs::write(&patch, &text).expect("a patch");
        let error = mirror.commit_patch(&request(&base, &patch)).await.expect_err(&text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let missing = "0123456789012345678901234567890123456789".parse().expect("an object name");
    fs::write(&patch, add("x", "100644", "x")).expect("a patch");
    let error = mirror.commit_patch(&request(&missing, &patch)).await.expect_err("no such base");
    assert!(matches!(error, ForgeError::UnknownCommit { .. }), "{error:?}");
}

/// Path, added lines, removed lines; none for binary files.
type Numbers = BTreeSet<(String, Option<(u64, u64)>)>;

fn numbers(summary: &PatchSummary) -> Numbers {
    let of = |file: &carrel_domain::FileChange| (!file.binary).then_some((file.additions, file.deletions));
    summary.files.iter().map(|file| (file.path.clone(), of(file))).collect()
}

/// What `git apply` reads in the patch; none when it refuses it.
fn numbers_of_git(folder: &Path, patch: &Path) -> Option<Numbers> {
    let output = command(folder).args(["apply", "--numstat", "-z", "--"]).arg(patch).output().expect("git");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    output.status.success().then(|| {
        text.split_terminator('\0')
            .map(|entry| {
                let mut fields = entry.splitn(3, '\t');
                let (added, removed) = (fields.next().expect("lines"), fields.next().expect("lines"));
                let path = fields.next().expect("a path").to_owned();
                (path, added.parse().ok().zip(removed.parse().ok()))
            })
            .collect()
    })
}

/// Headers and contents whose names may or may not agree.
fn patch_like() -> impl Strategy<Value = String> {
    let name =
        prop::sample::select(vec!["x", "y", "x y", "x b/x", "d/x", "d//x", "\"x\"", "x\\t", "\u{fc}", "x\tz", " x"]);
    let form = prop::sample::select(vec![
        "diff --git a/A b/A\n--- a/A\n+++ b/A\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/A b/B\n--- a/A\n+++ b/B\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/A b/A\n--- a/A\t\n+++ b/A\t\n@@ -1 +1,2 @@\n a\n+b\n",
        "diff --git \"a/A\" \"b/A\"\n--- \"a/A\"\n+++ \"b/A\"\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/A \"b/A\"\n--- a/A\n+++ \"b/A\"\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/A b/B\nsimilarity index 100%\nrename from A\nrename to B\n",
        "diff --git a/A b/B\ncopy from A\ncopy to B\n--- a/A\n+++ b/B\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/A b/A\nold mode 100644\nnew mode 100755\n",
        "diff --git a/A b/A\nnew file mode 100644\n--- /dev/null\n+++ b/B\n@@ -0,0 +1 @@\n+a\n",
        "diff --git a/A b/A\ndeleted file mode 100644\n--- a/A\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n",
        "diff --git a/A b/A\nnew file mode 100644\nindex 0000000..e69de29\n",
        "diff --git a/A b/A\nnew file mode 120000\n--- /dev/null\n+++ b/A\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n",
    ]);
    let file = (form, name.clone(), name).prop_map(|(form, a, b)| form.replace('A', a).replace('B', b));
    (prop::collection::vec(file, 1..4), any::<prop::sample::Index>(), prop::option::weighted(0.3, any::<u8>()))
        .prop_map(|(files, at, byte)| {
            let mut text = files.concat();
            if let Some(byte) = byte {
                let at = at.index(text.len());
                if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                    text.replace_range(at..=at, &char::from(byte % 0x80).to_string());
                }
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_patch_that_we_and_git_take_means_the_same_to_both(text in patch_like()) {
        if let Ok(summary) = patch::parse(text.as_bytes()) {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("a patch");
            if let Some(expected) = numbers_of_git(Path::new("/"), file.path()) {
                prop_assert_eq!(numbers(&summary), expected, "{}", text);
            }
        }
    }
}

#[test]
fn the_generated_patches_are_often_good() {
    // Or the comparison above would compare nothing.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let taken = (0..200).filter(|_| {
        let text = patch_like().new_tree(&mut runner).expect("a patch").current();
        patch::parse(text.as_bytes()).is_ok()
    });
    assert!(taken.count() > 20);
}

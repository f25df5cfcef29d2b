//! Patches as git makes them, and as nobody honest would.

use proptest::prelude::*;

use super::*;

const OID: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

/// A patch that modifies this file, by its names as they stand in the header.
fn modifying(both: &str, old: &str, new: &str) -> String {
    format!("diff --git {both}\nindex {OID}..{OID} 100644\n--- {old}\n+++ {new}\n@@ -1 +1,2 @@\n-a\n+b\n+c\n")
}

fn change(path: &str, kind: ChangeKind) -> FileChange {
    FileChange { path: path.to_owned(), old_path: None, kind, additions: 0, deletions: 0, binary: false }
}

#[test]
fn lines_are_counted_by_the_hunks_and_not_by_what_they_look_like() {
    let patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ diff --git a/y b/y\n--- a/fake\n+++ b/fake\n \n";

    let summary = parse(patch.as_bytes()).expect("a patch");

    let expected = FileChange { additions: 1, deletions: 1, ..change("x", ChangeKind::Modified) };
    assert_eq!(summary.files, [expected]);
    assert_eq!((summary.additions, summary.deletions, summary.size_bytes), (1, 1, patch.len() as u64));
}

#[test]
fn nothing_is_a_patch_without_files() {
    assert_eq!(parse(b""), Ok(PatchSummary::default()));
}

#[test]
fn a_file_may_be_replaced_by_one_of_another_kind_and_no_other_way_appear_twice() {
    let gone = format!("diff --git a/x b/x\ndeleted file mode 100644\nindex {OID}..{OID}\n");
    let back = format!("diff --git a/x b/x\nnew file mode 120000\nindex {OID}..{OID}\n");

    let replaced = parse(format!("{gone}{back}").as_bytes()).expect("a patch");

    assert_eq!(replaced.files, [change("x", ChangeKind::Deleted), change("x", ChangeKind::Added)]);
    for twice in [format!("{back}{gone}"), format!("{gone}{gone}"), format!("{gone}{back}{gone}")] {
        assert_eq!(parse(twice.as_bytes()), Err(PatchError::Twice { path: "x".to_owned() }), "{twice}");
    }
}

#[test]
fn unsafe_paths_are_refused_however_they_are_written() {
    for (both, old, new) in [
        ("a/.git/config b/.git/config", "a/.git/config", "b/.git/config"),
        ("a/../x b/../x", "a/../x", "b/../x"),
        ("a//etc/passwd b//etc/passwd", "a//etc/passwd", "b//etc/passwd"),
        (r#""a/\056git/x" "b/\056git/x""#, r#""a/\056git/x""#, r#""b/\056git/x""#),
        (r#""a/.\107IT/x" "b/.\107IT/x""#, r#""a/.\107IT/x""#, r#""b/.\107IT/x""#),
        (r#""a/.g\342\200\214it/x" "b/.g\342\200\214it/x""#, "", ""),
        (r#""a/x\000" "b/x\000""#, "", ""),
        ("a/GIT~1/x b/GIT~1/x", "", ""),
        ("a/.git./x b/.git./x", "", ""),
    ] {
        let refused = parse(modifying(both, old, new).as_bytes());
        assert!(matches!(refused, Err(PatchError::UnsafePath { .. })), "{both}: {refused:?}");
    }
    for header in ["rename from x\nrename to .git/y", "copy from .git/x\ncopy to y"] {
        let name = if header.starts_with("rename") { "a/x b/.git/y" } else { "a/.git/x b/y" };
        let refused = parse(format!("diff --git {name}\nsimilarity index 100%\n{header}\n").as_bytes());
        assert!(matches!(refused, Err(PatchError::UnsafePath { .. })), "{header}: {refused:?}");
    }
}

#[test]
fn headers_whose_lines_disagree_are_refused() {
    let both = "a/x b/x";
    for patch in [
        modifying(both, "a/y", "b/x"),
        modifying(both, "a/x", "b/y"),
        modifying(both, "/dev/null", "b/x"),
        modifying(both, "a/x", "/dev/null"),
        modifying("a/x b/y", "a/x", "b/y"),
        modifying("x x", "x", "x"),
        modifying(both, "a/x\t2026-01-01", "b/x"),
        modifying("a/x b/x\t", "a/x", "b/x"),
        "diff --git a/x b/y\nrename from x\nrename to z\n".to_owned(),
        "diff --git a/x b/y\nrename from x\n".to_owned(),
        "diff --git a/x b/x\nrename from x\nrename to x\n".to_owned(),
        "diff --git a/x b/y\nrename from x\nrename to y\ncopy from x\ncopy to y\n".to_owned(),
        "diff --git a/x b/x\nnew file mode 100644\ndeleted file mode 100644\n".to_owned(),
        "diff --git a/x b/x\nold mode 100644\n".to_owned(),
        "diff --git a/x b/x\nold mode 100644\nold mode 100644\nnew mode 100755\n".to_owned(),
        "diff --git a/x b/x\nnew file mode 100777\n".to_owned(),
        "diff --git a/x b/x\nnew file mode 040000\n".to_owned(),
        "diff --git a/x b/x\n".to_owned(),
        format!("diff --git a/x b/x\nindex {OID}..{OID} 100644\n"),
        "diff --git a/x b/x\nindex ..\n".to_owned(),
        "diff --git a/x b/x\nsimilarity index 1000%\nold mode 100644\nnew mode 100755\n".to_owned(),
    ] {
        assert!(matches!(parse(patch.as_bytes()), Err(PatchError::Malformed { .. })), "{patch}");
    }
}

#[test]
fn text_that_is_no_patch_is_refused_and_not_skipped() {
    let good = modifying("a/x b/x", "a/x", "b/x");
    for patch in [
        format!("From: somebody\n\n{good}"),
        format!("{good}\n"),
        format!("{good}-- \n2.47.3\n"),
        format!("{good}+one more\n"),
        good.replace("@@ -1 +1,2 @@", "@@ -1 +1,3 @@"),
        good.replace("@@ -1 +1,2 @@", "@@ -1,0 +1,0 @@"),
        good.replace("@@ -1 +1,2 @@", "@@ -1 +1,99999999999 @@"),
        good.replace("@@ -1 +1,2 @@", "@@ -1 +1,2"),
        good.replace("-a\n", "\\ No newline at end of file\n"),
        good.trim_end().to_owned(),
        good.replace('\n', "\r\n"),
        "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
    ] {
        assert!(matches!(parse(patch.as_bytes()), Err(PatchError::Malformed { .. })), "{patch}");
    }
}

#[test]
fn submodules_are_refused_in_every_form() {
    for header in [
        "new file mode 160000",
        "deleted file mode 160000",
        "old mode 100644\nnew mode 160000",
        "old mode 160000\nnew mode 100644",
        "index 1234567..89abcde 160000",
    ] {
        let patch = format!("diff --git a/lib b/lib\n{header}\n");
        assert_eq!(parse(patch.as_bytes()), Err(PatchError::Submodule { path: "lib".to_owned() }), "{header}");
    }
}

#[test]
fn binary_data_must_be_there_and_look_like_it() {
    let head = format!("diff --git a/x b/x\nindex {OID}..{OID} 100644\n");
    let data = "GIT binary patch\nliteral 1\nIcmZQzU|<9k00961\n\nliteral 0\nHcmV?d00001\n\n";

    assert!(parse(format!("{head}{data}").as_bytes()).is_ok_and(|summary| summary.files[0].binary));

    let marker = format!("{head}Binary files a/x and b/x differ\n");
    assert_eq!(parse(marker.as_bytes()), Err(PatchError::WithoutContents { path: "x".to_owned() }));
    for wrong in [
        data.replace("HcmV?d00001", "HcmV?d0000"),
        data.replace("HcmV?d00001", "9cmV?d00001"),
        data.replace("HcmV?d00001", "HcmV?d0000\""),
        data.replace("literal 0", "other 0"),
        data.replace("literal 1", "literal -1"),
        data.replace("literal 1", "literal 1 1"),
        "GIT binary patch\n".to_owned(),
    ] {
        assert!(matches!(parse(format!("{head}{wrong}").as_bytes()), Err(PatchError::Malformed { .. })), "{wrong}");
    }
    let bomb = format!("{head}{}", data.replace("literal 1", "literal 9999999999"));
    assert!(matches!(parse(bomb.as_bytes()), Err(PatchError::TooLarge { .. })));
}

#[test]
fn limits_hold() {
    let one = modifying("a/x b/x", "a/x", "b/x");
    let two = format!("{one}{}", modifying("a/y b/y", "a/y", "b/y"));
    let limits = PatchLimits { files: 1, ..PatchLimits::default() };

    assert!(parse_within(one.as_bytes(), &limits).is_ok());
    assert_eq!(parse_within(two.as_bytes(), &limits), Err(PatchError::TooLarge { what: "files", limit: 1 }));
    let limits = PatchLimits { size_bytes: 10, ..PatchLimits::default() };
    assert_eq!(parse_within(one.as_bytes(), &limits), Err(PatchError::TooLarge { what: "bytes", limit: 10 }));
    let limits = PatchLimits { path_bytes: 1, ..PatchLimits::default() };
    let long = modifying("a/xy b/xy", "a/xy", "b/xy");
    assert_eq!(parse_within(long.as_bytes(), &limits), Err(PatchError::UnsafePath { path: "x".to_owned() }));
}

#[test]
fn a_header_of_a_megabyte_takes_no_longer_than_its_length() {
    let name = "a ".repeat(500_000);
    let patch = modifying(&format!("a/{name}b/{name}"), "a/x", "b/x");
    let started = std::time::Instant::now();

    let refused = parse(patch.as_bytes());

    assert!(refused.is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
}

/// Pieces that patches are made of, good ones and bad ones.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "diff --git a/x b/x\n",
        "diff --git a/x b/y\n",
        "diff --git \"a/x\\t\" \"b/x\\t\"\n",
        "diff --git a/.git/x b/.git/x\n",
        "old mode 100644\n",
        "new mode 100755\n",
        "new file mode 100644\n",
        "deleted file mode 100644\n",
        "rename from x\n",
        "rename to y\n",
        "copy from x\n",
        "copy to ../y\n",
        "similarity index 90%\n",
        "index 1234567..89abcde 100644\n",
        "index 1234567..89abcde 160000\n",
        "--- a/x\n",
        "+++ b/x\n",
        "--- /dev/null\n",
        "+++ /dev/null\n",
        "@@ -1 +1 @@\n",
        "@@ -0,0 +1 @@\n",
        "@@ -9999999999 +1,9999999999 @@\n",
        "-a\n",
        "+b\n",
        " c\n",
        "\\ No newline at end of file\n",
        "GIT binary patch\n",
        "literal 5\n",
        "delta 9999999999\n",
        "HcmV?d00001\n",
        "Binary files a/x and b/x differ\n",
        "\n",
        "\"",
        "\\",
    ]);
    prop_oneof![8 => known.prop_map(|piece| piece.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_comes_is_read_or_refused_and_never_has_an_unsafe_path(pieces in prop::collection::vec(piece(), 0..14)) {
        let bytes = pieces.concat();
        if let Ok(summary) = parse(&bytes) {
            for file in &summary.files {
                for path in [Some(&file.path), file.old_path.as_ref()].into_iter().flatten() {
                    prop_assert!(carrel_domain::git::is_safe_repository_path(path), "{path:?}");
                }
            }
        }
    }

    #[test]
    fn a_good_patch_with_one_byte_changed_is_read_or_refused(at in 0_usize..130, byte: u8) {
        let mut bytes = modifying("a/x y b/x y", "a/x y\t", "b/x y\t").into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = parse(&bytes);
    }

    #[test]
    fn any_name_comes_back_from_its_quotes(name in prop::collection::vec(any::<u8>(), 0..40)) {
        let quoted: String = name.iter().map(|byte| format!("\\{byte:03o}")).collect();
        let text = format!("\"{quoted}\" rest");

        prop_assert_eq!(names::unquote(text.as_bytes()), Some((name, &b" rest"[..])));
    }
}

//! What can be known of the replay bench without a product: how cases are read, patches written and outputs judged.

use std::collections::BTreeMap;
use std::path::Path;

use super::case::{self, Case, Framework, Language, Style};
use super::verdict::{self, Verdict};
use super::{SEED, patch, tree};

/// A case about one file of ten lines, and the folder that has its bug.
fn small(style: Style) -> (Case, tempfile::TempDir) {
    let text = format!(
        "language = \"python\"\nproject = \"p\"\nlicence = \"MIT\"\nfix = \"f\"\nreference = \"r\"\n\
         crlf = [\"new.py\"]\n[archive]\nfrom = \"pip\"\nname = \"p\"\nversion = \"1\"\nsha256 = \"{}\"\n\
         [test]\nframework = \"unittest\"\ncommand = \"c\"\nname = \"test_it\"\n\
         [[change]]\nfile = \"new.py\"\nfixed = \"    return 2\\n\"\nbuggy = \"    return 1\\n\"\n\
         [[move]]\nfrom = \"old.py\"\nto = \"new.py\"\n[[add]]\nfile = \"added.md\"\ntext = \"added\\n\"\n",
        "0".repeat(64)
    );
    let mut case = case::parse("small", &text).expect("a whole case");
    case.style = style;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines =
        ["def one():", "    x = 0", "    y = 0", "", "def two():", "    x = 0", "    y = 0", "    return 1", ""];
    std::fs::write(folder.path().join("old.py"), lines.join("\r\n")).expect("our own folder");
    (case, folder)
}

fn written(style: Style) -> String {
    let (case, folder) = small(style);
    patch::write(&case, folder.path()).expect("a patch")
}

#[test]
fn every_case_of_the_repository_can_be_read_and_there_are_enough_of_each_language() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/replay");

    let cases = case::load(&folder, &[]).expect("cases");

    let mut counts: BTreeMap<Language, usize> = BTreeMap::new();
    for case in &cases {
        *counts.entry(case.language).or_default() += 1;
    }
    let of = |language| counts.get(&language).copied().unwrap_or_default();
    assert!(cases.len() >= 50, "{counts:?}");
    assert!(of(Language::Python) >= 20 && of(Language::JavaScript) >= 12 && of(Language::Rust) >= 12, "{counts:?}");
    assert!(SEED.iter().all(|seed| cases.iter().any(|case| case.name == *seed)));
}

#[test]
fn a_case_without_a_checksum_or_with_a_change_that_changes_nothing_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/replay");
    let text = std::fs::read_to_string(folder.join(format!("{}.toml", SEED[0]))).expect("a case");
    let sum = text.lines().find(|line| line.starts_with("sha256")).expect("a checksum");

    assert!(case::parse("seed", &text).is_ok());
    assert!(case::parse("seed", &text.replace(sum, "sha256 = \"00\"")).is_err());
    let nothing = "\n[[change]]\nfile = \"a\"\nfixed = \"a\\n\"\nbuggy = \"a\\n\"\n";
    assert!(case::parse("seed", &(text + nothing)).is_err());
}

#[test]
fn a_patch_shows_its_place_in_each_style_and_moves_and_adds_files() {
    let head = "*** Begin Patch\n*** Update File: old.py\n*** Move to: new.py\n";
    let tail = "*** Add File: added.md\n+added\n*** End Patch\n";

    let context = format!("{head}@@\n def two():\n     x = 0\n     y = 0\n-    return 1\n+    return 2\n{tail}");
    assert_eq!(written(Style::Context), context);
    assert_eq!(written(Style::Bare), format!("{head}@@\n-    return 1\n+    return 2\n{tail}"));
    let anchor = format!("{head}@@ def two():\n     y = 0\n-    return 1\n+    return 2\n{tail}");
    assert_eq!(written(Style::Anchor), anchor);
    let trimmed = format!("{head}@@\n def two():\n x = 0\n y = 0\n-return 1\n+    return 2\n{tail}");
    assert_eq!(written(Style::Trimmed), trimmed);
}

#[test]
fn the_fixed_state_has_the_fix_the_line_ends_and_the_moves() {
    let (case, folder) = small(Style::Context);

    let files: BTreeMap<String, Option<String>> =
        tree::fixed(&case, folder.path()).expect("a fixed state").into_iter().collect();

    assert_eq!(files["old.py"], None);
    assert_eq!(files["added.md"].as_deref(), Some("added\n"));
    let new = files["new.py"].as_deref().expect("it moved there");
    assert!(new.contains("    return 2\r\n") && !new.contains("return 1"));
}

#[test]
fn a_test_counts_only_where_its_framework_names_it() {
    let of = verdict::of;
    let failed = "test_it (t.C.test_it) ... FAIL\n\nFAIL: test_it (t.C.test_it)\n\nFAILED (failures=1)\n";
    assert_eq!(of(Framework::Unittest, "test_it", failed), Verdict::Failed);
    assert_eq!(of(Framework::Unittest, "test_it", "test_it (t.C.test_it)\nIn words. ... ok\n\nOK\n"), Verdict::Passed);
    assert_eq!(of(Framework::Unittest, "test_it", "ERROR: other (t.C.other)\nOK\n"), Verdict::Silent);

    assert_eq!(of(Framework::Pytest, "t.py::it[a]", "PASSED t.py::it[a]\n"), Verdict::Passed);
    assert_eq!(of(Framework::Pytest, "t.py::it", "FAILED t.py::it - assert 1 == 2\n"), Verdict::Failed);
    assert_eq!(of(Framework::Pytest, "t.py::it", "FAILED t.py::it_too - assert 1 == 2\n"), Verdict::Silent);

    assert_eq!(of(Framework::Node, "it holds", "    ok 1 - it holds\n"), Verdict::Passed);
    assert_eq!(of(Framework::Node, "it holds", "not ok 1 - file.js\n    not ok 1 - it holds\n"), Verdict::Failed);

    assert_eq!(of(Framework::Cargo, "tests::it", "test tests::it ... ok\n"), Verdict::Passed);
    assert_eq!(of(Framework::Cargo, "tests::it", "test tests::it ... FAILED\n"), Verdict::Failed);
    assert_eq!(of(Framework::Cargo, "tests::it", "error: could not compile\n"), Verdict::Silent);
}

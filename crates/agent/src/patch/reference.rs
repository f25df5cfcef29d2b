//! Our patches against those of Codex's own program, on random files and patches: the same files come out, or both
//! refuse. Where ours differ on purpose, [`differs_on_purpose`] says why.
//!
//! The program is npm's `@openai/codex`, which applies a patch from its standard input when it is run under the name
//! `apply_patch`; `cargo xtask test` installs it below `target/oracles`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::seek::plain;
use super::{HunkLine, Original, Section, parse, plan};

type Files = BTreeMap<String, String>;

/// How many random patches are compared; the program takes about 30 ms for each.
const CASES: u32 = 250;

const NAMES: [&str; 5] = ["a.txt", "b c.txt", "sub/d.txt", "grün.txt", "new/e.txt"];

/// Lines that are like each other in the ways that matter.
const LINES: [&str; 12] = [
    "a",
    "b",
    "  a",
    "a  ",
    "\tb",
    "",
    "it's – so",
    "it\u{2019}s - so",
    "x = \"y\"",
    "x = \u{201c}y\u{201d}",
    "end",
    "c",
];

/// Where the program is.
fn program() -> PathBuf {
    let oracles = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles/codex/node_modules/@openai");
    let platforms = fs::read_dir(oracles).into_iter().flatten().flatten().map(|entry| entry.path().join("vendor"));
    let targets = platforms.flat_map(|vendor| fs::read_dir(vendor).into_iter().flatten().flatten());
    let mut programs = targets.map(|target| target.path().join("bin/codex")).filter(|program| program.is_file());
    programs.next().unwrap_or_else(|| {
        panic!("npm's @openai/codex is not below {oracles}; `cargo xtask test` installs it, or: npm install --prefix target/oracles/codex @openai/codex@0.169.0")
    })
}

/// What the program makes of files; `None` when it refuses.
fn reference(program: &Path, files: &Files, patch: &str) -> Option<Files> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("made");
        fs::write(path, content).expect("written");
    }
    let mut child = Command::new(program)
        .arg0("apply_patch")
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    // A program that refuses early closes its end.
    let _closed = child.stdin.take().expect("a pipe").write_all(patch.as_bytes());
    let status = child.wait().expect("it ends");
    status.success().then(|| tree(folder.path(), folder.path()))
}

fn tree(root: &Path, folder: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            files.extend(tree(root, &entry));
        } else {
            let name = entry.strip_prefix(root).expect("inside").to_string_lossy().into_owned();
            files.insert(name, fs::read_to_string(&entry).expect("text"));
        }
    }
    files
}

/// What we make of them.
fn ours(files: &Files, patch: &str) -> Result<Files, String> {
    let originals = files
        .iter()
        .map(|(name, content)| (name.clone(), Original::Text { content: content.clone(), mode: 0o644 }))
        .collect();
    let planned = parse(patch).and_then(|sections| plan(&sections, &originals)).map_err(|error| error.to_string())?;
    let mut files = files.clone();
    for (name, after) in planned.files {
        match after {
            Some((content, _)) => files.insert(name, content),
            None => files.remove(&name),
        };
    }
    Ok(files)
}

/// Whether the files are the same. A last line without an end keeps being without one in ours, unless it is changed;
/// the program ends every file that it touches.
fn are_alike(theirs: &Files, ours: &Files) -> bool {
    let ended =
        |text: &str| if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    let plain = |text: &String| ended(text).replace("\r\n", "\n");
    let same = |name: &String, text: &String| {
        ours.get(name).is_some_and(|our| our == text || (!our.ends_with('\n') && plain(our) == plain(text)))
    };
    theirs.len() == ours.len() && theirs.iter().all(|(name, text)| same(name, text))
}

/// Why a difference is meant.
fn differs_on_purpose(patch: &str, refused: bool) -> Option<&'static str> {
    let sections = parse(patch).ok()?;
    for section in &sections {
        let Section::Update { path, moved_to, hunks } = section else { continue };
        if moved_to.as_ref() == Some(path) {
            return Some("a file moved to where it is stays; the program removes it");
        }
        for (number, hunk) in hunks.iter().enumerate() {
            let only_adds = hunk.lines.iter().all(|line| matches!(line, HunkLine::Add(_)));
            if only_adds && !hunk.anchors.is_empty() {
                return Some("new lines under an `@@` line follow it; the program puts them at the end of the file");
            }
            if refused && hunk.at_end {
                return Some(
                    "blank lines may follow the end of the file that the patch speaks of; the program refuses",
                );
            }
            if hunk.anchors.iter().any(|anchor| anchor.ends_with([' ', '\t'])) {
                return Some(
                    "an `@@` line with white space at its end is looked for as it is first; the program trims it",
                );
            }
            let old = hunk.old_lines();
            let alike = |anchor: &String| old.first().is_some_and(|first| plain(anchor.trim()) == plain(first.trim()));
            if refused && hunk.anchors.last().is_some_and(alike) {
                return Some("an `@@` line may repeat the first line of its hunk; the program refuses");
            }
            if old.last() == Some(&"") {
                return Some("a blank last line may be the end of the file's last line; the program drops it anywhere");
            }
            if only_adds && number + 1 < hunks.len() {
                return Some("new lines without a place come after what later hunks add at the end of the file");
            }
        }
    }
    None
}

#[derive(Debug, Clone)]
struct HunkPlan {
    at: Index,
    length: usize,
    edits: Vec<(u8, Index)>,
    anchor: bool,
    at_end: bool,
    disturb: Option<Index>,
}

#[derive(Debug, Clone)]
enum SectionPlan {
    Add(Vec<&'static str>),
    Delete,
    Update { moved_to: Option<&'static str>, hunks: Vec<HunkPlan> },
}

fn file() -> impl Strategy<Value = String> {
    (prop::collection::vec(select(&LINES[..]), 0..12), any::<bool>(), 0..8u8).prop_map(|(lines, ends, returns)| {
        let end = if returns == 0 { "\r\n" } else { "\n" };
        let mut text = lines.join(end);
        if ends && !lines.is_empty() {
            text.push_str(end);
        }
        text
    })
}

fn hunk() -> impl Strategy<Value = HunkPlan> {
    let edits = prop::collection::vec((0..6u8, any::<Index>()), 5);
    let disturb = prop::option::weighted(0.08, any::<Index>());
    (any::<Index>(), 0..5usize, edits, prop::bool::weighted(0.3), prop::bool::weighted(0.1), disturb).prop_map(
        |(at, length, edits, anchor, at_end, disturb)| HunkPlan { at, length, edits, anchor, at_end, disturb },
    )
}

/// A section for one of the files, or for one of any name.
fn section() -> impl Strategy<Value = (Result<Index, &'static str>, SectionPlan)> {
    let kind = prop_oneof![
        1 => prop::collection::vec(select(&LINES[..]), 0..4).prop_map(SectionPlan::Add),
        1 => Just(SectionPlan::Delete),
        6 => (prop::option::weighted(0.2, select(&NAMES[..])), prop::collection::vec(hunk(), 1..4))
            .prop_map(|(moved_to, hunks)| SectionPlan::Update { moved_to, hunks }),
    ];
    let name = prop_oneof![6 => any::<Index>().prop_map(Ok), 1 => select(&NAMES[..]).prop_map(Err)];
    (name, kind)
}

/// A patch that mostly fits the files.
fn written(files: &Files, sections: &[(Result<Index, &str>, SectionPlan)]) -> String {
    let mut patch = "*** Begin Patch\n".to_owned();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    for (name, section) in sections {
        let name = name.map_or_else(|name| name, |index| names[index.index(names.len())]);
        match section {
            SectionPlan::Add(lines) => {
                patch.push_str(&format!("*** Add File: {name}\n"));
                patch.extend(lines.iter().map(|line| format!("+{line}\n")));
            }
            SectionPlan::Delete => patch.push_str(&format!("*** Delete File: {name}\n")),
            SectionPlan::Update { moved_to, hunks } => {
                patch.push_str(&format!("*** Update File: {name}\n"));
                if let Some(target) = moved_to {
                    patch.push_str(&format!("*** Move to: {target}\n"));
                }
                let text = files.get(name).map(String::as_str).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let mut from = 0;
                for hunk in hunks {
                    write_hunk(&mut patch, &lines, &mut from, hunk);
                }
            }
        }
    }
    patch.push_str("*** End Patch\n");
    patch
}

fn write_hunk(patch: &mut String, lines: &[&str], from: &mut usize, hunk: &HunkPlan) {
    let at = *from + hunk.at.index(lines.len().saturating_sub(*from) + 1);
    let end = (at + hunk.length).min(lines.len());
    match lines.get(at.wrapping_sub(1)).filter(|_| hunk.anchor) {
        Some(line) => patch.push_str(&format!("@@ {line}\n")),
        None => patch.push_str("@@\n"),
    }
    let disturbed = hunk.disturb.map(|index| index.index(5));
    for (number, line) in lines[at..end].iter().enumerate() {
        let (edit, other) = &hunk.edits[number];
        let other = LINES[other.index(LINES.len())];
        let line = if disturbed == Some(number) { other } else { line };
        patch.push_str(&match edit {
            0 => format!("-{line}\n"),
            1 => format!("-{line}\n+{other}\n"),
            2 => format!("+{other}\n {line}\n"),
            _ => format!(" {line}\n"),
        });
    }
    let (edit, other) = &hunk.edits[4];
    if *edit < 3 || at == end {
        patch.push_str(&format!("+{}\n", LINES[other.index(LINES.len())]));
    }
    if hunk.at_end {
        patch.push_str("*** End of File\n");
    }
    *from = end;
}

#[test]
fn random_patches_do_what_they_do_in_codex() {
    let program = program();
    let files = prop::collection::btree_map(select(&NAMES[..4]), file(), 1..4);
    let sections = prop::collection::vec(section(), 1..3);
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    // The same patches each time; another seed, or more of them, is for whoever changes something here.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));

    let (applied, excused) = (Cell::new(0), Cell::new(0));
    let outcome = runner.run(&(files, sections), |(files, sections)| {
        let files: Files = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        let patch = written(&files, &sections);
        let (theirs, ours) = (reference(&program, &files, &patch), ours(&files, &patch));
        let same = match (&theirs, &ours) {
            (Some(theirs), Ok(ours)) => are_alike(theirs, ours),
            (None, Err(_)) => true,
            (Some(_), Err(_)) | (None, Ok(_)) => false,
        };
        applied.set(applied.get() + u32::from(ours.is_ok()));
        if !same && differs_on_purpose(&patch, theirs.is_none()).is_some() {
            excused.set(excused.get() + 1);
            return Ok(());
        }
        prop_assert!(same, "{patch}\n{files:?}\ntheirs: {theirs:?}\nours: {ours:?}");
        Ok(())
    });

    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(difference, _)) => panic!("{difference}"),
        Err(error) => panic!("{error}"),
    }
    let (applied, excused) = (applied.get(), excused.get());
    assert!(applied > CASES / 5 && excused < CASES / 5, "{applied} applied, {excused} differed on purpose");
}

/// What a case is, the names and texts of its files, and its patch without the first and last line.
type Known = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// The kinds of cases that Codex publishes for its format, in files and words of ours.
const KNOWN: &[Known] = &[
    ("a file is added in a new folder", &[], "*** Add File: docs/new.md\n+# New\n+"),
    (
        "one patch adds, changes and deletes",
        &[("keep", "one\ntwo\n"), ("gone", "x\n")],
        "*** Add File: sub/n\n+n\n*** Delete File: gone\n*** Update File: keep\n@@\n-two\n+zwei",
    ),
    ("several hunks", &[("f", "1\n2\n3\n4\n5\n")], "*** Update File: f\n@@\n-1\n+one\n@@\n 4\n-5\n+five"),
    (
        "a move to a new folder",
        &[("a/f", "x\ny\n"), ("a/g", "z\n")],
        "*** Update File: a/f\n*** Move to: b/c/f\n@@\n-x\n+X",
    ),
    ("a move over a file", &[("a", "x\n"), ("b", "old\n")], "*** Update File: a\n*** Move to: b\n@@\n-x\n+new"),
    ("a file that is there is added", &[("f", "old\n")], "*** Add File: f\n+new"),
    ("nothing is changed", &[("f", "x\n")], ""),
    ("a line is not there", &[("f", "x\n")], "*** Update File: f\n@@\n-y\n+z"),
    ("a file to delete is not there", &[("f", "x\n")], "*** Delete File: g"),
    ("a file to change is not there", &[("f", "x\n")], "*** Update File: g\n@@\n-x\n+y"),
    ("a section without a hunk", &[("f", "x\n")], "*** Update File: f"),
    ("a marker that is none", &[("f", "x\n")], "*** Replace File: f\n+x"),
    ("the last line has no end and changes", &[("f", "a\nb")], "*** Update File: f\n@@\n a\n-b\n+B"),
    ("lines are only added", &[("f", "a\n")], "*** Update File: f\n@@\n+b\n+c"),
    ("lines are only removed", &[("f", "a\nb\nc\n")], "*** Update File: f\n@@\n a\n-b\n c"),
    ("white space before a marker", &[("f", "a\n")], "   *** Update File: f\n@@\n-a\n+b"),
    ("white space behind a marker", &[("f", "a\n")], "*** Update File: f  \n@@\n-a\n+b"),
    ("letters of all kinds", &[("f", "naïve – “x”\n")], "*** Update File: f\n@@\n-naïve – “x”\n+naïve ✅"),
    ("the end of the file", &[("f", "a\nb\na\n")], "*** Update File: f\n@@\n-a\n+z\n*** End of File"),
    (
        "the second of two like places",
        &[("f", "class A\n def f\n  1\nclass B\n def f\n  1\n")],
        "*** Update File: f\n@@ class B\n  def f\n-  1\n+  2",
    ),
    ("every line goes", &[("f", "a\nb\n")], "*** Update File: f\n@@\n-a\n-b"),
    ("line ends of Windows", &[("f", "a\r\nb\r\n")], "*** Update File: f\n@@\n-a\n+A\n b"),
];

#[test]
fn the_known_cases_do_what_they_do_in_codex() {
    let program = program();
    for (name, files, patch) in KNOWN {
        let before: Files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let patch = format!("*** Begin Patch\n{patch}\n*** End Patch\n").replace("\n\n***", "\n***");
        let (theirs, ours) = (reference(&program, &before, &patch), ours(&before, &patch));
        assert_eq!(ours.as_ref().ok(), theirs.as_ref(), "{name}: {ours:?}");
    }
}

//! What a case is: one real bug of one real project, as a small file of `bench/replay/` says it. The project's text is
//! not in there: only where its archive is had, the few lines that differ, and the test that tells.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// One bug and its fix.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The name of its file.
    #[serde(skip)]
    pub(super) name: String,
    pub(super) language: Language,
    pub(super) project: String,
    pub(super) licence: String,
    /// What was wrong, in a sentence.
    pub(super) fix: String,
    /// Where the project tells of the fix.
    pub(super) reference: String,
    /// How the patch shows the places it changes.
    #[serde(default)]
    pub(super) style: Style,
    pub(super) archive: Archive,
    /// Dependencies that stand in the repository.
    #[serde(default)]
    pub(super) vendor: Vec<Vendored>,
    /// Files of ours beside the project's: a test, a manifest without what only the project's own benches need.
    #[serde(default)]
    pub(super) write: Vec<Written>,
    /// Files that have the line ends of Windows in the repository.
    #[serde(default)]
    pub(super) crlf: Vec<String>,
    pub(super) test: Test,
    /// What the fix changes.
    #[serde(rename = "change")]
    pub(super) changes: Vec<Change>,
    /// What it adds.
    #[serde(default)]
    pub(super) add: Vec<Written>,
    /// What it deletes.
    #[serde(default)]
    pub(super) delete: Vec<String>,
    /// What it moves. `file` of a change is where it moves to.
    #[serde(default, rename = "move")]
    pub(super) moves: Vec<Moved>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    Python,
    JavaScript,
    Rust,
    C,
}

/// How models write hunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Style {
    /// Three lines before and after.
    #[default]
    Context,
    /// The function it is in, by `@@`, and one line around.
    Anchor,
    /// As little as tells the place.
    Bare,
    /// Three lines around, without their indentation, as models get it wrong.
    Trimmed,
}

/// Where a project's text is had.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Archive {
    /// The package manager that gets it.
    pub(super) from: Registry,
    pub(super) name: String,
    pub(super) version: String,
    /// Of the whole archive, in hexadecimal.
    pub(super) sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Registry {
    Pip,
    Npm,
    Cargo,
}

/// A dependency in a folder of the repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vendored {
    pub(super) into: String,
    pub(super) archive: Archive,
}

/// A file and its text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) file: String,
    pub(super) text: String,
}

/// A file that moves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moved {
    pub(super) from: String,
    pub(super) to: String,
}

/// Lines that differ: each text stands once in its state of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) file: String,
    pub(super) fixed: String,
    pub(super) buggy: String,
}

/// What tells whether the bug is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    pub(super) framework: Framework,
    /// For bash, in the folder of the repository.
    pub(super) command: String,
    /// The test that fails with the bug and passes without it, as its framework prints it.
    pub(super) name: String,
    /// What installs its dependencies, with the internet of package managers. Without one, the test runs as it is.
    #[serde(default)]
    pub(super) setup: Option<String>,
}

/// Whose output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Framework {
    Unittest,
    Pytest,
    /// `node --test` with its reporter `tap`.
    Node,
    Cargo,
}

/// Reads all cases of a folder whose name contains the text, sorted by name.
pub(super) fn load(folder: &Path, only: &[String]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = only.is_empty() || only.iter().any(|part| name.contains(part));
        if path.extension().is_none_or(|extension| extension != "toml") || !wanted {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        cases.push(parse(&name, &text).with_context(|| format!("the case {}", path.display()))?);
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    if cases.is_empty() {
        bail!("no case in {} is named like {only:?}", folder.display());
    }
    Ok(cases)
}

/// Reads one.
pub(super) fn parse(name: &str, text: &str) -> Result<Case> {
    let case = Case { name: name.to_owned(), ..toml::from_str(text)? };
    ensure!(!case.changes.is_empty(), "a fix changes a file");
    let told = [&case.project, &case.licence, &case.fix, &case.reference].iter().all(|text| !text.is_empty());
    ensure!(told, "a case says whose it is, under which licence, what was wrong, and where the fix is told of");
    for change in &case.changes {
        let whole = [&change.fixed, &change.buggy].iter().all(|text| text.ends_with('\n'));
        ensure!(
            whole && change.fixed != change.buggy,
            "a change of {} is of whole lines, and changes them",
            change.file
        );
    }
    for moved in &case.moves {
        ensure!(case.changes.iter().any(|change| change.file == moved.to), "{} moves and changes nothing", moved.to);
    }
    let all = case.vendor.iter().map(|vendored| &vendored.archive).chain([&case.archive]);
    for archive in all {
        let hexadecimal = archive.sha256.len() == 64 && archive.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(hexadecimal, "the checksum of {} is no SHA-256", archive.name);
    }
    Ok(case)
}

impl Case {
    /// Where a file of the fixed state is before the fix.
    pub(super) fn before<'a>(&'a self, file: &'a str) -> &'a str {
        self.moves.iter().find(|moved| moved.to == file).map_or(file, |moved| &moved.from)
    }

    /// The files that the fix changes, each once.
    pub(super) fn changed_files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for change in &self.changes {
            if !files.contains(&change.file.as_str()) {
                files.push(&change.file);
            }
        }
        files
    }
}

//! A case as folders of files: the project as it was before the fix, and what the fix makes of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::archive;
use super::case::{Case, Language, Written};

/// What stays out of patches where cargo builds.
const BUILT_BY_CARGO: &str = "/target\n/Cargo.lock\n";

/// Lays the project out with its bug. `kept` is where archives are.
pub(super) fn lay_out(case: &Case, kept: &Path, folder: &Path) -> Result<()> {
    archive::unpack(&case.archive, kept, folder)?;
    for vendored in &case.vendor {
        archive::unpack(&vendored.archive, kept, &folder.join(&vendored.into))?;
    }
    if case.language == Language::Rust {
        fs::write(folder.join(".gitignore"), BUILT_BY_CARGO)?;
        // It names what the manifest no longer does, or nothing is lost.
        let _was_there = fs::remove_file(folder.join("Cargo.lock"));
    }
    for Written { file, text } in &case.write {
        write(&folder.join(file), text)?;
    }
    for file in case.changed_files() {
        let path = folder.join(file);
        let fixed = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        let buggy = with_bug(case, file, &fixed)?;
        let before = case.before(file);
        if before != file {
            fs::remove_file(&path)?;
        }
        write(&folder.join(before), &ended(case, file, buggy))?;
    }
    Ok(())
}

/// What each file that the fix concerns is afterwards; `None` for one that is gone. `folder` has the bug.
pub(super) fn fixed(case: &Case, folder: &Path) -> Result<Vec<(String, Option<String>)>> {
    let mut files = Vec::new();
    for file in case.changed_files() {
        files.push((file.to_owned(), Some(ended(case, file, fixed_text(case, file, folder)?))));
    }
    files.extend(case.add.iter().map(|added| (added.file.clone(), Some(added.text.clone()))));
    files.extend(case.delete.iter().map(|file| (file.clone(), None)));
    files.extend(case.moves.iter().map(|moved| (moved.from.clone(), None)));
    Ok(files)
}

/// A file as it is before the fix, with plain line ends.
pub(super) fn buggy_text(case: &Case, file: &str, folder: &Path) -> Result<String> {
    let text = fs::read_to_string(folder.join(case.before(file))).with_context(|| format!("cannot read {file}"))?;
    Ok(if case.crlf.iter().any(|name| name == file) { text.replace("\r\n", "\n") } else { text })
}

/// The same after it.
pub(super) fn fixed_text(case: &Case, file: &str, folder: &Path) -> Result<String> {
    let mut text = buggy_text(case, file, folder)?;
    for change in case.changes.iter().rev().filter(|change| change.file == file) {
        text = replace(file, &text, &change.buggy, &change.fixed)?;
    }
    Ok(text)
}

fn with_bug(case: &Case, file: &str, fixed: &str) -> Result<String> {
    let mut text = fixed.to_owned();
    for change in case.changes.iter().filter(|change| change.file == file) {
        text = replace(file, &text, &change.fixed, &change.buggy)?;
    }
    Ok(text)
}

/// Where lines stand in a text, in which they must stand once.
pub(super) fn place_of(file: &str, text: &str, lines: &str) -> Result<usize> {
    let starts = |at: usize| at == 0 || text.as_bytes()[at - 1] == b'\n';
    let places: Vec<usize> = text.match_indices(lines).map(|(at, _)| at).filter(|at| starts(*at)).collect();
    ensure!(
        places.len() == 1,
        "these lines stand {} times in {file}, and must stand there once:\n{lines}",
        places.len()
    );
    Ok(places[0])
}

fn replace(file: &str, text: &str, old: &str, new: &str) -> Result<String> {
    let at = place_of(file, text, old)?;
    Ok([&text[..at], new, &text[at + old.len()..]].concat())
}

fn ended(case: &Case, file: &str, text: String) -> String {
    if case.crlf.iter().any(|name| name == file) { text.replace('\n', "\r\n") } else { text }
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

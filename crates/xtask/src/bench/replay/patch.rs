//! The fix as a model writes it: a patch for `apply_patch` that shows the places it changes in one of several ways.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::case::{Case, Style};
use super::tree;

/// How many lines around a change are shown at most, where fewer do not tell its place.
const MOST_CONTEXT: usize = 40;

/// Lines that go and lines that come, at a place of a file.
struct Edit<'c> {
    at: usize,
    gone: Vec<&'c str>,
    come: Vec<&'c str>,
}

/// The whole patch of a case. `folder` has the bug.
pub(super) fn write(case: &Case, folder: &Path) -> Result<String> {
    let mut patch = String::from("*** Begin Patch\n");
    for file in case.changed_files() {
        let text = tree::buggy_text(case, file, folder)?;
        let changes = case.changes.iter().filter(|change| change.file == file);
        let edits = changes.map(|change| edit(&text, &change.buggy, &change.fixed)).collect::<Result<Vec<_>>>()?;
        let before = case.before(file);
        patch.push_str(&format!("*** Update File: {before}\n"));
        if before != file {
            patch.push_str(&format!("*** Move to: {file}\n"));
        }
        patch.push_str(&hunks(&text, edits, case.style).with_context(|| format!("the patch of {file}"))?);
    }
    for added in &case.add {
        patch.push_str(&format!("*** Add File: {}\n", added.file));
        added.text.lines().for_each(|line| patch.push_str(&format!("+{line}\n")));
    }
    for file in &case.delete {
        patch.push_str(&format!("*** Delete File: {file}\n"));
    }
    patch.push_str("*** End Patch\n");
    Ok(patch)
}

/// What differs between two texts of a few lines, the first of which stands in the file.
fn edit<'c>(text: &str, buggy: &'c str, fixed: &'c str) -> Result<Edit<'c>> {
    let (mut gone, mut come): (Vec<&str>, Vec<&str>) = (buggy.lines().collect(), fixed.lines().collect());
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.windows(gone.len()).position(|window| window == gone).context("the lines are not in the file")?;
    let same = gone.iter().zip(&come).take_while(|(one, other)| one == other).count();
    gone.drain(..same);
    come.drain(..same);
    while !gone.is_empty() && gone.last() == come.last() {
        gone.pop();
        come.pop();
    }
    Ok(Edit { at: at + same, gone, come })
}

fn hunks(text: &str, mut edits: Vec<Edit<'_>>, style: Style) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    edits.sort_by_key(|edit| edit.at);
    let mut patch = String::new();
    let mut done = 0;
    for (number, edit) in edits.iter().enumerate() {
        // The lines of the next change are not shown as ones that stay.
        let end = edits.get(number + 1).map_or(lines.len(), |next| next.at);
        let (hunk, taken) = hunk(&lines, edit, done..end, style)?;
        patch.push_str(&hunk);
        done = taken;
    }
    Ok(patch)
}

/// One hunk, and the line of the file that it ends before.
fn hunk(lines: &[&str], edit: &Edit<'_>, free: std::ops::Range<usize>, style: Style) -> Result<(String, usize)> {
    let anchor = (style == Style::Anchor).then(|| anchor(lines, edit.at, free.start)).flatten();
    let from = anchor.map_or(free.start, |at| at + 1);
    let fewest = match style {
        Style::Context | Style::Trimmed => 3,
        Style::Anchor => 1,
        Style::Bare => usize::from(edit.gone.is_empty()),
    };
    for around in fewest..MOST_CONTEXT {
        let first = edit.at.saturating_sub(around).max(from);
        let behind = edit.at + edit.gone.len();
        let last = (behind + around).min(free.end).max(behind);
        let shown = |line: &'_ str| if style == Style::Trimmed { line.trim().to_owned() } else { line.to_owned() };
        let old: Vec<String> = lines[first..last].iter().map(|line| shown(line)).collect();
        if old.is_empty() || place(lines, &old, from) != Some(first) {
            continue;
        }
        let mut hunk = anchor.map_or_else(|| "@@\n".to_owned(), |at| format!("@@ {}\n", lines[at].trim()));
        let mut tell = |mark: char, line: &str| hunk.push_str(&format!("{mark}{line}\n"));
        lines[first..edit.at].iter().for_each(|line| tell(' ', &shown(line)));
        edit.gone.iter().for_each(|line| tell('-', &shown(line)));
        edit.come.iter().for_each(|line| tell('+', line));
        lines[behind..last].iter().for_each(|line| tell(' ', &shown(line)));
        return Ok((hunk, last));
    }
    bail!("no number of lines around line {} tells its place", edit.at + 1)
}

/// The line above that begins what a line is in, if naming it leads there.
fn anchor(lines: &[&str], at: usize, from: usize) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let begins = |line: &str| line.trim().ends_with([':', '{']) && line.trim().starts_with(char::is_alphabetic);
    let inside = indent(lines.get(at)?);
    let above = (from..at).rev().find(|line| begins(lines[*line]) && indent(lines[*line]) < inside.max(1))?;
    (place(lines, &[lines[above].trim().to_owned()], from) == Some(above)).then_some(above)
}

/// Where lines stand first at or after a place, as a reader finds them who looks for white space less and less.
fn place(lines: &[&str], wanted: &[String], from: usize) -> Option<usize> {
    let levels: [fn(&str) -> &str; 3] = [|line| line, str::trim_end, str::trim];
    levels.iter().find_map(|level| {
        let same = |window: &[&str]| window.iter().zip(wanted).all(|(line, wanted)| level(line) == level(wanted));
        lines.get(from..)?.windows(wanted.len()).position(same).map(|at| at + from)
    })
}

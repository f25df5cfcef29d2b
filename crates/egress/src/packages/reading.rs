//! What the probe printed, read: lines into answers, answers into indexes. What each tool's words mean stands in
//! `tools.rs`.

use std::collections::BTreeMap;

use super::tools::{self, Configured};
use super::{Found, Index, MAX_INDEXES, MAX_PROBE_BYTES, Tool, address};

/// Longest value of one answer, in bytes; the probe cuts at 800 characters.
const MAX_VALUE_BYTES: usize = 4096;

/// What one tool said.
#[derive(Debug, Default)]
pub(super) struct Answers<'a> {
    /// Kind and value, in the order they came in.
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Answers<'a> {
    /// The values of a kind.
    pub(super) fn of(&self, kind: &'static str) -> impl Iterator<Item = &'a str> + '_ {
        self.lines.iter().filter(move |(of, _)| *of == kind).map(|(_, value)| *value)
    }

    /// The configuration files, each as the text of its lines.
    pub(super) fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = Vec::new();
        for (kind, value) in &self.lines {
            match (*kind, files.last_mut()) {
                ("file", _) => files.push(String::new()),
                ("line", Some(text)) => {
                    text.push_str(value);
                    text.push('\n');
                }
                _ => {}
            }
        }
        files
    }
}

/// Reads what [`PROBE`](super::PROBE) printed. Lines that are not of its format are passed over and counted in a note.
#[must_use]
pub fn read(output: &[u8]) -> Found {
    let mut found = Found::default();
    let (answers, wrong) = lines(output);
    if output.len() > MAX_PROBE_BYTES {
        found.notes.push(format!(
            "the image's package managers said more than {MAX_PROBE_BYTES} bytes; the rest was not read"
        ));
    }
    if wrong > 0 {
        found.notes.push(format!("{wrong} lines of what the image's package managers said were not understood"));
    }
    for (tool, answers) in &answers {
        let configured = tools::configured(*tool, answers, &mut found.notes);
        found.tools.insert(*tool);
        if answers.of("late").next().is_some() {
            found.notes.push(format!(
                "{tool} did not say in time what it is configured for; what it did not say counts as its default"
            ));
        }
        if configured.uses_default {
            found.at_default.insert(*tool);
        }
        add(&mut found, *tool, &configured);
    }
    found
}

/// The answers by tool, only of those that are installed, and how many lines were none.
fn lines(output: &[u8]) -> (BTreeMap<Tool, Answers<'_>>, usize) {
    let mut answers: BTreeMap<Tool, Answers<'_>> = BTreeMap::new();
    let mut wrong = 0;
    let read = &output[..output.len().min(MAX_PROBE_BYTES)];
    // A line that was cut off could be read as another host.
    let whole = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    for line in read[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match answer(line) {
            Some((tool, kind, value)) => answers.entry(tool).or_default().lines.push((kind, value)),
            None => wrong += 1,
        }
    }
    answers.retain(|_, answers| answers.lines.iter().any(|(kind, _)| *kind == "here"));
    (answers, wrong)
}

fn answer(line: &[u8]) -> Option<(Tool, &str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let (tool, rest) = line.split_once('\t')?;
    let (kind, value) = rest.split_once('\t')?;
    // Configuration files may be indented by tabs; other control characters mean nothing good.
    let is_plain = !value.chars().any(|letter| letter.is_control() && letter != '\t');
    let is_kind = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_plain || !is_kind || value.len() > MAX_VALUE_BYTES {
        return None;
    }
    Some((tool.parse().ok()?, kind, value))
}

/// Adds a tool's indexes.
fn add(found: &mut Found, tool: Tool, configured: &Configured) {
    let named = configured.indexes.iter().map(|text| (text.as_str(), true));
    let plain = configured.places.iter().map(|text| (text.as_str(), false));
    for (text, is_index) in named.chain(plain) {
        let (url, host) = match address(text) {
            None => continue,
            Some(Ok(parts)) => parts,
            Some(Err(problem)) => {
                found.notes.push(format!("an address that {tool} is configured for {problem}; it was left out"));
                continue;
            }
        };
        if found.indexes.iter().any(|index| index.tool == tool && index.url == url) {
            continue;
        }
        if found.indexes.len() == MAX_INDEXES {
            found.notes.push(format!("the image's package managers name more than {MAX_INDEXES} indexes"));
            return;
        }
        if url.port().is_some() {
            found.notes.push(format!(
                "{tool} is configured for {host} at a port of its own; the preset allows the usual ports only"
            ));
        }
        let names_files = is_index && tools::names_files(tool, text);
        found.indexes.push(Index { tool, url, host, names_files });
    }
}

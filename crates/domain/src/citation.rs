//! Citations in an answer, in Codex's syntax: `【F:path†L1-L9】` for lines of a file, `【chunk†L1-L9】` for lines of a
//! command's output. Here they are found and read; whether one holds is found out where the files are
//! (`carrel-agent`), and what came of it is a [`CitationsCheck`].
//!
//! Models write them with some freedom, and all of these are read: one line (`†L5`), no lines (`†` alone, or for a file
//! nothing at all), `L1-9`, `1-9`, `L1–L9` with another dash, white space around the parts, and `[F:path†L1]`.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The longest source, in characters.
const MAX_SOURCE_CHARS: usize = 1024;

/// How far the closing bracket is looked for, in bytes.
const MAX_BYTES: usize = 4 * MAX_SOURCE_CHARS + 64;

/// The most digits of a line's number.
const MAX_DIGITS: usize = 9;

const DAGGER: char = '†';

/// A citation where it stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Citation<'t> {
    /// All of it, with its brackets.
    pub text: &'t str,
    /// Where it stands, in bytes.
    pub place: Range<usize>,
    /// What it refers to; `None` when it has the brackets and the dagger of a citation and cannot be read.
    pub reference: Option<Reference>,
}

/// What a citation refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// In what.
    pub source: Source,
    /// Which lines; `None` for all of it.
    pub lines: Option<Lines>,
}

/// What a line can be in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file, by its path in the repository.
    File(String),
    /// A command's output, by the id of the piece a model was given.
    Output(String),
}

/// Lines, counted from 1, both included. Nothing says that the first is not behind the last, or that there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lines {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// What came of checking the citations of an answer. Equal ones count once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CitationsCheck {
    /// How many hold.
    pub holding: u32,
    /// Those that do not.
    pub failing: Vec<FailingCitation>,
    /// How many were not checked, because they were too many, or the files too large.
    #[serde(default)]
    pub unchecked: u32,
}

/// A citation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingCitation {
    /// As it stands in the answer.
    pub citation: String,
    /// Why it does not hold, for people and models: `the file has only 12 lines`.
    pub reason: String,
}

impl CitationsCheck {
    /// Whether there was no citation.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.holding == 0 && self.failing.is_empty() && self.unchecked == 0
    }
}

/// The citations of a text, in their order. What stands in a block of code is shown as it is, and cites nothing.
#[must_use]
pub fn citations(text: &str) -> Vec<Citation<'_>> {
    let code = blocks_of_code(text);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(['【', '[']) {
        let at = from + at;
        if let Some(block) = code.iter().find(|block| block.contains(&at)) {
            from = block.end;
            continue;
        }
        from = match citation_at(text, at) {
            Some(citation) => {
                let end = citation.place.end;
                found.push(citation);
                end
            }
            None => at + text[at..].chars().next().map_or(1, char::len_utf8),
        };
    }
    found
}

/// Where the fenced blocks of code are; one that is never closed goes on to the end.
fn blocks_of_code(text: &str) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut at, mut open) = (0, None);
    for line in text.split_inclusive('\n') {
        let (from, fence) = (at, ["```", "~~~"].into_iter().find(|fence| line.trim_start().starts_with(fence)));
        at += line.len();
        open = match (open, fence) {
            (None, Some(fence)) => Some((from, fence)),
            (Some((from, opened)), Some(fence)) if opened == fence => {
                blocks.push(from..at);
                None
            }
            (open, _) => open,
        };
    }
    blocks.extend(open.map(|(from, _)| from..text.len()));
    blocks
}

/// The citation that begins with the bracket at this place.
fn citation_at(text: &str, at: usize) -> Option<Citation<'_>> {
    let (open, close) = if text[at..].starts_with('【') { ('【', '】') } else { ('[', ']') };
    let inside = at + open.len_utf8();
    let window = &text[inside..text.floor_char_boundary(inside.saturating_add(MAX_BYTES))];
    let length = window.find([open, close, '\n'])?;
    let body = &window[..length];
    if !window[length..].starts_with(close) {
        return None;
    }
    let has_dagger = body.contains(DAGGER);
    let names_file = body.trim_start().starts_with("F:");
    let reference = reference(body);
    let is_citation = match open {
        '【' => has_dagger || names_file,
        // A plain bracket is a link's, or an index's; only what can be nothing else is taken.
        _ => has_dagger && names_file && reference.is_some(),
    };
    let place = at..inside + length + close.len_utf8();
    is_citation.then(|| Citation { text: &text[place.clone()], place, reference })
}

/// Reads what stands between the brackets.
fn reference(body: &str) -> Option<Reference> {
    let body = body.trim();
    let (name, lines) = match body.split_once(DAGGER) {
        Some((name, lines)) => (name.trim(), lines.trim()),
        None => (body, ""),
    };
    let (is_file, name) = match name.strip_prefix("F:") {
        Some(path) => (true, path.trim()),
        None => (false, name),
    };
    if name.is_empty() || name.chars().count() > MAX_SOURCE_CHARS || lines.contains(DAGGER) {
        return None;
    }
    let source = if is_file { Source::File(name.to_owned()) } else { Source::Output(name.to_owned()) };
    let lines = if lines.is_empty() { None } else { Some(read_lines(lines)?) };
    Some(Reference { source, lines })
}

/// Reads `L1-L9`, `L1-9`, `1-9` or `L1`.
fn read_lines(text: &str) -> Option<Lines> {
    let number = |text: &str| {
        let text = text.trim();
        let digits = text.strip_prefix(['L', 'l']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.len() <= MAX_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse::<u32>().ok()).flatten()
    };
    match text.split_once(['-', '–', '—', '‑', '−']) {
        Some((first, last)) => Some(Lines { first: number(first)?, last: number(last)? }),
        None => number(text).map(|line| Lines { first: line, last: line }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, lines: Option<(u32, u32)>) -> Option<Reference> {
        let lines = lines.map(|(first, last)| Lines { first, last });
        Some(Reference { source: Source::File(path.to_owned()), lines })
    }

    fn output(chunk: &str, lines: Option<(u32, u32)>) -> Option<Reference> {
        let lines = lines.map(|(first, last)| Lines { first, last });
        Some(Reference { source: Source::Output(chunk.to_owned()), lines })
    }

    fn only(text: &str) -> Option<Reference> {
        let found = citations(text);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].text, text);
        found[0].reference.clone()
    }

    #[test]
    fn the_ways_in_which_models_write_them_are_read() {
        for (text, expected) in [
            ("【F:src/a b.rs†L1-L9】", file("src/a b.rs", Some((1, 9)))),
            ("【F:a.rs†L5】", file("a.rs", Some((5, 5)))),
            ("【F:a.rs†】", file("a.rs", None)),
            ("【F:a.rs】", file("a.rs", None)),
            ("【F:a.rs†L1-9】", file("a.rs", Some((1, 9)))),
            ("【F:a.rs†1-9】", file("a.rs", Some((1, 9)))),
            ("【F:a.rs†l1–l9】", file("a.rs", Some((1, 9)))),
            ("【 F: a.rs † L1 - L9 】", file("a.rs", Some((1, 9)))),
            ("[F:a.rs†L1-L2]", file("a.rs", Some((1, 2)))),
            ("【F:./a-b–c.rs†L1】", file("./a-b–c.rs", Some((1, 1)))),
            ("【7c3f10†L1-L9】", output("7c3f10", Some((1, 9)))),
            ("【7c3f10†】", output("7c3f10", None)),
            ("【F:a[0].rs†L1】", file("a[0].rs", Some((1, 1)))),
        ] {
            assert_eq!(only(text), expected, "{text}");
        }
    }

    #[test]
    fn what_has_the_form_and_no_sense_is_a_citation_that_cannot_be_read() {
        for text in [
            "【F:†L1】",
            "【F:】",
            "【†L1】",
            "【a†L1-L】",
            "【a†L1-L2-L3】",
            "【a†lines 1 to 3】",
            "【F:a†L1,L4】",
            "【F:a†L1†L2】",
            "【a†L9999999999】",
        ] {
            assert_eq!(only(text), None, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_text() {
        let long = format!("【F:{}†L1】", "x".repeat(MAX_BYTES));
        for text in ["F:a†L1", "【注意】", "【F:a\nb†L1】", "[a†L1]", "[F:a]", "[F:a†x]", "【F:a†L1", "a] 【", &long]
        {
            assert_eq!(citations(text), [], "{text}");
        }
    }

    #[test]
    fn several_in_a_row_are_several() {
        let text = "Both【F:a†L1】【F:b†L2-L3】[x](【c†L4】).";

        let found = citations(text);

        let texts: Vec<&str> = found.iter().map(|citation| citation.text).collect();
        assert_eq!(texts, ["【F:a†L1】", "【F:b†L2-L3】", "【c†L4】"]);
        assert!(found.iter().all(|citation| &text[citation.place.clone()] == citation.text));
    }

    #[test]
    fn a_bracket_that_never_closes_hides_no_citation_behind_it() {
        assert_eq!(citations("【F:a†L1 and 【F:b†L2】")[0].text, "【F:b†L2】");
        assert_eq!(citations("[[[【F:b†L2】")[0].text, "【F:b†L2】");
    }

    proptest! {
        #[test]
        fn whatever_a_model_writes_is_read_without_a_panic(text in "[【】†\\[\\]F:L0-9a é\\n–-]{0,60}") {
            for citation in citations(&text) {
                prop_assert_eq!(&text[citation.place.clone()], citation.text);
            }
        }
    }

    #[test]
    fn what_stands_in_a_block_of_code_cites_nothing() {
        let text = "a 【F:a†L1】\n```md\n【F:b†L1】\n~~~\n```\nc 【F:c†L1】\n  ~~~\n【F:d†L1】\n";

        let cited: Vec<&str> = citations(text).iter().map(|citation| citation.text).collect();

        assert_eq!(cited, ["【F:a†L1】", "【F:c†L1】"]);
    }
}

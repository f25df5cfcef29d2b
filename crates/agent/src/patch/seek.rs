//! Finds the place of a hunk in a file: exactly if it can be, and else with growing tolerance for what models get
//! wrong: white space at the end of lines, then on both sides, then typographic characters for plain ones.
//!
//! Linear in the length of the file, whatever the hunk (Knuth, Morris and Pratt's search, over lines).

use std::borrow::Cow;

use super::text::Line;

/// What is left of a line for comparison, strictest first.
const LEVELS: [fn(&str) -> Cow<'_, str>; 4] = [
    |line| Cow::Borrowed(line),
    |line| Cow::Borrowed(line.trim_end()),
    |line| Cow::Borrowed(line.trim()),
    |line| plain(line.trim()),
];

/// How many blank lines at the end of a file are passed over.
const MAX_BLANK: usize = 100;

/// How many places, and how many lines at each, are looked at for an error message.
const NEAREST_LIMIT: usize = 1000;

/// Where these lines stand side by side, at or after `from`. The strictest level that finds any place decides.
pub(super) fn find(file: &[Line], wanted: &[&str], from: usize) -> Option<usize> {
    LEVELS.iter().find_map(|level| search(file, wanted, from, *level))
}

/// Where these lines stand at the end of the file, blank lines after them not counted.
pub(super) fn find_at_end(file: &[Line], wanted: &[&str], from: usize) -> Option<usize> {
    let blank = file.iter().rev().take_while(|line| line.text.trim().is_empty()).take(MAX_BLANK).count();
    let last = file.len().checked_sub(wanted.len())?;
    // The hunk may show some of the blank lines: the latest place is the one that leaves the fewest over.
    let first = last.saturating_sub(blank).max(from);
    let mut found = None;
    let mut from = first;
    while let Some(at) = find(file, wanted, from) {
        found = Some(at);
        from = at + 1;
    }
    found
}

/// Where the most of these lines stand side by side from the first one on, and how many those are. For error messages.
pub(super) fn nearest(file: &[Line], wanted: &[&str]) -> Option<(usize, usize)> {
    let level = LEVELS[3];
    let wanted: Vec<_> = wanted.iter().take(NEAREST_LIMIT).map(|line| level(line)).collect();
    let first = wanted.first()?;
    let run =
        |at: usize| file[at..].iter().zip(&wanted).take_while(|(line, wanted)| level(&line.text) == **wanted).count();
    let candidates = (0..file.len()).filter(|at| level(&file[*at].text) == *first).take(NEAREST_LIMIT);
    candidates.map(|at| (at, run(at))).max_by_key(|(at, length)| (*length, std::cmp::Reverse(*at)))
}

fn search(file: &[Line], wanted: &[&str], from: usize, level: fn(&str) -> Cow<'_, str>) -> Option<usize> {
    let wanted: Vec<Cow<'_, str>> = wanted.iter().map(|line| level(line)).collect();
    let fallback = fallbacks(&wanted);
    let mut matched = 0;
    for (at, line) in file.iter().enumerate().skip(from) {
        let line = level(&line.text);
        while matched > 0 && wanted[matched] != line {
            matched = fallback[matched - 1];
        }
        if wanted[matched] == line {
            matched += 1;
        }
        if matched == wanted.len() {
            return Some(at + 1 - matched);
        }
    }
    None
}

/// For each line, how many lines at the beginning are also those up to and including it.
fn fallbacks(wanted: &[Cow<'_, str>]) -> Vec<usize> {
    let mut fallback = vec![0; wanted.len()];
    let mut matched = 0;
    for at in 1..wanted.len() {
        while matched > 0 && wanted[matched] != wanted[at] {
            matched = fallback[matched - 1];
        }
        if wanted[matched] == wanted[at] {
            matched += 1;
        }
        fallback[at] = matched;
    }
    fallback
}

/// A line with plain characters for their typographic relatives.
fn plain(line: &str) -> Cow<'_, str> {
    if line.is_ascii() {
        return Cow::Borrowed(line);
    }
    let characters = line.chars().map(|character| match character {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' | '\u{FF0D}' => '-',
        '\u{2018}'..='\u{201B}' | '\u{2032}' => '\'',
        '\u{201C}'..='\u{201F}' | '\u{2033}' => '"',
        '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => ' ',
        other => other,
    });
    Cow::Owned(characters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::text::lines;

    #[test]
    fn the_search_finds_what_a_plain_search_finds() {
        let letters = ["a", "b"];
        let text: String = (0..64u32).map(|n| format!("{}\n", letters[(n * n / 3 % 2) as usize])).collect();
        let file = lines(&text);
        for length in 1..8 {
            for bits in 0..1usize << length {
                let wanted: Vec<&str> = (0..length).map(|bit| letters[bits >> bit & 1]).collect();
                let plain = (0..=file.len() - length)
                    .find(|at| file[*at..].iter().zip(&wanted).take(length).all(|(line, wanted)| line.text == *wanted));
                assert_eq!(find(&file, &wanted, 0), plain, "{wanted:?}");
            }
        }
    }

    #[test]
    fn a_hunk_made_to_be_slow_is_not() {
        let file = lines(&"a\n".repeat(200_000));
        let mut wanted = vec!["a"; 50_000];
        wanted.push("b");

        assert_eq!(find(&file, &wanted, 0), None);
        assert_eq!(nearest(&file, &wanted), Some((0, NEAREST_LIMIT)));
    }
}

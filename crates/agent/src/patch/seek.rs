//! Finds the place of a hunk in a file: exactly if it can be, and else with growing tolerance for what models get
//! wrong: white space at the end of lines, then on both sides, then typographic characters for plain ones.
//!
//! Linear in the length of the file, whatever the hunk (Knuth, Morris and Pratt's search, over lines).

use std::borrow::Cow;
use std::collections::HashMap;

use super::text::Line;

/// What is left of a line for comparison, strictest first.
const LEVELS: [fn(&str) -> Cow<'_, str>; 4] = [
    |line| Cow::Borrowed(line),
    |line| Cow::Borrowed(line.trim_end()),
    |line| Cow::Borrowed(line.trim()),
    |line| plain(line.trim_start_matches('\u{feff}').trim()),
];

/// How many blank lines at the end of a file are passed over.
const MAX_BLANK: usize = 100;

/// How many lines of a hunk are looked at for an error message.
const NEAREST_LIMIT: usize = 1000;

/// How often lines of a file are compared with those of a hunk for an error message.
const MAX_VOTES: usize = 1_000_000;

/// How much of a line must be the same, in hundredths, for it to be like another.
const ALIKE: usize = 50;

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

/// The place that these lines fit best, and how many of them stand there in their places. For error messages.
pub(super) fn nearest(file: &[Line], wanted: &[&str]) -> Option<(usize, usize)> {
    let level = LEVELS[3];
    let mut places: HashMap<Cow<'_, str>, Vec<usize>> = HashMap::new();
    for (at, line) in wanted.iter().enumerate().take(NEAREST_LIMIT) {
        let line = level(line);
        // Blank lines stand everywhere and say nothing.
        if !line.is_empty() {
            places.entry(line).or_default().push(at);
        }
    }
    // Each line that stands in the file speaks for the place that it would have there.
    let mut votes: HashMap<usize, usize> = HashMap::new();
    let mut left = MAX_VOTES;
    for (at, line) in file.iter().enumerate() {
        for offset in places.get(&level(&line.text)).into_iter().flatten() {
            if *offset <= at && left > 0 {
                *votes.entry(at - offset).or_default() += 1;
                left -= 1;
            }
        }
    }
    votes.into_iter().max_by_key(|(at, fitting)| (*fitting, std::cmp::Reverse(*at)))
}

/// The line that is most like this one, and where it stands: for a hunk of which no line is in the file.
pub(super) fn most_alike(file: &[Line], wanted: &str) -> Option<usize> {
    let wanted = LEVELS[3](wanted);
    let longest = wanted.len().max(1);
    let alike = |line: &Line| {
        let line = LEVELS[3](&line.text);
        let same = |(one, other): &(u8, u8)| one == other;
        let before = line.bytes().zip(wanted.bytes()).take_while(same).count();
        let rest = line.len().min(wanted.len()) - before;
        let after = line.bytes().rev().zip(wanted.bytes().rev()).take(rest).take_while(same).count();
        (before + after) * 100 / longest.max(line.len())
    };
    let scores = file.iter().enumerate().map(|(at, line)| (alike(line), at)).filter(|(score, _)| *score >= ALIKE);
    scores.max_by_key(|(score, at)| (*score, std::cmp::Reverse(*at))).map(|(_, at)| at)
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
pub(super) fn plain(line: &str) -> Cow<'_, str> {
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
        assert!(nearest(&file, &wanted).is_some());
    }

    #[test]
    fn the_place_that_fits_best_wins_even_when_its_first_line_differs() {
        let file = lines("x\na\nb\nc\n\nx\na\nB\n");

        assert_eq!(nearest(&file, &["wrong", "a", "b", "c"]), Some((0, 3)));
        assert_eq!(nearest(&file, &["nothing", ""]), None);
    }

    #[test]
    fn a_line_with_a_slip_is_found_by_what_is_left_of_it() {
        let file = lines("fn one() {\n    let count = 1;\n}\n");

        assert_eq!(most_alike(&file, "let counts = 1;"), Some(1));
        assert_eq!(most_alike(&file, "completely different"), None);
    }
}

//! What is kept of a command's output, read again by the model: some of its lines, some of its bytes, or the lines in
//! which something stands. Lines are counted from 1 from where the chunk begins that the model names.

use regex::Regex;

use super::bare::Bare;
use super::ends::{Excerpt, Position, count_lines};
use super::keep::text;

/// How much is shown of one line.
const MAX_LINE_CHARS: usize = 2000;

/// How much is shown before and behind a match in a longer line.
const AROUND_MATCH_BYTES: usize = 500;

/// Which part is wanted.
#[derive(Debug)]
pub(crate) enum Part {
    /// From this line to that one, or to the end; negative ones count from the end, -1 being the last.
    Lines {
        /// The first.
        first: i64,
        /// The last.
        last: Option<i64>,
    },
    /// From this byte, counted from 0, to before that one, or to the end.
    Bytes {
        /// The first.
        first: u64,
        /// The one behind the last.
        end: Option<u64>,
    },
    /// Lines in which this is found.
    Matches {
        /// What is looked for.
        pattern: Regex,
        /// At most so many.
        max: usize,
        /// With so many lines before and after each.
        context: usize,
    },
}

/// An output as it is read again.
#[derive(Debug)]
pub(crate) struct Recorded {
    excerpt: Excerpt,
    from: Position,
}

/// One line, or what was not kept.
struct Line<'t> {
    /// Its number, counted from 1.
    number: u64,
    text: &'t str,
}

impl Recorded {
    /// What is kept, to be read from a place on.
    pub(crate) fn new(excerpt: Excerpt, from: Position) -> Self {
        Self { excerpt, from }
    }

    /// The text of a log, to be read from a line on: bytes are not the same there.
    pub(crate) fn of_log(text: String, from: Position) -> Self {
        let mut ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at as u64 + 1);
        let begins = match from.lines {
            0 => Some(0),
            lines => ends.nth(usize::try_from(lines).unwrap_or(usize::MAX) - 1),
        };
        let from = Position { bytes: begins.unwrap_or(text.len() as u64), lines: from.lines };
        Self { excerpt: Excerpt { head: text.into_bytes(), gap_lines: Some(0), ..Excerpt::default() }, from }
    }

    /// The part, as text of about so many bytes at most when the model is told it.
    pub(crate) fn read(&self, part: &Part, budget_bytes: usize) -> String {
        let read = self.read_raw(part, budget_bytes);
        let told = Bare::of(&read).text.len();
        // What does not show takes more room as its code point.
        if told <= budget_bytes.saturating_mul(2) || told <= read.len() {
            return read;
        }
        self.read_raw(part, budget_bytes.saturating_mul(budget_bytes) / told)
    }

    fn read_raw(&self, part: &Part, budget_bytes: usize) -> String {
        let (head, tail) = self.behind_start();
        let (head_text, tail_text) = (text(head), text(tail));
        match part {
            Part::Bytes { first, end } => self.bytes(*first, *end, budget_bytes),
            Part::Lines { first, last } => self.lines(&head_text, &tail_text, *first, *last, budget_bytes),
            Part::Matches { pattern, max, context } => {
                let lines = self.numbered(&head_text, &tail_text);
                matches(&lines, pattern, *max, *context, budget_bytes) + &self.gap_note()
            }
        }
    }

    /// The number of the last line, which is how many there are: counted from where the piece begins.
    pub(crate) fn last_line(&self) -> u64 {
        let (head, tail) = self.behind_start();
        let (head, tail) = (text(head), text(tail));
        self.numbered(&head, &tail).last().map_or(0, |line| line.number)
    }

    /// The first and the last of the lines that were not kept, if there are such.
    pub(crate) fn lost_lines(&self) -> Option<(u64, u64)> {
        let (head, tail) = self.behind_start();
        let (head, tail) = (text(head), text(tail));
        let lines = self.numbered(&head, &tail);
        let gap = lines.windows(2).find(|pair| pair[0].number + 1 < pair[1].number)?;
        Some((gap[0].number + 1, gap[1].number - 1))
    }

    /// Head and tail without what stands before the place.
    fn behind_start(&self) -> (&[u8], &[u8]) {
        let Excerpt { head, tail, gap_bytes, .. } = &self.excerpt;
        let skip = |bytes: u64, part: &[u8]| usize::try_from(bytes).unwrap_or(usize::MAX).min(part.len());
        let past_head = self.from.bytes.saturating_sub(head.len() as u64);
        let past_gap = past_head.saturating_sub(*gap_bytes);
        (&head[skip(self.from.bytes, head)..], &tail[skip(past_gap, tail)..])
    }

    /// All lines that are kept, with their numbers.
    fn numbered<'t>(&self, head: &'t str, tail: &'t str) -> Vec<Line<'t>> {
        let tail_begins = match self.excerpt.gap_lines {
            Some(lines) => count_lines(&self.excerpt.head) + lines,
            // Nobody knows: what is missing is taken for one line.
            None => count_lines(&self.excerpt.head) + 1,
        };
        // The place may be in the tail: then the lines before it there do not count.
        let cut = count_lines(&self.excerpt.tail) - count_lines(tail.as_bytes());
        let first_of_tail = (tail_begins + cut).saturating_sub(self.from.lines);
        let number = |begins: u64| move |(at, text): (usize, &'t str)| Line { number: begins + at as u64 + 1, text };
        let split = |text: &'t str| text.split_terminator('\n').enumerate();
        split(head).map(number(0)).chain(split(tail).map(number(first_of_tail))).collect()
    }

    fn lines(&self, head: &str, tail: &str, first: i64, last: Option<i64>, budget_bytes: usize) -> String {
        let lines = self.numbered(head, tail);
        let Some(all) = lines.last().map(|line| line.number) else { return "It printed nothing.\n".to_owned() };
        let place = |number: i64| match u64::try_from(number) {
            Ok(number) => number.max(1),
            Err(_) => (all + 1).saturating_sub(number.unsigned_abs()).max(1),
        };
        let (first, last) = (place(first), last.map_or(all, place).min(all));
        if first > last {
            return format!("There are {all} lines; none from {first} to {last}.\n");
        }
        let mut shown = format!("Lines {first} to {last} of {all}:\n");
        let mut before = None;
        for line in lines.iter().filter(|line| (first..=last).contains(&line.number)) {
            if before.is_some_and(|before| before + 1 < line.number) {
                shown.push_str("… what was printed here was not kept …\n");
            }
            if shown.len() > budget_bytes {
                shown.push_str(&format!("… there is more: go on with start_line {} …\n", line.number));
                break;
            }
            shown.push_str(&format!("{}:{}\n", line.number, cut(line.text)));
            before = Some(line.number);
        }
        if before.is_none() {
            shown.push_str("… these lines were not kept …\n");
        }
        shown + &self.gap_note()
    }

    fn bytes(&self, first: u64, end: Option<u64>, budget_bytes: usize) -> String {
        let Excerpt { head, tail, gap_bytes, .. } = &self.excerpt;
        let tail_begins = head.len() as u64 + gap_bytes;
        let total = tail_begins + tail.len() as u64;
        let first = self.from.bytes.saturating_add(first).min(total);
        let asked = end.map_or(total, |end| self.from.bytes.saturating_add(end).clamp(first, total));
        let end = asked.min(first.saturating_add(budget_bytes as u64));
        let slice = |part: &[u8], begins: u64| {
            let at = |place: u64| usize::try_from(place.saturating_sub(begins)).unwrap_or(usize::MAX).min(part.len());
            text(&part[at(first)..at(end)])
        };
        let local = |place: u64| place - self.from.bytes.min(place);
        let mut shown = format!("Bytes {} to {} of {}:\n", local(first), local(end), local(total));
        shown.push_str(&slice(head, 0));
        if first < tail_begins && end > head.len() as u64 && *gap_bytes > 0 {
            shown.push_str("\n… what was printed here was not kept …\n");
        }
        shown.push_str(&slice(tail, tail_begins));
        if end < asked {
            shown.push_str(&format!("\n… there is more: go on with start_byte {} …\n", local(end)));
        }
        shown
    }

    fn gap_note(&self) -> String {
        match (self.excerpt.gap_bytes, self.excerpt.gap_lines) {
            (0, _) => String::new(),
            (bytes, Some(_)) => format!("{bytes} bytes in the middle of the output were not kept.\n"),
            (bytes, None) => format!(
                "{bytes} bytes in the middle of the output were not kept, and are counted as one line in the numbers.\n"
            ),
        }
    }
}

fn matches(lines: &[Line<'_>], pattern: &Regex, max: usize, context: usize, budget_bytes: usize) -> String {
    let found: Vec<usize> = (0..lines.len()).filter(|at| pattern.is_match(lines[*at].text)).collect();
    if found.is_empty() {
        return format!("Nothing is found in {} lines.\n", lines.len());
    }
    let mut shown = String::new();
    let mut done = 0;
    let mut next = 0;
    for at in found.iter().copied().take(max) {
        if shown.len() > budget_bytes {
            break;
        }
        let from = at.saturating_sub(context).max(next);
        if context > 0 && next > 0 && from > next {
            shown.push_str("--\n");
        }
        let until = (at + context + 1).min(lines.len());
        for (beside, Line { number, text }) in lines.iter().enumerate().take(until).skip(from) {
            // A match further down comes in its own turn.
            if beside > at && found.binary_search(&beside).is_ok() {
                break;
            }
            match pattern.find(text).filter(|_| beside == at) {
                Some(found) => shown.push_str(&format!("{number}:{}\n", around(text, found.range()))),
                None => shown.push_str(&format!("{number}-{}\n", cut(text))),
            }
            next = beside + 1;
        }
        done += 1;
    }
    format!("{done} of {} matching lines:\n{shown}", found.len())
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE_CHARS) {
        None => line.to_owned(),
        Some((at, _)) => format!("{}… [{} more bytes of this line]", &line[..at], line.len() - at),
    }
}

/// A line, or of a long one what is near the match.
fn around(line: &str, found: std::ops::Range<usize>) -> String {
    if line.len() <= MAX_LINE_CHARS {
        return line.to_owned();
    }
    let from = line.ceil_char_boundary(found.start.saturating_sub(AROUND_MATCH_BYTES));
    let to = line.floor_char_boundary(found.end.min(found.start + AROUND_MATCH_BYTES) + AROUND_MATCH_BYTES);
    format!("[from byte {from} of this line] …{}…", &line[from..to.max(from)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ends::Ends;

    const START: Position = Position { bytes: 0, lines: 0 };

    fn numbers(upto: u64, limit_bytes: usize, from: Position) -> Recorded {
        let mut ends = Ends::new(limit_bytes);
        (1..=upto).for_each(|number| ends.push(format!("line {number}\n").as_bytes()));
        Recorded::new(ends.into_excerpt(), from)
    }

    fn lines(first: i64, last: Option<i64>) -> Part {
        Part::Lines { first, last }
    }

    fn search(pattern: &str, max: usize, context: usize) -> Part {
        Part::Matches { pattern: Regex::new(pattern).expect("a pattern"), max, context }
    }

    #[test]
    fn lines_are_read_by_their_numbers_from_either_end() {
        let recorded = numbers(100, 10_000, START);

        assert_eq!(recorded.read(&lines(2, Some(3)), 1000), "Lines 2 to 3 of 100:\n2:line 2\n3:line 3\n");
        assert_eq!(recorded.read(&lines(-2, None), 1000), "Lines 99 to 100 of 100:\n99:line 99\n100:line 100\n");
        assert_eq!(recorded.read(&lines(200, None), 1000), "There are 100 lines; none from 200 to 100.\n");
        assert!(recorded.read(&lines(1, None), 35).ends_with("… there is more: go on with start_line 3 …\n"));
        assert_eq!(numbers(0, 10, START).read(&lines(1, None), 1000), "It printed nothing.\n");
    }

    #[test]
    fn a_chunk_counts_from_where_it_begins() {
        let recorded = numbers(100, 10_000, Position { bytes: 7, lines: 1 });

        assert_eq!(recorded.read(&lines(1, Some(1)), 1000), "Lines 1 to 1 of 99:\n1:line 2\n");
        assert_eq!(recorded.read(&Part::Bytes { first: 0, end: Some(6) }, 100), "Bytes 0 to 6 of 785:\nline 2");
    }

    #[test]
    fn what_was_not_kept_is_said_and_numbers_behind_it_hold() {
        let recorded = numbers(1000, 32, START);

        let shown = recorded.read(&lines(1, None), 1000);

        assert_eq!(
            shown,
            "Lines 1 to 1000 of 1000:\n1:line 1\n2:line 2\n3:li\n… what was printed here was not kept …\n999:e 999\n1000:line 1000\n8861 bytes in the middle of the output were not kept.\n"
        );
        assert!(recorded.read(&lines(500, Some(510)), 1000).contains("these lines were not kept"));
        let from = Position { bytes: 8877, lines: 998 };
        assert_eq!(Recorded::new(recorded.excerpt, from).read(&lines(1, Some(1)), 99).lines().nth(1), Some("1:e 999"));
    }

    #[test]
    fn lines_are_found_by_what_stands_in_them() {
        let recorded = numbers(30, 10_000, START);

        assert_eq!(recorded.read(&search("line 3", 9, 0), 1000), "2 of 2 matching lines:\n3:line 3\n30:line 30\n");
        assert_eq!(recorded.read(&search("2$", 1, 0), 1000), "1 of 3 matching lines:\n2:line 2\n");
        assert_eq!(recorded.read(&search("nowhere", 9, 0), 1000), "Nothing is found in 30 lines.\n");
        assert_eq!(
            recorded.read(&search(" [38]$", 9, 1), 1000),
            "2 of 2 matching lines:\n2-line 2\n3:line 3\n4-line 4\n--\n7-line 7\n8:line 8\n9-line 9\n"
        );
        assert_eq!(
            recorded.read(&search(" [34]$", 9, 1), 1000),
            "2 of 2 matching lines:\n2-line 2\n3:line 3\n4:line 4\n5-line 5\n"
        );
    }

    #[test]
    fn a_line_without_end_is_read_by_its_bytes() {
        let mut ends = Ends::new(1 << 20);
        ends.push(format!("{}needle{}", "x".repeat(5000), "y".repeat(5000)).as_bytes());
        let recorded = Recorded::new(ends.into_excerpt(), START);

        let line = recorded.read(&lines(1, None), 10_000);
        assert!(line.len() < 3000 && line.ends_with("more bytes of this line]\n"), "{line}");
        assert!(recorded.read(&search("needle", 1, 0), 10_000).contains("xxneedleyy"));
        let part = recorded.read(&Part::Bytes { first: 4998, end: Some(5008) }, 10_000);
        assert_eq!(part, "Bytes 4998 to 5008 of 10006:\nxxneedleyy");
        let part = recorded.read(&Part::Bytes { first: 0, end: None }, 4);
        assert_eq!(part, "Bytes 0 to 4 of 10006:\nxxxx\n… there is more: go on with start_byte 4 …\n");
    }

    #[test]
    fn a_log_is_read_from_a_line_on() {
        let recorded = Recorded::of_log("a\nb\nc\n".to_owned(), Position { bytes: 77, lines: 1 });

        assert_eq!(recorded.read(&lines(1, None), 100), "Lines 1 to 2 of 2:\n1:b\n2:c\n");
    }
}

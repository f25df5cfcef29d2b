//! The two ends of a long output, and how much of it there was: bounded memory for output of any length.

use std::collections::VecDeque;

/// A place in a command's output, counted from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// Bytes before it.
    pub(crate) bytes: u64,
    /// Line ends before it.
    pub(crate) lines: u64,
}

/// The beginning and the end of an output.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// How much each of the two may hold.
    half_bytes: usize,
    total_bytes: u64,
    /// Line ends among the bytes that came here.
    line_ends: u64,
    /// Bytes that never came here, so that what follows belongs to the tail and lines cannot be counted.
    skipped_bytes: u64,
}

impl Ends {
    /// Room for so many bytes.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            half_bytes: limit_bytes.div_ceil(2),
            total_bytes: 0,
            line_ends: 0,
            skipped_bytes: 0,
        }
    }

    /// Adds output.
    #[cfg(test)]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.push_counted(bytes, count_lines(bytes));
    }

    /// Adds output in which there are so many line ends.
    pub(crate) fn push_counted(&mut self, bytes: &[u8], line_ends: u64) {
        self.total_bytes += bytes.len() as u64;
        self.line_ends += line_ends;
        let room = if self.skipped_bytes > 0 { 0 } else { self.half_bytes - self.head.len() };
        let to_head = bytes.len().min(room);
        self.head.extend_from_slice(&bytes[..to_head]);
        let rest = &bytes[to_head..];
        let rest = &rest[rest.len().saturating_sub(self.half_bytes)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.half_bytes);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// Counts output that was left out before it came here.
    pub(crate) fn skip(&mut self, bytes: u64) {
        self.total_bytes += bytes;
        self.skipped_bytes += bytes;
        if bytes > 0 {
            self.tail.clear();
        }
    }

    /// How much there was in all; lines only when all of them came here.
    pub(crate) fn totals(&self) -> (u64, Option<u64>) {
        (self.total_bytes, (self.skipped_bytes == 0).then_some(self.line_ends))
    }

    /// What is held, with what is known of the rest.
    pub(crate) fn into_excerpt(self) -> Excerpt {
        let (total_bytes, line_ends) = self.totals();
        let (head, tail) = (self.head, Vec::from(self.tail));
        let gap_bytes = total_bytes - (head.len() + tail.len()) as u64;
        let mut excerpt = Excerpt { head, tail, gap_bytes, gap_lines: None };
        match (gap_bytes, line_ends) {
            (0, _) => {
                let rest = std::mem::take(&mut excerpt.tail);
                excerpt.head.extend_from_slice(&rest);
                excerpt.gap_lines = Some(0);
            }
            (_, Some(lines)) => excerpt.know_lines(lines),
            (_, None) => {}
        }
        excerpt
    }
}

/// An output, or as much of it as was kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Excerpt {
    /// Its beginning; all of it when nothing is missing.
    pub(crate) head: Vec<u8>,
    /// Its end.
    pub(crate) tail: Vec<u8>,
    /// How much is missing between the two.
    pub(crate) gap_bytes: u64,
    /// How many line ends are in what is missing, if that is known.
    pub(crate) gap_lines: Option<u64>,
}

impl Excerpt {
    /// Takes note of how many line ends there are in all.
    pub(crate) fn know_lines(&mut self, line_ends: u64) {
        self.gap_lines = Some(line_ends.saturating_sub(count_lines(&self.head) + count_lines(&self.tail)));
    }
}

/// The line ends in some bytes.
pub(crate) fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_output_is_all_there() {
        let mut ends = Ends::new(8);
        ends.push(b"ab\n");
        ends.push(b"c\nde");

        let excerpt = ends.into_excerpt();

        let expected = Excerpt { head: b"ab\nc\nde".to_vec(), tail: Vec::new(), gap_bytes: 0, gap_lines: Some(0) };
        assert_eq!(excerpt, expected);
    }

    #[test]
    fn of_a_long_one_the_lines_that_are_missing_are_counted() {
        let mut ends = Ends::new(8);
        for number in 0..10 {
            ends.push(format!("{number}\n").as_bytes());
        }
        assert_eq!(ends.totals(), (20, Some(10)));

        let excerpt = ends.into_excerpt();

        let (head, tail) = (b"0\n1\n".to_vec(), b"8\n9\n".to_vec());
        assert_eq!(excerpt, Excerpt { head, tail, gap_bytes: 12, gap_lines: Some(6) });
    }

    #[test]
    fn what_never_came_cannot_be_counted_in_lines() {
        let mut ends = Ends::new(100);
        ends.push(b"a\n");
        ends.skip(50);
        ends.push(b"z\n");
        assert_eq!(ends.totals(), (54, None));

        let mut excerpt = ends.into_excerpt();

        assert_eq!((excerpt.gap_bytes, excerpt.gap_lines), (50, None));
        excerpt.know_lines(12);
        assert_eq!(excerpt.gap_lines, Some(10));
    }
}

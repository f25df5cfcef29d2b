//! The part of a command's output that the model has not seen yet, and its form for the model.

use super::bare::Bare;
use super::ends::{Ends, Position, count_lines};

/// A token is taken for this many bytes, as Codex does: models are used to counts made so.
pub(crate) const BYTES_PER_TOKEN: usize = 4;

/// How often a part is made smaller until it fits.
const FITTING_TRIES: usize = 8;

/// Output with its middle left out when there is too much of it.
#[derive(Debug)]
pub(crate) struct Unread {
    ends: Ends,
    limit_bytes: usize,
    /// Where it begins: what was before has been taken.
    begins: Position,
}

/// Output for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// At most the tokens asked for, but for the note on what was left out.
    pub(crate) text: String,
    /// How many there were.
    pub(crate) original_tokens: u64,
    /// Where it begins in the command's output.
    pub(crate) begins: Position,
}

impl Unread {
    /// Room for so many tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        let limit_bytes = tokens.saturating_mul(BYTES_PER_TOKEN);
        Self { ends: Ends::new(limit_bytes), limit_bytes, begins: Position::default() }
    }

    /// Adds output in which there are so many line ends.
    pub(crate) fn push_counted(&mut self, bytes: &[u8], line_ends: u64) {
        self.ends.push_counted(bytes, line_ends);
    }

    /// Counts output that was left out before it came here.
    pub(crate) fn skip(&mut self, bytes: u64) {
        self.ends.skip(bytes);
    }

    /// Takes everything, as text of at most so many tokens, under the name of a chunk.
    pub(crate) fn take(&mut self, tokens: usize, chunk: &str) -> Taken {
        let ends = std::mem::replace(&mut self.ends, Ends::new(self.limit_bytes));
        let begins = self.begins;
        let (total_bytes, line_ends) = ends.totals();
        self.begins.bytes += total_bytes;
        self.begins.lines += line_ends.unwrap_or_default();
        let original_tokens = total_bytes.div_ceil(BYTES_PER_TOKEN as u64);
        let excerpt = ends.into_excerpt();
        let budget = tokens.saturating_mul(BYTES_PER_TOKEN);
        if excerpt.gap_bytes == 0 {
            let whole = text(&excerpt.head);
            if told_bytes(&excerpt.head) <= budget {
                return Taken { text: whole, original_tokens, begins };
            }
        }
        let tail = if excerpt.gap_bytes == 0 { &excerpt.head } else { &excerpt.tail };
        let (first, last) = (first_bytes(&excerpt.head, budget / 2), last_bytes(tail, budget / 2));
        if excerpt.gap_bytes == 0 && first.len() + last.len() >= excerpt.head.len() {
            // Only what does not show makes it longer than it may be, and by so little that nothing would be left out.
            return Taken { text: text(&excerpt.head), original_tokens, begins };
        }
        let gap = Gap {
            bytes: (first.len() as u64, total_bytes - last.len() as u64),
            lines: line_ends.map(|all| {
                // A line that is shown in part is one that is left out, too.
                let begins_line = tail[..tail.len() - last.len()].last() == Some(&b'\n');
                (count_lines(first) + 1, all - count_lines(last) + u64::from(!begins_line))
            }),
        };
        Taken { text: format!("{}{}{}", text(first), gap.note(chunk), text(last)), original_tokens, begins }
    }
}

/// What is left out of a chunk.
struct Gap {
    /// From this byte to before that one, counted from 0.
    bytes: (u64, u64),
    /// From this line to that one, both left out at least in part, counted from 1; if they could be counted.
    lines: Option<(u64, u64)>,
}

impl Gap {
    /// What stands in its place, and says the way to what is missing.
    fn note(&self, chunk: &str) -> String {
        let tokens = (self.bytes.1 - self.bytes.0).div_ceil(BYTES_PER_TOKEN as u64);
        let lines = match self.lines {
            Some((first, last)) if first < last => format!("lines {first} to {last}, "),
            Some((line, _)) => format!("in line {line}, "),
            None => String::new(),
        };
        format!(
            "\n…{tokens} tokens left out: {lines}bytes {} to {}; read_output shows them: chunk_id {chunk}…\n",
            self.bytes.0, self.bytes.1
        )
    }
}

/// At most so many bytes of the beginning, whole lines if they are not much shorter.
fn first_bytes(bytes: &[u8], max: usize) -> &[u8] {
    let mut end = fitting(bytes.len().min(max), |length| &bytes[..length]);
    while end > 0 && end < bytes.len() && is_inside_character(bytes[end]) {
        end -= 1;
    }
    match bytes[..end].iter().rposition(|byte| *byte == b'\n') {
        Some(at) if at + 1 > end / 2 => &bytes[..=at],
        _ => &bytes[..end],
    }
}

/// At most so many bytes of the end, whole lines if they are not much shorter.
fn last_bytes(bytes: &[u8], max: usize) -> &[u8] {
    let mut start = bytes.len() - fitting(bytes.len().min(max), |length| &bytes[bytes.len() - length..]);
    while start < bytes.len() && is_inside_character(bytes[start]) {
        start += 1;
    }
    let cut_in_line = start == 0 || bytes[start - 1] != b'\n';
    match bytes[start..].iter().position(|byte| *byte == b'\n') {
        Some(at) if cut_in_line && at + 1 < (bytes.len() - start) / 2 => &bytes[start + at + 1..],
        _ => &bytes[start..],
    }
}

/// How many of so many bytes may be taken so that what the model is told of them keeps to that: what is no text, or does not
/// show, grows.
fn fitting<'b>(max: usize, part: impl Fn(usize) -> &'b [u8]) -> usize {
    let mut fits = max;
    for _ in 0..FITTING_TRIES {
        let told = told_bytes(part(fits));
        // A character cut in two is made whole by whoever asks.
        if told <= max + char::MAX_LEN_UTF8 {
            break;
        }
        fits = fits * max / told;
    }
    fits
}

/// How long it is as the model is told it.
fn told_bytes(bytes: &[u8]) -> usize {
    Bare::of(&text(bytes)).text.len()
}

fn is_inside_character(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Text that every database and JSON parser takes: no NUL.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Unread {
        fn push(&mut self, bytes: &[u8]) {
            self.push_counted(bytes, count_lines(bytes));
        }
    }

    const START: Position = Position { bytes: 0, lines: 0 };

    #[test]
    fn little_output_is_taken_whole_and_once() {
        let mut unread = Unread::new(100);
        unread.push(b"hello\n");
        unread.push("grün".as_bytes());

        assert_eq!(unread.take(100, "c"), Taken { text: "hello\ngrün".to_owned(), original_tokens: 3, begins: START });
        let begins = Position { bytes: 11, lines: 1 };
        assert_eq!(unread.take(100, "c"), Taken { text: String::new(), original_tokens: 0, begins });
    }

    #[test]
    fn of_much_output_head_and_tail_are_shown_and_the_middle_can_be_addressed() {
        let mut unread = Unread::new(10);
        for number in 1..=1_000_000 {
            unread.push(format!("{number}\n").as_bytes());
        }

        let taken = unread.take(10, "0a1b2c");

        assert_eq!(
            taken.text,
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n\n…1722216 tokens left out: lines 10 to 999998, bytes 18 to 6888881; read_output shows them: chunk_id 0a1b2c…\n999999\n1000000\n"
        );
        assert_eq!(taken.original_tokens, 1_722_224);
    }

    #[test]
    fn what_was_left_out_before_is_counted_and_marked() {
        let mut unread = Unread::new(100);
        unread.push(b"begin");
        unread.skip(400);
        unread.push(b"end");

        let taken = unread.take(100, "c");

        let note = "\n…100 tokens left out: bytes 5 to 405; read_output shows them: chunk_id c…\n";
        assert_eq!(taken, Taken { text: format!("begin{note}end"), original_tokens: 102, begins: START });
    }

    #[test]
    fn a_line_longer_than_the_budget_is_cut_between_characters() {
        let mut unread = Unread::new(1000);
        unread.push("ä".repeat(1000).as_bytes());

        let taken = unread.take(10, "c");

        let note = "\n…490 tokens left out: in line 1, bytes 20 to 1980; read_output shows them: chunk_id c…\n";
        assert_eq!(taken.text, format!("{0}{note}{0}", "ä".repeat(10)));
    }

    #[test]
    fn what_is_no_text_keeps_to_the_budget() {
        let mut unread = Unread::new(1000);
        unread.push(&[0xff; 4000]);

        let taken = unread.take(100, "c");

        assert!(taken.text.len() < 400 + 120, "{}", taken.text.len());
    }

    #[test]
    fn head_and_tail_that_meet_are_the_whole() {
        let text = format!("{}\u{ad}{}\u{ad}{}", "a".repeat(190), "b".repeat(9), "c".repeat(190));
        let mut unread = Unread::new(1000);
        unread.push(text.as_bytes());

        let taken = unread.take(100, "c");

        assert!(taken.text.contains("bbbbbbbbb") && !taken.text.contains("left out"), "{}", taken.text);
    }

    #[test]
    fn what_does_not_show_keeps_to_the_budget() {
        for piece in ["a\u{200b}", "\u{1b}x", "\u{1b}[31mred "] {
            let mut unread = Unread::new(10_000);
            unread.push(piece.repeat(8000).as_bytes());

            let taken = unread.take(100, "c");

            let told = Bare::of(&taken.text).text;
            assert!((200..400 + 150).contains(&told.len()), "{piece:?}: {}", told.len());
        }
    }

    #[test]
    fn output_may_be_wanted_by_nobody() {
        let mut unread = Unread::new(0);
        unread.push(b"abc");

        assert_eq!(unread.take(0, "c").original_tokens, 1);
    }
}

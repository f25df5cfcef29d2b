//! The part of a command's output that the model has not seen yet, and its form for the model.

use std::collections::VecDeque;

/// A token is taken for this many bytes, as Codex does: models are used to counts made so.
const BYTES_PER_TOKEN: usize = 4;

/// Output with its middle left out when there is too much of it.
#[derive(Debug)]
pub(crate) struct Unread {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// How much each of the two may hold.
    half_bytes: usize,
    /// Whether something was left out before it came here, so that what follows belongs to the tail.
    has_gap: bool,
    total_bytes: u64,
}

impl Unread {
    /// Room for so many tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        let half_bytes = (tokens * BYTES_PER_TOKEN).div_ceil(2);
        Self { head: Vec::new(), tail: VecDeque::new(), half_bytes, has_gap: false, total_bytes: 0 }
    }

    /// Adds output.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let room = if self.has_gap { 0 } else { self.half_bytes - self.head.len() };
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
        self.has_gap = true;
    }

    /// Takes everything, as text of at most so many tokens.
    pub(crate) fn take(&mut self, tokens: usize) -> Taken {
        let total_bytes = std::mem::take(&mut self.total_bytes);
        let mut head = std::mem::take(&mut self.head);
        let tail = Vec::from(std::mem::take(&mut self.tail));
        self.has_gap = false;
        let budget = tokens.saturating_mul(BYTES_PER_TOKEN);
        let original_tokens = total_bytes.div_ceil(BYTES_PER_TOKEN as u64);
        if total_bytes == (head.len() + tail.len()) as u64 {
            head.extend_from_slice(&tail);
            return Taken { text: shorten(&text(&head), budget), original_tokens };
        }
        let (head, tail) = (text(&head), text(&tail));
        let (first, last) = (first_bytes(&head, budget / 2), last_bytes(&tail, budget / 2));
        let left_out = total_bytes.saturating_sub((first.len() + last.len()) as u64);
        Taken { text: format!("{first}{}{last}", left_out_note(left_out)), original_tokens }
    }
}

/// Output for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// At most the tokens asked for, but for the note on what was left out.
    pub(crate) text: String,
    /// How many there were.
    pub(crate) original_tokens: u64,
}

/// At most so many bytes of a text: its head, a note, and its tail.
fn shorten(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let (first, last) = (first_bytes(text, max_bytes / 2), last_bytes(text, max_bytes / 2));
    format!("{first}{}{last}", left_out_note((text.len() - first.len() - last.len()) as u64))
}

fn left_out_note(bytes: u64) -> String {
    format!("\n…{} tokens left out…\n", bytes.div_ceil(BYTES_PER_TOKEN as u64))
}

fn first_bytes(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn last_bytes(text: &str, max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(max))..]
}

/// Text that every database and JSON parser takes: no NUL.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_output_is_taken_whole_and_once() {
        let mut unread = Unread::new(100);
        unread.push(b"hello ");
        unread.push("grün".as_bytes());

        assert_eq!(unread.take(100), Taken { text: "hello grün".to_owned(), original_tokens: 3 });
        assert_eq!(unread.take(100), Taken { text: String::new(), original_tokens: 0 });
    }

    #[test]
    fn of_much_output_head_and_tail_are_kept_in_bounded_memory() {
        let mut unread = Unread::new(10);
        for number in 0..1_000_000 {
            unread.push(format!("{number}\n").as_bytes());
        }
        assert!(unread.head.len() + unread.tail.len() <= 40);

        let taken = unread.take(10);

        assert!(taken.text.starts_with("0\n1\n2\n"), "{}", taken.text);
        assert!(taken.text.ends_with("999998\n999999\n"), "{}", taken.text);
        assert!(taken.text.contains("tokens left out"), "{}", taken.text);
        assert_eq!(taken.original_tokens, 1_722_223);
    }

    #[test]
    fn what_was_left_out_before_is_counted_and_marked() {
        let mut unread = Unread::new(100);
        unread.push(b"begin");
        unread.skip(400);
        unread.push(b"end");

        assert_eq!(
            unread.take(100),
            Taken { text: "begin\n…100 tokens left out…\nend".to_owned(), original_tokens: 102 }
        );
    }

    #[test]
    fn a_smaller_budget_than_what_is_kept_shortens_it() {
        let mut unread = Unread::new(1000);
        unread.push("ä".repeat(1000).as_bytes());

        let taken = unread.take(10);

        assert_eq!(taken.text, format!("{0}\n…490 tokens left out…\n{0}", "ä".repeat(10)));
    }

    #[test]
    fn output_may_be_wanted_by_nobody() {
        let mut unread = Unread::new(0);
        unread.push(b"abc");

        assert_eq!(unread.take(0).original_tokens, 1);
    }
}

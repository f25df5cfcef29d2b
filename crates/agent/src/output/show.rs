//! A command's output on its way into the log: cleaned, without secrets, in pieces of bounded size and number.

use std::time::Duration;

use carrel_domain::Redactor;

use super::clean::Cleaner;

/// How long output is collected before it becomes an event.
pub const COLLECT_FOR: Duration = Duration::from_millis(50);

/// How long the beginning of a line waits for its end: a secret must not be cut in two by two events.
const HOLD_LINE_FOR: u32 = 10;

/// The longest text of one event, in bytes.
const MAX_EVENT_BYTES: usize = 16 << 10;

/// How much of a command's output is shown from its beginning, and how much from its end.
const HALF_BYTES: usize = 512 << 10;

/// The output of one command.
#[derive(Debug)]
pub struct Shown {
    cleaner: Cleaner,
    /// Clean text that is in no event yet.
    pending: String,
    /// How often a line without its end has been held back.
    held: u32,
    /// How much is in events.
    shown_bytes: usize,
    /// How much of the beginning is in events already, from before a resumption.
    skip_bytes: u64,
    /// What comes after the beginning, until the end is known.
    tail: String,
    /// Clean bytes that were left out between beginning and end.
    left_out_bytes: u64,
    /// Raw bytes in all.
    output_bytes: u64,
    /// Raw bytes that never came here.
    lost_bytes: u64,
}

impl Shown {
    /// Output of which so many bytes are in events already.
    #[must_use]
    pub fn new(skip_bytes: u64) -> Self {
        Self {
            cleaner: Cleaner::default(),
            pending: String::new(),
            held: 0,
            shown_bytes: 0,
            skip_bytes,
            tail: String::new(),
            left_out_bytes: 0,
            output_bytes: 0,
            lost_bytes: 0,
        }
    }

    /// Takes output.
    pub fn push(&mut self, bytes: &[u8]) {
        self.output_bytes += bytes.len() as u64;
        self.cleaner.push(bytes, &mut self.pending);
        self.make_room();
    }

    /// Takes note of output that was left out before it came here.
    pub fn skip(&mut self, bytes: u64) {
        self.output_bytes += bytes;
        self.lost_bytes += bytes;
        self.pending.push_str(&left_out(bytes));
        self.make_room();
    }

    /// Whether something waits to become an event.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How much was printed, and how much of that is in no event.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.output_bytes, (self.lost_bytes + self.left_out_bytes).min(self.output_bytes))
    }

    /// The texts of the next events: whole lines, and what has waited for the end of its line long enough.
    #[must_use]
    pub fn flush(&mut self, redactor: &Redactor) -> Vec<String> {
        if self.shown_bytes >= HALF_BYTES {
            return Vec::new();
        }
        let lines = match self.pending.rfind('\n') {
            Some(end) => end + 1,
            None => 0,
        };
        self.held = if lines == 0 { self.held + 1 } else { 0 };
        let waited = self.held >= HOLD_LINE_FOR || self.pending.len() > MAX_EVENT_BYTES;
        let end = if lines == 0 && waited { self.pending.len() } else { lines };
        // However long it waits, the beginning of a secret is not shown before its end is known.
        let end = end - redactor.undecided(&self.pending[..end]);
        let text = self.pending[..end].to_owned();
        self.pending.drain(..end);
        self.pieces(&text, redactor)
    }

    /// The texts of the last events.
    #[must_use]
    pub fn finish(&mut self, redactor: &Redactor) -> Vec<String> {
        self.cleaner.finish(&mut self.pending);
        self.make_room();
        let mut text = std::mem::take(&mut self.pending);
        if self.left_out_bytes > 0 {
            text.push_str(&left_out(self.left_out_bytes));
        }
        text.push_str(&std::mem::take(&mut self.tail));
        self.pieces(&text, redactor)
    }

    /// Once the beginning is full, what follows goes to the tail, of which only the end is kept.
    fn make_room(&mut self) {
        let room = HALF_BYTES.saturating_sub(self.shown_bytes);
        if self.pending.len() <= room {
            return;
        }
        let cut = self.pending.floor_char_boundary(room);
        self.tail.push_str(&self.pending[cut..]);
        self.pending.truncate(cut);
        // Only now and then, so that a stream of small chunks is not moved with each of them.
        if self.tail.len() > 2 * HALF_BYTES {
            let start = self.tail.ceil_char_boundary(self.tail.len() - HALF_BYTES);
            self.left_out_bytes += start as u64;
            self.tail.drain(..start);
        }
    }

    fn pieces(&mut self, text: &str, redactor: &Redactor) -> Vec<String> {
        self.shown_bytes += text.len();
        let text = redactor.redact(text);
        let mut rest: &str = &text;
        let skipped = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(rest.len());
        self.skip_bytes -= skipped as u64;
        rest = &rest[rest.ceil_char_boundary(skipped)..];
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(MAX_EVENT_BYTES));
            pieces.push(piece.to_owned());
            rest = more;
        }
        pieces
    }
}

fn left_out(bytes: u64) -> String {
    format!("\n[{bytes} bytes left out]\n")
}

#[cfg(test)]
mod tests {
    use carrel_domain::Secret;

    use super::*;

    fn shown(chunks: impl IntoIterator<Item = Vec<u8>>, redactor: &Redactor) -> (Vec<String>, Shown) {
        let mut shown = Shown::new(0);
        let mut texts = Vec::new();
        for chunk in chunks {
            shown.push(&chunk);
            texts.extend(shown.flush(redactor));
        }
        texts.extend(shown.finish(redactor));
        (texts, shown)
    }

    #[test]
    fn a_secret_cut_in_two_by_chunks_is_still_found() {
        let redactor = Redactor::new([&Secret::new("hunter2hunter2")]);

        let (texts, _) = shown([b"key hunter2".to_vec(), b"hunter2\n".to_vec()], &redactor);

        assert_eq!(texts.concat(), "key [redacted]\n");

        let pauses = (0..2 * HOLD_LINE_FOR).map(|_| Vec::new());
        let slowly = [b"key hunter2".to_vec()].into_iter().chain(pauses).chain([b"hunter2\n".to_vec()]);
        let (texts, _) = shown(slowly, &redactor);

        assert_eq!(texts, ["key ", "[redacted]\n"], "a pause in the middle does not help");
    }

    #[test]
    fn a_prompt_without_a_line_end_is_shown_after_a_while() {
        let mut shown = Shown::new(0);
        shown.push(b"Password: ");

        let texts: Vec<_> = (0..HOLD_LINE_FOR).flat_map(|_| shown.flush(&Redactor::default())).collect();

        assert_eq!(texts, ["Password: "]);
    }

    #[test]
    fn a_flood_becomes_a_mebibyte_with_its_middle_counted() {
        let chunk = [b"x".repeat(99), b"\n".to_vec()].concat();
        let (texts, shown) = shown((0..500_000).map(|_| chunk.clone()), &Redactor::default());

        let bytes: usize = texts.iter().map(String::len).sum();
        assert!((1 << 20..3 << 19).contains(&bytes), "{bytes}");
        assert!(texts.iter().all(|text| text.len() <= MAX_EVENT_BYTES));
        let (output, dropped) = shown.totals();
        assert_eq!(output, 50_000_000);
        assert!(dropped > 48_000_000, "{dropped}");
    }

    #[test]
    fn what_was_shown_before_a_resumption_is_not_shown_again() {
        let mut shown = Shown::new(6);
        shown.push(b"one\ntwo\nthree\n");

        assert_eq!(shown.finish(&Redactor::default()).concat(), "o\nthree\n");
    }
}

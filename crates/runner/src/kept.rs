//! The head and the tail of a long output: what is kept of it, by absolute position.
//!
//! Half of the limit goes to the head, the other half is a ring over the tail. What falls between
//! is counted. The runner keeps one per command; the controller assembles results with the same type.

use std::collections::VecDeque;

/// A bounded copy of an output of any length.
#[derive(Debug)]
pub struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half_bytes: usize,
    total: u64,
    missing: u64,
}

impl Kept {
    /// Keeps at most `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), half_bytes: limit_bytes / 2, total: 0, missing: 0 }
    }

    /// Takes the next bytes of the output.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = if self.missing == 0 { self.half_bytes - self.head.len() } else { 0 };
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.half_bytes)..];
        let overflow = (self.tail.len() + rest.len()).saturating_sub(self.half_bytes);
        self.tail.drain(..overflow);
        self.tail.extend(rest);
    }

    /// Counts bytes of the output that the caller itself never saw; they lie before what comes next.
    pub fn skip(&mut self, bytes: u64) {
        if bytes > 0 {
            self.total += bytes;
            self.missing += bytes;
            self.tail.clear();
        }
    }

    /// How long the output is so far.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// How much of it is not kept.
    pub fn dropped_bytes(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len()) as u64
    }

    /// Whether the output has outgrown the head.
    pub fn is_past_head(&self) -> bool {
        self.total > self.head.len() as u64
    }

    /// What is kept from a position on: how many bytes are missing there, and the bytes after them.
    pub fn read(&self, position: u64, max_bytes: usize) -> (u64, Vec<u8>) {
        if let Some(rest) = usize::try_from(position).ok().and_then(|at| self.head.get(at..))
            && !rest.is_empty()
        {
            return (0, rest[..rest.len().min(max_bytes)].to_vec());
        }
        let tail_start = self.total - self.tail.len() as u64;
        let missing = tail_start.saturating_sub(position);
        let skip = (position + missing - tail_start) as usize;
        (missing, self.tail.iter().skip(skip).take(max_bytes).copied().collect())
    }

    /// Head and tail in one.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        bytes.extend(self.tail);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_output_is_kept_whole() {
        let mut kept = Kept::new(8);
        kept.push(b"abc");
        kept.push(b"defgh");

        assert_eq!((kept.dropped_bytes(), kept.into_bytes()), (0, b"abcdefgh".to_vec()));
    }

    #[test]
    fn a_long_output_loses_its_middle_and_counts_it() {
        let mut kept = Kept::new(8);
        for chunk in [&b"0123"[..], b"45", b"6789abcdefghij", b"k"] {
            kept.push(chunk);
        }

        assert_eq!((kept.total_bytes(), kept.dropped_bytes()), (21, 13));
        assert_eq!(kept.read(0, 3), (0, b"012".to_vec()));
        assert_eq!(kept.read(3, 9), (0, b"3".to_vec()));
        assert_eq!(kept.read(4, 9), (13, b"hijk".to_vec()));
        assert_eq!(kept.read(19, 9), (0, b"jk".to_vec()));
        assert_eq!(kept.read(21, 9), (0, Vec::new()));
        assert_eq!(kept.into_bytes(), b"0123hijk");
    }

    #[test]
    fn what_was_never_seen_is_dropped_at_its_place() {
        let mut kept = Kept::new(8);
        kept.push(b"ab");
        kept.skip(100);
        kept.push(b"yz");

        assert_eq!((kept.total_bytes(), kept.dropped_bytes()), (104, 100));
        assert_eq!(kept.into_bytes(), b"abyz");
    }
}

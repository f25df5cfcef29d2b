//! The lines of a patch, one after the other, with their numbers.

use super::PatchError;

/// Where we are in a patch.
pub(super) struct Lines<'p> {
    rest: &'p [u8],
    /// Lines taken so far.
    taken: usize,
}

impl<'p> Lines<'p> {
    pub(super) fn of(bytes: &'p [u8]) -> Self {
        Self { rest: bytes, taken: 0 }
    }

    /// Whether everything has been taken.
    pub(super) fn are_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether the next line begins so.
    pub(super) fn continue_with(&self, beginning: &[u8]) -> bool {
        self.rest.starts_with(beginning)
    }

    /// The next line, without its end.
    pub(super) fn take(&mut self) -> Result<&'p [u8], PatchError> {
        self.taken += 1;
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else {
            return Err(self.wrong(if self.rest.is_empty() {
                "is missing: the patch is cut off"
            } else {
                "has no end"
            }));
        };
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(line)
    }

    /// What follows in the next line after this beginning, if it begins so.
    pub(super) fn take_after(&mut self, beginning: &[u8]) -> Result<Option<&'p [u8]>, PatchError> {
        if !self.continue_with(beginning) {
            return Ok(None);
        }
        Ok(Some(&self.take()?[beginning.len()..]))
    }

    /// The number of the line taken last, from 1.
    pub(super) fn number(&self) -> usize {
        self.taken
    }

    /// An error about the line taken last.
    pub(super) fn wrong(&self, problem: &'static str) -> PatchError {
        PatchError::Malformed { line: self.taken, problem }
    }
}

/// A decimal number of at most ten digits, and what follows it.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=10).contains(&digits) {
        return None;
    }
    let (number, rest) = bytes.split_at(digits);
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

//! The names that pieces of output go by: in citations, and when a model reads more of them with `read_output`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{EXEC, STDIN, arguments};
use crate::AgentTask;
use crate::model::Call;
use crate::output::ends::Position;

/// An odd number, so that multiplying by it gives each position a name of its own.
const SCRAMBLE: u32 = 0x9e_3779;

/// What undoes it: the two multiplied are 1 in the last 24 bits.
const UNSCRAMBLE: u32 = inverse(SCRAMBLE);

/// The bits of a name.
const MASK: u32 = 0xff_ffff;

/// A piece of a command's output that a model was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The place in the conversation of the call that started the command.
    pub(super) command: usize,
    /// Where the piece begins in the command's output.
    pub(super) from: Position,
    /// Whether the command ran in this sandbox.
    pub(super) is_here: bool,
}

/// All pieces of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    known: Mutex<HashMap<String, Chunk>>,
}

impl Chunks {
    /// Those a conversation already has.
    pub(crate) fn of(task: &AgentTask) -> Self {
        let chunks = Self::default();
        chunks.read(&task.history, |_| None, |_| false);
        let (before, cut_before) = (task.history.len(), task.cut_before());
        chunks.read(&task.resumed, |at| Some(before + at), |command| command >= cut_before);
        chunks
    }

    /// Takes note of one.
    pub(super) fn insert(&self, id: String, chunk: Chunk) {
        self.lock().insert(id, chunk);
    }

    /// The one of this name.
    pub(super) fn get(&self, id: &str) -> Option<Chunk> {
        self.lock().get(id.trim()).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Chunk>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, items: &[Value], position: impl Fn(usize) -> Option<usize>, is_here: impl Fn(usize) -> bool) {
        let mut calls: HashMap<String, (usize, Call)> = HashMap::new();
        for (at, item) in items.iter().enumerate() {
            if let Some(call) = Call::of(item) {
                calls.insert(call.call_id.clone(), (at, call));
                continue;
            }
            let Some((id, from)) = item["output"].as_str().and_then(header) else { continue };
            let Some((at, call)) = item["call_id"].as_str().and_then(|call_id| calls.get(call_id)) else { continue };
            let command = match call.name.as_str() {
                // In another conversation the call may have stood elsewhere; its name tells where.
                EXEC => position(*at).or_else(|| position_of(id)),
                STDIN => arguments::Write::parse(&call.input).ok().map(|write| write.session()),
                _ => None,
            };
            if let Some(command) = command {
                self.insert(id.to_owned(), Chunk { command, from, is_here: is_here(command) });
            }
        }
    }
}

/// The name of the piece that the call at this place gets: six hexadecimal digits, the same after a resumption.
pub(super) fn chunk_id(position: usize) -> String {
    let number = u32::try_from(position).unwrap_or(u32::MAX).wrapping_add(1);
    format!("{:06x}", number.wrapping_mul(SCRAMBLE) & MASK)
}

/// The place of the call that got the piece of this name.
fn position_of(id: &str) -> Option<usize> {
    let number = u32::from_str_radix(id, 16).ok()?.wrapping_mul(UNSCRAMBLE) & MASK;
    usize::try_from(number.checked_sub(1)?).ok()
}

/// The line of a result that says that its output is not the command's first.
pub(super) fn continues(from: Position) -> String {
    if from.bytes == 0 {
        return String::new();
    }
    format!("Output continues at line {}, byte {}\n", from.lines + 1, from.bytes)
}

/// The name of a result's piece, and where that begins.
fn header(result: &str) -> Option<(&str, Position)> {
    let (id, rest) = result.strip_prefix("Chunk ID: ")?.split_once('\n')?;
    let lines = rest.lines().take_while(|line| *line != "Output:");
    let from = lines.filter_map(|line| {
        let (line, byte) = line.strip_prefix("Output continues at line ")?.split_once(", byte ")?;
        Some(Position { bytes: byte.parse().ok()?, lines: line.parse::<u64>().ok()?.checked_sub(1)? })
    });
    Some((id, from.last().unwrap_or_default()))
}

/// The number that makes 1 of an odd one, in 32 bits (Newton's way: each step doubles the bits that are right).
const fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_place_has_a_name_of_its_own_that_tells_the_place() {
        let names: BTreeSet<String> = (0..20_000).map(chunk_id).collect();

        assert_eq!(names.len(), 20_000);
        assert!((0..20_000).all(|position| position_of(&chunk_id(position)) == Some(position)));
        assert_eq!(position_of("no name"), None);
    }

    #[test]
    fn a_results_head_says_which_piece_it_is_and_where_it_begins() {
        let from = Position { bytes: 70, lines: 8 };

        let result = format!("Chunk ID: 0a1b2c\nWall time: 1 s\n{}Output:\nx\n", continues(from));
        assert_eq!(header(&result), Some(("0a1b2c", from)));
        let forged = "Chunk ID: 0a1b2c\nOutput:\nOutput continues at line 3, byte 9\n";
        assert_eq!(header(forged), Some(("0a1b2c", Position::default())));
        assert_eq!(header("The patch is applied."), None);
    }
}

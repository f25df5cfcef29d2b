//! What a result told the model, read again from the conversation: which command ran, under which piece of output, and
//! where it stood. Only the head of a result is read, which no program can write.

use super::{EXEC, PATCH, STDIN, arguments, as_patch};
use crate::model::Call;

/// What a result told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A command ran.
    Ran {
        /// What ran.
        command: String,
        /// The piece of its output.
        chunk: String,
        /// Where it stood then.
        end: Stood,
    },
    /// A command that was started before went on.
    GoneOn {
        /// Which.
        session: usize,
        /// The piece of its output.
        chunk: String,
        /// Where it stood then.
        end: Stood,
    },
    /// A patch was applied.
    Patched,
    /// Anything else: a refusal, a plan, an interruption.
    Other,
}

/// Where a command stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stood {
    /// It ran, as this session.
    Running(usize),
    /// It had ended with this exit code.
    Exited(i32),
}

impl Stood {
    /// Its session, if it ran.
    pub(crate) const fn running(self) -> Option<usize> {
        match self {
            Self::Running(session) => Some(session),
            Self::Exited(_) => None,
        }
    }

    /// Its exit code, if it had ended.
    pub(crate) const fn exit_code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Running(_) => None,
        }
    }
}

/// What the result of a call told.
pub(crate) fn told(call: &Call, result: &str) -> Told {
    let is_applied = || result.starts_with(super::patch::APPLIED);
    match call.name.as_str() {
        PATCH if is_applied() => Told::Patched,
        EXEC => match arguments::Exec::parse(&call.input) {
            Ok(exec) if as_patch(&exec.cmd).is_some() => {
                if is_applied() {
                    Told::Patched
                } else {
                    Told::Other
                }
            }
            Ok(exec) => head(result).map_or(Told::Other, |(chunk, end)| Told::Ran { command: exec.cmd, chunk, end }),
            Err(_) => Told::Other,
        },
        STDIN => match (arguments::Write::parse(&call.input), head(result)) {
            (Ok(write), Some((chunk, end))) => Told::GoneOn { session: write.session(), chunk, end },
            _ => Told::Other,
        },
        _ => Told::Other,
    }
}

/// The piece and the state in the head of a command's result.
fn head(result: &str) -> Option<(String, Stood)> {
    let (chunk, rest) = result.strip_prefix("Chunk ID: ")?.split_once('\n')?;
    let state = rest.lines().nth(1)?;
    let end = match state.strip_prefix("Process exited with code ") {
        Some(code) => Stood::Exited(code.parse().ok()?),
        None => Stood::Running(state.strip_prefix("Process running with session ID ")?.parse().ok()?),
    };
    Some((chunk.to_owned(), end))
}

//! Terminals: a WebSocket whose binary frames are bytes of the shell, both ways, and whose text frames are these.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a client says in a text frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TerminalRequest {
    /// The terminal has another size.
    Resize {
        /// Characters in a line.
        #[schema(minimum = 1, maximum = 10_000, example = 120)]
        columns: u16,
        /// Lines.
        #[schema(minimum = 1, maximum = 10_000, example = 40)]
        rows: u16,
    },
    /// No more input will come.
    End {},
}

/// What the service says in a text frame. After `exit` or `failed` it closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminalNews {
    /// What is done before the shell starts, and what it runs into.
    Told {
        /// Words for people, without a line's end.
        text: String,
    },
    /// The shell runs: what was sent so far reaches it now, and binary frames come.
    Started {},
    /// The shell has ended.
    Exit {
        /// Its exit code; of one that a signal ended, 128 and the signal's number.
        #[schema(example = 0)]
        code: i32,
    },
    /// There is no shell, or none any more.
    Failed {
        /// Why, and the way out.
        reason: String,
    },
}

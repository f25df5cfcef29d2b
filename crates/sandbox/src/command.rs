//! What a command is, what it says while it runs, and how it ends.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use carrel_runner::protocol::Status;

/// The caller's name for a command, unique in its sandbox for good: starting an id the runner knows attaches to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub String);

impl CommandId {
    /// An id of the caller's making.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for CommandId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl From<String> for CommandId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

/// Something to run in a sandbox.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its name, to attach to it and to kill it by.
    pub id: CommandId,
    /// Program and arguments; no shell is involved unless named here.
    pub argv: Vec<String>,
    /// Where it starts; `/workspace` by default.
    pub directory: String,
    /// Variables beside those of the sandbox.
    pub environment: Vec<(String, String)>,
    /// When it is ended, with everything it started; never by default.
    pub time_limit: Option<Duration>,
    /// A terminal instead of pipes; none by default.
    pub terminal: Option<TerminalSize>,
    /// Where its input comes from; nowhere by default.
    pub stdin: Stdin,
    /// What becomes of its output; 1 MiB is kept by default.
    pub output: Output,
}

impl Command {
    /// A command with the defaults named at the fields.
    pub fn new<A: Into<String>>(id: impl Into<CommandId>, argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            id: id.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            directory: "/workspace".to_owned(),
            environment: Vec::new(),
            time_limit: None,
            terminal: None,
            stdin: Stdin::Null,
            output: Output::Kept { limit_bytes: 1 << 20 },
        }
    }

    /// Starts it in this folder.
    pub fn directory(mut self, directory: impl Into<String>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Adds a variable.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Ends it after this long.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Gives it a terminal.
    pub fn terminal(mut self, size: TerminalSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// Chooses its input.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Chooses what becomes of its output.
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Where a command's input comes from. A command with a terminal always has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// It is at its end from the start.
    Null,
    /// From [`Process::write_stdin`](crate::Process::write_stdin).
    Piped,
}

/// What becomes of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output and error merged; the head and the tail are kept in the runner, to be had again
    /// after attaching, and the middle is counted. The process is never held back.
    Kept {
        /// How much is kept, at most 16 MiB.
        limit_bytes: usize,
    },
    /// Standard output only, complete; a slow reader holds the process back. The end of standard error
    /// comes with [`Finished`]. Cannot be attached to: a terminal is hung up when its [`Process`](crate::Process) is
    /// dropped.
    Streamed,
}

/// How a command's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was ended at its time limit.
    TimedOut,
}

impl ExitStatus {
    /// Whether it ended by itself with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl From<Status> for ExitStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Exited(code) => Self::Exited(code),
            Status::Signalled(signal) => Self::Signalled(signal),
            Status::TimedOut => Self::TimedOut,
        }
    }
}

/// News of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// The next bytes of its output, at most 64 KiB.
    Output(Bytes),
    /// So many bytes of output were left out here.
    Dropped(u64),
    /// It is over; nothing follows. `output` is empty: it came in pieces.
    Ended(Finished),
}

/// A command that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How its main process ended.
    pub status: ExitStatus,
    /// Its output, head and tail.
    pub output: Vec<u8>,
    /// How many bytes of output were left out in the middle.
    pub dropped_bytes: u64,
    /// From start to end, as seen in the sandbox.
    pub duration: Duration,
    /// The end of standard error, of a streamed command only.
    pub stderr: String,
}

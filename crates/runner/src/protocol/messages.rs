//! What controllers and runners say to each other: requests, events, refusals.

use serde::{Deserialize, Serialize};

/// What a controller sends on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToRunner {
    /// The channel, picked by the controller; new for each operation.
    pub channel: u32,
    /// What is asked.
    pub request: Request,
}

/// An operation, or a word about a command that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Start a command, or attach to the one of that id.
    Exec(ExecRequest),
    /// The consumer took this many bytes of output: as many more may be sent.
    Credit {
        /// Bytes taken.
        bytes: u64,
    },
    /// No more input will come.
    StdinEnd,
    /// Nobody listens on this channel any more; the command goes on, but for one with a terminal whose output is
    /// streamed: nobody could attach to it again, so its terminal is hung up.
    Detach,
    /// The command's terminal has another size. Not answered: of a command without one, or that is over, it means
    /// nothing.
    Resize {
        /// The command's id.
        command: String,
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
    /// End a command and everything it started. Answered with `Done` when none of it lives.
    Kill {
        /// The command's id.
        command: String,
    },
    /// End every process but the runner.
    KillAll,
    /// Send a file's bytes.
    ReadFile {
        /// An absolute path.
        path: String,
        /// A longer file is refused.
        max_bytes: u64,
    },
    /// Take a file's bytes, which follow as data frames.
    WriteFile {
        /// An absolute path.
        path: String,
        /// How many bytes follow.
        size_bytes: u64,
        /// Permission bits; without them an existing file keeps its own, a new one gets 0644.
        mode: Option<u32>,
    },
    /// Remove a file or symbolic link.
    RemoveFile {
        /// An absolute path.
        path: String,
    },
    /// What is at a path, not following a last symbolic link.
    Stat {
        /// An absolute path.
        path: String,
    },
    /// The names in a folder.
    ListFolder {
        /// An absolute path.
        path: String,
    },
}

/// A command to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The id to find it again by.
    pub id: String,
    /// Program and arguments; the program is looked up in `PATH` when it has no slash.
    pub argv: Vec<String>,
    /// Where it starts.
    pub directory: String,
    /// Beside the sandbox's own variables.
    pub environment: Vec<(String, String)>,
    /// It is ended after this many milliseconds.
    pub time_limit_ms: Option<u64>,
    /// Columns and rows, when it gets a terminal.
    pub terminal: Option<(u16, u16)>,
    /// Whether input will come.
    pub stdin: bool,
    /// How many bytes of output to keep; without it everything is streamed under backpressure.
    pub keep_bytes: Option<u64>,
}

/// What a runner sends on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromRunner {
    /// The channel it answers, or [`CONNECTION`](super::CONNECTION).
    pub channel: u32,
    /// What happened.
    pub event: Event,
}

/// An answer, or news of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The first frame of a connection.
    Hello {
        /// The runner's [`VERSION`](super::VERSION).
        version: u32,
    },
    /// The command's program runs (or ran: an attach is answered with it too).
    Started,
    /// The process took this many bytes of input.
    StdinTaken {
        /// Bytes taken.
        bytes: u64,
    },
    /// The process reads no more input.
    StdinClosed,
    /// Output that was not kept, between what was sent before and what comes after.
    Dropped {
        /// Bytes left out.
        bytes: u64,
    },
    /// The command is over. The last event of its channel.
    Ended(EndedEvent),
    /// Another channel attached to the command. The last event of this channel.
    Replaced,
    /// It is done.
    Done,
    /// What is at the path; nothing when nothing is.
    Stat(Option<StatEvent>),
    /// The names in the folder, sorted.
    Names {
        /// File names; those that are not UTF-8 are left out.
        names: Vec<String>,
        /// Whether names were left out because there are too many.
        truncated: bool,
    },
    /// It failed. The last event of its channel.
    Failed(Failure),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedEvent {
    /// How.
    pub status: Status,
    /// Bytes of output that were not kept.
    pub dropped_bytes: u64,
    /// From its start to its end, in microseconds.
    pub duration_us: u64,
    /// The end of the standard error of a streamed command.
    pub stderr: String,
}

/// How a command's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was ended at its time limit.
    TimedOut,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A FIFO, socket or device.
    Special,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatEvent {
    /// Its kind.
    pub kind: FileKind,
    /// Its length.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nothing is at the path, or no such program.
    NotFound,
    /// What is at the path is not a regular file.
    NotAFile,
    /// The file is longer than was asked for.
    TooLarge {
        /// Its length.
        size_bytes: u64,
    },
    /// The command could not be started.
    CannotStart {
        /// Why, in words.
        reason: String,
    },
    /// A streamed command's output cannot be had a second time.
    NotAttachable,
    /// No command of that id is known.
    UnknownCommand,
    /// The request makes no sense.
    Invalid {
        /// Why, in words.
        reason: String,
    },
    /// The operating system refused.
    System {
        /// Its words.
        reason: String,
    },
}

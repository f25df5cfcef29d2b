//! The frames between a controller and a runner, and between a controller and its launcher.
//!
//! A frame is `u32 length (big endian) | u8 kind | payload`, the length counting kind and payload.
//! Control payloads are JSON, data payloads are `u32 channel | bytes`. Each side treats the other
//! as hostile: lengths are checked before anything is allocated, unknown kinds are errors.
//!
//! Every operation opens a channel with a number the controller picks; a command's channel stays
//! open until it ends, the others until their one answer. Both directions of a command's channel
//! are held back by credit, so a slow reader never costs the other side memory.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Raised with every change of the frames; a controller refuses a runner of another version.
pub const VERSION: u32 = 1;
/// The longest frame either side accepts, kind and payload together.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// How many bytes one data frame carries at most.
pub const CHUNK_BYTES: usize = 64 << 10;
/// How much output of a command may be under way to the controller, unread by its consumer.
pub const OUTPUT_WINDOW_BYTES: u64 = 1 << 20;
/// How much input of a command may wait in the runner, not yet taken by the process.
pub const INPUT_WINDOW_BYTES: u64 = 256 << 10;
/// How much of the standard error of a streamed command is kept: its end.
pub const STDERR_BYTES: usize = 8 << 10;
/// The channel of frames that belong to the connection itself.
pub const CONNECTION: u32 = 0;

const HEADER_BYTES: usize = 4;
const KIND_CONTROL: u8 = 1;
const KIND_DATA: u8 = 2;

/// One frame, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A JSON message.
    Control(Vec<u8>),
    /// Raw bytes of a channel.
    Data(u32, Vec<u8>),
}

/// Why bytes from the other side were refused. The stream is of no use after any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame is empty or longer than [`MAX_FRAME_BYTES`].
    #[error("a frame of {bytes} bytes is outside 1 to {MAX_FRAME_BYTES}")]
    Length {
        /// The length the other side announced.
        bytes: usize,
    },
    /// A frame's kind is not one of this version.
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// A data frame is too short to name its channel.
    #[error("a data frame names no channel")]
    Channel,
    /// A control payload is not the message that belongs here.
    #[error("a control message cannot be read: {0}")]
    Message(String),
}

/// Cuts a byte stream into frames. Holds at most one frame and one read.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes bytes as they came from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let rest = &self.buffer[self.start..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*header) as usize;
        if bytes == 0 || bytes > MAX_FRAME_BYTES {
            return Err(ProtocolError::Length { bytes });
        }
        let Some(body) = rest.get(..bytes) else {
            return Ok(None);
        };
        let frame = match body[0] {
            KIND_CONTROL => Frame::Control(body[1..].to_vec()),
            KIND_DATA => {
                let (channel, data) = body[1..].split_first_chunk::<4>().ok_or(ProtocolError::Channel)?;
                Frame::Data(u32::from_be_bytes(*channel), data.to_vec())
            }
            kind => return Err(ProtocolError::Kind(kind)),
        };
        self.start += HEADER_BYTES + bytes;
        Ok(Some(frame))
    }
}

/// Reads a control payload as the message that belongs there.
pub fn message<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ProtocolError> {
    serde_json::from_slice(payload).map_err(|error| ProtocolError::Message(error.to_string()))
}

/// Appends a control frame to `out`. Fails when the message is longer than a frame may be.
pub fn encode_control<T: Serialize>(out: &mut Vec<u8>, message: &T) -> Result<(), ProtocolError> {
    let payload = serde_json::to_vec(message).map_err(|error| ProtocolError::Message(error.to_string()))?;
    let bytes = payload.len() + 1;
    if bytes > MAX_FRAME_BYTES {
        return Err(ProtocolError::Length { bytes });
    }
    push_header(out, bytes, KIND_CONTROL);
    out.extend_from_slice(&payload);
    Ok(())
}

/// Appends a data frame to `out`; `data` is at most [`CHUNK_BYTES`] long.
pub fn encode_data(out: &mut Vec<u8>, channel: u32, data: &[u8]) {
    debug_assert!(data.len() <= CHUNK_BYTES, "callers cut data into chunks");
    push_header(out, data.len() + 5, KIND_DATA);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(data);
}

fn push_header(out: &mut Vec<u8>, bytes: usize, kind: u8) {
    let length = u32::try_from(bytes).expect("frames are at most 1 MiB long");
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
}

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
    /// Nobody listens on this channel any more; the command goes on.
    Detach,
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
    /// The channel it answers, or [`CONNECTION`].
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
        /// The runner's [`VERSION`].
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

/// The first message to a launcher, and the requests after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToLauncher {
    /// Prepare what all sandboxes share, and check that the kernel lets one be made.
    Setup(Setup),
    /// Make a sandbox.
    Launch(Launch),
}

/// What all sandboxes of a launcher share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The folder with one sub-folder for each sandbox.
    pub folder: String,
    /// Host paths that are hidden, beside the built-in ones.
    pub private_paths: Vec<String>,
    /// The host's user and group id sandboxes run as, when the launcher is root.
    pub host_id: u32,
    /// Processes and threads in one sandbox.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of `/dev/shm`.
    pub shared_memory_bytes: u64,
    /// A runner ends itself after this many seconds without a controller.
    pub orphan_after_s: u64,
}

/// One sandbox to make. Its folder exists already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Pairs the answer with the request.
    pub number: u32,
    /// The name of its sub-folder.
    pub name: String,
    /// Host folders or files shown read-only: source and target.
    pub mounts: Vec<(String, String)>,
    /// Variables of every command.
    pub environment: Vec<(String, String)>,
    /// Its host name.
    pub hostname: String,
}

/// What a launcher answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromLauncher {
    /// Sandboxes can be made.
    Ready,
    /// They cannot, and what to change.
    Unable {
        /// In words.
        reason: String,
    },
    /// The sandbox's runner listens.
    Launched {
        /// Of the request.
        number: u32,
    },
    /// The sandbox was not made.
    Failed {
        /// Of the request.
        number: u32,
        /// In words.
        reason: String,
    },
}

/// `runner.json`: which process a sandbox's runner is, safe against reuse of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number on the host.
    pub pid: i32,
    /// When it started, in ticks since boot (field 22 of `/proc/pid/stat`).
    pub started: u64,
}

/// The name of the [`Record`] in a sandbox's folder.
pub const RECORD_FILE: &str = "runner.json";
/// The name of the runner's socket in a sandbox's folder.
pub const SOCKET_FILE: &str = "runner.sock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let mut stream = Vec::new();
        let sent = FromRunner { channel: 7, event: Event::Dropped { bytes: 9 } };
        encode_control(&mut stream, &sent).expect("short");
        encode_data(&mut stream, 3, b"hello");

        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().expect("valid") {
                    frames.push(frame);
                }
            }

            let [Frame::Control(payload), data] = frames.as_slice() else { panic!("{frames:?}") };
            assert_eq!(message::<FromRunner>(payload), Ok(sent.clone()));
            assert_eq!(*data, Frame::Data(3, b"hello".to_vec()));
        }
    }

    #[test]
    fn an_announced_length_is_refused_before_its_bytes_come() {
        for bytes in [0, MAX_FRAME_BYTES as u32 + 1, u32::MAX] {
            let mut decoder = Decoder::default();
            decoder.push(&bytes.to_be_bytes());

            assert_eq!(decoder.next_frame(), Err(ProtocolError::Length { bytes: bytes as usize }));
        }
    }

    #[test]
    fn unknown_kinds_and_channelless_data_are_errors() {
        for (bytes, error) in
            [(&[0, 0, 0, 1, 9][..], ProtocolError::Kind(9)), (&[0, 0, 0, 3, 2, 0, 0], ProtocolError::Channel)]
        {
            let mut decoder = Decoder::default();
            decoder.push(bytes);

            assert_eq!(decoder.next_frame(), Err(error));
        }
    }
}

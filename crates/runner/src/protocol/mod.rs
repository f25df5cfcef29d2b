//! The frames between a controller and a runner, and between a controller and its launcher.
//!
//! A frame is `u32 length (big endian) | u8 kind | payload`, the length counting kind and payload.
//! Control payloads are JSON, data payloads are `u32 channel | bytes`. Each side treats the other
//! as hostile: lengths are checked before anything is allocated, unknown kinds are errors.
//!
//! Every operation opens a channel with a number the controller picks; a command's channel stays
//! open until it ends, the others until their one answer. Both directions of a command's channel
//! are held back by credit, so a slow reader never costs the other side memory.
//!
//! Tunnels are channels the runner opens, one for each connection a program makes to the sandbox's proxy address.
//! Their numbers have the highest bit set and count up from 1 with each connection of a controller. Their bytes are
//! data frames, everything else about them is a [`Word`]: `u32 channel | u8 word | u32 bytes`.

mod launch;
mod messages;
mod window;

use serde::{Serialize, de::DeserializeOwned};

pub use launch::{
    Fact, FactState, FolderIds, FromLauncher, INSIDE_IDS, LAYERS_FOLDER, Launch, LentIds, LimitsRecord, MAX_LAYERS,
    RECORD_FILE, Record, Resources, Root, SOCKET_FILE, Setup, ToLauncher, UPPER_FOLDER, USUAL_PATH, WORK_FOLDER,
};
pub use messages::{
    EndedEvent, Event, ExecRequest, Failure, FileKind, FromRunner, Request, StatEvent, Status, ToRunner,
};
pub use window::{FIRST_WINDOW_BYTES, Overrun, WIDE_WINDOW_BYTES, Window, Windows};

/// Raised with every change of the frames; a controller refuses a runner of another version.
pub const VERSION: u32 = 2;
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
/// The bit that tells a tunnel's number from those the controller picks.
pub const TUNNEL_BIT: u32 = 1 << 31;
/// How many tunnels may be open at once.
pub const MAX_TUNNELS: usize = 512;
/// Where the runner listens on the sandbox's loopback: programs are told that this is their proxy.
pub const TUNNEL_PORT: u16 = 3128;
/// The bytes of a data frame before its data.
pub const DATA_HEADER_BYTES: usize = HEADER_BYTES + 5;

const HEADER_BYTES: usize = 4;
const KIND_CONTROL: u8 = 1;
const KIND_DATA: u8 = 2;
const KIND_TUNNEL: u8 = 3;

/// How much is read at once, at least and at most: it adapts to what comes.
const READ_BYTES: std::ops::RangeInclusive<usize> = 8 << 10..=256 << 10;

/// One frame, decoded. Its bytes lie in the [`Decoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A JSON message.
    Control(&'a [u8]),
    /// Raw bytes of a channel.
    Data(u32, &'a [u8]),
    /// News of a tunnel.
    Tunnel(u32, Word),
}

/// What can be said about a tunnel beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A program connected. Only runners say this.
    Open,
    /// So many more bytes may be sent.
    Credit(u32),
    /// No more bytes will come from this side.
    End,
    /// This side takes nothing more and, unless it has said [`Word::End`], what it sent may be thrown away.
    Reset,
}

impl Word {
    fn code(self) -> (u8, u32) {
        match self {
            Self::Open => (1, 0),
            Self::Credit(bytes) => (2, bytes),
            Self::End => (3, 0),
            Self::Reset => (4, 0),
        }
    }

    fn of(code: u8, bytes: u32) -> Option<Self> {
        match (code, bytes) {
            (1, 0) => Some(Self::Open),
            (2, bytes) => Some(Self::Credit(bytes)),
            (3, 0) => Some(Self::End),
            (4, 0) => Some(Self::Reset),
            _ => None,
        }
    }
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
    /// A word about a tunnel is none of this version.
    #[error("a word about a tunnel cannot be read")]
    Word,
    /// A control payload is not the message that belongs here.
    #[error("a control message cannot be read: {0}")]
    Message(String),
}

/// Cuts a byte stream into frames. Holds at most one frame and one read.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    read_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, read_bytes: *READ_BYTES.start() }
    }
}

impl Decoder {
    /// Where the next bytes of the stream belong; [`Decoder::filled`] says how many came.
    pub fn space(&mut self) -> &mut [u8] {
        let room = self.read_bytes;
        self.make_room(room);
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put into the last [`Decoder::space`].
    pub fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
        // A busy stream is read in large pieces; an idle one keeps little memory.
        let next = match bytes {
            bytes if bytes >= self.read_bytes => self.read_bytes * 2,
            bytes if bytes < self.read_bytes / 4 => self.read_bytes / 2,
            _ => self.read_bytes,
        };
        self.read_bytes = next.clamp(*READ_BYTES.start(), *READ_BYTES.end());
    }

    /// Takes bytes as they came from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.buffer[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        let rest = &self.buffer[self.start..self.end];
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
        self.start += HEADER_BYTES + bytes;
        match body[0] {
            KIND_CONTROL => Ok(Some(Frame::Control(&body[1..]))),
            KIND_DATA => {
                let (channel, data) = body[1..].split_first_chunk::<4>().ok_or(ProtocolError::Channel)?;
                Ok(Some(Frame::Data(u32::from_be_bytes(*channel), data)))
            }
            KIND_TUNNEL => {
                let [a, b, c, d, code, e, f, g, h] = body[1..] else { return Err(ProtocolError::Word) };
                let word = Word::of(code, u32::from_be_bytes([e, f, g, h])).ok_or(ProtocolError::Word)?;
                Ok(Some(Frame::Tunnel(u32::from_be_bytes([a, b, c, d]), word)))
            }
            kind => Err(ProtocolError::Kind(kind)),
        }
    }

    fn make_room(&mut self, bytes: usize) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > self.read_bytes.max(bytes) {
                self.buffer = Vec::new();
            }
        } else if self.buffer.len() - self.end < bytes && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < bytes {
            grow(&mut self.buffer, self.end, self.end + bytes);
        }
    }
}

/// Makes a buffer longer, of which so many bytes are in use. The new part comes cleared from the allocator, which for
/// a large one costs nothing until it is used.
pub(crate) fn grow(buffer: &mut Vec<u8>, used_bytes: usize, bytes: usize) {
    let mut longer = vec![0; bytes];
    longer[..used_bytes].copy_from_slice(&buffer[..used_bytes]);
    *buffer = longer;
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
    out.extend_from_slice(&data_header(channel, data.len()));
    out.extend_from_slice(data);
}

/// The header of a data frame whose data is put behind it by the caller.
pub fn data_header(channel: u32, data_bytes: usize) -> [u8; DATA_HEADER_BYTES] {
    let [a, b, c, d] = length_of(data_bytes + 5);
    let [e, f, g, h] = channel.to_be_bytes();
    [a, b, c, d, KIND_DATA, e, f, g, h]
}

/// Appends a word about a tunnel to `out`.
pub fn encode_word(out: &mut Vec<u8>, channel: u32, word: Word) {
    let (code, bytes) = word.code();
    push_header(out, 10, KIND_TUNNEL);
    out.extend_from_slice(&channel.to_be_bytes());
    out.push(code);
    out.extend_from_slice(&bytes.to_be_bytes());
}

fn push_header(out: &mut Vec<u8>, bytes: usize, kind: u8) {
    out.extend_from_slice(&length_of(bytes));
    out.push(kind);
}

fn length_of(bytes: usize) -> [u8; HEADER_BYTES] {
    u32::try_from(bytes).expect("frames are at most 1 MiB long").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let mut stream = Vec::new();
        let sent = FromRunner { channel: 7, event: Event::Dropped { bytes: 9 } };
        encode_control(&mut stream, &sent).expect("short");
        encode_data(&mut stream, 3, b"hello");
        encode_word(&mut stream, TUNNEL_BIT | 1, Word::Credit(5));

        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().expect("valid") {
                    frames.push(match frame {
                        Frame::Control(payload) => {
                            assert_eq!(message::<FromRunner>(payload), Ok(sent.clone()));
                            "control".to_owned()
                        }
                        other => format!("{other:?}"),
                    });
                }
            }

            let data = format!("{:?}", Frame::Data(3, b"hello"));
            let word = format!("{:?}", Frame::Tunnel(TUNNEL_BIT | 1, Word::Credit(5)));
            assert_eq!(frames, ["control".to_owned(), data, word]);
        }
    }

    #[test]
    fn a_busy_stream_is_read_in_large_pieces_and_an_idle_one_keeps_little() {
        let mut decoder = Decoder::default();
        let mut stream = Vec::new();
        (0..64).for_each(|_| encode_data(&mut stream, 1, &[7; CHUNK_BYTES]));

        let (mut rest, mut frames) = (stream.as_slice(), 0);
        while !rest.is_empty() {
            let space = decoder.space();
            let bytes = space.len().min(rest.len());
            space[..bytes].copy_from_slice(&rest[..bytes]);
            decoder.filled(bytes);
            rest = &rest[bytes..];
            while decoder.next_frame().expect("valid").is_some() {
                frames += 1;
            }
        }
        assert_eq!(frames, 64);
        assert!(decoder.buffer.len() >= *READ_BYTES.end());
        for _ in 0..20 {
            decoder.space();
            decoder.filled(0);
        }
        assert_eq!(decoder.buffer.len(), *READ_BYTES.start());
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
        for (bytes, error) in [
            (&[0, 0, 0, 1, 9][..], ProtocolError::Kind(9)),
            (&[0, 0, 0, 3, 2, 0, 0], ProtocolError::Channel),
            (&[0, 0, 0, 6, 3, 128, 0, 0, 1, 1], ProtocolError::Word),
            (&[0, 0, 0, 10, 3, 128, 0, 0, 1, 9, 0, 0, 0, 0], ProtocolError::Word),
            (&[0, 0, 0, 10, 3, 128, 0, 0, 1, 1, 0, 0, 0, 1], ProtocolError::Word),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(bytes);

            assert_eq!(decoder.next_frame(), Err(error));
        }
    }
}

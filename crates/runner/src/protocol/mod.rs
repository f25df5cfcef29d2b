//! The frames between a controller and a runner, and between a controller and its launcher.
//!
//! A frame is `u32 length (big endian) | u8 kind | payload`, the length counting kind and payload.
//! Control payloads are JSON, data payloads are `u32 channel | bytes`. Each side treats the other
//! as hostile: lengths are checked before anything is allocated, unknown kinds are errors.
//!
//! Every operation opens a channel with a number the controller picks; a command's channel stays
//! open until it ends, the others until their one answer. Both directions of a command's channel
//! are held back by credit, so a slow reader never costs the other side memory.

mod launch;
mod messages;

use serde::{Serialize, de::DeserializeOwned};

pub use launch::{FromLauncher, Launch, RECORD_FILE, Record, SOCKET_FILE, Setup, ToLauncher};
pub use messages::{
    EndedEvent, Event, ExecRequest, Failure, FileKind, FromRunner, Request, StatEvent, Status, ToRunner,
};

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

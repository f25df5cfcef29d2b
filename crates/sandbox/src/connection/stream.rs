//! The two tasks of a connection: one sorts what comes, one sends what goes.

use std::sync::Arc;

use bytes::BytesMut;
use carrel_runner::protocol::{
    self, CHUNK_BYTES, CONNECTION, Decoder, Event, Frame, FromRunner, ProtocolError, VERSION, encode_control,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Shared;
use crate::SandboxError;

/// Takes a runner's greeting of our version for one.
pub(super) fn check_hello(frame: Option<Frame>) -> Result<(), SandboxError> {
    let Some(frame) = frame else { return Err(SandboxError::Disconnected) };
    let Frame::Control(payload) = frame else {
        return Err(ProtocolError::Message("data before the greeting".to_owned()).into());
    };
    match protocol::message(&payload)? {
        FromRunner { channel: CONNECTION, event: Event::Hello { version: VERSION } } => Ok(()),
        other => Err(ProtocolError::Message(format!("version {VERSION} was expected, not {other:?}")).into()),
    }
}

/// The reading half: whole frames.
pub(super) struct Incoming<R> {
    pub(super) reader: R,
    pub(super) decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// The next frame; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            buffer.clear();
            match self.reader.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => self.decoder.push(&buffer),
            }
        }
    }
}

/// Sorts what comes into the channels' queues until the stream or the last handle ends.
pub(super) async fn read_all<R: AsyncRead + Unpin>(mut incoming: Incoming<R>, shared: Arc<Shared>) {
    let why = loop {
        let frame = tokio::select! {
            () = shared.closed.cancelled() => break None,
            frame = incoming.next() => frame,
        };
        match frame {
            Ok(Some(frame)) => {
                let sorted = shared.state().sort(frame);
                if let Err(error) = sorted {
                    break Some(error);
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    shared.close(why);
}

/// Sends what callers hand over until the stream or the last handle ends.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut frames: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
) {
    loop {
        let frame = tokio::select! {
            () = shared.closed.cancelled() => break,
            () = shared.has_notes.notified() => encode_notes(&shared),
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => break,
            },
        };
        let written = tokio::select! {
            () = shared.closed.cancelled() => break,
            written = writer.write_all(&frame) => written,
        };
        if written.is_err() {
            break;
        }
    }
    shared.close(None);
}

fn encode_notes(shared: &Shared) -> Vec<u8> {
    let notes = std::mem::take(&mut shared.state().notes);
    let mut frames = Vec::new();
    for note in notes {
        let encoded = encode_control(&mut frames, &note);
        debug_assert!(encoded.is_ok(), "notes are short");
    }
    frames
}

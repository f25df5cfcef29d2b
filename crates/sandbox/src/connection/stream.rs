//! The two tasks of a connection: one sorts what comes, one sends what goes.

use std::sync::Arc;

use carrel_runner::protocol::{
    self, CONNECTION, Decoder, Event, Frame, FromRunner, ProtocolError, VERSION, encode_control,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Shared;
use crate::SandboxError;

/// The reading half: whole frames.
pub(super) struct Incoming<R> {
    pub(super) reader: R,
    pub(super) decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Waits for a runner's greeting of our version.
    pub(super) async fn greeting(&mut self) -> Result<(), SandboxError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return check_hello(frame);
            }
            if !self.fill().await {
                return Err(SandboxError::Disconnected);
            }
        }
    }

    /// Takes what came; false at the end of the stream. Nothing is lost when the wait is cancelled.
    async fn fill(&mut self) -> bool {
        match self.reader.read(self.decoder.space()).await {
            Ok(0) | Err(_) => false,
            Ok(bytes) => {
                self.decoder.filled(bytes);
                true
            }
        }
    }
}

fn check_hello(frame: Frame<'_>) -> Result<(), SandboxError> {
    let Frame::Control(payload) = frame else {
        return Err(ProtocolError::Message("data before the greeting".to_owned()).into());
    };
    match protocol::message(payload)? {
        FromRunner { channel: CONNECTION, event: Event::Hello { version: VERSION } } => Ok(()),
        other => Err(ProtocolError::Message(format!("version {VERSION} was expected, not {other:?}")).into()),
    }
}

/// Sorts what comes into the channels' queues until the stream or the last handle ends.
pub(super) async fn read_all<R: AsyncRead + Unpin>(mut incoming: Incoming<R>, shared: Arc<Shared>) {
    let why = loop {
        if let Err(error) = shared.sort_all(&mut incoming.decoder) {
            break Some(error);
        }
        let is_open = tokio::select! {
            () = shared.closed.cancelled() => false,
            is_open = incoming.fill() => is_open,
        };
        if !is_open {
            break None;
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
    let mut notes = Vec::new();
    loop {
        let frame = tokio::select! {
            () = shared.closed.cancelled() => break,
            () = shared.has_notes.notified() => None,
            frame = frames.recv() => match frame {
                Some(frame) => Some(frame),
                None => break,
            },
        };
        if frame.is_none() {
            take_notes(&shared, &mut notes);
        }
        let written = tokio::select! {
            () = shared.closed.cancelled() => break,
            written = writer.write_all(frame.as_ref().unwrap_or(&notes)) => written,
        };
        if written.is_err() {
            break;
        }
    }
    shared.close(None);
}

/// Collects what tunnels and small messages want sent, in place of what was sent before.
fn take_notes(shared: &Shared, frames: &mut Vec<u8>) {
    shared.lines().take_out(frames);
    let notes = std::mem::take(&mut shared.state().notes);
    for note in notes {
        let encoded = encode_control(frames, &note);
        debug_assert!(encoded.is_ok(), "notes are short");
    }
}

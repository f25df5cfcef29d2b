//! The controller's stream as process 1 sees it: whole frames in, a bounded buffer out, never blocking.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;

use crate::protocol::{
    CHUNK_BYTES, CONNECTION, Decoder, Event, Failure, Frame, FromRunner, ProtocolError, VERSION, encode_control,
    encode_data,
};

/// With more than this waiting to be sent, nothing new is read from commands, files or the controller.
const CONGESTED_BYTES: usize = 1 << 20;

/// A connected controller.
pub(super) struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
}

impl Connection {
    /// Takes an accepted stream and greets.
    pub(super) fn open(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut connection = Self { stream, decoder: Decoder::default(), out: Vec::new(), sent: 0 };
        connection.send(CONNECTION, Event::Hello { version: VERSION });
        Ok(connection)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What to poll for.
    pub(super) fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, !self.is_congested());
        flags.set(PollFlags::POLLOUT, self.waiting() > 0);
        flags
    }

    /// Whether enough waits to be sent that no more should be made.
    pub(super) fn is_congested(&self) -> bool {
        self.waiting() >= CONGESTED_BYTES
    }

    /// Queues an event.
    pub(super) fn send(&mut self, channel: u32, event: Event) {
        if encode_control(&mut self.out, &FromRunner { channel, event }).is_err() {
            let event = Event::Failed(Failure::Invalid { reason: "the answer is longer than a frame".to_owned() });
            let encoded = encode_control(&mut self.out, &FromRunner { channel, event });
            debug_assert!(encoded.is_ok(), "a short message always fits");
        }
    }

    /// Queues bytes of a channel.
    pub(super) fn send_data(&mut self, channel: u32, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            encode_data(&mut self.out, channel, chunk);
        }
    }

    /// Sends what the stream takes now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.waiting() > 0 {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.waiting() == 0 {
            self.out.clear();
            self.out.shrink_to(CHUNK_BYTES);
            self.sent = 0;
        } else if self.sent > CONGESTED_BYTES {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Takes what came; false when the controller is gone.
    pub(super) fn receive(&mut self) -> bool {
        if self.is_congested() {
            return true;
        }
        let mut buffer = [0; CHUNK_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(bytes) => {
                self.decoder.push(&buffer[..bytes]);
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// The next whole frame that came.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        self.decoder.next_frame()
    }

    fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }
}

//! The controller's stream as process 1 sees it: whole frames in, a bounded buffer out, never blocking.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;

use crate::protocol::{
    CHUNK_BYTES, CONNECTION, DATA_HEADER_BYTES, Decoder, Event, Failure, FromRunner, VERSION, Word, data_header,
    encode_control, encode_word, grow,
};

/// With more than this waiting to be sent, nothing new is read from commands, files or the controller.
const CONGESTED_BYTES: usize = 1 << 20;
/// With more than this waiting, nothing new is read from tunnels: a download must not hold commands up for long.
const BUSY_BYTES: usize = 256 << 10;

/// A connected controller.
pub(super) struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    /// Bytes of `out` that are in use; what is behind them was used before, and need not be cleared again.
    end: usize,
}

impl Connection {
    /// Takes an accepted stream and greets.
    pub(super) fn open(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut connection = Self { stream, decoder: Decoder::default(), out: Vec::new(), sent: 0, end: 0 };
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

    /// Whether enough waits to be sent that tunnels should wait.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting() >= BUSY_BYTES
    }

    /// Queues an event.
    pub(super) fn send(&mut self, channel: u32, event: Event) {
        self.append(|out| {
            if encode_control(out, &FromRunner { channel, event }).is_err() {
                let event = Event::Failed(Failure::Invalid { reason: "the answer is longer than a frame".to_owned() });
                let encoded = encode_control(out, &FromRunner { channel, event });
                debug_assert!(encoded.is_ok(), "a short message always fits");
            }
        });
    }

    /// Queues bytes of a channel.
    pub(super) fn send_data(&mut self, channel: u32, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            self.put(&data_header(channel, chunk.len()));
            self.put(chunk);
        }
    }

    /// Queues a word about a tunnel.
    pub(super) fn send_word(&mut self, channel: u32, word: Word) {
        self.append(|out| encode_word(out, channel, word));
    }

    /// Queues what one read gives, at most `max_bytes` and a frame; zero is the end of the source.
    pub(super) fn send_read(&mut self, channel: u32, max_bytes: usize, source: &mut impl Read) -> io::Result<usize> {
        let max_bytes = max_bytes.min(CHUNK_BYTES);
        let start = self.end + DATA_HEADER_BYTES;
        self.make_room(DATA_HEADER_BYTES + max_bytes);
        let bytes = source.read(&mut self.out[start..start + max_bytes])?;
        if bytes > 0 {
            self.out[self.end..start].copy_from_slice(&data_header(channel, bytes));
            self.end = start + bytes;
        }
        Ok(bytes)
    }

    /// Sends what the stream takes now. While `keeps_room` the buffer is kept for what will follow.
    pub(super) fn flush(&mut self, keeps_room: bool) -> io::Result<()> {
        while self.waiting() > 0 {
            match self.stream.write(&self.out[self.sent..self.end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.waiting() == 0 {
            (self.sent, self.end) = (0, 0);
            if !keeps_room && self.out.len() > CHUNK_BYTES {
                self.out = Vec::new();
            }
        } else if self.sent > BUSY_BYTES {
            self.out.copy_within(self.sent..self.end, 0);
            (self.sent, self.end) = (0, self.waiting());
        }
        Ok(())
    }

    /// Takes what came; false when the controller is gone.
    pub(super) fn receive(&mut self) -> bool {
        if self.is_congested() {
            return true;
        }
        match self.stream.read(self.decoder.space()) {
            Ok(0) => false,
            Ok(bytes) => {
                self.decoder.filled(bytes);
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// What came, to be cut into frames while this connection answers them; [`Connection::give_back`] returns it.
    pub(super) fn take_received(&mut self) -> Decoder {
        std::mem::take(&mut self.decoder)
    }

    /// The rest of what came.
    pub(super) fn give_back(&mut self, decoder: Decoder) {
        self.decoder = decoder;
    }

    fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = Vec::new();
        encode(&mut frames);
        self.put(&frames);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.out[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn make_room(&mut self, bytes: usize) {
        let needed = self.end + bytes;
        if self.out.len() < needed {
            grow(&mut self.out, self.end, needed.next_power_of_two());
        }
    }

    fn waiting(&self) -> usize {
        self.end - self.sent
    }
}

//! Reads requests from a connection: heads, and bodies of a known length or in chunks, each wait with a deadline.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::head::{self, Framing, Head, InvalidHead};

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// Longest line that gives a chunk's size, and all trailers together.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Why no request, or no more of one, could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It cannot be understood in exactly one way.
    #[error(transparent)]
    Invalid(#[from] InvalidHead),
    /// It did not come in time.
    #[error("a request was not sent in time")]
    Slow,
    /// The connection ended or failed.
    #[error("the connection ended within a request")]
    Gone(#[source] io::Error),
}

/// The reading half of a connection, with what was read too far.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
}

/// Where a body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyState {
    /// That many bytes are to come.
    Length(u64),
    /// A chunk's size is to come.
    ChunkSize,
    /// That many bytes of a chunk are to come, and the end of its line.
    Chunk(u64),
    /// All of it was read.
    Done,
}

impl BodyState {
    pub(crate) const fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::ChunkSize,
        }
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(stream: R, first: BytesMut) -> Self {
        Self { stream, buffer: first }
    }

    /// The stream, and what was read too far.
    pub(crate) fn into_parts(self) -> (R, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Reads more; 0 at the end.
    async fn fill(&mut self, wait: Duration) -> Result<usize, ReadError> {
        self.buffer.reserve(READ_BYTES.min(16 << 10));
        match timeout(wait, self.stream.read_buf(&mut self.buffer)).await {
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) => Err(ReadError::Gone(error)),
            Err(_) => Err(ReadError::Slow),
        }
    }

    async fn fill_some(&mut self, wait: Duration) -> Result<(), ReadError> {
        match self.fill(wait).await? {
            0 => Err(ReadError::Gone(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// The next request's head; `None` when the client is done.
    pub(crate) async fn head(&mut self, idle: Duration, whole: Duration) -> Result<Option<Head>, ReadError> {
        if self.buffer.is_empty() {
            match self.fill(idle).await {
                Ok(0) | Err(ReadError::Slow | ReadError::Gone(_)) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        let end = timeout(whole, async {
            let mut scanned = 0;
            loop {
                if let Some(end) = head::find_end(&self.buffer, scanned)? {
                    return Ok::<_, ReadError>(end);
                }
                scanned = self.buffer.len();
                self.fill_some(whole).await?;
            }
        });
        let end = end.await.map_err(|_| ReadError::Slow)??;
        let bytes = self.buffer.split_to(end);
        Ok(Some(head::read(&bytes)?))
    }

    /// The next piece of a body; `None` after the last.
    pub(crate) async fn body(&mut self, state: &mut BodyState, idle: Duration) -> Result<Option<Bytes>, ReadError> {
        loop {
            match *state {
                BodyState::Done => return Ok(None),
                BodyState::Length(left) => {
                    let piece = self.piece(left, idle).await?;
                    let left = left - piece.len() as u64;
                    *state = if left == 0 { BodyState::Done } else { BodyState::Length(left) };
                    return Ok(Some(piece));
                }
                BodyState::ChunkSize => {
                    let line = self.line(idle).await?;
                    match chunk_size(&line)? {
                        0 => {
                            self.trailers(idle).await?;
                            *state = BodyState::Done;
                        }
                        size => *state = BodyState::Chunk(size),
                    }
                }
                BodyState::Chunk(0) => {
                    if !self.line(idle).await?.is_empty() {
                        return Err(InvalidHead("a chunk is longer than it says".into()).into());
                    }
                    *state = BodyState::ChunkSize;
                }
                BodyState::Chunk(left) => {
                    let piece = self.piece(left, idle).await?;
                    *state = BodyState::Chunk(left - piece.len() as u64);
                    return Ok(Some(piece));
                }
            }
        }
    }

    async fn piece(&mut self, left: u64, idle: Duration) -> Result<Bytes, ReadError> {
        if self.buffer.is_empty() {
            self.fill_some(idle).await?;
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        Ok(self.buffer.split_to(length).freeze())
    }

    /// A line without its end, which is CR LF and nothing else.
    async fn line(&mut self, idle: Duration) -> Result<Bytes, ReadError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(end + 1);
                line.truncate(end);
                return match line.split_last() {
                    Some((b'\r', rest)) if !rest.contains(&b'\r') => {
                        line.truncate(end - 1);
                        Ok(line.freeze())
                    }
                    _ => Err(InvalidHead("a line of a chunked body does not end in CR LF".into()).into()),
                };
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(InvalidHead("a line of a chunked body is too long".into()).into());
            }
            self.fill_some(idle).await?;
        }
    }

    /// Trailers go no further: few servers read them, and none has to.
    async fn trailers(&mut self, idle: Duration) -> Result<(), ReadError> {
        let mut total = 0;
        loop {
            let line = self.line(idle).await?;
            if line.is_empty() {
                return Ok(());
            }
            total += line.len();
            if total > MAX_LINE_BYTES {
                return Err(InvalidHead("the trailers of a request are too long".into()).into());
            }
        }
    }

    /// What was read and not yet used, without waiting; at least one byte unless the stream is at its end.
    pub(crate) async fn peek(&mut self, wait: Duration) -> Result<&[u8], ReadError> {
        if self.buffer.is_empty() {
            self.fill(wait).await?;
        }
        Ok(&self.buffer)
    }

    /// Reads more beside what is there already.
    pub(crate) async fn peek_more(&mut self, wait: Duration) -> Result<&[u8], ReadError> {
        self.fill_some(wait).await?;
        Ok(&self.buffer)
    }

    /// Reads and drops up to so many bytes, so that the client hears an answer instead of a reset.
    pub(crate) async fn drain(&mut self, mut most: usize, wait: Duration) {
        most = most.saturating_sub(self.buffer.len());
        self.buffer.clear();
        let drained = async {
            while most > 0 {
                match self.fill(wait).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => most = most.saturating_sub(count),
                }
                self.buffer.advance(self.buffer.len());
            }
        };
        // Whether it comes to an end is the client's business.
        let _ = timeout(wait, drained).await;
    }
}

/// A chunk's size: hexadecimal digits and nothing else. Extensions are refused: servers have read them differently.
fn chunk_size(line: &[u8]) -> Result<u64, InvalidHead> {
    let is_plain = !line.is_empty() && line.len() <= 15 && line.iter().all(u8::is_ascii_hexdigit);
    let size = std::str::from_utf8(line).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match size {
        Some(size) if is_plain => Ok(size),
        _ => Err(InvalidHead("a chunk's size is no hexadecimal number".into())),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

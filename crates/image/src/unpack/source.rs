//! A layer's bytes from the wire to the archive: counted and hashed on both sides of the decompression, within limits.

use std::io::{self, BufRead, BufReader, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

use super::Problem;
use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;
use crate::options::ImageLimits;

/// The largest window of zstd that is decoded, as a power of two: 128 MiB, zstd's own default limit.
const MAX_WINDOW_LOG: u32 = 27;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The last three bytes of what begins a skippable frame, which zstd may begin with.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// An archive, read from a compressed stream.
pub(crate) struct Source {
    decoder: Decoder,
    descriptor: Descriptor,
    hasher: Hasher,
    /// Bytes of the archive so far, and how many there may be.
    read: u64,
    longest: u64,
}

enum Decoder {
    Plain(Box<BufReader<Pipe>>),
    Gzip(Box<MultiGzDecoder<BufReader<Pipe>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Pipe>>>),
}

impl Source {
    pub(crate) fn open(
        descriptor: Descriptor,
        pieces: mpsc::Receiver<Bytes>,
        limits: &ImageLimits,
        diff_id: &Digest,
    ) -> Result<Self, Problem> {
        let pipe = Pipe { pieces, current: Bytes::new(), hasher: descriptor.digest.hasher(), received: 0 };
        let mut buffered = BufReader::with_capacity(64 << 10, pipe);
        // One piece may be a single byte, and four are needed to know.
        let mut head = [0; 4];
        let known = peek(&mut buffered, &mut head).map_err(broken)?;
        let decoder = match &head[..known] {
            [first, second, ..] if [*first, *second] == GZIP => Decoder::Gzip(Box::new(MultiGzDecoder::new(buffered))),
            [first, rest @ ..] if head == ZSTD || (first & 0xf0 == 0x50 && rest == ZSTD_SKIPPABLE) => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered).map_err(broken)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(broken)?;
                Decoder::Zstd(Box::new(decoder))
            }
            _ => Decoder::Plain(Box::new(buffered)),
        };
        let by_ratio = descriptor.size_bytes.saturating_mul(limits.ratio).max(limits.ratio_from_bytes);
        Ok(Self { decoder, descriptor, hasher: diff_id.hasher(), read: 0, longest: by_ratio })
    }

    /// Bytes of the archive so far.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read
    }

    /// Checks both digests. The archive must have been read to its very end.
    pub(crate) fn finish(self, diff_id: &Digest) -> Result<(), Problem> {
        let mut pipe = match self.decoder {
            Decoder::Plain(buffered) => buffered.into_inner(),
            Decoder::Gzip(decoder) => decoder.into_inner().into_inner(),
            Decoder::Zstd(decoder) => decoder.finish().into_inner(),
        };
        io::copy(&mut pipe, &mut io::sink()).map_err(broken)?;
        let compare = |what, wanted: &Digest, found: Digest| {
            if found == *wanted {
                return Ok(());
            }
            Err(Problem::Bad(format!("{what} should be {wanted} and is {found}; it was changed on its way")))
        };
        if pipe.received != self.descriptor.size_bytes {
            return Err(Problem::Bad("its download broke off".to_owned()));
        }
        compare("it", &self.descriptor.digest, pipe.hasher.finish())?;
        compare("its archive", diff_id, self.hasher.finish())
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Plain(buffered) => buffered.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.hasher.update(&buffer[..read]);
        self.read += read as u64;
        if self.read > self.longest {
            let problem = "it becomes suspiciously large when unpacked: it may be a bomb".to_owned();
            return Err(io::Error::other(Problem::Bad(problem)));
        }
        Ok(read)
    }
}

/// An error of reading as the problem that it is.
pub(crate) fn broken(error: io::Error) -> Problem {
    match error.downcast::<Problem>() {
        Ok(problem) => problem,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Problem::Bad("it ends too early".to_owned()),
        Err(error) => Problem::Bad(format!("its compressed data is broken: {error}")),
    }
}

/// The first bytes of a stream, without taking them.
fn peek(buffered: &mut BufReader<Pipe>, head: &mut [u8; 4]) -> io::Result<usize> {
    // The pipe gives whole pieces; so that four bytes are there at once, small first pieces are joined.
    let pipe = buffered.get_mut();
    pipe.join_to(head.len());
    let available = buffered.fill_buf()?;
    let known = available.len().min(head.len());
    head[..known].copy_from_slice(&available[..known]);
    Ok(known)
}

/// The pieces of a download as a stream: counted and hashed.
struct Pipe {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    hasher: Hasher,
    received: u64,
}

impl Pipe {
    /// Receives until there are this many bytes at once, or no more come.
    fn join_to(&mut self, wanted: usize) {
        while self.current.len() < wanted {
            let Some(piece) = self.pieces.blocking_recv() else { return };
            self.current = [self.current.as_ref(), piece.as_ref()].concat().into();
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.join_to(1);
        let take = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..take]);
        self.hasher.update(&buffer[..take]);
        self.received += take as u64;
        Ok(take)
    }
}

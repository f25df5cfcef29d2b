//! Archives made byte by byte, so that they can be as wrong as they like.

use std::io::Write as _;

/// An archive in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

/// One header, plain unless it is changed.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) user: u64,
    pub(crate) group: u64,
    pub(crate) mtime: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
}

impl Header {
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let (name, link) = (name.as_ref().to_vec(), Vec::new());
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        Self { name, kind, size: 0, mode, user: 0, group: 0, mtime: 1_700_000_000, link, device: (0, 0) }
    }

    pub(crate) fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let put = |block: &mut [u8; 512], at: usize, longest: usize, bytes: &[u8]| {
            let length = bytes.len().min(longest);
            block[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(&mut block, 0, 100, &self.name);
        put(&mut block, 100, 8, format!("{:07o}", self.mode).as_bytes());
        put(&mut block, 108, 8, format!("{:07o}", self.user).as_bytes());
        put(&mut block, 116, 8, format!("{:07o}", self.group).as_bytes());
        if self.size < 1 << 33 {
            put(&mut block, 124, 12, format!("{:011o}", self.size).as_bytes());
        } else {
            block[124] = 0x80;
            put(&mut block, 128, 8, &self.size.to_be_bytes());
        }
        put(&mut block, 136, 12, format!("{:011o}", self.mtime).as_bytes());
        block[156] = self.kind;
        put(&mut block, 157, 100, &self.link);
        put(&mut block, 257, 8, b"ustar\x0000");
        put(&mut block, 329, 8, format!("{:07o}", self.device.0).as_bytes());
        put(&mut block, 337, 8, format!("{:07o}", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

/// Sets a header's checksum.
pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A header and its content, whatever the header says of its size.
    pub(crate) fn entry(self, header: &Header, content: &[u8]) -> Self {
        let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
        self.bytes(&header.block()).bytes(content).bytes(&padding)
    }

    pub(crate) fn with(self, kind: u8, name: impl AsRef<[u8]>, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new(kind, name);
        change(&mut header);
        self.entry(&header, b"")
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let (mut header, content) = (Header::new(b'0', name), content.as_ref());
        header.size = content.len() as u64;
        self.entry(&header, content)
    }

    pub(crate) fn folder(self, name: impl AsRef<[u8]>) -> Self {
        self.with(b'5', name, |_| {})
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(b'2', name, |header| header.link = target.as_ref().to_vec())
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(b'1', name, |header| header.link = target.as_ref().to_vec())
    }

    /// A pax header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..10).map(|digits| rest + digits).find(|sum| sum.to_string().len() + rest == *sum);
            let length = length.expect("a length that counts itself");
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.pax_bytes(&content)
    }

    pub(crate) fn pax_bytes(self, content: &[u8]) -> Self {
        let mut header = Header::new(b'x', "pax");
        header.size = content.len() as u64;
        self.entry(&header, content)
    }

    /// A GNU long name (`L`) or link (`K`) for the next entry.
    pub(crate) fn gnu_long(self, kind: u8, text: &[u8]) -> Self {
        let content = [text, b"\0"].concat();
        let mut header = Header::new(kind, "././@LongLink");
        header.size = content.len() as u64;
        self.entry(&header, &content)
    }

    /// The archive with its end.
    pub(crate) fn end(self) -> Vec<u8> {
        self.bytes(&[0; 1024]).0
    }

    /// The archive without one.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

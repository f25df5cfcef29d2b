//! The file that an installation is moved in: a tar archive (POSIX.1-1988, "ustar") that any `tar` can list and unpack, and
//! that is read as strictly as it was written. Every name ends with the SHA-256 of its content, and nothing may differ from
//! what this writer writes, so that every changed bit is found, and found at its place.

use std::io;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::hex;

/// Headers are so long, and contents are filled up with zeros to a multiple of it.
const BLOCK: usize = 512;

/// The longest content of an entry. Whoever reads has it in memory.
pub(super) const MAX_CONTENT_BYTES: u64 = 512 << 20;

/// Fields of a header: where they begin, and how long they are.
const NAME: (usize, usize) = (0, 100);
const SIZE: (usize, usize) = (124, 11);
const CHECKSUM: (usize, usize) = (148, 8);
const PREFIX: (usize, usize) = (345, 155);

/// Writes an archive.
pub(super) struct ArchiveWriter<W> {
    output: W,
    headers: Sha256,
}

impl<W: AsyncWrite + Unpin> ArchiveWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, headers: Sha256::new() }
    }

    /// Adds an entry. What its content hashes to stands between `stem` and `suffix`.
    pub(super) async fn add(&mut self, stem: &str, suffix: &str, content: &[u8]) -> io::Result<()> {
        if content.len() as u64 > MAX_CONTENT_BYTES {
            let most = MAX_CONTENT_BYTES;
            return Err(io::Error::other(format!(
                "{stem} is longer than {most} bytes, the most that an archive takes"
            )));
        }
        let name = format!("{stem}{}{suffix}", hex(&Sha256::digest(content)));
        let header = header(&name, content.len() as u64).expect("our own names fit into their fields");
        self.headers.update(header);
        self.output.write_all(&header).await?;
        self.output.write_all(content).await?;
        self.output.write_all(&[0; BLOCK][..padding(content.len() as u64)]).await
    }

    /// The SHA-256 of all headers up to now, in hexadecimal: with it, of everything, for they have the hashes of the contents.
    pub(super) fn so_far(&self) -> String {
        hex(&self.headers.clone().finalize())
    }

    /// Ends the archive, and gives what it was written to.
    pub(super) async fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK]).await?;
        self.output.flush().await?;
        Ok(self.output)
    }
}

/// Reads an archive from its beginning to its end.
pub(super) struct ArchiveReader<R> {
    input: R,
    headers: Sha256,
    /// Bytes that were read.
    offset: u64,
}

/// An entry whose content is what its name says.
pub(super) struct Entry {
    /// What stands before the hash in its name, and behind it.
    pub(super) stem: String,
    pub(super) suffix: String,
    pub(super) sha256: String,
    pub(super) content: Vec<u8>,
    /// The SHA-256 of all headers before.
    pub(super) before: String,
}

/// Why an archive is not read on.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is not what was written: where, and what is wrong there.
    Archive { place: String, problem: String },
    /// It cannot be read.
    Input(io::Error),
}

impl<R: AsyncRead + Unpin> ArchiveReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, headers: Sha256::new(), offset: 0 }
    }

    /// The next entry; none at the end, behind which nothing comes.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, Broken> {
        let at = self.offset;
        let block = self.block().await?;
        if block == [0; BLOCK] {
            return self.end().await.map(|()| None);
        }
        let (name, size) = parse(&block).ok_or_else(|| self.broken(at, "holds no entry of an export"))?;
        let (stem, sha256, suffix) = split(&name).ok_or_else(|| self.broken(at, "holds a name that no export has"))?;
        let place = || name.clone();
        let before = hex(&self.headers.clone().finalize());
        self.headers.update(block);
        let content = self.content(size, &name).await?;
        if hex(&Sha256::digest(&content)) != sha256 {
            return Err(Broken::Archive { place: place(), problem: "has other content than was written".to_owned() });
        }
        Ok(Some(Entry { stem: stem.to_owned(), suffix: suffix.to_owned(), sha256: sha256.to_owned(), content, before }))
    }

    async fn content(&mut self, size: u64, name: &str) -> Result<Vec<u8>, Broken> {
        // Memory is taken as bytes come, not as many as are announced.
        let mut content = Vec::new();
        let whole = size + padding(size) as u64;
        let read = (&mut self.input).take(whole).read_to_end(&mut content).await.map_err(Broken::Input)?;
        self.offset += read as u64;
        if (read as u64) < whole {
            return Err(Broken::Archive { place: name.to_owned(), problem: "is cut off".to_owned() });
        }
        let size = usize::try_from(size).expect("what was read fits into memory");
        if content[size..].iter().any(|byte| *byte != 0) {
            return Err(Broken::Archive { place: name.to_owned(), problem: "is not filled up with zeros".to_owned() });
        }
        content.truncate(size);
        Ok(content)
    }

    async fn end(&mut self) -> Result<(), Broken> {
        let at = self.offset;
        if self.block().await? != [0; BLOCK] {
            return Err(self.broken(at, "holds something where the archive ends"));
        }
        match self.input.read(&mut [0]).await.map_err(Broken::Input)? {
            0 => Ok(()),
            _ => Err(self.broken(at + BLOCK as u64, "holds something behind the end of the archive")),
        }
    }

    async fn block(&mut self) -> Result<[u8; BLOCK], Broken> {
        let mut block = [0; BLOCK];
        match self.input.read_exact(&mut block).await {
            Ok(_) => {
                self.offset += BLOCK as u64;
                Ok(block)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.broken(self.offset, "should hold more: the archive is cut off"))
            }
            Err(error) => Err(Broken::Input(error)),
        }
    }

    fn broken(&self, at: u64, problem: &str) -> Broken {
        Broken::Archive { place: format!("byte {at}"), problem: problem.to_owned() }
    }
}

fn padding(size: u64) -> usize {
    let beyond = usize::try_from(size % BLOCK as u64).expect("less than a block");
    (BLOCK - beyond) % BLOCK
}

/// The header of an entry; none when a field is too short for it. What stands before the first `/` goes into the prefix.
fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let (prefix, name) = name.split_once('/')?;
    put(&mut block, PREFIX, prefix.as_bytes())?;
    put(&mut block, NAME, name.as_bytes())?;
    // For the owner alone, of nobody, from no time: the same installation makes the same archive.
    put(&mut block, (100, 7), b"0000600")?;
    put(&mut block, (108, 7), b"0000000")?;
    put(&mut block, (116, 7), b"0000000")?;
    put(&mut block, SIZE, format!("{size:011o}").as_bytes())?;
    put(&mut block, (136, 11), b"00000000000")?;
    put(&mut block, (156, 1), b"0")?;
    put(&mut block, (257, 8), b"ustar\x0000")?;
    put(&mut block, CHECKSUM, b"        ")?;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block, CHECKSUM, format!("{sum:06o}\0 ").as_bytes())?;
    Some(block)
}

fn put(block: &mut [u8; BLOCK], (start, most): (usize, usize), text: &[u8]) -> Option<()> {
    block[start..start + most].get_mut(..text.len())?.copy_from_slice(text);
    Some(())
}

/// The name and the size in a header that is, bit by bit, one of ours.
fn parse(block: &[u8; BLOCK]) -> Option<(String, u64)> {
    let field = |(start, most): (usize, usize)| {
        let field = &block[start..start + most];
        std::str::from_utf8(field.split(|byte| *byte == 0).next().unwrap_or_default()).ok()
    };
    let name = format!("{}/{}", field(PREFIX)?, field(NAME)?);
    let size = u64::from_str_radix(field(SIZE)?, 8).ok().filter(|size| *size <= MAX_CONTENT_BYTES)?;
    (header(&name, size).as_ref() == Some(block)).then_some((name, size))
}

/// A name parted at its hash: what stands before it, the hash, and what stands behind it.
fn split(name: &str) -> Option<(&str, &str, &str)> {
    let bytes = name.as_bytes();
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let start = (0..bytes.len().saturating_sub(63)).find(|start| bytes[*start..*start + 64].iter().all(is_digit))?;
    Some((name.get(..start)?, name.get(start..start + 64)?, name.get(start + 64..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn archive(entries: &[(&str, &str, &[u8])]) -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new());
        for (stem, suffix, content) in entries {
            writer.add(stem, suffix, content).await.expect("memory takes everything");
        }
        writer.finish().await.expect("memory takes everything")
    }

    async fn read(bytes: &[u8]) -> Result<Vec<Entry>, Broken> {
        let mut reader = ArchiveReader::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next().await? {
            entries.push(entry);
        }
        Ok(entries)
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_every_tar_can_list_it() {
        let bytes = archive(&[("a/b-", ".json", b"{}"), ("c/", "", &[7; 1000]), ("d/e-", ".x", b"")]).await;

        let entries = read(&bytes).await.expect("it is whole");

        let told: Vec<_> = entries.iter().map(|entry| (entry.stem.as_str(), entry.content.len())).collect();
        assert_eq!(told, [("a/b-", 2), ("c/", 1000), ("d/e-", 0)]);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &bytes).expect("written");
        let listed = std::process::Command::new("tar").arg("-tf").arg(file.path()).output().expect("tar is installed");
        let listed = String::from_utf8(listed.stdout).expect("names");
        assert_eq!(listed.lines().count(), 3, "{listed}");
        assert!(listed.lines().next().is_some_and(|name| name.starts_with("a/b-") && name.ends_with(".json")));
    }

    #[tokio::test]
    async fn every_changed_bit_and_every_cut_is_found() {
        let bytes = archive(&[("a/b-", ".json", b"{}"), ("c/", "", &[7; 600])]).await;

        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&changed).await.is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).await.is_err(), "{length} bytes");
        }
        assert!(read(&[&bytes[..], b"x"].concat()).await.is_err(), "something behind");
    }

    #[tokio::test]
    async fn an_entry_that_says_it_is_longer_than_any_is_refused_before_it_is_read() {
        let hash = hex(&Sha256::digest(b""));
        let header = header(&format!("a/{hash}"), MAX_CONTENT_BYTES + 1).expect("it fits");

        let refused = read(&header).await.err();

        assert!(matches!(refused, Some(Broken::Archive { place, .. }) if place == "byte 0"));
    }
}

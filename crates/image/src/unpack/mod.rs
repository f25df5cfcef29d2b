//! Layers, streamed into one root folder. Everything in them is hostile.
//!
//! A layer is read once: counted, hashed as it was sent, decompressed, hashed again as an archive, and its entries put
//! into place, all while it arrives. What was put there counts only when both digests are right in the end; until then
//! it stands in a folder that nobody uses.
//!
//! What is kept of an entry: its content, permissions, owner (shifted), time, and attributes of `user.*`. What is not:
//! devices and pipes (a sandbox has its own `/dev`; none is ever made), file capabilities and other attributes (images
//! are mounted `nosuid`, where capabilities mean nothing, and `user.overlay.*` would command the overlay file system),
//! and whatever GNU's sparse extensions would say (no image builder writes them, so they are refused).

mod place;
mod source;
mod tar;
mod tree;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::options::{ImageLimits, Owner};
use place::Root;
use source::Source;
use tar::Archive;
pub(crate) use tree::remove_tree;

/// Why a layer was not unpacked.
#[derive(Debug)]
pub(crate) enum Problem {
    /// More than the limits allow.
    TooLarge { what: Cow<'static, str>, limit: String },
    /// It is broken, or tries what no archive may.
    Bad(String),
    /// The machine's file system failed.
    Io { what: &'static str, source: io::Error },
}

impl Problem {
    pub(crate) fn io(what: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |errno| Self::Io { what, source: errno.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { what, limit } => write!(formatter, "{what}: {limit}"),
            Self::Bad(words) => formatter.write_str(words),
            Self::Io { what, source } => write!(formatter, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for Problem {}

/// What was left out, or put down differently, on the way: for a person who wonders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notes {
    /// Devices, pipes, and links to such, that were left out.
    pub devices: u64,
    /// Entries of users above 65,535, which were given to `nobody`.
    pub owners: u64,
    /// Extended attributes that were left out.
    pub attributes: u64,
}

/// What came of unpacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Unpacked {
    pub(crate) size_bytes: u64,
    pub(crate) files: u64,
    pub(crate) notes: Notes,
}

/// One layer: what it should be, and its bytes.
pub(crate) struct Layer {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) pieces: mpsc::Receiver<Bytes>,
}

/// How much of the limits is left, over all layers of an image.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limits: ImageLimits,
    pub(crate) archive_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) files: u64,
}

impl Budget {
    pub(crate) fn new(limits: ImageLimits) -> Self {
        Self { limits, archive_bytes: 0, file_bytes: 0, files: 0 }
    }

    /// Counts one entry.
    pub(crate) fn entry(&mut self) -> Result<(), Problem> {
        self.files += 1;
        if self.files > self.limits.files {
            return Err(Problem::TooLarge { what: "more files".into(), limit: self.limits.files.to_string() });
        }
        Ok(())
    }

    /// Counts a file's blocks before they are written.
    pub(crate) fn file(&mut self, size: u64) -> Result<(), Problem> {
        self.file_bytes = self.file_bytes.saturating_add(on_disk(size));
        self.check_bytes(self.file_bytes)
    }

    /// Counts what an archive turned out to have.
    pub(crate) fn archive(&mut self, size: u64) -> Result<(), Problem> {
        self.archive_bytes = self.archive_bytes.saturating_add(size);
        self.check_bytes(self.archive_bytes)
    }

    fn check_bytes(&self, used: u64) -> Result<(), Problem> {
        if used > self.limits.unpacked_bytes {
            let limit = format!("{} bytes", self.limits.unpacked_bytes);
            return Err(Problem::TooLarge { what: "more bytes when unpacked".into(), limit });
        }
        Ok(())
    }
}

/// A file's size in blocks of 4 KiB.
pub(crate) fn on_disk(size: u64) -> u64 {
    size.saturating_add(4095) & !4095
}

/// Unpacks layers, one over the other, into a new folder `root`. Blocks; `next` gives the layers in their order, and
/// `None` when there are no more. The number of the layer at fault, from 1, comes with the error.
pub(crate) fn unpack(
    root: &Path,
    owner: Owner,
    limits: ImageLimits,
    mut next: impl FnMut() -> Option<Layer>,
) -> Result<Unpacked, (usize, Problem)> {
    let mut budget = Budget::new(limits);
    let mut tree = Root::make(root, owner).map_err(|problem| (1, problem))?;
    let mut number = 0;
    while let Some(layer) = next() {
        number += 1;
        tree.begin_layer();
        one_layer(&mut tree, &mut budget, layer).map_err(|problem| (number, problem))?;
    }
    let (notes, size_bytes) = tree.finish().map_err(|problem| (number, problem))?;
    Ok(Unpacked { size_bytes, files: budget.files, notes })
}

fn one_layer(tree: &mut Root, budget: &mut Budget, layer: Layer) -> Result<(), Problem> {
    let source = Source::open(layer.descriptor, layer.pieces, &budget.limits, &layer.diff_id)?;
    let mut archive = Archive::new(source, budget);
    while let Some(entry) = archive.next_entry()? {
        tree.place(&entry, &mut archive)?;
    }
    archive.into_source().finish(&layer.diff_id)
}

/// Makes what a crash must not undo last, then gives it its name.
pub(crate) fn keep(from: &Path, to: &Path) -> io::Result<()> {
    let open =
        |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    rustix::fs::syncfs(open(from)?)?;
    fs::rename(from, to)?;
    let parent = to.parent().unwrap_or(to);
    rustix::fs::fsync(open(parent)?)?;
    Ok(())
}

/// What is known of each folder, by inode: it is kept until the end, when nothing is put in any more.
type Folders = HashMap<u64, place::Folder>;

#[cfg(test)]
mod tests {
    use super::*;

    /// A small archive with every kind of header that is read.
    fn archive() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut add = |kind: u8, name: &str, link: &str, content: &[u8]| {
            let mut block = [0; 512];
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[100..107].copy_from_slice(b"0000755");
            block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            block[156] = kind;
            block[157..157 + link.len()].copy_from_slice(link.as_bytes());
            block[257..263].copy_from_slice(b"ustar\0");
            bytes.extend_from_slice(&block);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        };
        add(b'5', "a/b/", "", b"");
        add(b'x', "pax", "", b"18 path=some/name\n22 mtime=1700000000.5\n25 SCHILY.xattr.user.a=b\n");
        add(b'0', "x", "", b"content");
        add(b'L', "long", "", b"a/b/longer\0");
        add(b'0', "x", "", &[7; 700]);
        add(b'2', "link", "a/b", b"");
        add(b'1', "hard", "a/b/longer", b"");
        add(b'0', "link/c", "", b"through");
        add(b'0', "a/.wh.b", "", b"");
        add(b'0', "a/.wh..wh..opq", "", b"");
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }

    /// Sums every header anew, so that what was changed is believed.
    fn seal(bytes: &mut [u8]) {
        for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }

    fn unpack_bytes(bytes: Vec<u8>, folder: &Path) -> Result<Unpacked, (usize, Problem)> {
        let digest = Digest::of(&bytes);
        let (to, pieces) = mpsc::channel(1);
        let descriptor = Descriptor { digest: digest.clone(), size_bytes: bytes.len() as u64 };
        to.try_send(bytes.into()).expect("room for one");
        let mut layer = Some(Layer { descriptor, diff_id: digest, pieces });
        drop(to);
        unpack(&folder.join("root"), Owner::Own, ImageLimits::default(), || layer.take())
    }

    #[test]
    fn an_archive_with_any_byte_changed_is_unpacked_or_refused_but_never_leads_out_or_panics() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut plain = archive();
        seal(&mut plain);
        assert!(unpack_bytes(plain.clone(), folder.path()).is_ok());
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).expect("31 bits") % below
        };
        let words: [&[u8]; 6] = [b"../", b"/", b"\0", b".wh.", b"\xff\xff", b"99999999"];

        for round in 0..1500 {
            remove_tree(&folder.path().join("root")).expect("removed");
            let mut bytes = plain.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len() - 8);
                let word = words[next(words.len())];
                match next(3) {
                    0 => bytes[at] = u8::try_from(next(256)).expect("a byte"),
                    _ => bytes[at..at + word.len()].copy_from_slice(word),
                }
            }
            if round % 10 > 0 {
                seal(&mut bytes);
            }

            let outcome = unpack_bytes(bytes, folder.path());

            let is_ours = !matches!(outcome, Err((_, Problem::Io { .. })));
            assert!(is_ours, "round {round}: {outcome:?}");
            assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "round {round}");
        }
    }
}

//! Looking for byte strings in a tree that a sandbox wrote: in contents, names, targets of links and extended attributes.
//!
//! One pass for all of them, in pieces that overlap, so that none hides on a border. Holes of sparse files are passed
//! over; what is compressed or otherwise encoded is only found by who names that form, too.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aho_corasick::AhoCorasick;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{Whence, lseek};

use crate::tree::{ATTRIBUTE_BYTES, each_attribute, walk};

/// How much of a file is looked at in one go.
const PIECE_BYTES: usize = 256 << 10;
/// The longest byte string that can be looked for.
pub(crate) const NEEDLE_BYTES: usize = 64 << 10;
/// What is looked for.
pub(crate) struct Needles {
    automaton: AhoCorasick,
    overlap: usize,
}

impl Needles {
    /// Takes them; none of them may be empty, or longer than 64 KiB.
    pub(crate) fn new(needles: &[Vec<u8>]) -> Result<Self, String> {
        if needles.iter().any(|needle| needle.is_empty() || needle.len() > NEEDLE_BYTES) {
            return Err(format!("what is looked for in a layer must have 1 to {NEEDLE_BYTES} bytes"));
        }
        let automaton =
            AhoCorasick::new(needles).map_err(|error| format!("cannot look for that much in a layer: {error}"))?;
        let overlap = needles.iter().map(Vec::len).max().unwrap_or(1) - 1;
        Ok(Self { automaton, overlap })
    }

    /// The first thing below `root` that holds one, by its path in there.
    pub(crate) fn find(&self, root: &Path, abandoned: &AtomicBool) -> io::Result<Option<String>> {
        let mut buffer = vec![0; self.overlap + PIECE_BYTES];
        let mut attributes = vec![0; ATTRIBUTE_BYTES];
        // What a sandbox has for its root is no entry of a walk, and may have attributes, too.
        let top = open(root, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        if self.is_in_attributes(&top, &mut attributes)? {
            return Ok(Some("/".to_owned()));
        }
        walk(root, abandoned, |entry, path| {
            // Names above were looked at with their own entries, but one may begin in them and end here.
            let start = path.len().saturating_sub(entry.name.count_bytes() + self.overlap);
            let mut is_found = self.automaton.is_match(&path[start..])
                || entry.link_target().is_some_and(|target| self.automaton.is_match(&target));
            if !is_found && entry.kind() == SFlag::S_IFREG && !entry.is_twin && entry.stat.st_size > 0 {
                is_found = match entry.open()? {
                    Some(file) => self.is_in(file, &mut buffer, abandoned)?,
                    None => false,
                };
            }
            if !is_found && !entry.is_twin {
                is_found = match entry.handle()? {
                    Some(handle) => self.is_in_attributes(&handle, &mut attributes)?,
                    None => false,
                };
            }
            if is_found {
                return Ok(ControlFlow::Break(String::from_utf8_lossy(path).into_owned()));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Whether a name or a value of an extended attribute holds one.
    fn is_in_attributes(&self, handle: &OwnedFd, buffer: &mut [u8]) -> io::Result<bool> {
        let found = each_attribute(handle, buffer, |name, value| {
            let is_found = self.automaton.is_match(name) || self.automaton.is_match(value);
            if is_found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found.is_some())
    }

    fn is_in(&self, mut file: File, buffer: &mut [u8], abandoned: &AtomicBool) -> io::Result<bool> {
        let (mut kept, mut position) = (0, 0_i64);
        while !abandoned.load(Ordering::Relaxed) {
            let data = match lseek(&file, position, Whence::SeekData) {
                Ok(data) => data,
                // Nothing but a hole is left.
                Err(Errno::ENXIO) => return Ok(false),
                // This file system knows no holes.
                Err(Errno::EINVAL) => position,
                Err(error) => return Err(error.into()),
            };
            if data > position {
                kept = 0;
            }
            let read = match file.read(&mut buffer[kept..]) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            position = data + read as i64;
            let filled = kept + read;
            if self.automaton.is_match(&buffer[..filled]) {
                return Ok(true);
            }
            let from = filled.saturating_sub(self.overlap);
            buffer.copy_within(from..filled, 0);
            kept = filled - from;
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "nobody waits for it any more"))
    }
}

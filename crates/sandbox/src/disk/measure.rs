//! How much of the disk a sandbox takes: allocated blocks of its folder, and of files it deleted and holds open.
//!
//! What cannot be looked at, because the tree is too deep or too large, makes the measure say that it is not whole.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::deleted::held_by;
use super::processes::written_bytes;
use crate::tree::walk;

/// How long one measure may take.
const WITHIN: Duration = Duration::from_secs(30);
/// What the kernel counts allocated blocks in, whatever the file system's blocks are.
const BLOCK_BYTES: u64 = 512;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Measure {
    /// Bytes on disk.
    pub(crate) bytes: u64,
    /// Whether that is all: not if the tree is too deep or too large.
    pub(crate) is_whole: bool,
    /// Whether this user may not look at a part of it, which belongs to another id or to a process that is closed.
    pub(crate) is_denied: bool,
    /// What its processes have written since they started, as far as they can be asked: for comparison only.
    pub(crate) written_bytes: u64,
}

/// Measures everything below the folder of a sandbox, and deleted files that these processes of it hold.
pub(crate) fn measure(folder: &Path, processes: &[i32]) -> io::Result<Measure> {
    let until = Instant::now() + WITHIN;
    fs::metadata(folder)?;
    let mut blocks = 0_u64;
    let in_vain = AtomicBool::new(false);
    let walked = walk(folder, &in_vain, |entry, _path| {
        if !entry.is_twin {
            blocks = blocks.saturating_add(u64::try_from(entry.stat.st_blocks).unwrap_or(0));
        }
        Ok(if Instant::now() < until { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    let deleted = held_by(folder, processes, until);
    let bytes = blocks.saturating_add(deleted.blocks).saturating_mul(BLOCK_BYTES);
    let is_closed = matches!(&walked, Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
    Ok(Measure {
        bytes,
        is_whole: deleted.is_whole && matches!(walked, Ok(None)),
        is_denied: is_closed || deleted.is_denied,
        written_bytes: written_bytes(processes),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn bytes(folder: &Path) -> u64 {
        measure(folder, &[]).expect("measured").bytes
    }

    #[test]
    fn a_file_counts_once_however_many_names_it_has_and_links_are_not_followed() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let (outside, inside) = (place.path().join("outside"), place.path().join("inside"));
        for folder in [&outside, &inside, &inside.join("deeper")] {
            fs::create_dir(folder).expect("made");
        }
        fs::write(outside.join("large"), vec![1; 4 << 20]).expect("written");
        let empty = bytes(&inside);

        fs::write(inside.join("file"), vec![1; 1 << 20]).expect("written");
        fs::hard_link(inside.join("file"), inside.join("deeper/same")).expect("linked");
        symlink(&outside, inside.join("link")).expect("linked");

        let grown = bytes(&inside) - empty;
        assert!((1 << 20..2 << 20).contains(&grown), "{grown}");
    }

    #[test]
    fn what_is_not_written_of_a_sparse_file_does_not_count() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let file = fs::File::create(place.path().join("sparse")).expect("made");

        file.set_len(1 << 40).expect("lengthened");

        assert!(bytes(place.path()) < 1 << 20);
    }

    #[test]
    fn a_tree_too_deep_to_follow_is_said_not_to_be_whole() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let whole = measure(place.path(), &[]).expect("measured");
        let deep = place.path().join("a/".repeat(200));
        fs::create_dir_all(deep).expect("made");

        let cut = measure(place.path(), &[]).expect("measured");

        assert!(whole.is_whole);
        assert!(!cut.is_whole);
    }
}

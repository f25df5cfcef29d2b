//! How much of the disk a sandbox takes: allocated blocks of its folder, and of files it deleted and holds open.
//!
//! What cannot be looked at, because the tree is too deep or too large, makes the measure say that it is not whole.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

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
    /// Whether this user may not look at a part of it, which belongs to another id.
    pub(crate) is_denied: bool,
}

/// Measures everything below `folder`, and deleted files that these processes hold open.
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
    let deleted = deleted_blocks(folder, processes, until);
    let bytes = blocks.saturating_add(deleted.blocks).saturating_mul(BLOCK_BYTES);
    let is_closed = matches!(&walked, Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
    Ok(Measure {
        bytes,
        is_whole: deleted.is_whole && matches!(walked, Ok(None)),
        is_denied: is_closed || deleted.is_denied,
    })
}

/// What was found of deleted files.
struct Deleted {
    blocks: u64,
    /// Whether there was time for all.
    is_whole: bool,
    /// Whether a process of another id did not let this one look.
    is_denied: bool,
}

/// The blocks of files that have no name any more. The files of shared memory have no name either, but are not on this
/// disk.
fn deleted_blocks(folder: &Path, processes: &[i32], until: Instant) -> Deleted {
    let mut found = Deleted { blocks: 0, is_whole: true, is_denied: false };
    let Ok(disk) = fs::metadata(folder).map(|data| data.dev()) else { return Deleted { is_whole: false, ..found } };
    let mut seen = HashSet::new();
    for process in processes {
        let root = fs::metadata(format!("/proc/{process}/root/")).map_or(disk, |data| data.dev());
        let open = fs::read_dir(format!("/proc/{process}/fd"));
        // Those of its own that do not are the runner and what it became: they hold no files.
        found.is_denied |= matches!(&open, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
            && fs::metadata(format!("/proc/{process}")).is_ok_and(|data| data.uid() != geteuid().as_raw());
        for file in open.into_iter().flatten().flatten().filter_map(|entry| fs::metadata(entry.path()).ok()) {
            let is_deleted = file.is_file() && file.nlink() == 0 && [disk, root].contains(&file.dev());
            if is_deleted && seen.insert((file.dev(), file.ino())) {
                found.blocks = found.blocks.saturating_add(file.blocks());
            }
            if Instant::now() > until {
                return Deleted { is_whole: false, ..found };
            }
        }
    }
    found
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
    fn a_deleted_file_counts_while_a_process_holds_it() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let path = place.path().join("file");
        fs::write(&path, vec![1; 1 << 20]).expect("written");
        let held = fs::File::open(&path).expect("opened");
        fs::remove_file(&path).expect("removed");
        let own = [i32::try_from(std::process::id()).expect("a process number")];

        let while_held = measure(place.path(), &own).expect("measured").bytes;
        drop(held);
        let after = measure(place.path(), &own).expect("measured").bytes;

        assert!(while_held >= after + (1 << 20), "{while_held} {after}");
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

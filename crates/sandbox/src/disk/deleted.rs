//! Files without a name that processes hold, open or mapped: they take of the disk, and no folder shows them.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};
use nix::sys::statfs::{HUGETLBFS_MAGIC, TMPFS_MAGIC, statfs};

use super::processes::{Stat, runner_of};

/// When those are looked at again that were closed: what has been forked, and is not the command yet, is closed for a
/// moment, as the runner is for ever.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What was found of deleted files.
pub(super) struct Deleted {
    pub(super) blocks: u64,
    /// Whether that is all: there was time, and what is mapped could be told.
    pub(super) is_whole: bool,
    /// Whether a process did not let this one look, as one of another id, or one that closed itself.
    pub(super) is_denied: bool,
}

/// The blocks of files that have no name any more, held by these processes of the sandbox in `folder`.
pub(super) fn held_by(folder: &Path, processes: &[i32], until: Instant) -> Deleted {
    let found = Deleted { blocks: 0, is_whole: true, is_denied: false };
    let Ok(disk) = fs::metadata(folder).map(|data| data.dev()) else { return Deleted { is_whole: false, ..found } };
    let mut look = Look { disk, runner: runner_of(folder), memory: memory(), until, seen: HashSet::new(), found };
    let mut closed: Vec<i32> = processes.iter().copied().filter(|process| look.is_closed(*process)).collect();
    if !closed.is_empty() {
        thread::sleep(AGAIN_AFTER);
        closed.retain(|process| look.is_closed(*process));
    }
    look.found.is_denied = !closed.is_empty();
    look.found
}

/// The device of shared memory that has no name, as `maps` writes it.
fn memory() -> Option<String> {
    let file = rustix::fs::memfd_create("carrel", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    Some(device(fs::File::from(file).metadata().ok()?.dev()))
}

fn device(number: u64) -> String {
    format!("{:02x}:{:02x}", major(number), minor(number))
}

struct Look {
    /// The file system of the sandbox's folder.
    disk: u64,
    runner: Option<i32>,
    memory: Option<String>,
    until: Instant,
    seen: HashSet<(u64, u64)>,
    found: Deleted,
}

impl Look {
    /// Counts what a process holds; whether it does not let this one look.
    fn is_closed(&mut self, process: i32) -> bool {
        if self.is_the_runners(process) {
            return false;
        }
        let (mut is_closed, mut is_mapped) = (false, false);
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        // Each thread may have a table of files of its own, and the first of them may have ended before the others.
        for task in tasks {
            let place = task.path().display().to_string();
            let open = match fs::read_dir(format!("{place}/fd")) {
                Ok(open) => open,
                Err(error) => {
                    is_closed |= error.kind() == ErrorKind::PermissionDenied
                        && Stat::read(&place).is_some_and(|stat| stat.is_living);
                    continue;
                }
            };
            for entry in open.flatten() {
                is_closed |= self.take(&entry.path()) == Some(ErrorKind::PermissionDenied);
                if Instant::now() > self.until {
                    self.found.is_whole = false;
                    return is_closed;
                }
            }
            // They share their memory.
            is_mapped = is_mapped || self.take_mapped(process, &task.file_name().to_string_lossy());
        }
        is_closed
    }

    /// Whether it is the runner or one of its supervisors, which are closed to everybody of their user and hold no files.
    fn is_the_runners(&self, process: i32) -> bool {
        let Some(runner) = self.runner else { return false };
        process == runner || Stat::read(&format!("/proc/{process}")).is_some_and(|stat| stat.is_supervisor_of(runner))
    }

    /// Counts what an entry of `/proc` leads to, if it has no name and lies on a disk; why it could not be looked at.
    fn take(&mut self, path: &Path) -> Option<ErrorKind> {
        let file = match fs::metadata(path) {
            Ok(file) => file,
            Err(error) => return Some(error.kind()),
        };
        // A sandbox may have several overlays over the disk, each with a number of its own, and memory beside them.
        let is_on_disk = || {
            let kind = statfs(path).map(|found| found.filesystem_type());
            file.dev() == self.disk || kind.is_ok_and(|kind| kind != TMPFS_MAGIC && kind != HUGETLBFS_MAGIC)
        };
        let is_deleted = file.is_file() && file.nlink() == 0 && is_on_disk();
        if is_deleted && self.seen.insert((file.dev(), file.ino())) {
            self.found.blocks = self.found.blocks.saturating_add(file.blocks());
        }
        None
    }

    /// Counts deleted files that are mapped; whether the memory of this thread could be looked at.
    fn take_mapped(&mut self, process: i32, task: &str) -> bool {
        let Ok(maps) = fs::read(format!("/proc/{task}/maps")) else { return false };
        let maps = String::from_utf8_lossy(&maps);
        let mut shared_memory = None;
        for mapping in maps.lines().filter_map(Mapping::parse) {
            let told = self.take(Path::new(&format!("/proc/{task}/map_files/{}", mapping.range)));
            // Only the host's root may follow these. Without that nothing tells how much a file takes that is only mapped,
            // and shared it can grow that way; privately mapped it cannot, as with a library that was replaced.
            if told != Some(ErrorKind::PermissionDenied) || !mapping.is_shared {
                continue;
            }
            let shared_memory = shared_memory.get_or_insert_with(|| {
                fs::metadata(format!("/proc/{process}/root/dev/shm")).map(|data| device(data.dev())).ok()
            });
            let is_memory = [&self.memory, shared_memory].into_iter().flatten().any(|memory| memory == mapping.device);
            self.found.is_whole &= is_memory;
        }
        !maps.is_empty()
    }
}

/// A mapping of a file that is deleted, or is called so.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    range: &'a str,
    is_shared: bool,
    device: &'a str,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.strip_suffix(" (deleted)")?.split_ascii_whitespace();
        let (range, rights, _offset, device, inode) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (inode != "0").then_some(Self { range, is_shared: rights.ends_with('s'), device })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that runs this in Python, once it has said that it is ready.
    struct Holder(Child);

    impl Holder {
        fn new(folder: &Path, script: &str) -> Self {
            let script =
                format!("import mmap, os, sys, threading\n{script}\nprint('x', flush=True)\nsys.stdin.read()\n");
            let mut python = Command::new("python3");
            python.args(["-c", &script]).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut holder = python.spawn().expect("python3 is installed");
            holder.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it is ready");
            Self(holder)
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            self.0.kill().and_then(|()| self.0.wait()).expect("it is ours");
        }
    }

    fn held(folder: &Path, process: u32) -> Deleted {
        let process = i32::try_from(process).expect("a process number");
        held_by(folder, &[process], Instant::now() + Duration::from_secs(30))
    }

    const BLOCKS: u64 = (8 << 20) / 512;

    #[test]
    fn a_deleted_file_counts_while_a_process_holds_it() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let path = place.path().join("file");
        fs::write(&path, vec![1; 8 << 20]).expect("written");
        let file = fs::File::open(&path).expect("opened");
        fs::remove_file(&path).expect("removed");

        let while_held = held(place.path(), std::process::id()).blocks;
        drop(file);
        let after = held(place.path(), std::process::id()).blocks;

        assert!(while_held >= after + BLOCKS, "{while_held} {after}");
    }

    #[test]
    fn a_deleted_file_that_is_only_mapped_counts_or_is_said_to_be_missing() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let script = "f = os.open('f', os.O_RDWR | os.O_CREAT); os.unlink('f'); os.ftruncate(f, 8 << 20)\n\
            m = mmap.mmap(f, 8 << 20); os.close(f); m[:] = b'x' * (8 << 20)";
        // Python keeps a descriptor of what it maps: that goes, too.
        let script = format!(
            "{script}\nfor n in os.listdir('/proc/self/fd'):\n    int(n) > 2 and os.closerange(int(n), int(n) + 1)"
        );
        let holder = Holder::new(place.path(), &script);

        let found = held(place.path(), holder.0.id());

        assert!(found.blocks >= BLOCKS || !found.is_whole, "{}", found.blocks);
        assert!(!found.is_denied);
    }

    #[test]
    fn a_process_that_closed_itself_is_told_from_one_that_holds_nothing() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let close = "import ctypes; ctypes.CDLL(None).prctl(4, 0)";
        let [open, closed] = ["", close].map(|script| Holder::new(place.path(), script));

        let [open, closed] = [open, closed].map(|holder| held(place.path(), holder.0.id()));

        // Nobody is closed to root.
        let is_root = nix::unistd::geteuid().is_root();
        assert!(!open.is_denied && open.is_whole);
        assert_eq!(closed.is_denied, !is_root);
    }

    #[test]
    fn mapped_memory_is_no_file_of_the_disk() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let script =
            "f = os.memfd_create('x'); os.ftruncate(f, 8 << 20); m = mmap.mmap(f, 8 << 20); m[:] = b'x' * (8 << 20)";
        let holder = Holder::new(place.path(), script);

        let found = held(place.path(), holder.0.id());

        assert!(found.is_whole && found.blocks < BLOCKS, "{}", found.blocks);
    }

    #[test]
    fn a_mapping_is_deleted_shared_and_on_a_device_as_its_line_says() {
        let line = "7f00-7f01 rw-s 00000000 00:2a 77   /workspace/a file (deleted)";

        assert_eq!(Mapping::parse(line), Some(Mapping { range: "7f00-7f01", is_shared: true, device: "00:2a" }));
        assert_eq!(Mapping::parse("7f00-7f01 rw-s 00000000 00:2a 77   /workspace/a file"), None);
    }
}

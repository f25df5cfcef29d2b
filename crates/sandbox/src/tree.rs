//! Walking a tree that a sandbox wrote: hostile names, depths, links and kinds of files, with bounded memory.
//!
//! Nothing is followed and nothing leaves the tree: every step is one name below an open folder. What cannot be read
//! because its owner took its own right is opened for as long as it is looked at; what vanishes meanwhile is passed
//! over. One that is too deep or too tangled is an error: it cannot be vouched for.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::{File, Permissions, set_permissions};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};

/// How deep folders may lie in each other: each takes two descriptors while it is walked.
const DEPTH: usize = 128;
/// How many files with several names are remembered, so that each is seen once.
const TWINS: usize = 1 << 20;
/// The most bytes that the names of extended attributes have, and the most that a value has: `XATTR_LIST_MAX` and
/// `XATTR_SIZE_MAX` of Linux. The kernel gives no more; where there is more it cannot be vouched for.
pub(crate) const ATTRIBUTE_BYTES: usize = 64 << 10;
/// Bytes that are enough for nearly all names: the kernel clears as much memory as it is offered.
const FEW_BYTES: usize = 1024;

/// Says that nobody waits for a walk any more, when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// What the walk looks at.
    pub(crate) fn abandoned(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One thing in a tree.
pub(crate) struct Entry<'a> {
    /// The folder it is in.
    pub(crate) folder: BorrowedFd<'a>,
    /// Its name in its folder.
    pub(crate) name: &'a CStr,
    /// What is known of it.
    pub(crate) stat: FileStat,
    /// Whether the same file was seen under another name.
    pub(crate) is_twin: bool,
}

impl Entry<'_> {
    /// What it is.
    pub(crate) fn kind(&self) -> SFlag {
        kind(&self.stat)
    }

    /// Opens it to read, if it is still the regular file it was.
    pub(crate) fn open(&self) -> io::Result<Option<File>> {
        let file = open_closed(self.folder, self.name, OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
        let Some(Opened { fd, rights }) = file else { return Ok(None) };
        restore(&fd, rights)?;
        // Between the look and the opening a FIFO may have taken its place.
        Ok((kind(&fstat(&fd)?) == SFlag::S_IFREG).then(|| File::from(fd)))
    }

    /// A handle of it, of a link itself as well, that lets nothing be read or written; nothing if it is gone.
    pub(crate) fn handle(&self) -> io::Result<Option<OwnedFd>> {
        match openat(self.folder, self.name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(handle) => Ok(Some(handle)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it leads, if it is a link.
    pub(crate) fn link_target(&self) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStringExt;
        (self.kind() == SFlag::S_IFLNK)
            .then(|| nix::fcntl::readlinkat(self.folder, self.name).ok().map(OsStringExt::into_vec))
            .flatten()
    }
}

/// What a walk does after something was seen.
pub(crate) enum Step<T> {
    /// Goes on, into it if it is a folder.
    Into,
    /// Goes on beside it.
    Past,
    /// Ends.
    Stop(T),
}

/// Shows `see` everything below `root`, each with its path in there, until it breaks off.
pub(crate) fn walk<T>(
    root: &Path,
    abandoned: &AtomicBool,
    mut see: impl FnMut(&Entry<'_>, &[u8]) -> io::Result<ControlFlow<T>>,
) -> io::Result<Option<T>> {
    let top = File::options().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(root)?;
    walk_from(top.into(), abandoned, |entry, path| {
        Ok(match see(entry, path)? {
            ControlFlow::Continue(()) => Step::Into,
            ControlFlow::Break(result) => Step::Stop(result),
        })
    })
}

/// The same from an open folder, and only into those folders that `see` wants looked into.
pub(crate) fn walk_from<T>(
    top: OwnedFd,
    abandoned: &AtomicBool,
    mut see: impl FnMut(&Entry<'_>, &[u8]) -> io::Result<Step<T>>,
) -> io::Result<Option<T>> {
    let mut path: Vec<u8> = Vec::new();
    let mut twins = HashSet::new();
    let mut levels = vec![Level::open(Opened { fd: top, rights: None }, 0)?];
    while let Some(level) = levels.last_mut() {
        if abandoned.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "nobody waits for it any more"));
        }
        let Some(found) = level.names.next() else {
            path.truncate(level.path_bytes);
            levels.pop();
            continue;
        };
        let found = found?;
        let name = found.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match fstatat(&level.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let is_folder = kind(&stat) == SFlag::S_IFDIR;
        let is_twin = !is_folder && stat.st_nlink > 1 && !twins.insert((stat.st_dev, stat.st_ino));
        if twins.len() > TWINS {
            return Err(io::Error::other(format!("more than {TWINS} files have several names")));
        }
        let before = path.len();
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        let entry = Entry { folder: level.folder.as_fd(), name, stat, is_twin };
        let is_wanted = match see(&entry, &path)? {
            Step::Into => is_folder,
            Step::Past => false,
            Step::Stop(result) => return Ok(Some(result)),
        };
        let deeper = if is_wanted { open_closed(entry.folder, name, OFlag::O_DIRECTORY)? } else { None };
        match deeper {
            Some(_) if levels.len() == DEPTH => {
                return Err(io::Error::other(format!("folders lie more than {DEPTH} deep in each other")));
            }
            Some(folder) => levels.push(Level::open(folder, before)?),
            None => path.truncate(before),
        }
    }
    Ok(None)
}

/// What everything below a folder takes on the disk.
pub(crate) fn total_bytes(root: &Path, abandoned: &AtomicBool) -> io::Result<u64> {
    let mut blocks = 0_u64;
    walk(root, abandoned, |entry, _| {
        if !entry.is_twin {
            blocks += u64::try_from(entry.stat.st_blocks).unwrap_or(0);
        }
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    // The kernel counts in units of 512 bytes, whatever the file system's blocks are.
    Ok(blocks * 512)
}

/// A folder on the way down.
struct Level {
    folder: OwnedFd,
    names: OwningIter,
    /// How long the path was above it.
    path_bytes: usize,
    /// The rights it gets back.
    rights: Option<u32>,
}

impl Level {
    fn open(Opened { fd, rights }: Opened, path_bytes: usize) -> io::Result<Self> {
        let names = Dir::from_fd(fd.try_clone()?)?.into_iter();
        Ok(Self { folder: fd, names, path_bytes, rights })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        // It is ours and open: what could fail has failed before.
        let _restored = restore(&self.folder, self.rights);
    }
}

/// Something open, and the rights it had if it had to be opened up for that.
struct Opened {
    fd: OwnedFd,
    rights: Option<u32>,
}

fn restore(fd: &OwnedFd, rights: Option<u32>) -> io::Result<()> {
    rights.map_or(Ok(()), |rights| Ok(fchmod(fd, Mode::from_bits_truncate(rights))?))
}

/// The path of what a handle is of: by way of the descriptor no link is followed that took its place.
fn path_of(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// Does something to a file or a folder while its owner, who we are, may read it. Nothing if it is something else.
fn opened_up<T>(handle: &OwnedFd, work: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    let stat = fstat(handle)?;
    if !matches!(kind(&stat), SFlag::S_IFREG | SFlag::S_IFDIR) {
        return Ok(None);
    }
    let rights = stat.st_mode & 0o7777;
    set_permissions(path_of(handle), Permissions::from_mode(rights | 0o500))?;
    let done = work();
    set_permissions(path_of(handle), Permissions::from_mode(rights))?;
    done.map(Some)
}

/// Shows `see` the name and the value of each extended attribute, until it breaks off. The buffer has [`ATTRIBUTE_BYTES`].
pub(crate) fn each_attribute<T>(
    handle: &OwnedFd,
    buffer: &mut [u8],
    mut see: impl FnMut(&[u8], &[u8]) -> ControlFlow<T>,
) -> io::Result<Option<T>> {
    use rustix::io::Errno;
    let path = path_of(handle);
    let length = match rustix::fs::listxattr(&path, &mut buffer[..FEW_BYTES]) {
        Err(Errno::RANGE) => rustix::fs::listxattr(&path, &mut *buffer)?,
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let names = buffer[..length].to_vec();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let read = match rustix::fs::getxattr(&path, name, &mut *buffer) {
            Err(Errno::ACCESS) => {
                opened_up(handle, || Ok(rustix::fs::getxattr(&path, name, &mut *buffer)))?.unwrap_or(Err(Errno::ACCESS))
            }
            read => read,
        };
        match read {
            Ok(length) => {
                if let ControlFlow::Break(result) = see(name, &buffer[..length]) {
                    return Ok(Some(result));
                }
            }
            // It may have been removed since its name was read.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Opens something to read, also if its owner, who we are, may not at the moment. Nothing if it is gone, or no longer
/// what it was.
fn open_closed(folder: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> io::Result<Option<Opened>> {
    let open = |flags: OFlag| openat(folder, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    match open(OFlag::O_RDONLY | flags) {
        Ok(fd) => Ok(Some(Opened { fd, rights: None })),
        Err(Errno::EACCES) => {
            let handle = open(OFlag::O_PATH | (flags & OFlag::O_DIRECTORY))?;
            let path = path_of(&handle);
            let stat = fstat(&handle)?;
            if !matches!(kind(&stat), SFlag::S_IFREG | SFlag::S_IFDIR) {
                return Ok(None);
            }
            let rights = stat.st_mode & 0o7777;
            set_permissions(&path, Permissions::from_mode(rights | 0o500))?;
            match open(OFlag::O_RDONLY | flags) {
                Ok(fd) => Ok(Some(Opened { fd, rights: Some(rights) })),
                Err(error) => {
                    set_permissions(&path, Permissions::from_mode(rights))?;
                    Err(error.into())
                }
            }
        }
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

//! Files of a sandbox, touched by its maker once its root stands.
//!
//! What is in the writable layer and in kept ones may be the work of a hostile sandbox that ran before: links that lead
//! into `/proc`, FIFOs that never answer, folders where files are expected. So nothing here follows a link of `/proc`,
//! waits, or ends in a file system that is not made of files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, fchown};

/// The most of `/etc/passwd` that is read.
const ACCOUNTS_BYTES: u64 = 1 << 20;

/// Opens a place to mount at, and makes it, with the folders above it, where there is none. What is made belongs to
/// `owner`.
pub(super) fn place(target: &Path, is_folder: bool, owner: Option<u32>) -> Result<OwnedFd, Errno> {
    let mut names: Vec<&OsStr> = target.components().filter_map(name_of).collect();
    let file = if is_folder { None } else { names.pop() };
    let mut here = OwnedFd::from(super::stack::open_folder(Path::new("/")).map_err(|_| Errno::EIO)?);
    for name in names {
        here = folder_in(&here, name, owner)?;
    }
    if let Some(name) = file {
        here = file_in(&here, name, owner)?;
    }
    // A link must not lead a mount over what shows processes.
    if fstatfs(&here)?.filesystem_type() == PROC_SUPER_MAGIC { Err(Errno::ELOOP) } else { Ok(here) }
}

/// Writes a small file that is there already. Where the sandbox has put something else in its place, that stays.
pub(super) fn overwrite(path: &str, text: &str) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    match open(&root()?, OsStr::new(path.trim_start_matches('/')), flags, resolve) {
        Ok(file) if is_regular(&file)? => File::from(file).write_all(text.as_bytes()).map_err(|_| Errno::EIO),
        Ok(_) | Err(Errno::ENOENT | Errno::ELOOP | Errno::EXDEV | Errno::ENXIO | Errno::EISDIR | Errno::ENOTDIR) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Where `/etc/passwd` says that root is at home. To be called as the user inside.
pub(super) fn home_of_root() -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(&root().ok()?, OsStr::new("etc/passwd"), flags, ResolveFlag::RESOLVE_NO_MAGICLINKS).ok()?;
    if !is_regular(&file).ok()? {
        return None;
    }
    let mut accounts = Vec::new();
    File::from(file).take(ACCOUNTS_BYTES).read_to_end(&mut accounts).ok()?;
    home_in(&String::from_utf8_lossy(&accounts))
}

fn home_in(accounts: &str) -> Option<String> {
    let mut fields = accounts.lines().map(|line| line.split(':'));
    let home = fields.find_map(|mut fields| (fields.nth(2) == Some("0")).then(|| fields.nth(2)).flatten())?;
    (home.starts_with('/') && !home.chars().any(char::is_control)).then(|| home.to_owned())
}

fn folder_in(parent: &OwnedFd, name: &OsStr, owner: Option<u32>) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match open(parent, name, flags, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
    // Not by path: `O_PATH` gives no file to change the owner of.
    let made = open(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, ResolveFlag::empty())?;
    give(&made, owner)?;
    Ok(made)
}

fn file_in(parent: &OwnedFd, name: &OsStr, owner: Option<u32>) -> Result<OwnedFd, Errno> {
    match open(parent, name, OFlag::O_PATH, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    mknodat(parent, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)?;
    let made = open(parent, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK, ResolveFlag::empty())?;
    give(&made, owner)?;
    Ok(made)
}

fn give(made: &OwnedFd, owner: Option<u32>) -> Result<(), Errno> {
    owner.map_or(Ok(()), |id| fchown(made, Some(Uid::from_raw(id)), Some(Gid::from_raw(id))))
}

fn open(folder: &OwnedFd, name: &OsStr, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    openat2(folder, name, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

fn root() -> Result<OwnedFd, Errno> {
    super::stack::open_folder(Path::new("/")).map(OwnedFd::from).map_err(|_| Errno::EIO)
}

fn is_regular(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(file.as_fd())?.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
}

fn name_of(part: Component<'_>) -> Option<&OsStr> {
    match part {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_home_is_what_the_accounts_say_if_that_is_a_path() {
        let accounts =
            "daemon:x:1:1::/usr/sbin:/bin/sh\nroot:x:0:0:root:/home/boss:/bin/sh\ntoor:x:0:0::/toor:/bin/sh\n";

        assert_eq!(home_in(accounts), Some("/home/boss".to_owned()));
        for broken in ["", "root:x:0", "root:x:0:0:root:relative:/bin/sh", "root:x:0:0:root:/a\u{1}:/bin/sh"] {
            assert_eq!(home_in(broken), None, "{broken:?}");
        }
    }
}

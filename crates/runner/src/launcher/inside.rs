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
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, fchown};

/// The most of `/etc/passwd` that is read.
const ACCOUNTS_BYTES: u64 = 1 << 20;
/// How many links that lead to nothing are followed on the way to one place; each may lead to the next.
const MOST_LINKS: u32 = 8;
/// How a folder on the way is opened.
const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// Opens a place to mount at, and makes it, with the folders above it, where there is none. What is made belongs to
/// `owner`. A link that leads to nothing is followed as programs inside would follow it, and what it leads to is made.
pub(super) fn place(target: &Path, is_folder: bool, owner: Option<u32>) -> Result<OwnedFd, Errno> {
    let here = Maker { root: root()?, owner, links_left: MOST_LINKS }.make(target, is_folder)?;
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

/// Makes places below a root that nothing leads out of: the process has left the host's.
struct Maker {
    root: OwnedFd,
    owner: Option<u32>,
    /// How many more links that lead to nothing are followed.
    links_left: u32,
}

impl Maker {
    fn make(&mut self, target: &Path, is_folder: bool) -> Result<OwnedFd, Errno> {
        let top = self.root.try_clone().map_err(|_| Errno::EMFILE)?;
        self.make_from(top, target, is_folder)
    }

    fn make_from(&mut self, mut here: OwnedFd, target: &Path, is_folder: bool) -> Result<OwnedFd, Errno> {
        let mut parts = target.components().peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            here = match part {
                Component::RootDir => self.root.try_clone().map_err(|_| Errno::EMFILE)?,
                Component::ParentDir => open(&here, OsStr::new(".."), FOLDER, ResolveFlag::RESOLVE_NO_MAGICLINKS)?,
                Component::Normal(name) => self.enter(&here, name, is_folder || !is_last)?,
                Component::CurDir | Component::Prefix(_) => here,
            };
        }
        Ok(here)
    }

    fn enter(&mut self, parent: &OwnedFd, name: &OsStr, is_folder: bool) -> Result<OwnedFd, Errno> {
        let flags = if is_folder { FOLDER } else { OFlag::O_PATH };
        match open(parent, name, flags, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
            Err(Errno::ENOENT) => {}
            found => return found,
        }
        let made = if is_folder {
            mkdirat(parent, name, Mode::from_bits_truncate(0o755))
        } else {
            mknodat(parent, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)
        };
        match made {
            Ok(()) => {}
            Err(Errno::EEXIST) => return self.follow(parent, name, is_folder),
            Err(error) => return Err(error),
        }
        // Not by path: `O_PATH` gives no file to change the owner of.
        let kind = if is_folder { OFlag::O_DIRECTORY } else { OFlag::O_NONBLOCK };
        let made = open(parent, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | kind, ResolveFlag::empty())?;
        give(&made, self.owner)?;
        Ok(made)
    }

    /// Makes what a link leads to: nothing is there, and yet its name is taken.
    fn follow(&mut self, parent: &OwnedFd, name: &OsStr, is_folder: bool) -> Result<OwnedFd, Errno> {
        let target = readlinkat(parent, name).map_err(|_not_a_link| Errno::EEXIST)?;
        self.links_left = self.links_left.checked_sub(1).ok_or(Errno::ELOOP)?;
        let here = parent.try_clone().map_err(|_| Errno::EMFILE)?;
        self.make_from(here, Path::new(&target), is_folder)
    }
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn make(root: &Path, target: &str, is_folder: bool) -> Result<u64, Errno> {
        let root = OwnedFd::from(File::open(root).expect("a folder"));
        let made = Maker { root, owner: None, links_left: MOST_LINKS }.make(Path::new(target), is_folder)?;
        Ok(File::from(made).metadata().expect("it is there").ino())
    }

    #[test]
    fn a_place_behind_links_to_nothing_is_made_where_they_lead() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let at = |path: &str| root.path().join(path);
        for folder in ["bin", "usr"] {
            fs::create_dir(at(folder)).expect("made");
        }
        for (target, link) in [
            ("var/opt", "opt"),
            ("/nowhere-at-all/dash", "bin/sh"),
            ("/nowhere-at-all/x", "one"),
            ("../usr/deep", "bin/up"),
        ] {
            symlink(target, at(link)).expect("linked");
        }
        symlink("./one/", at("two")).expect("linked");

        let made = [("/opt/carrel", true), ("/bin/sh", false), ("/two/y", true), ("/bin/up/z", true)]
            .map(|(target, is_folder)| make(root.path(), target, is_folder).expect(target));

        let expected = ["var/opt/carrel", "nowhere-at-all/dash", "nowhere-at-all/x/y", "usr/deep/z"];
        assert_eq!(made, expected.map(|path| at(path).metadata().expect(path).ino()));
        assert!(at("nowhere-at-all/dash").is_file());
    }

    #[test]
    fn links_that_go_round_and_files_in_the_way_are_refused() {
        let root = tempfile::tempdir().expect("a temporary folder");
        fs::write(root.path().join("file"), "").expect("written");
        for number in 0..20 {
            symlink(format!("l{}", number + 1), root.path().join(format!("l{number}"))).expect("linked");
        }

        assert_eq!(make(root.path(), "/l0/x", true), Err(Errno::ELOOP));
        assert_eq!(make(root.path(), "/file/x", true), Err(Errno::ENOTDIR));
    }

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

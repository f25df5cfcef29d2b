//! Trees of an image's files: what lower layers made is taken away again, what is set last is set, and whole trees are
//! removed. Nothing here follows a link.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::place::{Place, Root, times};
use super::{Notes, Problem};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is taken away of a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Everything,
    /// What older layers made.
    Older,
}

impl Root {
    /// Takes away what stands under a name, to put something else there.
    pub(super) fn remove(&mut self, place: &Place, name: &[u8]) -> Result<(), Problem> {
        self.take(place, name, Takes::Everything).map(|_| ())
    }

    /// Takes away what older layers made under a name, or, for `.wh..opq`, all that they made in a folder.
    pub(super) fn white_out(&mut self, parent: &[u8], hidden: &[u8]) -> Result<(), Problem> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Problem::Bad("is a whiteout of nothing that can be named".to_owned()));
        }
        let is_opaque = hidden == b".wh..opq";
        // Other such names are AUFS's own housekeeping.
        if hidden.starts_with(b".wh.") && !is_opaque {
            return Ok(());
        }
        let Some(place) = self.existing(parent)? else { return Ok(()) };
        if !is_opaque {
            return self.take(&place, hidden, Takes::Older).map(|_| ());
        }
        let fd = rustix::fs::openat(&place.fd, c".", FOLDER, Mode::empty()).map_err(Problem::io("open a folder"))?;
        for name in names_in(&fd).map_err(Problem::io("list a folder"))? {
            self.take(&place, name.to_bytes(), Takes::Older)?;
        }
        Ok(())
    }

    /// Whether it is still there.
    fn take(&mut self, place: &Place, name: &[u8], takes: Takes) -> Result<bool, Problem> {
        let wrong = Problem::io("remove what a layer replaces");
        let stat = match rustix::fs::statat(&place.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::NAMETOOLONG) => return Err(Problem::Bad("has a name that is too long".to_owned())),
            Err(errno) => return Err(wrong(errno)),
        };
        let is_kept = takes == Takes::Older && self.made.contains(&self.key(place, name));
        self.forget_ways();
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            if is_kept {
                return Ok(true);
            }
            if stat.st_nlink == 1 && FileType::from_raw_mode(stat.st_mode).is_file() {
                self.size_bytes = self.size_bytes.saturating_sub(super::on_disk(stat.st_size.cast_unsigned()));
            }
            rustix::fs::unlinkat(&place.fd, name, AtFlags::empty()).map_err(&wrong)?;
            return Ok(false);
        }
        let fd = rustix::fs::openat(&place.fd, name, FOLDER, Mode::empty()).map_err(&wrong)?;
        let inner = Place { fd, inode: stat.st_ino };
        let mut is_needed = is_kept;
        for child in names_in(&inner.fd).map_err(&wrong)? {
            is_needed |= self.take(&inner, child.to_bytes(), takes)?;
        }
        if is_needed {
            return Ok(true);
        }
        rustix::fs::unlinkat(&place.fd, name, AtFlags::REMOVEDIR).map_err(&wrong)?;
        self.folders.remove(&inner.inode);
        self.size_bytes = self.size_bytes.saturating_sub(4096);
        Ok(false)
    }

    /// Sets what could not be set while folders were filled: their modes and times. What was left out, and the bytes
    /// that all takes.
    pub(crate) fn finish(mut self) -> Result<(Notes, u64), Problem> {
        let top = self.top.clone();
        self.settle(&top)?;
        Ok((self.notes(), self.size_bytes))
    }

    fn settle(&mut self, place: &Place) -> Result<(), Problem> {
        let wrong = Problem::io("finish a folder");
        for (name, is_folder) in entries_in(&place.fd).map_err(&wrong)? {
            if !is_folder {
                continue;
            }
            let fd = rustix::fs::openat(&place.fd, &name, FOLDER, Mode::empty()).map_err(&wrong)?;
            let inode = rustix::fs::fstat(&fd).map_err(&wrong)?.st_ino;
            self.settle(&Place { fd, inode })?;
        }
        if let Some(folder) = self.folders.get(&place.inode) {
            rustix::fs::fchmod(&place.fd, folder.mode).map_err(&wrong)?;
            if let Some(mtime) = folder.mtime {
                rustix::fs::futimens(&place.fd, &times(mtime)).map_err(&wrong)?;
            }
        }
        Ok(())
    }
}

/// Removes a tree that an image left, whatever the modes of its folders. Nothing is followed out of it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (parent, Some(name)) = (path.parent().unwrap_or(path), path.file_name()) else { return Ok(()) };
    let parent = rustix::fs::open(parent, FOLDER, Mode::empty())?;
    let name = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))?;
    Ok(remove_in(&parent, &name)?)
}

fn remove_in(parent: &OwnedFd, name: &CString) -> rustix::io::Result<()> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        return rustix::fs::unlinkat(parent, name, AtFlags::empty());
    }
    if RawMode::from(stat.st_mode) & 0o700 != 0o700 {
        rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
    }
    let fd = rustix::fs::openat(parent, name, FOLDER, Mode::empty())?;
    for child in names_in(&fd)? {
        remove_in(&fd, &child)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn names_in(fd: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    Ok(entries_in(fd)?.into_iter().map(|(name, _)| name).collect())
}

/// Names in a folder, and whether each is a folder.
fn entries_in(fd: &OwnedFd) -> rustix::io::Result<Vec<(CString, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            // Some file systems do not say.
            FileType::Unknown => {
                let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode).is_dir()
            }
            _ => false,
        };
        found.push((name.to_owned(), is_folder));
    }
    Ok(found)
}

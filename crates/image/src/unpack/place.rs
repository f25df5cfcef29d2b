//! Entries put into place below one root, whatever their names and links say.
//!
//! The parent of an entry is resolved by the kernel with that root as `/` (`openat2` with `RESOLVE_IN_ROOT`), as
//! programs inside will see it: a layer may put `bin/sh` where an earlier one made `bin` a link. The last part of a
//! name is never followed: what is there is removed first, and what is made is made anew. Names with `..` are refused;
//! honest builders write none.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::tar::{Archive, Entry, Kind};
use super::{Folders, Notes, Problem, on_disk};
use crate::error::cleaned_bytes;
use crate::options::Owner;

/// How deep folders may lie: every level costs an open file when a tree is walked.
const MAX_DEPTH: u16 = 128;
/// How many links that lead to nothing may lie on a way that has to be made.
const MAX_DANGLING: u32 = 16;
/// The last user of a sandbox, and who stands for those above.
const LAST_USER: u64 = 65_535;
const NOBODY: u32 = 65_534;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What becomes of a folder when all is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folder {
    pub(super) depth: u16,
    pub(super) mode: Mode,
    pub(super) mtime: Option<(i64, u32)>,
}

/// A root that is being filled.
pub(crate) struct Root {
    pub(super) top: Rc<Place>,
    pub(super) owner: Owner,
    pub(super) folders: Folders,
    /// Names that this layer made, as hashes of their folder and themselves: a layer's whiteouts are for older ones.
    pub(super) made: HashSet<u64>,
    /// Names of devices that were left out, so that links to them are too.
    skipped: HashSet<u64>,
    hasher: RandomState,
    /// The last parent, by its path.
    last: Option<(Vec<u8>, Rc<Place>)>,
    pub(super) size_bytes: u64,
    notes: Notes,
    /// Content on its way.
    buffer: Vec<u8>,
}

/// An open folder.
pub(super) struct Place {
    pub(super) fd: OwnedFd,
    pub(super) inode: u64,
}

impl Root {
    /// Makes the root folder.
    pub(crate) fn make(path: &Path, owner: Owner) -> Result<Self, Problem> {
        let make = Problem::io("make an image's root");
        rustix::fs::mkdir(path, Mode::RWXU).map_err(&make)?;
        let fd = rustix::fs::open(path, FOLDER, Mode::empty()).map_err(&make)?;
        let inode = rustix::fs::fstat(&fd).map_err(&make)?.st_ino;
        let mut root = Self {
            top: Rc::new(Place { fd, inode }),
            owner,
            folders: Folders::new(),
            made: HashSet::new(),
            skipped: HashSet::new(),
            hasher: RandomState::new(),
            last: None,
            size_bytes: 4096,
            notes: Notes::default(),
            buffer: vec![0; 64 << 10],
        };
        let top = root.top.clone();
        root.give(top.fd.as_fd(), 0, 0)?;
        let mode = Mode::from_raw_mode(0o755);
        root.folders.insert(inode, Folder { depth: 0, mode, mtime: None });
        Ok(root)
    }

    pub(crate) fn begin_layer(&mut self) {
        self.made.clear();
    }

    /// Puts an entry into place.
    pub(crate) fn place(&mut self, entry: &Entry, archive: &mut Archive<'_>) -> Result<(), Problem> {
        self.place_parts(entry, archive).map_err(|problem| match problem {
            Problem::Bad(words) => Problem::Bad(format!("`{}` {words}", cleaned_bytes(&entry.path))),
            other => other,
        })
    }

    fn place_parts(&mut self, entry: &Entry, archive: &mut Archive<'_>) -> Result<(), Problem> {
        let path = plain_path(&entry.path)?;
        let (parent, name) = split(&path);
        if name.is_empty() {
            if entry.kind != Kind::Folder {
                return Err(Problem::Bad("would take the root's place".to_owned()));
            }
            let top = self.top.inode;
            if let Some(folder) = self.folders.get_mut(&top) {
                folder.mtime = Some(entry.mtime);
            }
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.white_out(parent, hidden);
        }
        let place = self.parent(parent)?;
        match entry.kind {
            Kind::Folder => self.folder(&place, name, entry)?,
            Kind::File => self.file(&place, name, entry, archive)?,
            Kind::Symlink => self.symlink(&place, name, entry)?,
            Kind::HardLink => self.hard_link(&place, name, entry)?,
            Kind::Device => {
                self.remove(&place, name)?;
                self.notes.devices += 1;
                self.skipped.insert(self.key(&place, name));
            }
        }
        self.made.insert(self.key(&place, name));
        Ok(())
    }

    fn folder(&mut self, place: &Place, name: &[u8], entry: &Entry) -> Result<(), Problem> {
        let fd = match rustix::fs::openat(&place.fd, name, FOLDER, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => self.make_folder(place, name)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.remove(place, name)?;
                self.make_folder(place, name)?
            }
            Err(errno) => return Err(name_problem(errno, "open a folder")),
        };
        self.give(fd.as_fd(), entry.uid, entry.gid)?;
        self.attributes(&fd, entry);
        let inode = rustix::fs::fstat(&fd).map_err(Problem::io("look at a folder"))?.st_ino;
        let mode = self.mode(entry.mode);
        if let Some(folder) = self.folders.get_mut(&inode) {
            *folder = Folder { mode, mtime: Some(entry.mtime), ..*folder };
        }
        Ok(())
    }

    fn file(&mut self, place: &Place, name: &[u8], entry: &Entry, archive: &mut Archive<'_>) -> Result<(), Problem> {
        archive.budget.file(entry.size)?;
        self.remove(place, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&place.fd, name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(fd.map_err(|errno| name_problem(errno, "make a file"))?);
        loop {
            let read = archive.read_content(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            let write = |source| Problem::Io { what: "write a file", source };
            file.write_all(&self.buffer[..read]).map_err(write)?;
        }
        self.size_bytes += on_disk(entry.size);
        // In this order: a new owner takes the set-user-id bit away, and everything before sets the time.
        self.give(file.as_fd(), entry.uid, entry.gid)?;
        self.attributes(&file, entry);
        rustix::fs::fchmod(&file, self.mode(entry.mode)).map_err(Problem::io("set a file's mode"))?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(Problem::io("set a file's time"))
    }

    fn symlink(&mut self, place: &Place, name: &[u8], entry: &Entry) -> Result<(), Problem> {
        if entry.link.is_empty() {
            return Err(Problem::Bad("is a link to nothing".to_owned()));
        }
        self.remove(place, name)?;
        self.last = None;
        rustix::fs::symlinkat(&*entry.link, &place.fd, name).map_err(|errno| name_problem(errno, "make a link"))?;
        if let Some((user, group)) = self.owner_of(entry.uid, entry.gid) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&place.fd, name, user, group, flags).map_err(Problem::io("set a link's owner"))?;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&place.fd, name, &times(entry.mtime), flags).map_err(Problem::io("set a link's time"))
    }

    fn hard_link(&mut self, place: &Place, name: &[u8], entry: &Entry) -> Result<(), Problem> {
        let target = plain_path(&entry.link)?;
        let (target_parent, target_name) = split(&target);
        let nothing =
            || Problem::Bad(format!("is a hard link to `{}`, which is not there", cleaned_bytes(&entry.link)));
        if target_name.is_empty() {
            return Err(nothing());
        }
        let from = self.existing(target_parent)?.ok_or_else(nothing)?;
        let is_skipped = self.skipped.contains(&self.key(&from, target_name));
        let stat = match rustix::fs::statat(&from.fd, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if is_skipped => {
                self.remove(place, name)?;
                self.notes.devices += 1;
                self.skipped.insert(self.key(place, name));
                return Ok(());
            }
            Err(Errno::NOENT) => return Err(nothing()),
            Err(errno) => return Err(name_problem(errno, "look at a file")),
        };
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Err(Problem::Bad("is a hard link to a folder".to_owned()));
        }
        // A link onto itself would remove what it leads to.
        match rustix::fs::statat(&place.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if there.st_ino == stat.st_ino => return Ok(()),
            _ => self.remove(place, name)?,
        }
        rustix::fs::linkat(&from.fd, target_name, &place.fd, name, AtFlags::empty()).map_err(|errno| match errno {
            // The target lay within what was just removed.
            Errno::NOENT => nothing(),
            errno => name_problem(errno, "make a hard link"),
        })
    }

    /// Makes a folder that was not there. Its mode is set in the end: until then it must be writable.
    pub(super) fn make_folder(&mut self, place: &Place, name: &[u8]) -> Result<OwnedFd, Problem> {
        let depth = self.folders.get(&place.inode).map_or(0, |folder| folder.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(Problem::Bad(format!("lies more than {MAX_DEPTH} folders deep")));
        }
        rustix::fs::mkdirat(&place.fd, name, Mode::RWXU).map_err(|errno| name_problem(errno, "make a folder"))?;
        let fd = rustix::fs::openat(&place.fd, name, FOLDER, Mode::empty()).map_err(Problem::io("open a folder"))?;
        let inode = rustix::fs::fstat(&fd).map_err(Problem::io("look at a folder"))?.st_ino;
        let mode = Mode::from_raw_mode(0o755);
        self.folders.insert(inode, Folder { depth, mode, mtime: None });
        self.size_bytes += 4096;
        Ok(fd)
    }

    /// The folder of this path, made where it is not there.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<Place>, Problem> {
        if let Some((known, place)) = &self.last
            && known == path
        {
            return Ok(place.clone());
        }
        let place = self.parent_or_made(path, 0)?;
        self.last = Some((path.to_vec(), place.clone()));
        Ok(place)
    }

    fn parent_or_made(&mut self, path: &[u8], dangling: u32) -> Result<Rc<Place>, Problem> {
        if let Some(place) = self.existing(path)? {
            return Ok(place);
        }
        let (parent, name) = split(path);
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Problem::Bad("leads through what is not there".to_owned()));
        }
        let place = self.parent_or_made(parent, dangling)?;
        match rustix::fs::readlinkat(&place.fd, name, Vec::new()) {
            Ok(_) if dangling == MAX_DANGLING => Err(Problem::Bad("leads through too many links".to_owned())),
            Ok(target) => {
                let target = target.to_bytes();
                let is_absolute = target.starts_with(b"/");
                let joined = if is_absolute { target.to_vec() } else { [parent, b"/", target].concat() };
                let end = joined.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
                self.parent_or_made(&joined[..end], dangling + 1)
            }
            Err(_) => {
                let fd = self.make_folder(&place, name)?;
                self.give(fd.as_fd(), 0, 0)?;
                self.made.insert(self.key(&place, name));
                self.opened(fd)
            }
        }
    }

    /// The folder of this path, as programs inside would come to it.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Option<Rc<Place>>, Problem> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if path.is_empty() {
            return Ok(Some(self.top.clone()));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let mut found = Err(Errno::AGAIN);
        // The kernel gives up on `..` when something is renamed anywhere at the same time.
        for _ in 0..128 {
            found = rustix::fs::openat2(&self.top.fd, path, flags, Mode::empty(), resolve);
            if found.as_ref().err() != Some(&Errno::AGAIN) {
                break;
            }
        }
        match found {
            Ok(fd) => self.opened(fd).map(Some),
            // What lies in a file is not there either: whiteouts may still name it.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP) => Err(Problem::Bad("leads through links that go round".to_owned())),
            Err(errno) => Err(name_problem(errno, "open a folder (this needs Linux 5.6 or newer)")),
        }
    }

    fn opened(&self, fd: OwnedFd) -> Result<Rc<Place>, Problem> {
        let inode = rustix::fs::fstat(&fd).map_err(Problem::io("look at a folder"))?.st_ino;
        Ok(Rc::new(Place { fd, inode }))
    }

    /// A name in a folder, as a number. Its key is random, so no archive can make two alike.
    pub(super) fn key(&self, place: &Place, name: &[u8]) -> u64 {
        self.hasher.hash_one((place.inode, name))
    }

    /// The way that was found last may not be the way any more.
    pub(super) fn forget_ways(&mut self) {
        self.last = None;
    }

    fn owner_of(&mut self, user: u64, group: u64) -> Option<(Option<Uid>, Option<Gid>)> {
        let Owner::Shifted { start } = self.owner else { return None };
        if user > LAST_USER || group > LAST_USER {
            self.notes.owners += 1;
        }
        let shifted = |id: u64| {
            let id = u32::try_from(id).ok().filter(|id| u64::from(*id) <= LAST_USER).unwrap_or(NOBODY);
            start.saturating_add(id)
        };
        Some((Some(Uid::from_raw(shifted(user))), Some(Gid::from_raw(shifted(group)))))
    }

    fn give(&mut self, fd: std::os::fd::BorrowedFd<'_>, user: u64, group: u64) -> Result<(), Problem> {
        match self.owner_of(user, group) {
            Some((user, group)) => rustix::fs::fchown(fd, user, group).map_err(Problem::io("set a file's owner")),
            None => Ok(()),
        }
    }

    /// An ordinary user's file must not lend that user's rights to others.
    fn mode(&self, mode: u32) -> Mode {
        match self.owner {
            Owner::Shifted { .. } => Mode::from_raw_mode(mode & 0o7777),
            Owner::Own => Mode::from_raw_mode(mode & 0o1777),
        }
    }

    /// Sets attributes that are nobody's but the user's own. Not every file system has them.
    fn attributes(&mut self, fd: impl AsFd, entry: &Entry) {
        for (name, value) in &entry.attributes {
            let is_kept = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0);
            let set = |name: &[u8]| rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()).is_ok();
            if !(is_kept && set(name)) {
                self.notes.attributes += 1;
            }
        }
    }

    /// What was left out.
    pub(super) fn notes(&self) -> Notes {
        self.notes
    }
}

/// A path without what says nothing: slashes at its beginning and end, and `.`.
fn plain_path(path: &[u8]) -> Result<Vec<u8>, Problem> {
    if path.contains(&0) {
        return Err(Problem::Bad("has a NUL in its name".to_owned()));
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Problem::Bad("has `..` in its path".to_owned())),
            _ if part.len() > 255 => return Err(Problem::Bad("has a name of more than 255 bytes".to_owned())),
            _ => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// A path's folder, and its last part.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// What the kernel says about a name that an archive chose is the archive's fault.
fn name_problem(errno: Errno, what: &'static str) -> Problem {
    match errno {
        Errno::NAMETOOLONG => Problem::Bad("has a path that is too long".to_owned()),
        Errno::EXIST => Problem::Bad("lies in what is no folder".to_owned()),
        Errno::MLINK => Problem::Bad("has more hard links than the file system takes".to_owned()),
        Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::ILSEQ => {
            Problem::Bad(format!("has a name that cannot be used: {}", std::io::Error::from(errno)))
        }
        errno => Problem::io(what)(errno),
    }
}

//! A kept layer as one file, for another machine.
//!
//! The form is our own, because what counts here is what archives leave out or bend: the devices and attributes by which an
//! overlay hides what lies beneath, targets of links and names byte for byte, ids above two million. After [`MAGIC`] all of
//! it is one zstd stream of entries, a folder before what is in it, the first being the layer itself (its path is empty):
//!
//! ```text
//! kind: u8            what it is, see `Kind`; 0 ends the file
//! mode, uid, gid: u32 permissions and owner, as whoever packs them counts ids
//! seconds: i64, nanoseconds: u32
//! path: bytes         below the layer
//! link: bytes         target of a link, or the path that the same file was packed under; else empty
//! attributes: u32     so many pairs of name and value, each bytes
//! size: u64           length of a file; so many bytes follow
//! ```
//!
//! Numbers are little-endian; `bytes` are a `u32` and so many bytes. Holes of files come back where they were zeros.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstat, mknod, utimensat};
use nix::sys::time::TimeSpec;
use rustix::fs::{XattrFlags, lsetxattr};

use crate::tree::{ATTRIBUTE_BYTES, Entry, each_attribute, walk};

/// How a packed layer begins: the last digit counts the forms there were.
const MAGIC: &[u8] = b"carrel layer 1\n";
/// Fast, and within a tenth of what more effort would gain.
const LEVEL: i32 = 3;
/// Longer files than these all together, holes included, are not packed.
const MOST_BYTES: u64 = 64 << 30;
/// How much of a file is read in one go; a hole is made of pieces that are zeros.
const PIECE_BYTES: usize = 64 << 10;
/// More attributes than a file can have.
const MOST_ATTRIBUTES: u32 = 64 << 10;
/// Attributes by which an overlay remembers files of this machine beneath it: they say nothing on another.
const OF_THIS_MACHINE: &[&str] = &["overlay.origin", "overlay.impure", "overlay.nlink", "overlay.uuid"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Folder = 1,
    File = 2,
    /// A symbolic one.
    Link = 3,
    /// Another name of a file that came before.
    Twin = 4,
    Fifo = 5,
    /// What an overlay hides a name with: a character device that there is not.
    Whiteout = 6,
}

const END: u8 = 0;

/// All that is said of something before its content.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: u32,
    path: Vec<u8>,
    link: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    size: u64,
}

/// Writes everything below `root`, which nobody changes, into a file.
pub(crate) fn pack(root: &Path, to: &Path, abandoned: &AtomicBool) -> io::Result<()> {
    let mut file = BufWriter::new(File::options().write(true).truncate(true).open(to)?);
    file.write_all(MAGIC)?;
    let mut output = zstd::stream::write::Encoder::new(file, LEVEL)?;
    let mut packing = Packing { names: HashMap::new(), total: 0 };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let handle = open(root, flags, Mode::empty())?;
    let mut head = head_of(Kind::Folder, &fstat(&handle)?, b"");
    head.attributes = attributes_of(&handle)?;
    head.write(&mut output)?;
    walk(root, abandoned, |entry, path| {
        packing.add(entry, path.strip_prefix(b"/").unwrap_or(path), &mut output, abandoned)?;
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    output.write_all(&[END])?;
    let file = output.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

/// What has been packed already.
struct Packing {
    /// Where files with several names were first seen.
    names: HashMap<(u64, u64), Vec<u8>>,
    total: u64,
}

impl Packing {
    fn add(
        &mut self,
        entry: &Entry<'_>,
        path: &[u8],
        output: &mut impl Write,
        abandoned: &AtomicBool,
    ) -> io::Result<()> {
        let odd = |what: &str| Err(io::Error::other(format!("`/{}` {what}", String::from_utf8_lossy(path))));
        let stat = &entry.stat;
        let kind = match entry.kind() {
            SFlag::S_IFDIR => Kind::Folder,
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFCHR if stat.st_rdev == 0 => Kind::Whiteout,
            // Nobody listens at it any more.
            SFlag::S_IFSOCK => return Ok(()),
            _ => return odd("is a device"),
        };
        let mut head = head_of(kind, stat, path);
        if stat.st_nlink > 1 && matches!(kind, Kind::File | Kind::Link | Kind::Fifo) {
            let first = self.names.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
            if first != path {
                head = Head { kind: Kind::Twin, link: first.clone(), ..head };
                return head.write(output);
            }
        }
        let Some(handle) = entry.handle()? else { return odd("is gone") };
        head.attributes = attributes_of(&handle)?;
        match kind {
            Kind::Link => match entry.link_target() {
                Some(target) => head.link = target,
                None => return odd("is gone"),
            },
            Kind::File => {
                head.size = u64::try_from(stat.st_size).unwrap_or(0);
                self.total = self.total.saturating_add(head.size);
            }
            _ => {}
        }
        if self.total > MOST_BYTES {
            return Err(io::Error::other(format!("its files are longer than {MOST_BYTES} bytes together")));
        }
        head.write(output)?;
        if kind != Kind::File {
            return Ok(());
        }
        let Some(file) = entry.open()? else { return odd("is gone") };
        let mut rest = file.take(head.size);
        let mut piece = vec![0; PIECE_BYTES];
        let mut written = 0;
        loop {
            match rest.read(&mut piece)? {
                0 => break,
                read => {
                    output.write_all(&piece[..read])?;
                    written += read as u64;
                }
            }
            still_wanted(abandoned)?;
        }
        if written == head.size { Ok(()) } else { odd("was changed meanwhile") }
    }
}

/// Makes a folder of what was packed: `root` is made, and the folder that it is to be in is there.
pub(crate) fn unpack(from: &Path, root: &Path, abandoned: &AtomicBool) -> io::Result<()> {
    let mut file = BufReader::new(File::open(from)?);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(broken("is no packed layer of this version"));
    }
    let mut input = BufReader::new(zstd::stream::read::Decoder::with_buffer(file)?);
    // What is put into a folder changes its time, and may need rights that it does not have in the end.
    let mut folders: Vec<(PathBuf, Head)> = Vec::new();
    let mut made = HashSet::new();
    while let Some(head) = Head::read(&mut input)? {
        still_wanted(abandoned)?;
        let place = if folders.is_empty() { top_at(root, &head)? } else { place_in(root, &head.path, &made)? };
        match head.kind {
            Kind::Folder => {
                DirBuilder::new().mode(0o700).create(&place)?;
                made.insert(head.path.clone());
                folders.push((place, head));
                continue;
            }
            Kind::File => {
                let mut file = File::options().write(true).create_new(true).mode(0o600).open(&place)?;
                fill(&mut file, &mut input, head.size, abandoned)?;
            }
            Kind::Link => symlink(OsStr::from_bytes(&head.link), &place)?,
            Kind::Twin => {
                fs::hard_link(place_in(root, &head.link, &made)?, &place)?;
                continue;
            }
            Kind::Fifo => mknod(&place, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)?,
            Kind::Whiteout => mknod(&place, SFlag::S_IFCHR, Mode::empty(), 0)?,
        }
        head.dress(&place)?;
    }
    if folders.is_empty() {
        return Err(broken("has nothing in it"));
    }
    folders.iter().rev().try_for_each(|(place, head)| head.dress(place))
}

impl Head {
    fn write(&self, output: &mut impl Write) -> io::Result<()> {
        output.write_all(&[self.kind as u8])?;
        for number in [self.mode, self.uid, self.gid] {
            output.write_all(&number.to_le_bytes())?;
        }
        output.write_all(&self.seconds.to_le_bytes())?;
        output.write_all(&self.nanoseconds.to_le_bytes())?;
        write_bytes(output, &self.path)?;
        write_bytes(output, &self.link)?;
        output.write_all(&u32::try_from(self.attributes.len()).map_err(io::Error::other)?.to_le_bytes())?;
        for (name, value) in &self.attributes {
            write_bytes(output, name)?;
            write_bytes(output, value)?;
        }
        output.write_all(&self.size.to_le_bytes())
    }

    /// The next one; nothing at the end.
    fn read(input: &mut impl Read) -> io::Result<Option<Self>> {
        let kind = match read_array::<1>(input)? {
            [END] => return Ok(None),
            [1] => Kind::Folder,
            [2] => Kind::File,
            [3] => Kind::Link,
            [4] => Kind::Twin,
            [5] => Kind::Fifo,
            [6] => Kind::Whiteout,
            _ => return Err(broken("has something in it that no layer has")),
        };
        let mut number = || read_array(input).map(u32::from_le_bytes);
        let (mode, uid, gid) = (number()?, number()?, number()?);
        let seconds = i64::from_le_bytes(read_array(input)?);
        let nanoseconds = u32::from_le_bytes(read_array(input)?);
        let (path, link) = (read_bytes(input)?, read_bytes(input)?);
        let count = u32::from_le_bytes(read_array(input)?);
        if count > MOST_ATTRIBUTES {
            return Err(broken("has more attributes than a file can have"));
        }
        let attributes =
            (0..count).map(|_| Ok((read_bytes(input)?, read_bytes(input)?))).collect::<io::Result<Vec<_>>>()?;
        let size = u64::from_le_bytes(read_array(input)?);
        Ok(Some(Self { kind, mode, uid, gid, seconds, nanoseconds, path, link, attributes, size }))
    }

    /// Gives what was made its owner, attributes, permissions and time, in this order: a change of the owner takes
    /// capabilities and the set-user-id bit away.
    fn dress(&self, place: &Path) -> io::Result<()> {
        lchown(place, Some(self.uid), Some(self.gid))?;
        for (name, value) in &self.attributes {
            lsetxattr(place, name.as_slice(), value, XattrFlags::empty())?;
        }
        if !matches!(self.kind, Kind::Link | Kind::Whiteout) {
            fs::set_permissions(place, Permissions::from_mode(self.mode))?;
        }
        let time = TimeSpec::new(self.seconds, i64::from(self.nanoseconds));
        Ok(utimensat(AT_FDCWD, place, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }
}

fn head_of(kind: Kind, stat: &FileStat, path: &[u8]) -> Head {
    Head {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        path: path.to_vec(),
        link: Vec::new(),
        attributes: Vec::new(),
        size: 0,
    }
}

fn attributes_of(handle: &std::os::fd::OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut attributes = Vec::new();
    let mut buffer = vec![0; ATTRIBUTE_BYTES];
    each_attribute(handle, &mut buffer, |name, value| {
        let is_of_this_machine = OF_THIS_MACHINE.iter().any(|suffix| name.ends_with(suffix.as_bytes()));
        if !is_of_this_machine {
            attributes.push((name.to_vec(), value.to_vec()));
        }
        ControlFlow::<()>::Continue(())
    })?;
    Ok(attributes)
}

/// Where the layer itself is put, which comes first.
fn top_at(root: &Path, head: &Head) -> io::Result<PathBuf> {
    if head.kind == Kind::Folder && head.path.is_empty() {
        return Ok(root.to_path_buf());
    }
    Err(broken("does not begin with its folder"))
}

/// Where something is put: in a folder that was made before, so that no link leads it elsewhere.
fn place_in(root: &Path, path: &[u8], made: &HashSet<Vec<u8>>) -> io::Result<PathBuf> {
    let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    };
    if path.starts_with(b"/") || !made.contains(folder) || matches!(name, b"" | b"." | b"..") || name.contains(&0) {
        return Err(broken("has a path in it that leads elsewhere"));
    }
    Ok(root.join(OsStr::from_bytes(path)))
}

fn fill(file: &mut File, input: &mut impl Read, size: u64, abandoned: &AtomicBool) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        input.read_exact(&mut piece[..length])?;
        if piece[..length].iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(i64::try_from(length).map_err(io::Error::other)?))?;
        } else {
            file.write_all(&piece[..length])?;
        }
        left -= length as u64;
        still_wanted(abandoned)?;
    }
    file.set_len(size)
}

fn still_wanted(abandoned: &AtomicBool) -> io::Result<()> {
    if abandoned.load(Ordering::Relaxed) {
        return Err(io::Error::new(ErrorKind::Interrupted, "nobody waits for it any more"));
    }
    Ok(())
}

fn write_bytes(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    output.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
    output.write_all(bytes)
}

fn read_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = usize::try_from(u32::from_le_bytes(read_array(input)?)).map_err(io::Error::other)?;
    if length > ATTRIBUTE_BYTES {
        return Err(broken("has a name in it that is too long"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    input.read_exact(&mut array)?;
    Ok(array)
}

fn broken(how: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the packed layer {how}"))
}

#[cfg(test)]
mod tests;

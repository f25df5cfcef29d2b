//! Archives, parsed: ustar, GNU and pax, as far as images use them.
//!
//! Our own because of what hostile archives do to lenient parsers: names without an end that are held in memory, and
//! headers whose two sizes two readers believe differently. Here every text has a bound, every number is checked, and
//! what is ambiguous is refused. Where readers differ it follows Go's `archive/tar`, which docker and containerd use.
//! The format is that of POSIX.1-2008 (pax) and of GNU tar's manual, "Basic Tar Format".

use std::io::Read;

use super::source::{Source, broken};
use super::{Budget, Problem};
use crate::error::cleaned_bytes;

const BLOCK: usize = 512;
/// Longest pax header, in bytes: as Go's.
const MAX_PAX_BYTES: u64 = 1 << 20;
/// Longest path, in bytes: what a system call takes, without the NUL.
const MAX_PATH_BYTES: usize = 4095;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Folder,
    /// A device or a pipe.
    Device,
}

/// One entry, its content not yet read.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    /// Where a link leads; empty for others.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive that is being read.
pub(crate) struct Archive<'a> {
    source: Source,
    pub(crate) budget: &'a mut Budget,
    /// Bytes of the current entry's content that were not read, and of the padding behind it.
    left: u64,
    padding: u64,
}

/// What the headers before an entry's own say about it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Archive<'a> {
    pub(crate) fn new(source: Source, budget: &'a mut Budget) -> Self {
        Self { source, budget, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end, when the stream was read to its end too.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, Problem> {
        let mut extended = Extended::default();
        let mut is_extended = false;
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else {
                if is_extended {
                    return Err(Problem::Bad("it ends in the middle of an entry".to_owned()));
                }
                return self.end().map(|()| None);
            };
            self.budget.entry()?;
            let size = number(&header[124..136], "size")?;
            match header[156] {
                b'x' => self.read_pax(size, &mut extended)?,
                b'L' => set_once(&mut extended.path, self.read_text(size)?)?,
                b'K' => set_once(&mut extended.link, self.read_text(size)?)?,
                // What a global header says is a comment of git's; it is passed over, as docker does.
                b'g' => self.content(size)?,
                _ => return self.entry(&header, size, extended).map(Some),
            }
            is_extended = true;
        }
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, extended: Extended) -> Result<Entry, Problem> {
        let path = extended.path.unwrap_or_else(|| name_in(header));
        let link = extended.link.unwrap_or_else(|| text(&header[157..257]).to_vec());
        if path.len() > MAX_PATH_BYTES || link.len() > MAX_PATH_BYTES {
            return Err(Problem::Bad(format!(
                "`{}` is a path of more than 4,095 bytes",
                cleaned_bytes(&path[..100.min(path.len())])
            )));
        }
        let kind = match header[156] {
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Folder,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' | b'6' => Kind::Device,
            b'5' => Kind::Folder,
            other => {
                let what = if other == b'S' { "is stored as GNU's sparse file" } else { "is of an unknown kind" };
                return Err(Problem::Bad(format!("`{}` {what} ({})", cleaned_bytes(&path), other.escape_ascii())));
            }
        };
        // Only files have content; what a link or folder says of its size is not followed by that much.
        let size = if kind == Kind::File { extended.size.unwrap_or(size) } else { 0 };
        self.content(size)?;
        Ok(Entry {
            path,
            link: if matches!(kind, Kind::HardLink | Kind::Symlink) { link } else { Vec::new() },
            kind,
            mode: u32::try_from(number(&header[100..108], "mode")? & 0o7777).expect("12 bits"),
            uid: extended.uid.map_or_else(|| number(&header[108..116], "user"), Ok)?,
            gid: extended.gid.map_or_else(|| number(&header[116..124], "group"), Ok)?,
            size,
            mtime: extended.mtime.map_or_else(|| signed(&header[136..148], "time").map(|seconds| (seconds, 0)), Ok)?,
            attributes: extended.attributes,
        })
    }

    /// Reads a piece of the current entry's content; nothing at its end.
    pub(crate) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..wanted]).map_err(broken)?;
        if read == 0 {
            return Err(Problem::Bad("it ends too early".to_owned()));
        }
        self.left -= read as u64;
        Ok(read)
    }

    pub(crate) fn into_source(self) -> Source {
        self.source
    }

    /// Sets how much content follows the header just read.
    fn content(&mut self, size: u64) -> Result<(), Problem> {
        if size > i64::MAX as u64 {
            return Err(Problem::Bad("an entry says that it is longer than any file".to_owned()));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// Passes over what was not read of the current entry.
    fn pass_over(&mut self) -> Result<(), Problem> {
        let mut buffer = [0; 8192];
        self.left += self.padding;
        self.padding = 0;
        while self.read_content(&mut buffer)? > 0 {}
        let so_far = self.source.read_bytes();
        self.check_length(so_far)
    }

    fn check_length(&self, so_far: u64) -> Result<(), Problem> {
        let limit = self.budget.limits.unpacked_bytes;
        if self.budget.archive_bytes.saturating_add(so_far) > limit {
            return Err(Problem::TooLarge { what: "more bytes when unpacked".into(), limit: format!("{limit} bytes") });
        }
        Ok(())
    }

    /// The next header that is not empty; `None` where the archive ends.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Problem> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => {
                    Err(Problem::Bad("its archive goes on after its end".to_owned()))
                }
                _ => Ok(None),
            };
        }
        let expected = number(&block[148..156], "checksum").ok();
        let sum = |plus: fn(u8) -> i64| {
            let bytes = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
            bytes.map(plus).sum::<i64>()
        };
        // Some old programs summed signed bytes.
        let sums = [sum(i64::from), sum(|byte| i64::from(byte.cast_signed()))];
        if sums.into_iter().all(|sum| expected.is_none() || u64::try_from(sum).ok() != expected) {
            return Err(Problem::Bad("an entry's checksum is wrong: it is no archive, or a broken one".to_owned()));
        }
        Ok(Some(block))
    }

    /// The next block; `None` at the end of the stream, which may come only between two.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Problem> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]).map_err(broken)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(Problem::Bad("it ends too early".to_owned())),
                read => filled += read,
            }
        }
        Ok(Some(block))
    }

    /// Reads what stands behind the archive's end: it counts for the digests, and means nothing.
    fn end(&mut self) -> Result<(), Problem> {
        let mut buffer = [0; 8192];
        while self.source.read(&mut buffer).map_err(broken)? > 0 {
            self.check_length(self.source.read_bytes())?;
        }
        let read = self.source.read_bytes();
        self.budget.archive(read)
    }

    fn held(&mut self, size: u64, longest: u64, what: &str) -> Result<Vec<u8>, Problem> {
        if size > longest {
            return Err(Problem::Bad(format!("{what} has {size} bytes, and no honest one has more than {longest}")));
        }
        self.content(size)?;
        let mut bytes = vec![0; usize::try_from(size).expect("within a bound")];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read_content(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    /// The text of a GNU long name.
    fn read_text(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        let bytes = self.held(size, MAX_PATH_BYTES as u64 + 1, "a long name")?;
        Ok(text(&bytes).to_vec())
    }

    fn read_pax(&mut self, size: u64, into: &mut Extended) -> Result<(), Problem> {
        let bytes = self.held(size, MAX_PAX_BYTES, "a pax header")?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or_else(|| Problem::Bad("a pax header is broken".to_owned()))?;
            rest = after;
            take_record(key, value, into)?;
        }
        Ok(())
    }
}

/// One record of a pax header: `18 path=some/name\n`, its length counting all of itself.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = decimal(&bytes[..space])?.try_into().ok()?;
    let line = bytes.get(space + 1..length)?;
    let line = line.strip_suffix(b"\n")?;
    let equals = line.iter().position(|byte| *byte == b'=')?;
    (equals > 0).then(|| (&line[..equals], &line[equals + 1..], &bytes[length..]))
}

fn take_record(key: &[u8], value: &[u8], into: &mut Extended) -> Result<(), Problem> {
    let wrong = || Problem::Bad(format!("the pax header `{}` is broken", cleaned_bytes(key)));
    let whole = || decimal(value).ok_or_else(wrong);
    match key {
        b"path" | b"linkpath" if value.contains(&0) => return Err(wrong()),
        // An empty value takes an earlier one back.
        b"path" if value.is_empty() => into.path = None,
        b"linkpath" if value.is_empty() => into.link = None,
        b"path" => set_once(&mut into.path, value.to_vec())?,
        b"linkpath" => set_once(&mut into.link, value.to_vec())?,
        b"size" => set_once(&mut into.size, whole()?)?,
        b"uid" => set_once(&mut into.uid, whole()?)?,
        b"gid" => set_once(&mut into.gid, whole()?)?,
        b"mtime" => set_once(&mut into.mtime, time(value).ok_or_else(wrong)?)?,
        _ if key.starts_with(b"GNU.sparse.") => {
            return Err(Problem::Bad("it has a file that is stored as GNU's sparse file".to_owned()));
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                into.attributes.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// What is said twice would be believed differently by different readers.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Problem> {
    if slot.replace(value).is_some() {
        return Err(Problem::Bad("an entry's name, size or owner is given twice".to_owned()));
    }
    Ok(())
}

/// A header's name: with its prefix, where the format has one.
fn name_in(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&header[..100]);
    let prefix = match (&header[257..263], &header[508..512]) {
        (b"ustar\0", b"tar\0") => text(&header[345..476]),
        (b"ustar\0", _) => text(&header[345..500]),
        _ => &[],
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// A field up to its NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number that cannot be negative.
fn number(field: &[u8], what: &str) -> Result<u64, Problem> {
    let value = signed(field, what)?;
    u64::try_from(value).map_err(|_| Problem::Bad(format!("an entry's {what} is negative")))
}

/// A number: octal digits, or GNU's binary form, whose first bit is set.
fn signed(field: &[u8], what: &str) -> Result<i64, Problem> {
    let wrong = || Problem::Bad(format!("an entry's {what} is no number"));
    let [first, rest @ ..] = field else { return Err(wrong()) };
    if first & 0x80 != 0 {
        // Two's complement, the highest bit but one being its sign.
        let start = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
        let mut value = start;
        for byte in rest {
            value = value.checked_mul(256).and_then(|value| value.checked_add(i128::from(*byte))).ok_or_else(wrong)?;
        }
        return i64::try_from(value).map_err(|_| wrong());
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |value, byte| {
        if !(b'0'..=b'7').contains(byte) {
            return Err(wrong());
        }
        value.checked_mul(8).and_then(|value| value.checked_add(i64::from(byte - b'0'))).ok_or_else(wrong)
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `1700000000.123456789`, perhaps negative, rounded down to nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    Some(match (is_negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary_and_never_negative_where_that_means_nothing() {
        assert_eq!(number(b"0000644\0", "x").ok(), Some(0o644));
        assert_eq!(number(b"  644 \0", "x").ok(), Some(0o644));
        assert_eq!(number(b"\0\0\0\0", "x").ok(), Some(0));
        assert_eq!(number(b"\x80\0\0\x01\0", "x").ok(), Some(256));
        assert_eq!(signed(b"\xff\xff\xff\xfe", "x").ok(), Some(-2));
        for field in
            [&b"\xff\xff\xff\xfe"[..], b"888", b"-1\0", b"0x1", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert!(number(field, "x").is_err(), "{field:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        assert_eq!(time(b"1700000000.5"), Some((1_700_000_000, 500_000_000)));
        assert_eq!(time(b"1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn a_pax_record_is_as_long_as_it_says() {
        assert_eq!(record(b"8 a=bcd\nrest"), Some((&b"a"[..], &b"bcd"[..], &b"rest"[..])));
        for bytes in [&b""[..], b"8", b"99 a=b\n", b"0 a=b\n", b"5 a=b", b" a=b\n", b"6 =bc\n", b"+8 a=bcd\n"] {
            assert_eq!(record(bytes), None, "{bytes:?}");
        }
    }
}

//! Programs made to run in a root that is not theirs: what an ELF file (System V ABI, `elf(5)`) says of its loader and its
//! libraries is written over in place, so that the kernel starts it by the kit's own and no shell or helper is needed.

use std::ops::Range;
use std::path::PathBuf;

/// What begins an ELF file of 64 bits, little-endian, in its present version.
const MAGIC: &[u8] = &[0x7f, b'E', b'L', b'F', 2, 1, 1];
/// Where the header says where the table of segments is, how long an entry is, and how many there are.
const SEGMENTS_AT: usize = 32;
const SEGMENT_BYTES_AT: usize = 54;
const SEGMENT_COUNT_AT: usize = 56;
const SEGMENT_BYTES: usize = 56;

const PT_NULL: u32 = 0;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PT_GNU_PROPERTY: u32 = 0x6474_e553;

const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_DEBUG: u64 = 21;
const DT_RUNPATH: u64 = 29;
/// A number of no meaning, which every loader passes over.
const DT_PASSED_OVER: u64 = 0x6000_000d;

/// Why a file cannot be moved.
type Unfit = &'static str;

const CUT: Unfit = "it is cut off, or no program";

/// An ELF file, to be written over.
pub(super) struct Elf<'a> {
    bytes: &'a mut [u8],
    segments: Vec<Segment>,
}

#[derive(Clone)]
struct Segment {
    /// Where its entry in the table is.
    at: usize,
    kind: u32,
    address: u64,
    file: Range<usize>,
}

impl<'a> Elf<'a> {
    pub(super) fn read(bytes: &'a mut [u8]) -> Result<Self, Unfit> {
        if !bytes.starts_with(MAGIC) {
            return Err("it is no program of 64 bits, little-endian");
        }
        let (table, size) = (number(bytes, SEGMENTS_AT)?, half(bytes, SEGMENT_BYTES_AT)?);
        if usize::from(size) != SEGMENT_BYTES {
            return Err(CUT);
        }
        let table = usize::try_from(table).map_err(|_| CUT)?;
        let segments = (0..usize::from(half(bytes, SEGMENT_COUNT_AT)?))
            .map(|index| Segment::read(bytes, table.checked_add(index * SEGMENT_BYTES).ok_or(CUT)?));
        let segments = segments.collect::<Result<_, _>>()?;
        Ok(Self { bytes, segments })
    }

    /// The loader that it names; nothing for one that is complete in itself.
    pub(super) fn loader(&self) -> Result<Option<PathBuf>, Unfit> {
        let Some(segment) = self.segment(PT_INTERP) else { return Ok(None) };
        let text = &self.bytes[segment.file.clone()];
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| CUT)?;
        Ok(Some(PathBuf::from(text)))
    }

    /// Has the kernel start it by this loader, and the loader look for libraries in this folder before anywhere else.
    pub(super) fn settle(&mut self, loader: &str, libraries: &str) -> Result<(), Unfit> {
        let Some(place) = self.segment(PT_INTERP).map(|segment| segment.file.clone()) else { return Ok(()) };
        write_text(self.bytes, place, loader)?;
        let (note, address) = self.take_note(libraries.len() + 1)?;
        write_text(self.bytes, note, libraries)?;
        let entries = self.dynamic()?;
        let table = entries.iter().find(|(_, tag, _)| *tag == DT_STRTAB).ok_or("it has no table of names")?.2;
        let end = entries.iter().position(|(_, tag, _)| *tag == DT_NULL).unwrap_or(entries.len());
        // Every program has room for a debugger to find its libraries by, which it can do without.
        let with = |tags: &[u64]| entries[..end].iter().find(|(_, tag, _)| tags.contains(tag));
        let entry = with(&[DT_RPATH, DT_RUNPATH]).or_else(|| with(&[DT_DEBUG]));
        let at = entry.ok_or("it has no room for a library path")?.0;
        for (other, tag, _) in &entries[..end] {
            if matches!(*tag, DT_RPATH | DT_RUNPATH) {
                put(self.bytes, *other, DT_PASSED_OVER)?;
            }
        }
        // Not DT_RUNPATH: that would count for its own libraries only, not for theirs, and stand behind LD_LIBRARY_PATH.
        put(self.bytes, at, DT_RPATH)?;
        // Relative to the table of names; where the text stands before it the sum wraps, in the loader as well.
        put(self.bytes, at + 8, address.wrapping_sub(table))
    }

    /// Has a library take what it needs from where its program does.
    pub(super) fn forget_paths(&mut self) -> Result<(), Unfit> {
        let entries = self.dynamic()?;
        let own = entries.iter().take_while(|(_, tag, _)| *tag != DT_NULL);
        for (at, _, _) in own.filter(|(_, tag, _)| matches!(*tag, DT_RPATH | DT_RUNPATH)) {
            put(self.bytes, *at, DT_PASSED_OVER)?;
        }
        Ok(())
    }

    fn segment(&self, kind: u32) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.kind == kind)
    }

    /// The room of a note that nothing reads when the program runs (its build id, its oldest kernel), and its address.
    fn take_note(&mut self, bytes: usize) -> Result<(Range<usize>, u64), Unfit> {
        // What the processor has to know of the program (CET, BTI) is a note, too, and stays.
        let kept = self.segment(PT_GNU_PROPERTY).map_or(0..0, |segment| segment.file.clone());
        let notes = self.segments.iter().filter(|segment| segment.kind == PT_NOTE);
        let rooms = notes.map(|note| {
            let overlaps = note.file.start < kept.end && kept.start < note.file.end;
            let start = if overlaps { kept.end } else { note.file.start };
            (note, start..note.file.end)
        });
        let fits = |room: &Range<usize>| room.end.saturating_sub(room.start) >= bytes;
        let found = rooms.into_iter().find(|(_, room)| fits(room));
        let (note, room) = found.ok_or("it has no note whose room could be used")?;
        let address = note.address.wrapping_add((room.start - note.file.start) as u64);
        let at = note.at;
        self.bytes.get_mut(at..at + 4).ok_or(CUT)?.copy_from_slice(&PT_NULL.to_le_bytes());
        Ok((room, address))
    }

    /// What the loader is told: for each entry its place, its tag and its value.
    fn dynamic(&self) -> Result<Vec<(usize, u64, u64)>, Unfit> {
        let Some(segment) = self.segment(PT_DYNAMIC) else { return Ok(Vec::new()) };
        let places = segment.file.clone().step_by(16).filter(|at| at + 16 <= segment.file.end);
        places.map(|at| Ok((at, number(self.bytes, at)?, number(self.bytes, at + 8)?))).collect()
    }
}

impl Segment {
    fn read(bytes: &[u8], at: usize) -> Result<Self, Unfit> {
        let kind = bytes.get(at..at.checked_add(4).ok_or(CUT)?).ok_or(CUT)?;
        let kind = u32::from_le_bytes(kind.try_into().map_err(|_| CUT)?);
        let start = usize::try_from(number(bytes, at + 8)?).map_err(|_| CUT)?;
        let length = usize::try_from(number(bytes, at + 32)?).map_err(|_| CUT)?;
        let end = start.checked_add(length).ok_or(CUT)?;
        // Of the other kinds nothing is read here, and some of them lie nowhere.
        let is_read = matches!(kind, PT_INTERP | PT_DYNAMIC | PT_NOTE | PT_GNU_PROPERTY);
        if is_read && end > bytes.len() {
            return Err(CUT);
        }
        Ok(Self { at, kind, address: number(bytes, at + 16)?, file: start..end })
    }
}

fn write_text(bytes: &mut [u8], place: Range<usize>, text: &str) -> Result<(), Unfit> {
    let room = bytes.get_mut(place).ok_or(CUT)?;
    if text.len() >= room.len() {
        return Err("the name of its loader leaves no room for another");
    }
    room.fill(0);
    room[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

fn put(bytes: &mut [u8], at: usize, value: u64) -> Result<(), Unfit> {
    bytes.get_mut(at..at + 8).ok_or(CUT)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

fn number(bytes: &[u8], at: usize) -> Result<u64, Unfit> {
    let found = bytes.get(at..at.checked_add(8).ok_or(CUT)?).ok_or(CUT)?;
    Ok(u64::from_le_bytes(found.try_into().map_err(|_| CUT)?))
}

fn half(bytes: &[u8], at: usize) -> Result<u16, Unfit> {
    let found = bytes.get(at..at.checked_add(2).ok_or(CUT)?).ok_or(CUT)?;
    Ok(u16::from_le_bytes(found.try_into().map_err(|_| CUT)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("this program can be read")
    }

    #[test]
    fn a_program_is_given_another_loader_and_keeps_its_length() {
        let mut bytes = program();
        let before = bytes.len();

        Elf::read(&mut bytes).and_then(|mut elf| elf.settle("/a/ld.so", "/a/lib")).expect("settled");

        let elf = Elf::read(&mut bytes).expect("it is a program still");
        assert_eq!(elf.loader(), Ok(Some(PathBuf::from("/a/ld.so"))));
        let entries = elf.dynamic().expect("there");
        let value = |wanted| entries.iter().find(|(_, tag, _)| *tag == wanted).map(|(_, _, value)| *value);
        let address = value(DT_STRTAB).zip(value(DT_RPATH)).map(|(table, offset)| table.wrapping_add(offset));
        // The first segment of a program is its file from the beginning on: there, addresses are places.
        let at = address.and_then(|address| usize::try_from(address).ok()).expect("a small address");
        assert_eq!(bytes[at..at + 7], *b"/a/lib\0");
        assert_eq!(bytes.len(), before);
    }

    #[test]
    fn what_is_cut_off_is_refused_wherever_it_is_cut() {
        let whole = program();

        for length in (0..4096).step_by(7) {
            let mut cut = whole[..length].to_vec();
            let settled = Elf::read(&mut cut).and_then(|mut elf| elf.settle("/a/ld.so", "/a/lib"));
            assert!(settled.is_err(), "{length}");
        }
    }

    #[test]
    fn a_loader_with_a_longer_name_than_the_old_one_does_not_fit() {
        let mut bytes = program();

        let settled = Elf::read(&mut bytes).and_then(|mut elf| elf.settle(&"/long".repeat(20), "/a/lib"));

        assert_eq!(settled, Err("the name of its loader leaves no room for another"));
    }
}

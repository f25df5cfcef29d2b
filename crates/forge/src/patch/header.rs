//! A file's header in a patch: what happens to it, and under which names.

use carrel_domain::git::is_safe_repository_path;
use carrel_domain::patch::{ChangeKind, FileChange};

use super::body::{Body, Content};
use super::lines::Lines;
use super::{PatchError, PatchLimits, names};

/// A file's header, with names that are safe and agree.
pub(super) struct Header {
    /// What happens.
    pub(super) kind: ChangeKind,
    /// The name before; the same as `new` for most.
    pub(super) old: String,
    /// The name after.
    pub(super) new: String,
    mode_changes: bool,
    line: usize,
}

/// The lines between `diff --git` and the content, as they stand.
#[derive(Default)]
struct Extended<'p> {
    old_mode: Option<Mode>,
    new_mode: Option<Mode>,
    deleted_mode: Option<Mode>,
    added_mode: Option<Mode>,
    index_mode: Option<Mode>,
    rename: (Option<&'p [u8]>, Option<&'p [u8]>),
    copy: (Option<&'p [u8]>, Option<&'p [u8]>),
    has_index: bool,
    has_similarity: bool,
}

/// What kind of thing a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    File,
    Submodule,
}

impl Header {
    /// Reads it up to the content.
    pub(super) fn read(lines: &mut Lines<'_>, limits: &PatchLimits) -> Result<Self, PatchError> {
        let Some(both) = lines.take_after(b"diff --git ")? else {
            lines.take()?;
            return Err(lines.wrong("is not the beginning of a file's changes (`diff --git`)"));
        };
        let line = lines.number();
        let disagrees = || PatchError::Malformed {
            line,
            problem: "has names that git would not write so, or other than those below",
        };
        let extended = Extended::read(lines)?;
        let (kind, old, new) = match (extended.rename, extended.copy) {
            ((Some(from), Some(to)), (None, None)) => (ChangeKind::Renamed, named(from), named(to)),
            ((None, None), (Some(from), Some(to))) => (ChangeKind::Added, named(from), named(to)),
            ((None, None), (None, None)) => {
                let name = names::both(both).and_then(|name| String::from_utf8(name).ok());
                (extended.kind(), name.clone(), name)
            }
            _ => return Err(lines.wrong("ends a header with half a rename or copy")),
        };
        let (Some(old), Some(new)) = (old, new) else {
            return Err(disagrees());
        };
        let moves = extended.rename.0.is_some() || extended.copy.0.is_some();
        if moves && (old == new || !names::are(both, &old, &new)) {
            return Err(disagrees());
        }
        for path in [&old, &new] {
            if path.len() > limits.path_bytes || !is_safe_repository_path(path) {
                return Err(PatchError::UnsafePath { path: path.chars().take(limits.path_bytes).collect() });
            }
        }
        extended.check(lines, &new, moves)?;
        Ok(Self { kind, old, new, mode_changes: extended.new_mode.is_some(), line })
    }

    /// Whether the file has a side before the change.
    pub(super) fn has_old(&self) -> bool {
        self.kind != ChangeKind::Added || self.old != self.new
    }

    /// Whether the file has a side after the change.
    pub(super) fn has_new(&self) -> bool {
        self.kind != ChangeKind::Deleted
    }

    /// What happens to the file, all in all.
    pub(super) fn change(self, body: &Body) -> Result<FileChange, PatchError> {
        if self.kind == ChangeKind::Modified && body.content == Content::Nothing && !self.mode_changes {
            return Err(PatchError::Malformed { line: self.line, problem: "names a file that does not change" });
        }
        Ok(FileChange {
            old_path: (self.old != self.new).then_some(self.old),
            path: self.new,
            kind: self.kind,
            additions: body.additions,
            deletions: body.deletions,
            binary: body.content == Content::Binary,
        })
    }
}

impl<'p> Extended<'p> {
    fn read(lines: &mut Lines<'p>) -> Result<Self, PatchError> {
        let mut this = Self::default();
        loop {
            let is_first = if let Some(mode) = lines.take_after(b"old mode ")? {
                this.old_mode.replace(Mode::read(lines, mode)?).is_none()
            } else if let Some(mode) = lines.take_after(b"new mode ")? {
                this.new_mode.replace(Mode::read(lines, mode)?).is_none()
            } else if let Some(mode) = lines.take_after(b"deleted file mode ")? {
                this.deleted_mode.replace(Mode::read(lines, mode)?).is_none()
            } else if let Some(mode) = lines.take_after(b"new file mode ")? {
                this.added_mode.replace(Mode::read(lines, mode)?).is_none()
            } else if let Some(name) = lines.take_after(b"rename from ")? {
                this.rename.0.replace(name).is_none()
            } else if let Some(name) = lines.take_after(b"rename to ")? {
                this.rename.1.replace(name).is_none()
            } else if let Some(name) = lines.take_after(b"copy from ")? {
                this.copy.0.replace(name).is_none()
            } else if let Some(name) = lines.take_after(b"copy to ")? {
                this.copy.1.replace(name).is_none()
            } else if let Some(percent) = lines.take_after(b"similarity index ")? {
                this.see_similarity(lines, percent)?
            } else if let Some(percent) = lines.take_after(b"dissimilarity index ")? {
                this.see_similarity(lines, percent)?
            } else if let Some(index) = lines.take_after(b"index ")? {
                this.see_index(lines, index)?
            } else {
                return Ok(this);
            };
            if !is_first {
                return Err(lines.wrong("says again what the header has said"));
            }
        }
    }

    fn see_similarity(&mut self, lines: &Lines<'_>, percent: &[u8]) -> Result<bool, PatchError> {
        let digits = percent.strip_suffix(b"%").filter(|digits| (1..=3).contains(&digits.len()));
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit)) {
            return Err(lines.wrong("has no percentage"));
        }
        Ok(!std::mem::replace(&mut self.has_similarity, true))
    }

    /// `<before>..<after>`, and the mode where it does not change.
    fn see_index(&mut self, lines: &Lines<'_>, index: &[u8]) -> Result<bool, PatchError> {
        let mut parts = index.splitn(2, |byte| *byte == b' ');
        let range = parts.next().unwrap_or_default();
        let middle = range.iter().position(|byte| *byte == b'.').unwrap_or(range.len());
        let (before, after) = range.split_at(middle);
        let is_oid = |oid: &[u8]| (4..=64).contains(&oid.len()) && oid.iter().all(u8::is_ascii_hexdigit);
        if !is_oid(before) || !after.strip_prefix(b"..").is_some_and(is_oid) {
            return Err(lines.wrong("is not an index line of git"));
        }
        if let Some(mode) = parts.next() {
            self.index_mode = Some(Mode::read(lines, mode)?);
        }
        Ok(!std::mem::replace(&mut self.has_index, true))
    }

    fn kind(&self) -> ChangeKind {
        match (self.added_mode, self.deleted_mode) {
            (Some(_), _) => ChangeKind::Added,
            (None, Some(_)) => ChangeKind::Deleted,
            (None, None) => ChangeKind::Modified,
        }
    }

    /// Which lines may stand together.
    fn check(&self, lines: &Lines<'_>, path: &str, moves: bool) -> Result<(), PatchError> {
        let modes = [self.old_mode, self.new_mode, self.deleted_mode, self.added_mode, self.index_mode];
        if modes.contains(&Some(Mode::Submodule)) {
            return Err(PatchError::Submodule { path: path.to_owned() });
        }
        let changes = self.old_mode.is_some() || self.new_mode.is_some();
        let comes_or_goes = [self.added_mode.is_some(), self.deleted_mode.is_some(), moves || changes];
        if self.old_mode.is_some() != self.new_mode.is_some() || comes_or_goes.iter().filter(|fact| **fact).count() > 1
        {
            return Err(lines.wrong("ends a header whose lines contradict each other"));
        }
        Ok(())
    }
}

impl Mode {
    fn read(lines: &Lines<'_>, text: &[u8]) -> Result<Self, PatchError> {
        match text {
            b"100644" | b"100664" | b"100755" | b"120000" => Ok(Self::File),
            b"160000" => Ok(Self::Submodule),
            _ => Err(lines.wrong("has a mode that git does not keep")),
        }
    }
}

fn named(text: &[u8]) -> Option<String> {
    String::from_utf8(names::whole(text)?).ok()
}

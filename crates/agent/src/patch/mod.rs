//! Patches in the `apply_patch` format: what they say ([`parse`]), where their hunks belong ([`seek`]), and what files
//! become by them ([`plan`]). All of it is pure; reading and writing is the tool's.
//!
//! ```text
//! *** Begin Patch
//! *** Add File: path
//! +line
//! *** Delete File: path
//! *** Update File: path
//! *** Move to: path
//! @@ a line that stands before the hunk
//!  kept line
//! -removed line
//! +added line
//! *** End of File
//! *** End Patch
//! ```

pub(crate) mod heredoc;
mod parse;
mod plan;
#[cfg(test)]
mod reference;
mod seek;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use parse::parse;
pub(crate) use plan::{Original, Planned, plan};

/// What a patch does to one file. Paths are as the patch has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Section {
    /// Makes a file, or replaces one.
    Add {
        /// Where.
        path: String,
        /// Its lines, without their ends.
        lines: Vec<String>,
    },
    /// Removes a file.
    Delete {
        /// Which.
        path: String,
    },
    /// Changes a file, moves it, or both.
    Update {
        /// Which.
        path: String,
        /// Its new place.
        moved_to: Option<String>,
        /// The changes, in the order of the file.
        hunks: Vec<Hunk>,
    },
}

/// One place of a file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hunk {
    /// The line of the patch it begins at, counted from 1: errors name it.
    pub(crate) number: usize,
    /// Lines that stand before it, one after the other, though not side by side.
    pub(crate) anchors: Vec<String>,
    /// Its lines.
    pub(crate) lines: Vec<HunkLine>,
    /// Whether it ends where the file ends.
    pub(crate) at_end: bool,
}

/// One line of a hunk, without its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HunkLine {
    /// Stays.
    Keep(String),
    /// Goes.
    Remove(String),
    /// Comes.
    Add(String),
}

/// Why a patch cannot be applied: words for the model, from which it can repair its patch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    /// It is not in the format.
    #[error("line {line} of the patch: {problem}")]
    Format {
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A path it may not touch.
    #[error("`{path}` {problem}")]
    Path {
        /// As the patch has it.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A hunk that has no place in the file.
    #[error("`{path}`, the hunk at line {line} of the patch: {problem}")]
    Place {
        /// The file.
        path: String,
        /// Of the patch, counted from 1.
        line: usize,
        /// What was looked for and what is there.
        problem: String,
    },
}

impl Section {
    /// Every path it names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let (path, moved_to) = match self {
            Self::Add { path, .. } | Self::Delete { path } => (path, None),
            Self::Update { path, moved_to, .. } => (path, moved_to.as_ref()),
        };
        std::iter::once(path.as_str()).chain(moved_to.map(String::as_str))
    }
}

impl Hunk {
    /// The lines that must be in the file.
    fn old_lines(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| match line {
                HunkLine::Keep(text) | HunkLine::Remove(text) => Some(text.as_str()),
                HunkLine::Add(_) => None,
            })
            .collect()
    }

    /// The lines that come.
    fn new_lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match line {
            HunkLine::Add(text) => Some(text.as_str()),
            HunkLine::Keep(_) | HunkLine::Remove(_) => None,
        })
    }

    /// The hunk without the empty line that its old lines end with, and without the one its new lines end with, if
    /// they do; `None` when its old lines do not, or are nothing else.
    fn without_last_blank(&self) -> Option<Self> {
        let mut shorter = self.clone();
        let last_old = shorter.lines.iter().rposition(|line| !matches!(line, HunkLine::Add(_)))?;
        match &shorter.lines[last_old] {
            HunkLine::Keep(text) if text.is_empty() => {}
            HunkLine::Remove(text) if text.is_empty() => {
                if shorter.lines.last() == Some(&HunkLine::Add(String::new())) {
                    shorter.lines.pop();
                }
            }
            _ => return None,
        }
        shorter.lines.remove(last_old);
        (!shorter.old_lines().is_empty()).then_some(shorter)
    }
}

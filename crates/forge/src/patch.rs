//! Reads an attempt's diff: the output of `git diff --binary --full-index` with the prefixes `a/` and `b/`, as untrusted
//! bytes. What is read here is what people are shown, so it must be what git will do.
//!
//! The grammar is strict on purpose: no text between files, both sides of each header agree, every line is accounted
//! for. Parsers made for people's patches (`diffy` was tried) skip what they do not know, and take a file's name from
//! another line than `git apply` does when the two disagree; and they search names in the header by trial, which is
//! quadratic in its length. Here each byte is looked at a constant number of times.
//!
//! Contents are not looked into: a symbolic link is a file like another. Whether the patch applies is for git to say.

use std::collections::HashMap;

use carrel_domain::patch::{ChangeKind, FileChange, PatchSummary};

mod body;
mod header;
mod lines;
mod names;

use body::Body;
use header::Header;
use lines::Lines;

/// What a patch may be at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchLimits {
    /// Length of the whole patch: 256 MiB.
    pub size_bytes: u64,
    /// Files changed: 100,000.
    pub files: usize,
    /// Length of a path in bytes: 4,096.
    pub path_bytes: usize,
    /// What its binary parts say they unpack to, all together: 1 GiB.
    pub binary_bytes: u64,
}

impl Default for PatchLimits {
    fn default() -> Self {
        Self { size_bytes: 256 << 20, files: 100_000, path_bytes: 4_096, binary_bytes: 1 << 30 }
    }
}

/// Why a patch is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It changes nothing.
    #[error("it is empty")]
    Empty,
    /// It is larger than patches may be.
    #[error("it has more than {limit} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The most.
        limit: u64,
    },
    /// Not what git writes.
    #[error("line {line} {problem}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A path that leads out of the repository, or that some file system takes for git's own folder.
    #[error("it has the path {path:?}, which must not be written")]
    UnsafePath {
        /// The path.
        path: String,
    },
    /// A submodule's commit is not content: it cannot be seen, and comes from another repository.
    #[error("it changes the submodule {path:?}; leave submodules as they are")]
    Submodule {
        /// Where it is.
        path: String,
    },
    /// The same file twice.
    #[error("it changes {path:?} twice")]
    Twice {
        /// The file.
        path: String,
    },
    /// A binary change of which only the fact is in the patch.
    #[error("it lacks the contents of the binary file {path:?}; make it with `git diff --binary`")]
    WithoutContents {
        /// The file.
        path: String,
    },
}

/// Reads a patch within the default limits. No bytes at all are a patch without files.
///
/// # Errors
/// [`PatchError`], for whatever git would not have written.
pub fn parse(bytes: &[u8]) -> Result<PatchSummary, PatchError> {
    parse_within(bytes, &PatchLimits::default())
}

/// Reads a patch within these limits.
///
/// # Errors
/// [`PatchError`], for whatever git would not have written, and what passes a limit.
pub fn parse_within(bytes: &[u8], limits: &PatchLimits) -> Result<PatchSummary, PatchError> {
    let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size_bytes > limits.size_bytes {
        return Err(PatchError::TooLarge { what: "bytes", limit: limits.size_bytes });
    }
    let mut summary = PatchSummary { size_bytes, ..PatchSummary::default() };
    let mut seen = HashMap::new();
    let mut binary_bytes = 0;
    let mut lines = Lines::of(bytes);
    while !lines.are_over() {
        if summary.files.len() >= limits.files {
            let limit = u64::try_from(limits.files).unwrap_or(u64::MAX);
            return Err(PatchError::TooLarge { what: "files", limit });
        }
        let header = Header::read(&mut lines, limits)?;
        let body = Body::read(&mut lines, &header)?;
        binary_bytes += body.binary_bytes;
        if binary_bytes > limits.binary_bytes {
            return Err(PatchError::TooLarge { what: "bytes in binary files", limit: limits.binary_bytes });
        }
        let change = header.change(&body)?;
        see(&mut seen, &change)?;
        summary.additions += change.additions;
        summary.deletions += change.deletions;
        summary.files.push(change);
    }
    Ok(summary)
}

/// Remembers what becomes of a path. Git names one twice only to replace it by another kind of file: gone, then new.
fn see(seen: &mut HashMap<String, ChangeKind>, change: &FileChange) -> Result<(), PatchError> {
    match seen.insert(change.path.clone(), change.kind) {
        None => Ok(()),
        Some(ChangeKind::Deleted) if change.kind == ChangeKind::Added => Ok(()),
        Some(_) => Err(PatchError::Twice { path: change.path.clone() }),
    }
}

#[cfg(test)]
mod tests;

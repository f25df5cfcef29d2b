//! The diff an attempt leaves: untrusted bytes, of which these facts are known. Parsing is `carrel-forge`'s.

use serde::{Deserialize, Serialize};

/// What a patch changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchSummary {
    /// The files, in the order of the patch.
    pub files: Vec<FileChange>,
    /// Lines added over all files.
    pub additions: u64,
    /// Lines removed over all files.
    pub deletions: u64,
    /// Length of the patch.
    pub size_bytes: u64,
}

/// What a patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path in the repository, after the change (before it, for a deletion).
    pub path: String,
    /// Its path before the change, when that is another.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old_path: Option<String>,
    /// What happens to it.
    pub kind: ChangeKind,
    /// Lines added.
    pub additions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Whether it is not text.
    pub binary: bool,
}

/// A patch of the agent that is being written, as it is noted before: what is needed to finish it when the service dies
/// meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedPatch {
    /// The place of its call in the conversation, counted from 0.
    pub call: u64,
    /// What becomes of which file.
    pub files: Vec<StartedFile>,
    /// The same for people.
    pub changes: Vec<FileChange>,
}

/// What becomes of one file by a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedFile {
    /// Its path in the repository.
    pub path: String,
    /// The SHA-256 of its content before, in hexadecimal digits; `None` where there is no file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<String>,
    /// The same of its content after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content or mode changes.
    Modified,
    /// It goes.
    Deleted,
    /// It moves, perhaps with changes.
    Renamed,
}

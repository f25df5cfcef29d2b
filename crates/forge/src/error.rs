//! What can go wrong with git, as things a caller can act on.

use std::path::PathBuf;
use std::time::Duration;

use carrel_domain::{BranchName, CommitOid, CommitPrefix};

use crate::patch::PatchError;

/// Why git, or a remote, did not do what was asked. `words` are theirs: cleaned, redacted, a few lines at most.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    /// Nothing is there, or the credentials may not see it.
    #[error("there is no repository at `{location}`; check the name, and that the service may read it")]
    NotFound {
        /// Where it was looked for.
        location: String,
    },
    /// Something is there that git cannot serve.
    #[error("`{location}` is not a git repository; give the folder that holds `.git`, or a bare repository")]
    NotARepository {
        /// Where it was looked for.
        location: String,
    },
    /// A local repository that belongs to somebody else.
    #[error(
        "`{location}` belongs to another user, and git's safe.directory rule forbids serving it; run the service as \
         its owner or as root, or give it a clone of its own"
    )]
    NotOurs {
        /// The path.
        location: String,
    },
    /// A repository without a single branch.
    #[error("the repository `{location}` is empty; push a first commit to it")]
    EmptyRepository {
        /// Where it is.
        location: String,
    },
    /// No such branch.
    #[error("there is no branch `{branch}`{}", named("; did you mean", known))]
    UnknownBranch {
        /// What was asked for.
        branch: BranchName,
        /// A few that there are, the most alike first.
        known: Vec<BranchName>,
    },
    /// The remote's `HEAD` names no branch that exists.
    #[error(
        "the repository has no default branch: its HEAD names none that exists{}",
        named("; name one, such as", known)
    )]
    NoDefaultBranch {
        /// A few that there are.
        known: Vec<BranchName>,
    },
    /// No such commit, neither in the mirror nor (where it could be asked) at the remote.
    #[error("there is no commit `{commit}` in the repository; push it, or check the name")]
    UnknownCommit {
        /// What was asked for.
        commit: CommitPrefix,
    },
    /// Several commits begin so.
    #[error("`{commit}` is the beginning of several commits; give more of its digits")]
    AmbiguousCommit {
        /// What was asked for.
        commit: CommitPrefix,
        /// Some of those that begin so.
        matches: Vec<CommitOid>,
    },
    /// The remote wants to know who asks, or does not let them.
    #[error("`{location}` refused the credentials: {words}; {remedy}")]
    AuthenticationFailed {
        /// Where.
        location: String,
        /// What the remote said.
        words: String,
        /// The way out: it names the credentials file, or the keys.
        remedy: String,
    },
    /// ssh does not know the host, or its key has changed.
    #[error(
        "ssh does not trust the host key of `{location}`; check its fingerprint and add it to `{}`",
        known_hosts.display()
    )]
    UntrustedHost {
        /// Where.
        location: String,
        /// The file that lists trusted hosts.
        known_hosts: PathBuf,
    },
    /// No answer, or one that stopped in the middle.
    #[error("`{location}` cannot be reached: {words}")]
    Unreachable {
        /// Where.
        location: String,
        /// What git said.
        words: String,
    },
    /// The patch is not one that may be committed.
    #[error("the patch is refused: {0}")]
    PatchRefused(#[from] PatchError),
    /// The patch is well-formed but its context is not in the base commit.
    #[error("the patch does not apply to its base commit: {words}")]
    PatchDoesNotApply {
        /// What git said.
        words: String,
    },
    /// The branch holds commits that are not ours.
    #[error("the branch `{branch}` exists at {} with other commits; choose another name", at.short())]
    BranchTaken {
        /// The branch.
        branch: BranchName,
        /// Where it stands.
        at: CommitOid,
    },
    /// The remote did not accept the push: a hook, a protected branch.
    #[error("the remote rejected the push: {words}")]
    Rejected {
        /// What the remote said.
        words: String,
    },
    /// A file of the repository is longer than anything it could be meant for.
    #[error("the repository's `{path}` is longer than {max_bytes} bytes; make it shorter")]
    TooLarge {
        /// Which.
        path: String,
        /// What it may be.
        max_bytes: u64,
    },
    /// It took longer than it may.
    #[error("git {what} did not end within {} s", after.as_secs())]
    TimedOut {
        /// Which command.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// No space left, here or at a remote that says so.
    #[error("the disk is full: {words}; free some space in the data folder")]
    DiskFull {
        /// What git said.
        words: String,
    },
    /// No git, or one that is too old.
    #[error("git cannot be used: {problem}")]
    Unusable {
        /// What is wrong, and the way out.
        problem: String,
    },
    /// A file or process could not be worked with.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Anything else that git says.
    #[error("git {what} failed: {words}")]
    Git {
        /// Which command.
        what: &'static str,
        /// What git said.
        words: String,
    },
}

impl ForgeError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::DiskFull { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock)
                    || source.raw_os_error().is_some_and(is_shortage)
            }
            Self::NotFound { .. }
            | Self::NotARepository { .. }
            | Self::NotOurs { .. }
            | Self::EmptyRepository { .. }
            | Self::UnknownBranch { .. }
            | Self::NoDefaultBranch { .. }
            | Self::UnknownCommit { .. }
            | Self::AmbiguousCommit { .. }
            | Self::AuthenticationFailed { .. }
            | Self::UntrustedHost { .. }
            | Self::PatchRefused(_)
            | Self::PatchDoesNotApply { .. }
            | Self::BranchTaken { .. }
            | Self::Rejected { .. }
            | Self::TooLarge { .. }
            | Self::Unusable { .. }
            | Self::Git { .. } => false,
        }
    }

    /// An error of the operating system, told apart by whether the disk is full.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { words: format!("cannot {what}: {source}") }
            }
            _ => Self::Io { what, source },
        }
    }
}

/// Whether an error number says that processes, memory or files have run out for the moment.
fn is_shortage(number: i32) -> bool {
    use nix::errno::Errno;
    matches!(Errno::from_raw(number), Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
}

/// `lead` and the branches, or nothing when there is none.
fn named(lead: &str, branches: &[BranchName]) -> String {
    if branches.is_empty() {
        return String::new();
    }
    let list: Vec<String> = branches.iter().map(|branch| format!("`{branch}`")).collect();
    format!("{lead} {}?", list.join(", "))
}

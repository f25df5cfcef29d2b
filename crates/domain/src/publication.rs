//! Putting a patch on a git remote, and the states that goes through.
//!
//! ```text
//! Requested -> Committed { commit } -> Pushed { commit }
//!     |               |
//!     +---------------+--> Failed { reason, retryable }
//! ```
//!
//! Each arrow may be walked twice with the same end: the commit is made from fixed facts and has the same name every
//! time, and a push of what is there already is done.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AttemptId, BranchName, CommitOid, OrganizationId, PublicationId, TaskId, UserId};

/// A publication as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Which one.
    pub id: PublicationId,
    /// Whose.
    pub organization: OrganizationId,
    /// Its task.
    pub task: TaskId,
    /// The attempt whose patch it is.
    pub attempt: AttemptId,
    /// The branch it goes to.
    pub branch: BranchName,
    /// The first line and body of the commit.
    pub message: String,
    /// Where it stands.
    pub state: PublicationState,
    /// Goes up with every change.
    pub version: i64,
    /// Who asked.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
}

/// Where a publication stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PublicationState {
    /// Waits for a worker.
    Requested,
    /// The commit is in the mirror.
    Committed {
        /// Its name.
        commit: CommitOid,
    },
    /// The remote has it, and said so.
    Pushed {
        /// Its name.
        commit: CommitOid,
    },
    /// It did not work.
    Failed {
        /// Why, in git's or the remote's own words.
        reason: String,
        /// Whether trying again may help.
        retryable: bool,
    },
}

impl PublicationState {
    /// The state as one word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Committed { .. } => "committed",
            Self::Pushed { .. } => "pushed",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        match self {
            Self::Requested | Self::Committed { .. } => false,
            Self::Pushed { .. } | Self::Failed { .. } => true,
        }
    }
}

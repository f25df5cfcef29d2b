//! Putting a patch on a git remote, and the states that goes through.
//!
//! ```text
//! Requested -> Committed { commit } -> Pushed { commit }
//!     |               |
//!     +---------------+--> Failed { reason, retryable }
//!     ^                        |
//!     +--- asked for again ----+
//! ```
//!
//! Each arrow may be walked twice with the same end: the commit is made from fixed facts and has the same name every
//! time, and a push of what is there already is done.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AttemptId, BranchName, CommitOid, ImpossibleTransition, OrganizationId, PublicationId, TaskId, UserId};

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

    /// The next state, if the diagram has that arrow.
    ///
    /// # Errors
    /// When it has not.
    pub fn advance(self, next: Self) -> Result<Self, ImpossibleTransition> {
        let allowed = match (&self, &next) {
            (Self::Requested, Self::Committed { .. })
            | (Self::Requested | Self::Committed { .. }, Self::Failed { .. })
            | (Self::Failed { .. }, Self::Requested) => true,
            // What is pushed is what was committed.
            (Self::Committed { commit }, Self::Pushed { commit: pushed }) => commit == pushed,
            _ => false,
        };
        let (noun, from, to) = ("publication", self.word(), next.word());
        if allowed { Ok(next) } else { Err(ImpossibleTransition { noun, from, to }) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arrow_of_the_diagram_and_no_other_is_there() {
        let commit = |digit: &str| digit.repeat(40).parse::<CommitOid>().expect("a commit");
        let states = [
            PublicationState::Requested,
            PublicationState::Committed { commit: commit("1") },
            PublicationState::Pushed { commit: commit("1") },
            PublicationState::Pushed { commit: commit("2") },
            PublicationState::Failed { reason: "refused".to_owned(), retryable: true },
        ];

        let pairs = states.iter().flat_map(|from| states.iter().map(move |to| (from.clone(), to.clone())));
        let arrows: Vec<(PublicationState, PublicationState)> =
            pairs.filter(|(from, to)| from.clone().advance(to.clone()).is_ok()).collect();

        let [requested, committed, pushed, _, failed] = states;
        assert_eq!(
            arrows,
            [
                (requested.clone(), committed.clone()),
                (requested.clone(), failed.clone()),
                (committed.clone(), pushed),
                (committed, failed.clone()),
                (failed, requested),
            ]
        );
    }
}

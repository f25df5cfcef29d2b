//! Publications: patches on their way to a git remote.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Failure;

/// Puts an attempt's patch on a branch of the repository it came from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePublication {
    /// The branch. It is created; one that exists is only moved on when Carrel itself put it where it is.
    #[schema(example = "carrel/fix-failing-test")]
    pub branch: String,
    /// The commit's message. Default: the task's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A patch on its way to a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Publication {
    /// Its id.
    pub id: Uuid,
    /// The attempt whose patch it is.
    pub attempt_id: Uuid,
    /// The branch.
    pub branch: String,
    /// The commit's message.
    pub message: String,
    /// Where it stands.
    pub state: PublicationState,
    /// The commit, once it is made.
    pub commit: Option<String>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Who asked.
    pub created_by: Uuid,
}

/// Where a publication stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PublicationState {
    /// Waits for a worker.
    Requested,
    /// The commit is made.
    Committed,
    /// The remote has it, and said so.
    Pushed,
    /// It did not work.
    Failed,
}

impl From<carrel_domain::Publication> for Publication {
    fn from(publication: carrel_domain::Publication) -> Self {
        use carrel_domain::PublicationState as Domain;
        let (state, commit, failure) = match publication.state {
            Domain::Requested => (PublicationState::Requested, None, None),
            Domain::Committed { commit } => (PublicationState::Committed, Some(commit.to_string()), None),
            Domain::Pushed { commit } => (PublicationState::Pushed, Some(commit.to_string()), None),
            Domain::Failed { reason, retryable } => {
                (PublicationState::Failed, None, Some(Failure { stage: None, reason, retryable }))
            }
        };
        Self {
            id: publication.id.as_uuid(),
            attempt_id: publication.attempt.as_uuid(),
            branch: publication.branch.to_string(),
            message: publication.message,
            state,
            commit,
            failure,
            created_at: publication.created_at,
            created_by: publication.created_by.as_uuid(),
        }
    }
}

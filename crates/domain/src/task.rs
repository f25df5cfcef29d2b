//! One thing delegated, with its thread of turns. What a task's state is follows from its attempts; it is not stored.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    AttachmentId, AttemptId, AttemptLimits, EnvironmentId, EnvironmentName, OrganizationId, Priority, Prompt,
    RepositoryId, RepositoryLocation, Revision, Standing, TaskId, TurnId, UserId,
};

/// The most attempts one turn may have.
pub const MAX_ATTEMPTS: u32 = 4;

/// What is wanted of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A question: the answer counts, no change is kept.
    Ask,
    /// A change: it ends in a patch.
    Code,
}

impl Mode {
    /// The mode as one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Code => "code",
        }
    }
}

/// A task that is to be: everything about it has been checked.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Whose it will be.
    pub organization: OrganizationId,
    /// Who asks.
    pub created_by: UserId,
    /// Where the code is.
    pub repository: RepositoryLocation,
    /// Where to start.
    pub revision: Revision,
    /// The environment its attempts run in; `None` for the default one.
    pub environment: Option<EnvironmentName>,
    /// What is put onto that commit before the agent begins.
    pub local_changes: Option<LocalChanges>,
    /// Which of the same person's tasks go before it.
    pub priority: Priority,
    /// The first turn.
    pub turn: NewTurn,
}

/// Changes that somebody has not pushed, and that a task starts from: a patch among the attachments of its first turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalChanges {
    /// The patch.
    pub attachment: AttachmentId,
    /// How many files it changes.
    pub files: u64,
    /// Lines it adds.
    pub additions: u64,
    /// Lines it removes.
    pub deletions: u64,
}

impl LocalChanges {
    /// The longest patch that a task starts from, in bytes.
    pub const MAX_BYTES: u64 = 5_000_000;

    /// A patch that nobody has looked into yet.
    #[must_use]
    pub const fn unread(attachment: AttachmentId) -> Self {
        Self { attachment, files: 0, additions: 0, deletions: 0 }
    }
}

/// A turn that is to be.
#[derive(Debug, Clone)]
pub struct NewTurn {
    /// What is asked.
    pub prompt: Prompt,
    /// How.
    pub mode: Mode,
    /// How many try.
    pub attempts: Attempts,
    /// Files that go along, each once.
    pub attachments: Vec<AttachmentId>,
    /// Whose files to go on from; `None` for a task's first turn, or to let the latest finished attempt be taken.
    pub from_attempt: Option<AttemptId>,
    /// The name of the model; `None` for the one of the turn before, or the default one.
    pub model: Option<String>,
    /// How hard the model is asked to think; `None` for as before, or for its default.
    pub effort: Option<String>,
    /// The name of the agent that works on it; `None` for the one of the turn before, or Carrel's own.
    pub agent: Option<String>,
    /// What each of its attempts may use.
    pub limits: AttemptLimits,
}

/// How many attempts a turn has: 1 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts(u32);

/// A number of attempts that is not 1 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} attempts were asked for; a turn has 1 to {MAX_ATTEMPTS}")]
pub struct InvalidAttempts(u32);

impl Attempts {
    /// One attempt.
    pub const ONE: Self = Self(1);

    /// Checks a number.
    ///
    /// # Errors
    /// When it is not 1 to 4.
    pub const fn new(count: u32) -> Result<Self, InvalidAttempts> {
        if count == 0 || count > MAX_ATTEMPTS { Err(InvalidAttempts(count)) } else { Ok(Self(count)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Which one.
    pub id: TaskId,
    /// Whose.
    pub organization: OrganizationId,
    /// The repository's row.
    pub repository_id: RepositoryId,
    /// Where the code is.
    pub repository: RepositoryLocation,
    /// The environment its attempts run in.
    pub environment: EnvironmentId,
    /// Where its first turn starts.
    pub revision: Revision,
    /// What was put onto that commit.
    pub local_changes: Option<LocalChanges>,
    /// Which of the same person's tasks go before it.
    pub priority: Priority,
    /// What a list shows.
    pub title: String,
    /// Who asked.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// When something last happened.
    pub updated_at: Timestamp,
    /// The sequence number of its last event.
    pub last_seq: i64,
}

/// A turn as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Which one.
    pub id: TurnId,
    /// Whose.
    pub organization: OrganizationId,
    /// Its task.
    pub task: TaskId,
    /// Counted from 1.
    pub number: u32,
    /// What was asked.
    pub prompt: String,
    /// How.
    pub mode: Mode,
    /// Whose files it goes on from.
    pub from_attempt: Option<AttemptId>,
    /// Who asked.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
}

/// What a list says of a task: where the attempts of its last turn stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Every attempt waits for a worker.
    Queued,
    /// Some attempt is under way.
    Running,
    /// All have ended, at least one with a result.
    Ready,
    /// All have ended, none with a result, at least one by failing.
    Failed,
    /// All were stopped.
    Cancelled,
}

impl TaskState {
    /// The state that follows from the attempts of the last turn.
    #[must_use]
    pub fn of(attempts: impl IntoIterator<Item = Standing>) -> Self {
        let mut queued = false;
        let mut running = false;
        let mut ready = false;
        let mut failed = false;
        for standing in attempts {
            match standing {
                Standing::Queued => queued = true,
                Standing::UnderWay => running = true,
                Standing::Ready => ready = true,
                Standing::Failed => failed = true,
                Standing::Cancelled => {}
            }
        }
        match (queued, running, ready, failed) {
            (_, true, _, _) => Self::Running,
            (true, false, true, _) | (true, false, _, true) => Self::Running,
            (true, false, false, false) => Self::Queued,
            (false, false, true, _) => Self::Ready,
            (false, false, false, true) => Self::Failed,
            (false, false, false, false) => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_what_its_attempts_make_it() {
        use Standing::{Cancelled, Failed, Queued, Ready, UnderWay};

        assert_eq!(TaskState::of([Queued, Queued]), TaskState::Queued);
        assert_eq!(TaskState::of([Queued, Ready]), TaskState::Running);
        assert_eq!(TaskState::of([UnderWay, Failed]), TaskState::Running);
        assert_eq!(TaskState::of([Ready, Failed]), TaskState::Ready);
        assert_eq!(TaskState::of([Failed, Cancelled]), TaskState::Failed);
        assert_eq!(TaskState::of([Cancelled]), TaskState::Cancelled);
    }

    #[test]
    fn a_turn_has_one_to_four_attempts() {
        assert!(Attempts::new(0).is_err() && Attempts::new(5).is_err());
        assert_eq!(Attempts::new(4).map(Attempts::get), Ok(4));
    }
}

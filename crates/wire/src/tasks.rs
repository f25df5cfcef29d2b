//! Tasks and their turns.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Attachment, Attempt, AttemptLimits, Named, Repository};

/// What is wanted of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A question: the answer counts, no change is kept.
    Ask,
    /// A change: it ends in a patch.
    Code,
}

impl From<carrel_domain::Mode> for Mode {
    fn from(mode: carrel_domain::Mode) -> Self {
        match mode {
            carrel_domain::Mode::Ask => Self::Ask,
            carrel_domain::Mode::Code => Self::Code,
        }
    }
}

impl From<Mode> for carrel_domain::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Ask => Self::Ask,
            Mode::Code => Self::Code,
        }
    }
}

/// Where a task stands: what the attempts of its last turn add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

impl From<carrel_domain::TaskState> for TaskState {
    fn from(state: carrel_domain::TaskState) -> Self {
        match state {
            carrel_domain::TaskState::Queued => Self::Queued,
            carrel_domain::TaskState::Running => Self::Running,
            carrel_domain::TaskState::Ready => Self::Ready,
            carrel_domain::TaskState::Failed => Self::Failed,
            carrel_domain::TaskState::Cancelled => Self::Cancelled,
        }
    }
}

/// Which of a person's tasks go before others of the same person. It takes nothing from other people, and nothing waits for
/// ever: a step is worth a day of waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Behind the others.
    Low,
    /// As everything is of which nothing else is said.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl From<carrel_domain::Priority> for Priority {
    fn from(priority: carrel_domain::Priority) -> Self {
        match priority {
            carrel_domain::Priority::Low => Self::Low,
            carrel_domain::Priority::Normal => Self::Normal,
            carrel_domain::Priority::High => Self::High,
        }
    }
}

impl From<Priority> for carrel_domain::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
        }
    }
}

/// Delegates something.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTask {
    /// An absolute path on the service's machine, or a URL that git can fetch from (https, http, ssh, `user@host:path`),
    /// without a credential in it.
    #[schema(example = "https://example.com/acme/api.git", max_length = 1024)]
    pub repository: String,
    /// The branch to start from. Default: the repository's default branch. Not together with `commit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "main")]
    pub branch: Option<String>,
    /// The commit to start from, 7 to 64 hexadecimal digits. Not together with `branch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Ask a question, or change the code.
    pub mode: Mode,
    /// What is to be done: 1 byte to 256 KiB.
    #[schema(example = "Fix the failing test.")]
    pub prompt: String,
    /// How many attempts are made side by side: 1 to 4. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4, example = 1)]
    pub attempts: Option<u32>,
    /// The name of the environment its attempts run in. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "default")]
    pub environment: Option<String>,
    /// The model's name, one of `GET /models`. Default: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How hard the model is asked to think, one of its efforts. Default: the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "high")]
    pub effort: Option<String>,
    /// The agent's name, one of `GET /agents`. Default: `carrel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "carrel")]
    pub agent: Option<String>,
    /// Files that go along, by the ids that `POST /attachments` gave: at most 20, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20)]
    pub attachments: Vec<Uuid>,
    /// A patch of changes that were not pushed, by the id that `POST /attachments` gave: put onto the commit to start from
    /// before the agent begins. As `git diff --binary --full-index` writes it, 5,000,000 bytes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_changes: Option<Uuid>,
    /// What each of its attempts may use. Default: what the environment and the service give.
    #[serde(default)]
    pub limits: AttemptLimits,
    /// Which of the same person's tasks go before it. Default: `normal`.
    #[serde(default)]
    pub priority: Priority,
}

/// Follows up on a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTurn {
    /// What is to be done: 1 byte to 256 KiB.
    pub prompt: String,
    /// Default: the mode of the turn before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How many attempts are made side by side: 1 to 4. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4)]
    pub attempts: Option<u32>,
    /// The attempt whose files and conversation are gone on from. Default: of the last turn with a ready one, the one that its
    /// comparison suggests, or else the first ready one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_attempt_id: Option<Uuid>,
    /// The model's name, one of `GET /models`. Default: the model of the turn before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How hard the model is asked to think. Default: as in the turn before, or, with another model, that model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// The agent's name, one of `GET /agents`. Default: the agent of the turn before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Files that go along, by the ids that `POST /attachments` gave: at most 20, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20)]
    pub attachments: Vec<Uuid>,
    /// What each of its attempts may use. Default, for each of them: as in the turn before.
    #[serde(default)]
    pub limits: AttemptLimits,
}

/// A task with its thread of turns.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its id.
    pub id: Uuid,
    /// The first line of its first prompt.
    pub title: String,
    /// Where the code is.
    pub repository: Repository,
    /// The environment its attempts run in; each is pinned to one of its versions.
    pub environment: Named,
    /// The branch it was asked to start from.
    pub branch: Option<String>,
    /// The commit it was asked to start from.
    pub commit: Option<String>,
    /// The changes that were put onto that commit before the agent began.
    #[serde(default)]
    pub local_changes: Option<LocalChanges>,
    /// Where it stands.
    pub state: TaskState,
    /// Which of the same person's tasks go before it.
    #[serde(default)]
    pub priority: Priority,
    /// What it waits for, in words, and who can do what about it; null when it does not wait, or nobody can say.
    #[serde(default)]
    #[schema(example = "waiting for a free worker: 2 of this person's before it")]
    pub waits_for: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When something last happened.
    pub updated_at: Timestamp,
    /// Who asked.
    pub created_by: Uuid,
    /// The sequence number of its last event.
    pub last_seq: i64,
    /// Its turns, oldest first.
    pub turns: Vec<Turn>,
}

/// Changes that were not pushed, and that a task starts from: one commit on the commit it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalChanges {
    /// The patch, one of the attachments of the first turn.
    pub attachment_id: Uuid,
    /// How many files it changes.
    pub files: u64,
    /// Lines it adds.
    pub additions: u64,
    /// Lines it removes.
    pub deletions: u64,
}

impl From<carrel_domain::LocalChanges> for LocalChanges {
    fn from(changes: carrel_domain::LocalChanges) -> Self {
        let carrel_domain::LocalChanges { attachment, files, additions, deletions } = changes;
        Self { attachment_id: attachment.as_uuid(), files, additions, deletions }
    }
}

/// One prompt of a task and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    /// Its id.
    pub id: Uuid,
    /// Counted from 1.
    pub number: u32,
    /// What was asked.
    pub prompt: String,
    /// How.
    pub mode: Mode,
    /// The attempt it goes on from.
    pub from_attempt_id: Option<Uuid>,
    /// When it was asked.
    pub created_at: Timestamp,
    /// Who asked.
    pub created_by: Uuid,
    /// Its attempts, by number.
    pub attempts: Vec<Attempt>,
    /// Which of them to look at first; null while one is at work, and when there is only one.
    #[serde(default)]
    pub comparison: Option<Comparison>,
    /// What was given with it.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
}

/// What comes of comparing the attempts of a turn, by what they changed and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// The attempt to look at first: of several that do not differ the first. Null when none came to a result.
    pub suggested_attempt_id: Option<Uuid>,
    /// Why, in one sentence.
    #[schema(example = "its tests end better than those of the others")]
    pub reason: String,
}

/// A task as a list shows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// Its id.
    pub id: Uuid,
    /// The first line of its first prompt.
    pub title: String,
    /// Where the code is.
    pub repository: Repository,
    /// Where it stands.
    pub state: TaskState,
    /// The mode of its last turn.
    pub mode: Mode,
    /// What it waits for, in words, and until when; null when it does not wait, or nobody can say.
    #[serde(default)]
    #[schema(example = "waiting for the model: retry 3 of 5 in 12 s")]
    pub waits_for: Option<String>,
    /// How many attempts its last turn has.
    pub attempts: u32,
    /// Lines added by the first ready attempt of the last turn.
    pub additions: Option<u64>,
    /// Lines removed by it.
    pub deletions: Option<u64>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When something last happened.
    pub updated_at: Timestamp,
}

/// A page of tasks, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// The tasks.
    pub items: Vec<TaskSummary>,
    /// Give this as `before` to get the next page; null on the last one.
    pub next: Option<Uuid>,
}

/// Says that a task's log has grown: what the list's stream sends.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskChange {
    /// The task.
    pub task_id: Uuid,
    /// The sequence number of its last event.
    pub last_seq: i64,
}

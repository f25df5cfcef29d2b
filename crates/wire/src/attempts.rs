//! Attempts: where they stand, what they cost, what they leave.

use carrel_domain::{AttemptState as DomainState, Stage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{AttemptLimits, Publication};

/// One agent's run at a turn.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Its id.
    pub id: Uuid,
    /// Counted from 1 within its turn: 1 to 4 are asked for with it, further ones are retries.
    pub number: u32,
    /// The attempt of the same turn that it makes again, if it is a retry; that one counts no more for the task's state.
    #[serde(default)]
    pub retry_of: Option<Uuid>,
    /// Whether it goes on from the conversation and the files of that attempt.
    #[serde(default)]
    pub resumes: bool,
    /// Where it stands.
    pub state: AttemptState,
    /// The commit it starts from, once that is pinned.
    pub base_commit: Option<String>,
    /// The environment it is pinned to.
    pub environment: AttemptEnvironment,
    /// The name of the model it is pinned to.
    pub model: String,
    /// How hard that model is asked to think; null when it knows no such thing, or has its server's default.
    #[serde(default)]
    pub effort: Option<String>,
    /// The name of the agent that works on it: `carrel`, or one that runs in the sandbox.
    #[serde(default = "own_agent")]
    pub agent: String,
    /// What it may use, as whoever asked for it said.
    #[serde(default)]
    pub limits: AttemptLimits,
    /// Tokens so far.
    pub usage: Usage,
    /// What came of it, once it is ready.
    pub result: Option<AttemptResult>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Whether somebody has asked for it to be stopped.
    pub cancel_requested: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it left the queue.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where its patch was published, oldest first.
    pub publications: Vec<Publication>,
}

/// Says something to an attempt while it works.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// What the agent is to know: 1 byte to 256 KiB.
    #[schema(example = "Leave the tests alone.")]
    pub text: String,
}

/// What a person has said to an attempt while it worked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Its id, as in the events `message.sent` and `message.delivered`.
    pub id: Uuid,
    /// Whom it is for.
    pub attempt_id: Uuid,
    /// What was said.
    pub text: String,
    /// When.
    pub created_at: Timestamp,
    /// Who said it.
    pub created_by: Uuid,
}

/// Makes an attempt again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryAttempt {
    /// Whether to go on from the conversation and the files of the attempt that ended. Default: begin anew.
    #[serde(default)]
    pub resume: bool,
    /// Whether to take the environment as it is now. Default: the version that the attempt was pinned to. Not together with
    /// `resume`.
    #[serde(default)]
    pub latest_environment: bool,
    /// What it may use. Default, for each of them: what the attempt that ended was given.
    #[serde(default)]
    pub limits: AttemptLimits,
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Waits for a worker.
    Queued,
    /// The sandbox is made ready.
    Preparing,
    /// The environment's scripts run.
    SettingUp,
    /// The agent works.
    Running,
    /// The changes become a patch.
    Collecting,
    /// There is a result.
    Ready,
    /// It ended without one.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl From<&DomainState> for AttemptState {
    fn from(state: &DomainState) -> Self {
        match state {
            DomainState::Queued => Self::Queued,
            DomainState::Preparing => Self::Preparing,
            DomainState::SettingUp => Self::SettingUp,
            DomainState::Running => Self::Running,
            DomainState::Collecting { .. } => Self::Collecting,
            DomainState::Ready(_) => Self::Ready,
            DomainState::Failed { .. } => Self::Failed,
            DomainState::Cancelled { .. } => Self::Cancelled,
        }
    }
}

/// The environment an attempt is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptEnvironment {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    #[schema(example = "default")]
    pub name: String,
    /// Its version.
    pub version: i64,
    /// What its sandboxes are made of; null: what the repository says, or else `host`.
    #[schema(example = "host")]
    pub image: Option<String>,
}

/// What an attempt leaves.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptResult {
    /// The agent's last message: markdown, untrusted.
    pub answer: String,
    /// What it changed; null in ask mode and when nothing changed.
    pub patch: Option<Patch>,
    /// Which of the answer's citations hold.
    #[serde(default)]
    pub citations: Citations,
    /// What the answer claims and the record of the attempt does not bear out, such as a check that is said to have passed
    /// and did not: text with untrusted parts.
    #[serde(default)]
    pub faults: Vec<String>,
    /// What the agent suggests to ask next, at most three: plain text, untrusted.
    #[serde(default)]
    pub suggestions: Vec<String>,
    /// What it did, counted from its log.
    #[serde(default)]
    pub work: Work,
}

/// What an attempt did, in numbers: none of it is the agent's own word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Work {
    /// Commands that ran.
    pub commands: u32,
    /// Those of them that did not end with exit code 0.
    pub failed_commands: u32,
    /// Test commands, each by how it ended the last time; at most 20.
    pub tests: Vec<TestRun>,
    /// Warnings, and limits that were hit.
    pub warnings: u32,
}

/// A test command, as it ended last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestRun {
    /// What was run, at most 200 characters of it.
    #[schema(example = "cargo test")]
    pub command: String,
    /// Whether its tests passed: by its exit code, or by its runner's count where something behind it on its line hides that.
    pub passed: bool,
    /// What the test runner said in the end, on one line, where that is known: untrusted text.
    #[schema(example = "test result: ok. 12 passed; 0 failed")]
    pub summary: Option<String>,
}

impl From<carrel_domain::comparison::Tally> for Work {
    fn from(tally: carrel_domain::comparison::Tally) -> Self {
        let carrel_domain::comparison::Tally { commands, failed_commands, tests, warnings } = tally;
        let tests = tests.into_iter();
        let tests = tests.map(|test| TestRun { command: test.command, passed: test.passed, summary: test.summary });
        Self { commands, failed_commands, tests: tests.collect(), warnings }
    }
}

/// What came of checking the citations of an answer against the attempt's files and recorded output. Equal ones count
/// once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Citations {
    /// How many hold.
    pub holding: u32,
    /// Those that do not.
    pub failing: Vec<FailingCitation>,
    /// How many were not checked, because they were too many, or the files too large.
    pub unchecked: u32,
}

/// A citation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailingCitation {
    /// As it stands in the answer.
    #[schema(example = "【F:src/main.rs†L10-L900】")]
    pub citation: String,
    /// Why it does not hold.
    #[schema(example = "the file has only 120 lines")]
    pub reason: String,
}

/// What a patch changes. The patch itself is at `/attempts/{id}/patch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Patch {
    /// The files, in the order of the patch.
    pub files: Vec<PatchFile>,
    /// Lines added.
    pub additions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Length of the patch.
    pub size_bytes: u64,
}

/// What a patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatchFile {
    /// Its path.
    pub path: String,
    /// Its path before, when that is another.
    pub old_path: Option<String>,
    /// `added`, `modified`, `deleted` or `renamed`.
    pub kind: ChangeKind,
    /// Lines added.
    pub additions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Whether it is not text.
    pub binary: bool,
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// Why an attempt or a publication failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The state it failed in.
    pub stage: Option<String>,
    /// Why, in words for a person.
    pub reason: String,
    /// Whether the same may end better when it is tried again with nothing changed. Where it is false, a retry with something
    /// changed, such as a higher limit, may: an attempt that had begun can be resumed either way.
    pub retryable: bool,
}

/// Tokens, as the model's server counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Tokens sent that the server had in its cache.
    pub cached_input_tokens: u64,
    /// Tokens produced, reasoning included.
    pub output_tokens: u64,
    /// Tokens of reasoning.
    pub reasoning_tokens: u64,
    /// Tokens sent that the server put into its cache, where it counts them.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Responses asked for.
    pub requests: u64,
    /// Responses whose tokens the service has estimated, because the model's server does not count them.
    #[serde(default)]
    pub estimated_requests: u64,
    /// Millionths of a US dollar; 0 when no price is configured.
    #[serde(default)]
    pub cost_usd_micros: u64,
}

impl From<carrel_domain::Usage> for Usage {
    fn from(usage: carrel_domain::Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            requests: usage.requests,
            estimated_requests: usage.estimated_requests,
            cost_usd_micros: usage.cost_usd_micros,
        }
    }
}

impl From<carrel_domain::Outcome> for AttemptResult {
    fn from(outcome: carrel_domain::Outcome) -> Self {
        let carrel_domain::Outcome { answer, patch, notes, tally } = outcome;
        let carrel_domain::AnswerNotes { citations, faults, suggestions, last_word: _ } = notes;
        let (patch, citations, work) = (patch.map(Into::into), citations.into(), tally.into());
        Self { answer, patch, citations, faults, suggestions, work }
    }
}

impl From<carrel_domain::CitationsCheck> for Citations {
    fn from(check: carrel_domain::CitationsCheck) -> Self {
        let failing = check.failing.into_iter();
        let failing = failing.map(|one| FailingCitation { citation: one.citation, reason: one.reason }).collect();
        Self { holding: check.holding, failing, unchecked: check.unchecked }
    }
}

impl From<carrel_domain::PatchSummary> for Patch {
    fn from(patch: carrel_domain::PatchSummary) -> Self {
        let files = patch.files.into_iter().map(PatchFile::from).collect();
        Self { files, additions: patch.additions, deletions: patch.deletions, size_bytes: patch.size_bytes }
    }
}

impl From<carrel_domain::FileChange> for PatchFile {
    fn from(file: carrel_domain::FileChange) -> Self {
        use carrel_domain::patch::ChangeKind as Domain;
        let kind = match file.kind {
            Domain::Added => ChangeKind::Added,
            Domain::Modified => ChangeKind::Modified,
            Domain::Deleted => ChangeKind::Deleted,
            Domain::Renamed => ChangeKind::Renamed,
        };
        Self {
            path: file.path,
            old_path: file.old_path,
            kind,
            additions: file.additions,
            deletions: file.deletions,
            binary: file.binary,
        }
    }
}

/// The word of a stage: that of the state it is named after.
#[must_use]
pub const fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "queued",
        Stage::Preparing => "preparing",
        Stage::SettingUp => "setting_up",
        Stage::Running => "running",
        Stage::Collecting => "collecting",
    }
}

/// A file that an attempt's agent attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its name within the attempt.
    #[schema(example = "screenshot.png")]
    pub name: String,
    /// How long it is.
    pub size_bytes: u64,
    /// What it is sent as: a picture's type, or `application/octet-stream`.
    #[schema(example = "image/png")]
    pub media_type: String,
    /// When it was first attached.
    pub created_at: Timestamp,
}

/// The files that an attempt's agent attached, by name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ArtifactList {
    /// All of them.
    pub items: Vec<Artifact>,
}

fn own_agent() -> String {
    "carrel".to_owned()
}

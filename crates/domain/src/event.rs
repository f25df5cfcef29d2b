//! One entry of a task's append-only log: everything a person can watch or audit.
//!
//! A new kind of event is a new variant here; a stored one is never changed, and its fields are only ever added to.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::patch::StartedPatch;
use crate::{
    AttemptId, AttemptState, CitationsCheck, CommitOid, FileChange, MessageId, Mode, OrganizationId, PatchSummary,
    PublicationId, PublicationState, SnapshotId, TaskId, TurnId, Usage,
};

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Whose.
    pub organization: OrganizationId,
    /// The task whose log it is in.
    pub task: TaskId,
    /// Its place in that log: 1, 2, 3, … without gaps.
    pub seq: i64,
    /// When it was stored.
    pub at: Timestamp,
    /// The attempt it is about, if it is about one.
    pub attempt: Option<AttemptId>,
    /// What happened.
    pub body: EventBody,
}

/// An event that is to be stored: its place and time come from the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The attempt it is about, if it is about one.
    pub attempt: Option<AttemptId>,
    /// What happened.
    pub body: EventBody,
}

/// What happened. Stored and sent as `type` and `data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventBody {
    /// A person asked for something.
    #[serde(rename = "turn.created")]
    TurnCreated {
        /// The turn.
        turn_id: TurnId,
        /// Counted from 1.
        number: u32,
        /// What was asked.
        prompt: String,
        /// How.
        mode: Mode,
    },
    /// An attempt went into another state.
    #[serde(rename = "attempt.state")]
    AttemptState(AttemptState),
    /// What the sandbox is made of is settled: the environment's version together with what the repository says.
    #[serde(rename = "environment.resolved")]
    EnvironmentResolved {
        /// The environment.
        name: String,
        /// Its version.
        version: i64,
        /// The image, with its digest when it has one.
        image: String,
        /// What was settled by whom: the setting, and where its value comes from.
        sources: Vec<(String, String)>,
    },
    /// It is settled whether a prepared environment is reused, and why.
    #[serde(rename = "snapshot.looked_up")]
    SnapshotLookedUp {
        /// The snapshot that is reused, if one is.
        snapshot_id: Option<SnapshotId>,
        /// Why, or why not, for people.
        reason: String,
    },
    /// A prepared environment was kept, or could not be.
    #[serde(rename = "snapshot.kept")]
    SnapshotKept {
        /// The snapshot, if it was kept.
        snapshot_id: Option<SnapshotId>,
        /// Bytes of its layer.
        size_bytes: Option<u64>,
        /// Why it was not, for people.
        reason: Option<String>,
    },
    /// A request of the sandbox's was let through, or refused. Equal ones within a moment are one event.
    #[serde(rename = "network.decided")]
    NetworkDecided {
        /// The host that was asked for, as far as it could be read.
        host: String,
        /// The port.
        port: u16,
        /// The method, where it was seen.
        method: Option<String>,
        /// Whether it was let through.
        allowed: bool,
        /// The rule that let it through, or why it was refused.
        reason: String,
        /// The command that allows it, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        way_out: Option<String>,
        /// How many equal ones.
        count: u32,
    },
    /// The sandbox ran into one of its limits.
    #[serde(rename = "limit.hit")]
    LimitHit {
        /// `memory`, `processes`, `disk`, `cpu`, `output`, `setup`; the agent's `steps`, `tokens`, `cost`, `wall clock`, `budget`.
        limit: String,
        /// What happened, for people.
        message: String,
    },
    /// The sandbox had ended, and was launched again on its files: commands that ran in it have been cut off.
    #[serde(rename = "sandbox.relaunched")]
    SandboxRelaunched {
        /// What happened, for people.
        message: String,
    },
    /// A step of the way that has no event of its own, in words.
    #[serde(rename = "attempt.progress")]
    Progress {
        /// What was done.
        message: String,
        /// How long it took.
        duration_ms: Option<u64>,
    },
    /// Something a person should know, though the work goes on.
    #[serde(rename = "attempt.warning")]
    Warning {
        /// What.
        message: String,
    },
    /// A model's answer has arrived whole.
    #[serde(rename = "model.responded")]
    ModelResponded {
        /// The model's name.
        model: String,
        /// The server's id of the response.
        response_id: String,
        /// What it cost; `None` when the server did not say.
        usage: Option<Usage>,
        /// From the request to the end of the answer.
        duration_ms: u64,
    },
    /// A request to the model did not work and will be made again.
    #[serde(rename = "model.retrying")]
    ModelRetrying {
        /// What went wrong.
        reason: String,
        /// How long is waited.
        wait_ms: u64,
        /// 1 for the first retry.
        retry: u32,
        /// How often it is tried again before the attempt gives up; 0 when that was not said.
        #[serde(default)]
        retries: u32,
    },
    /// An item of the conversation, exactly as the model needs to see it again. This is what recovery reads.
    #[serde(rename = "conversation.item")]
    ConversationItem {
        /// The item in the form of the model's API.
        item: serde_json::Value,
    },
    /// The agent says something.
    #[serde(rename = "agent.message")]
    AgentMessage {
        /// Markdown, untrusted.
        text: String,
    },
    /// A summary of what the agent thinks.
    #[serde(rename = "agent.reasoning")]
    AgentReasoning {
        /// Markdown, untrusted.
        text: String,
    },
    /// The agent changed its plan.
    #[serde(rename = "plan.updated")]
    PlanUpdated {
        /// Why.
        explanation: Option<String>,
        /// The steps.
        steps: Vec<PlanStep>,
    },
    /// A command was started in the sandbox.
    #[serde(rename = "command.started")]
    CommandStarted {
        /// Names the command in the events that follow.
        command_id: String,
        /// What runs.
        command: String,
        /// Where.
        directory: String,
    },
    /// A command printed something.
    #[serde(rename = "command.output")]
    CommandOutput {
        /// Which command.
        command_id: String,
        /// Cleaned text.
        text: String,
    },
    /// The agent wrote to a command's standard input.
    #[serde(rename = "command.input")]
    CommandInput {
        /// Which command.
        command_id: String,
        /// What it wrote.
        text: String,
    },
    /// A command ended.
    #[serde(rename = "command.ended")]
    CommandEnded {
        /// Which command.
        command_id: String,
        /// How.
        end: CommandEnd,
        /// From start to end.
        duration_ms: u64,
        /// How much it printed.
        output_bytes: u64,
        /// How much of that was not kept.
        dropped_bytes: u64,
    },
    /// The agent is about to change files by a patch. For the service itself.
    #[serde(rename = "patch.started")]
    PatchStarted(StartedPatch),
    /// The agent changed files by a patch.
    #[serde(rename = "patch.applied")]
    PatchApplied {
        /// The files.
        files: Vec<FileChange>,
    },
    /// A patch of the agent could not be applied; nothing was changed.
    #[serde(rename = "patch.refused")]
    PatchRefused {
        /// Why, as the model was told.
        reason: String,
    },
    /// The agent called a tool that does not exist or with arguments that make no sense.
    #[serde(rename = "tool.refused")]
    ToolRefused {
        /// The tool's name.
        tool: String,
        /// Why, as the model was told.
        reason: String,
    },
    /// The attempt's changes became a patch.
    #[serde(rename = "patch.collected")]
    PatchCollected {
        /// What it changes; `None` when nothing changed.
        patch: Option<PatchSummary>,
    },
    /// A publication went into another state.
    #[serde(rename = "publication.state")]
    PublicationState {
        /// Which one.
        publication_id: PublicationId,
        /// The branch.
        branch: String,
        /// Where it stands.
        #[serde(flatten)]
        state: PublicationState,
    },
    /// The agent looked at an image of the sandbox. Its bytes are in the conversation only.
    #[serde(rename = "image.viewed")]
    ImageViewed {
        /// Where it lies in the sandbox.
        path: String,
        /// Such as `image/png`.
        media_type: String,
        /// How long the file is.
        size_bytes: u64,
        /// How many pixels wide.
        width: u32,
        /// How many pixels high.
        height: u32,
    },
    /// The agent kept a file of the sandbox as an artifact of its attempt.
    #[serde(rename = "artifact.attached")]
    ArtifactAttached {
        /// Its name; an earlier artifact of this name is replaced.
        name: String,
        /// How long it is.
        size_bytes: u64,
        /// What the agent says of it: untrusted.
        description: Option<String>,
    },
    /// A person said something to an attempt while it worked. It is kept until the agent takes its next step.
    #[serde(rename = "message.sent")]
    MessageSent {
        /// Which message.
        message_id: MessageId,
        /// What was said.
        text: String,
    },
    /// The agent was told a message: its item of the conversation is stored together with this.
    #[serde(rename = "message.delivered")]
    MessageDelivered {
        /// Which message.
        message_id: MessageId,
    },
    /// A person had an attempt made again: this is the first event of the new one.
    #[serde(rename = "attempt.retried")]
    AttemptRetried {
        /// The attempt that had ended without a result.
        retry_of: AttemptId,
        /// Whether its conversation and its files are gone on with.
        resumes: bool,
    },
    /// The citations of the answer were checked against the files and the recorded output. An answer that is repaired
    /// is checked again; the last one counts.
    #[serde(rename = "citations.checked")]
    CitationsChecked(CitationsCheck),
    /// The conversation had become too long for its model and goes on from these items alone. Nothing is taken out of
    /// the log; whoever reads the conversation goes by [`EventBody::into_items`].
    #[serde(rename = "context.compacted")]
    ContextCompacted {
        /// What the next request would have had, in tokens, by our count.
        before_tokens: u64,
        /// What it has now.
        after_tokens: u64,
        /// How many items are no longer shown to the model.
        items_dropped: u64,
        /// Whether the summary is the model's; if not, it was made of the record alone.
        by_model: bool,
        /// The new conversation.
        items: Vec<serde_json::Value>,
    },
    /// Changes that a person had not pushed were put onto the commit the task starts from.
    #[serde(rename = "local_changes.applied")]
    LocalChangesApplied {
        /// The commit that was named.
        base: CommitOid,
        /// The commit they became, which the attempt starts from.
        commit: CommitOid,
        /// What they change.
        patch: PatchSummary,
    },
    /// A diff that the prompt names or holds was put among the files of the turn, or could not be had.
    #[serde(rename = "diff.provided")]
    DiffProvided {
        /// Its address, or `the prompt`.
        source: String,
        /// Where it lies in the sandbox; `None` when it could not be had.
        path: Option<String>,
        /// How long it is.
        size_bytes: u64,
        /// Why it could not be had.
        problem: Option<String>,
    },
}

/// The type of the item that stands, among the items of a conversation, where the model was shown nothing of before any
/// more. It is never sent.
pub const CONTEXT_COMPACTED: &str = "context_compacted";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum CommandEnd {
    /// By itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// By a signal.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// By its time limit.
    TimedOut,
    /// With the sandbox, or nobody knows how.
    Interrupted,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What is to be done.
    pub step: String,
    /// `pending`, `in_progress` or `completed`.
    pub status: PlanStatus,
}

/// How far a step of a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    /// Not begun.
    Pending,
    /// Under way.
    InProgress,
    /// Done.
    Completed,
}

impl EventBody {
    /// What it cost, for a model's answer. One whose server does not say counts as a request.
    #[must_use]
    pub fn cost(&self) -> Option<Usage> {
        match self {
            Self::ModelResponded { usage, .. } => Some(usage.unwrap_or(Usage { requests: 1, ..Usage::default() })),
            _ => None,
        }
    }

    /// The name of the kind: what `type` says.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TurnCreated { .. } => "turn.created",
            Self::AttemptState(_) => "attempt.state",
            Self::EnvironmentResolved { .. } => "environment.resolved",
            Self::SnapshotLookedUp { .. } => "snapshot.looked_up",
            Self::SnapshotKept { .. } => "snapshot.kept",
            Self::NetworkDecided { .. } => "network.decided",
            Self::LimitHit { .. } => "limit.hit",
            Self::SandboxRelaunched { .. } => "sandbox.relaunched",
            Self::Progress { .. } => "attempt.progress",
            Self::Warning { .. } => "attempt.warning",
            Self::ModelResponded { .. } => "model.responded",
            Self::ModelRetrying { .. } => "model.retrying",
            Self::ConversationItem { .. } => "conversation.item",
            Self::AgentMessage { .. } => "agent.message",
            Self::AgentReasoning { .. } => "agent.reasoning",
            Self::PlanUpdated { .. } => "plan.updated",
            Self::CommandStarted { .. } => "command.started",
            Self::CommandOutput { .. } => "command.output",
            Self::CommandInput { .. } => "command.input",
            Self::CommandEnded { .. } => "command.ended",
            Self::PatchStarted(_) => "patch.started",
            Self::PatchApplied { .. } => "patch.applied",
            Self::PatchRefused { .. } => "patch.refused",
            Self::ToolRefused { .. } => "tool.refused",
            Self::PatchCollected { .. } => "patch.collected",
            Self::PublicationState { .. } => "publication.state",
            Self::ImageViewed { .. } => "image.viewed",
            Self::ArtifactAttached { .. } => "artifact.attached",
            Self::MessageSent { .. } => "message.sent",
            Self::MessageDelivered { .. } => "message.delivered",
            Self::AttemptRetried { .. } => "attempt.retried",
            Self::CitationsChecked(_) => "citations.checked",
            Self::ContextCompacted { .. } => "context.compacted",
            Self::LocalChangesApplied { .. } => "local_changes.applied",
            Self::DiffProvided { .. } => "diff.provided",
        }
    }

    /// The items that it adds to its conversation. Those of a compacted one follow a mark of type
    /// [`CONTEXT_COMPACTED`], so that each item keeps its place among all that there ever were.
    #[must_use]
    pub fn into_items(self) -> Vec<serde_json::Value> {
        match self {
            Self::ConversationItem { item } => vec![item],
            Self::ContextCompacted { items, .. } => {
                let mark = serde_json::json!({ "type": CONTEXT_COMPACTED });
                std::iter::once(mark).chain(items).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compacted_conversation_is_read_behind_its_mark() {
        let item = serde_json::json!({"type": "message", "role": "user", "content": "a"});
        let (one, items) = (EventBody::ConversationItem { item: item.clone() }, vec![item.clone()]);
        let (before_tokens, after_tokens, items_dropped) = (9, 1, 3);
        let compacted =
            EventBody::ContextCompacted { before_tokens, after_tokens, items_dropped, by_model: true, items };

        assert_eq!(one.into_items(), std::slice::from_ref(&item));
        assert_eq!(compacted.into_items(), [serde_json::json!({"type": CONTEXT_COMPACTED}), item]);
        assert!(EventBody::Warning { message: String::new() }.into_items().is_empty());
    }

    #[test]
    fn an_event_is_stored_as_its_kind_and_its_data() {
        let body = EventBody::CommandEnded {
            command_id: "call_1".to_owned(),
            end: CommandEnd::Exited { code: 1 },
            duration_ms: 12,
            output_bytes: 3,
            dropped_bytes: 0,
        };

        let stored = serde_json::to_value(&body).expect("an event is plain data");
        assert_eq!(stored["type"], body.kind());
        assert_eq!(stored["data"]["end"], serde_json::json!({"how": "exited", "code": 1}));
        assert_eq!(serde_json::from_value::<EventBody>(stored).expect("what was stored"), body);
    }
}

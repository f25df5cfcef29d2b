//! What an agent is given, and what it leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use carrel_domain::patch::StartedPatch;
use carrel_domain::repository_facts::RepositoryFacts;
use carrel_domain::{AnswerNotes, BranchName, CommitOid, Mode, NetworkPolicy, Redactor, Usage};
use carrel_sandbox::Sandbox;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Journal, ModelClient, ModelEndpoint};

/// One attempt at one turn.
#[derive(Debug, Clone)]
pub struct AgentTask {
    /// What is asked.
    pub prompt: String,
    /// Files that came with the prompt. They lie in the sandbox already.
    pub given: Vec<Given>,
    /// What the prompt names and nobody could get for it, each with the reason.
    pub missing: Vec<(String, String)>,
    /// Whether changes are kept.
    pub mode: Mode,
    /// The folder of the repository in the sandbox: `/workspace/<repository>`.
    pub workspace: String,
    /// The commit that is checked out there.
    pub base: CommitOid,
    /// The branch it was taken from, if it was one.
    pub branch: Option<BranchName>,
    /// What a look at the base commit says, if anything. The same commit has the same.
    pub facts: Option<RepositoryFacts>,
    /// What its commands may reach.
    pub network: NetworkPolicy,
    /// The conversation items of the earlier turns this one goes on from, in their order. Calls that were cut off are
    /// answered as such.
    pub history: Vec<Value>,
    /// The conversation items of this very attempt that were stored before its worker died, in their order; empty when
    /// it begins.
    pub resumed: Vec<Value>,
    /// With `resumed`: how many of its items there were when the sandbox was last launched anew. Commands of calls among them
    /// run no more: those that were cut off are reported to the model as interrupted, the others can be taken up again. 0 when
    /// it has been running all the while.
    pub cut_off: usize,
    /// With `resumed`: the commands of this attempt that already have a `command.started` event, each with the bytes of
    /// text in its `command.output` events. What was recorded is not recorded again.
    pub shown: BTreeMap<String, u64>,
    /// With `resumed`: the patch that was begun last, by its `patch.started` event.
    pub started_patch: Option<StartedPatch>,
    /// Names the conversation to the server's prompt cache: the same for all turns of a task.
    pub cache_key: String,
    /// With `resumed`: what it has cost so far.
    pub spent: Usage,
    /// When to give up.
    pub limits: AgentLimits,
}

impl AgentTask {
    /// The place in the whole conversation before which commands run no more.
    pub(crate) fn cut_before(&self) -> usize {
        if self.cut_off == 0 { 0 } else { self.history.len() + self.cut_off }
    }
}

/// A file that a person gave with the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Where it lies in the sandbox.
    pub path: String,
    /// How long it is.
    pub size_bytes: u64,
    /// All of it, if it is an image.
    pub image: Option<Vec<u8>>,
    /// Where it was fetched from or taken out of, if it is not as somebody gave it.
    pub origin: Option<String>,
}

/// When an agent gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentLimits {
    /// Answers of the model. Default 200.
    pub steps: u32,
    /// Tokens sent and produced, of all requests together. Default: any number.
    pub tokens: Option<u64>,
    /// What all requests together may cost, in millionths of a US dollar, where prices are configured. Default: any.
    pub cost_usd_micros: Option<u64>,
    /// From the beginning, or from the resumption, to the end. Default 2 h.
    pub wall_clock: Duration,
    /// How long before that end the model is asked to sum up. Default 2 minutes.
    pub farewell: Duration,
    /// The most tokens one tool's output may put into the conversation, whatever the model asks for. Default 20,000.
    pub tool_output_tokens: usize,
    /// How much one command may print before it is ended, in bytes. Default 1 GiB.
    pub output_bytes: u64,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            steps: 200,
            tokens: None,
            cost_usd_micros: None,
            wall_clock: Duration::from_hours(2),
            farewell: Duration::from_mins(2),
            tool_output_tokens: 20_000,
            output_bytes: 1 << 30,
        }
    }
}

/// What an agent works with.
#[derive(Debug, Clone)]
pub struct AgentContext<'a> {
    /// The model to ask.
    pub endpoint: &'a ModelEndpoint,
    /// The connection to it, shared by all attempts.
    pub client: &'a ModelClient,
    /// Where commands run.
    pub sandbox: &'a Sandbox,
    /// Where events go.
    pub journal: &'a Journal,
    /// Takes the installation's secrets out of whatever is recorded or sent.
    pub redactor: &'a Redactor,
    /// Stops the agent within a second, and everything in the sandbox with it.
    pub cancel: CancellationToken,
}

/// What an agent leaves, beside the files in its sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The model's last message: markdown, untrusted.
    pub answer: String,
    /// What was found out about that message.
    pub notes: AnswerNotes,
    /// What this run cost, without what was spent before a resumption.
    pub usage: Usage,
}

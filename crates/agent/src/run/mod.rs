//! The loop itself: ask, record, act, record, ask again.
//!
//! ```text
//!          +--> ask the model --> record its items --+--> no tool call: the answer
//!          |                                         |
//!          +-- record the results <-- run the calls <+
//! ```
//!
//! Nothing is done before what led to it is durable, so a run that was cut off is taken up again from the items alone.

mod act;
mod ask;
mod begin;
mod budget;
mod compact;
mod hear;
mod record;
mod remark;

use std::collections::BTreeMap;

use carrel_domain::{Mode, Redactor, Usage};
use serde_json::{Value, json};

use self::budget::{Budget, within_time};
use self::compact::Room;
use crate::answer::{Review, Settled, Verdict};
use crate::conversation::Conversation;
use crate::guard::Guard;
use crate::history;
use crate::model::failure::Again;
use crate::model::{Call, PAUSED, can_be_sent_back};
use crate::tools::{Sessions, Tools, definitions};
use crate::{AgentContext, AgentError, AgentTask, Finished, preamble};

/// What every model is told first.
const INSTRUCTIONS: &str = include_str!("../prompt/instructions.md");

/// How many of the longest results must go into a window.
const RESULTS_IN_WINDOW: u64 = 8;

/// Runs one attempt to its end. See [`AgentTask`] for what it starts from and [`AgentError`] for how it can fail.
///
/// When it ends, for whatever reason but a lost journal or sandbox, no process is left in the sandbox: with those two,
/// commands go on so that they can be taken up again.
///
/// # Errors
/// Whenever there is no answer.
pub async fn run(mut task: AgentTask, context: &AgentContext<'_>) -> Result<Finished, AgentError> {
    task.history = history::settled(task.history);
    if let Some(window) = context.endpoint.context_window {
        let most = usize::try_from(window / RESULTS_IN_WINDOW).unwrap_or(usize::MAX);
        task.limits.tool_output_tokens = task.limits.tool_output_tokens.min(most);
    }
    let (limits, bell) = (task.limits, context.journal.bell());
    let sessions = Sessions::new(
        context.sandbox.clone(),
        context.journal.clone(),
        context.redactor.clone(),
        &task.limits,
        task.shown.clone(),
    );
    let tools = Tools::new(sessions, &task, left_running(&task), context.endpoint.image_side());
    let ended = tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(AgentError::Cancelled),
        ended = within_time(limits, &bell, Box::pin(Agent::new(&task, context, &tools).work(task))) => ended,
    };
    match &ended {
        Err(AgentError::Journal(_) | AgentError::Sandbox { .. }) => {}
        Ok(_)
        | Err(
            AgentError::Cancelled | AgentError::Model { .. } | AgentError::ContextFull { .. } | AgentError::Limit(_),
        ) => tools.end_all().await,
    }
    ended
}

/// The calls of an earlier worker whose commands may still run, by their place in the conversation.
fn left_running(task: &AgentTask) -> BTreeMap<usize, String> {
    let before = task.history.len();
    let calls = task.resumed.iter().enumerate().filter_map(|(at, item)| Some((before + at, Call::of(item)?)));
    calls.filter(|(_, call)| call.name == "exec_command").map(|(at, call)| (at, call.input)).collect()
}

/// What the model is told before it goes on in a sandbox that was launched anew, behind the results of what was cut off.
const LAUNCHED_ANEW: &str = "<sandbox_relaunched>
The sandbox had ended and was launched again on its files: nothing that you started runs any more, and `/dev/shm` is empty. If the \
machine stopped, what was written in the last moments may be missing: look at the files before you rely on them.
</sandbox_relaunched>";

struct Agent<'a> {
    context: &'a AgentContext<'a>,
    tools: &'a Tools,
    conversation: Conversation,
    guard: Guard,
    usage: Usage,
    steps: u32,
    budget: Budget,
    /// The folder of the repository.
    workspace: String,
    room: Room,
    /// How many answers in a row the model was told something about.
    remarks: u32,
    review: Review,
    /// What the last request that failed would have to be, to be made again.
    refusal: Option<Again>,
}

impl<'a> Agent<'a> {
    fn new(task: &AgentTask, context: &'a AgentContext<'a>, tools: &'a Tools) -> Self {
        let definitions = definitions(context.endpoint.patch_tool, context.endpoint.images);
        let conversation = Conversation::new(context.endpoint, INSTRUCTIONS, &definitions, &task.cache_key);
        Self {
            context,
            tools,
            conversation,
            guard: Guard::default(),
            usage: Usage::default(),
            steps: 0,
            budget: Budget::new(task),
            workspace: task.workspace.clone(),
            room: Room::default(),
            remarks: 0,
            review: Review::new(task.mode, (task.mode == Mode::Ask).then(|| task.base.clone())),
            refusal: None,
        }
    }

    async fn work(mut self, task: AgentTask) -> Result<Finished, AgentError> {
        let settled = match self.converse(task).await {
            Ok(settled) => settled,
            Err(error) => self.review.fall_back(error, self.tools, self.context).await?,
        };
        Ok(Finished { answer: settled.answer, notes: settled.notes, usage: self.usage })
    }

    /// Goes on until there is an answer that counts.
    async fn converse(&mut self, task: AgentTask) -> Result<Settled, AgentError> {
        for item in &task.history {
            self.conversation.push(item);
        }
        let is_launched_anew = task.cut_off > 0 && task.cut_off == task.resumed.len();
        if task.resumed.is_empty() {
            self.begin(&task).await?;
        } else if self.resume(&task.resumed).await?
            // What it says is done may be missing by now: it is asked again.
            && !is_launched_anew
            && let Some(settled) = self.at_answer().await?
        {
            return Ok(settled);
        }
        if is_launched_anew {
            self.tell(preamble::note(preamble::RELAUNCHED, LAUNCHED_ANEW)).await?;
        }
        // The items are in the conversation now, as text.
        drop(task);
        loop {
            self.before_request().await?;
            self.steps += 1;
            self.guard.asked();
            let (mut answer, duration) = self.ask().await?;
            for item in &mut answer.items {
                *item = redacted(item.take(), self.context.redactor);
            }
            self.conversation.admit(&mut answer.items);
            if let Some(last) =
                answer.items.iter_mut().rfind(|item| can_be_sent_back(item)).filter(|_| answer.is_paused)
            {
                last[PAUSED] = json!(true);
            }
            let remark = self.remark(&answer).await?;
            let calls = self.record_answer(&answer, duration, remark.as_ref()).await?;
            if !calls.is_empty() {
                self.has_not_summed_up()?;
                self.act(calls).await?;
                if let Some(remark) = remark {
                    self.tell(remark).await?;
                }
            } else if answer.is_paused || remark.is_some() {
                // It goes on as it is.
            } else if let Some(settled) = self.at_answer().await? {
                return Ok(settled);
            }
        }
    }

    /// What is done before each request.
    async fn before_request(&mut self) -> Result<(), AgentError> {
        if self.context.journal.bell().rings() {
            self.hear().await?;
        }
        self.make_room().await?;
        self.stay_within().await
    }

    /// What is done with a final answer. `None`: something is to be said to the model yet, and it is asked again.
    async fn at_answer(&mut self) -> Result<Option<Settled>, AgentError> {
        let last_word = self.has_last_word().map(|limit| limit.reached());
        // A message that waits makes the loop go on, whatever the answer is worth; unless nothing can follow it.
        if last_word.is_none() && self.hear().await? {
            return Ok(None);
        }
        match self.review.decide(self.near(1).is_none(), self.tools, self.context).await? {
            Verdict::Settled(mut settled) if last_word.is_some() => {
                settled.notes.last_word = last_word;
                Ok(Some(settled))
            }
            Verdict::Settled(settled) => Ok((!self.hear().await?).then_some(settled)),
            Verdict::Tell(item) => {
                self.tell(item).await?;
                Ok(None)
            }
        }
    }
}

/// An item without secrets. Thoughts that had one in them are signed no more: their server would refuse them.
fn redacted(item: Value, redactor: &Redactor) -> Value {
    let is_signed = item["signature"].is_string();
    let before = if is_signed { item["content"].clone() } else { Value::Null };
    let mut item = redactor.redact_json(item);
    if is_signed && item["content"] != before {
        item["signature"] = Value::Null;
    }
    item
}

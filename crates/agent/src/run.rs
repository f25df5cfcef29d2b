//! The loop itself: ask, record, act, record, ask again.
//!
//! ```text
//!          +--> ask the model --> record its items --+--> no tool call: the answer
//!          |                                         |
//!          +-- record the results <-- run the calls <+
//! ```
//!
//! Nothing is done before what led to it is durable, so a run that was cut off is taken up again from the items alone.

use std::collections::BTreeMap;
use std::time::Duration;

use carrel_domain::{EventBody, Usage};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::conversation::Conversation;
use crate::guard::{Guard, Verdict};
use crate::history;
use crate::model::failure::Again;
use crate::model::{
    Answer, Call, Failure, calls_in, can_be_sent_back, is_by_model, message_text, reasoning_text, retry, tokens,
};
use crate::output::clean::visible;
use crate::output::for_people;
use crate::preamble;
use crate::tools::{Outcome, Pending, Sessions, Tools, definitions};
use crate::{AgentContext, AgentError, AgentTask, Finished, Limit};

/// What every model is told first.
const INSTRUCTIONS: &str = include_str!("prompt/instructions.md");

/// How much is kept of a server's name for its answer.
const MAX_ID_CHARS: usize = 200;

/// Runs one attempt to its end. See [`AgentTask`] for what it starts from and [`AgentError`] for how it can fail.
///
/// When it ends, for whatever reason but a lost journal or sandbox, no process is left in the sandbox: with those two,
/// commands go on so that they can be taken up again.
///
/// # Errors
/// Whenever there is no answer.
pub async fn run(mut task: AgentTask, context: &AgentContext<'_>) -> Result<Finished, AgentError> {
    task.history = history::settled(task.history);
    let wall_clock = task.limits.wall_clock;
    let sessions = Sessions::new(
        context.sandbox.clone(),
        context.journal.clone(),
        context.redactor.clone(),
        &task.limits,
        task.shown.clone(),
    );
    let tools = Tools::new(sessions, &task, left_running(&task), context.endpoint.images);
    let ended = tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(AgentError::Cancelled),
        () = sleep(wall_clock) => Err(AgentError::Limit(Limit::WallClock { wall_clock })),
        ended = Agent::new(&task, context, &tools).work(task) => ended,
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

struct Agent<'a> {
    context: &'a AgentContext<'a>,
    tools: &'a Tools,
    conversation: Conversation,
    guard: Guard,
    usage: Usage,
    steps: u32,
    max_steps: u32,
}

impl<'a> Agent<'a> {
    fn new(task: &AgentTask, context: &'a AgentContext<'a>, tools: &'a Tools) -> Self {
        let definitions = definitions(context.endpoint.patch_tool, context.endpoint.images);
        let conversation = Conversation::new(context.endpoint, INSTRUCTIONS, &definitions, &task.cache_key);
        let (guard, usage) = (Guard::default(), Usage::default());
        Self { context, tools, conversation, guard, usage, steps: 0, max_steps: task.limits.steps }
    }

    async fn work(mut self, task: AgentTask) -> Result<Finished, AgentError> {
        for item in &task.history {
            self.conversation.push(item);
        }
        if task.resumed.is_empty() {
            self.begin(&task).await?;
        } else if let Some(answer) = self.resume(&task.resumed).await? {
            return Ok(Finished { answer, usage: self.usage });
        }
        // The items are in the conversation now, as text.
        drop(task);
        while self.steps < self.max_steps {
            self.steps += 1;
            let (mut answer, duration) = self.ask().await?;
            for item in &mut answer.items {
                *item = self.context.redactor.redact_json(item.take());
            }
            self.conversation.admit(&mut answer.items);
            let calls = self.record_answer(&answer, duration).await?;
            if calls.is_empty() && !answer.is_paused {
                return Ok(Finished { answer: said(&answer.items), usage: self.usage });
            }
            self.act(calls).await?;
        }
        Err(AgentError::Limit(Limit::Steps { steps: self.max_steps }))
    }

    /// Says what there is to say before the first request. What an earlier turn was told is not said again.
    async fn begin(&mut self, task: &AgentTask) -> Result<(), AgentError> {
        let instructions = preamble::repository_instructions(self.context.sandbox, &task.workspace).await?;
        let mut bodies = Vec::new();
        for item in [Some(preamble::environment(task)), instructions].into_iter().flatten() {
            let item = self.context.redactor.redact_json(item);
            if !task.history.contains(&item) {
                self.conversation.push(&item);
                bodies.push(EventBody::ConversationItem { item });
            }
        }
        let item = self.context.redactor.redact_json(preamble::message(&task.prompt));
        self.conversation.push(&item);
        bodies.push(EventBody::ConversationItem { item });
        Ok(self.context.journal.record(bodies).await?)
    }

    /// Takes up what an earlier worker left: its items, then the calls that have no result. Returns the answer when it
    /// had been given already.
    async fn resume(&mut self, items: &[Value]) -> Result<Option<String>, AgentError> {
        let mut open: Vec<Pending> = Vec::new();
        for item in items {
            let position = self.conversation.push(item);
            if let Some(call) = Call::of(item) {
                open.push(Pending { call, position, is_resumed: true });
            } else if let Some(call_id) = item["call_id"].as_str()
                && let Some(at) = open.iter().position(|pending| pending.call.call_id == call_id)
            {
                open.remove(at);
            }
        }
        let groups: Vec<&[Value]> = items.chunk_by(|one, next| is_by_model(one) == is_by_model(next)).collect();
        let answers = groups.iter().filter(|group| is_by_model(&group[0])).count();
        self.steps = u32::try_from(answers).unwrap_or(u32::MAX);
        if let Some(last) = groups.last().filter(|group| is_by_model(&group[0]))
            && calls_in(last).is_empty()
        {
            return Ok(Some(said(last)));
        }
        self.act(open).await?;
        Ok(None)
    }

    /// Asks until there is an answer or no hope for one.
    async fn ask(&mut self) -> Result<(Answer, Duration), AgentError> {
        let endpoint = self.context.endpoint;
        let mut retries = 0;
        loop {
            let began = Instant::now();
            let failure = match self.context.client.ask(endpoint, self.conversation.request()).await {
                Ok(answer) => return Ok((answer, began.elapsed())),
                Err(failure) => failure,
            };
            let reason = self.context.redactor.redact(&failure.reason).into_owned();
            let wait = match wait_before_retry(&failure, retries, endpoint.retries) {
                Ok(wait) => wait,
                Err(_) if failure.again == Again::ContextFull => return Err(AgentError::ContextFull { reason }),
                Err(retryable) => return Err(AgentError::Model { reason, retryable }),
            };
            retries += 1;
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            self.context.journal.record(vec![EventBody::ModelRetrying { reason, wait_ms, retry: retries }]).await?;
            sleep(wait).await;
        }
    }

    /// What an answer has cost: as its server counts, or as we do where it does not.
    fn cost(&self, answer: &Answer) -> Usage {
        let mut usage = answer.usage.unwrap_or_else(|| Usage {
            input_tokens: self.conversation.estimated_tokens(),
            output_tokens: answer.items.iter().map(tokens::of_item).sum(),
            requests: 1,
            estimated_requests: 1,
            ..Usage::default()
        });
        usage.cost_usd_micros = self.context.endpoint.price.map_or(0, |price| price.of(&usage));
        usage
    }

    /// Makes an answer, in which there is no secret, durable: in the form for the model and in the one for people.
    /// Returns its calls.
    async fn record_answer(&mut self, answer: &Answer, duration: Duration) -> Result<Vec<Pending>, AgentError> {
        let redactor = self.context.redactor;
        let usage = self.cost(answer);
        self.usage += usage;
        let mut bodies = vec![EventBody::ModelResponded {
            model: self.context.endpoint.name.clone(),
            response_id: redactor.redact(&answer.id).chars().take(MAX_ID_CHARS).collect(),
            usage: Some(usage),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }];
        if let Some(reason) = &answer.cut_short {
            let message = format!("{}; going on with the tool calls that arrived whole", redactor.redact(reason));
            bodies.push(EventBody::Warning { message });
        }
        let mut calls = Vec::new();
        for item in &answer.items {
            bodies.extend(reasoning_text(item).map(|text| EventBody::AgentReasoning { text }));
            bodies.extend(message_text(item).map(|text| EventBody::AgentMessage { text }));
            if !can_be_sent_back(item) {
                continue;
            }
            let position = self.conversation.push(item);
            calls.extend(Call::of(item).map(|call| Pending { call, position, is_resumed: false }));
            bodies.push(EventBody::ConversationItem { item: item.clone() });
        }
        let bodies = bodies.into_iter().map(|body| for_people(body, redactor)).collect();
        self.context.journal.record(bodies).await?;
        Ok(calls)
    }

    /// Runs calls, side by side where they may be, and records their results one by one.
    async fn act(&mut self, calls: Vec<Pending>) -> Result<(), AgentError> {
        let together = |one: &Pending, next: &Pending| {
            Tools::runs_beside_others(&one.call) && Tools::runs_beside_others(&next.call)
        };
        for group in calls.chunk_by(together) {
            let tools = self.tools;
            let run = |pending: &Pending| {
                let pending = pending.clone();
                async move { (tools.run(&pending).await, pending.call) }
            };
            // In the order of the calls, whichever ends first: so the same run makes the same conversation.
            let mut running: FuturesOrdered<_> = group.iter().map(run).collect();
            while let Some((outcome, call)) = running.next().await {
                self.record_result(&call, outcome?).await?;
            }
        }
        Ok(())
    }

    async fn record_result(&mut self, call: &Call, outcome: Outcome) -> Result<(), AgentError> {
        let redactor = self.context.redactor;
        let Outcome { mut text, image, events, attachments, result } = outcome;
        let verdict = match result {
            Some(result) => self.guard.saw(&call.name, &call.input, &result),
            None => Verdict::Fine,
        };
        if let Verdict::Tell(note) = &verdict {
            text.push_str("\n\n");
            text.push_str(note);
        }
        let text = redactor.redact(&text).into_owned();
        let item = match image {
            None => call.output(text),
            Some(url) => call.output(json!([
                { "type": "input_text", "text": text },
                { "type": "input_image", "image_url": url },
            ])),
        };
        self.conversation.push(&item);
        let mut bodies: Vec<EventBody> = events.into_iter().map(|body| for_people(body, redactor)).collect();
        bodies.push(EventBody::ConversationItem { item });
        self.context.journal.record_with(bodies, attachments).await?;
        match verdict {
            Verdict::Stop(limit) => Err(AgentError::Limit(limit)),
            Verdict::Fine | Verdict::Tell(_) => Ok(()),
        }
    }
}

/// How long to wait before asking again; or, when that makes no sense, whether a later attempt may.
fn wait_before_retry(failure: &Failure, retries: u32, max_retries: u32) -> Result<Duration, bool> {
    match failure.again {
        Again::Never | Again::ContextFull => Err(false),
        _ if retries >= max_retries => Err(true),
        Again::Later => Ok(retry::backoff(retries + 1)),
        Again::After(wait) if wait > retry::MAX_ASKED_WAIT => Err(true),
        Again::After(wait) => Ok(wait),
    }
}

/// The messages among these items, one after the other, with nothing hidden in them.
fn said(items: &[Value]) -> String {
    let messages = items.iter().filter_map(message_text).filter(|text| !text.trim().is_empty()).collect::<Vec<_>>();
    visible(&messages.join("\n\n"))
}

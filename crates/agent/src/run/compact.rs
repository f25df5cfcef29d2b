//! Making room: when a conversation comes near its model's window, or its server says that it is full, the run goes on
//! from a shorter one. Whatever fails on the way, there is always the summary that the record makes by itself.

use std::time::Duration;

use carrel_domain::EventBody;
use carrel_domain::event::CONTEXT_COMPACTED;
use carrel_sandbox::{Command, Output};
use serde_json::{Value, json};

use super::Agent;
use crate::compaction::{Budget, REQUEST, Record, items, one_line, squeezed};
use crate::history::{live, settled};
use crate::model::failure::Again;
use crate::model::{Answer, message_text};
use crate::output::clean::visible;
use crate::output::for_people;
use crate::{AgentError, Protocol, preamble, tokens};

/// What is asked for as an answer of the Messages API when nothing is configured.
const MESSAGES_ANSWER: u64 = 32_000;

/// The part of the window that a conversation may fill, in hundredths.
const FILLED: u64 = 85;

/// What is left free beside the answer, in hundredths: counts are a little off.
const RESERVE: u64 = 2;

/// A conversation without a known window that was refused is brought to so many hundredths of what it was.
const AFTER_REFUSAL: u64 = 50;

/// So often in a row may making room be of no use for more than one answer.
const MAX_IN_VAIN: u32 = 4;

/// So often in a row may the model write no summary, so that only our own record stands for what was left out: one that
/// cannot do better runs in circles at its owner's cost.
const MAX_UNSUMMARISED: u32 = 5;

/// How long git may look for changes, how much it may say, and how many lines are taken.
const GIT_TIMEOUT: Duration = Duration::from_secs(10);
const GIT_BYTES: usize = 64 << 10;
const GIT_LINES: usize = 200;

/// What a run knows of its room.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// What the server refused, in tokens by our count: the window is smaller.
    refused: Option<u64>,
    /// What the server, or one before it, refused in bytes of a request.
    refused_bytes: Option<usize>,
    /// At which step there was no room last.
    last: Option<u32>,
    /// How often in a row that was of no use.
    in_vain: u32,
    /// How often in a row the model wrote no summary.
    unsummarised: u32,
}

impl Agent<'_> {
    /// Makes room before a request that would leave too little for its answer.
    pub(super) async fn make_room(&mut self) -> Result<(), AgentError> {
        if let Some(room) = self.room_tokens()
            && self.conversation.meter().tokens() > room / 2
        {
            self.count_exactly().await?;
        }
        if self.has_room() {
            return Ok(());
        }
        self.compact(false, Vec::new()).await?;
        if !self.has_room() {
            // What was refused once was refused for something else: nothing can be shorter than this.
            (self.room.refused, self.room.refused_bytes) = (None, None);
        }
        Ok(())
    }

    /// Whether the next request leaves enough for its answer, as far as is known.
    fn has_room(&self) -> bool {
        let has_tokens = self.room_tokens().is_none_or(|room| self.conversation.meter().tokens() <= room);
        let most = self.room.refused_bytes.map(|refused| refused / 100 * FILLED as usize);
        has_tokens && most.is_none_or(|most| self.conversation.request().len() <= most)
    }

    /// Whether the last request was refused for its bytes.
    pub(super) fn is_too_large(&self) -> bool {
        self.refusal == Some(Again::TooLarge)
    }

    /// How large the conversation is, and what counts an item, in what the server goes by: bytes or tokens.
    fn measure(&self) -> (u64, impl Fn(&Value) -> u64) {
        let (by_bytes, meter) = (self.is_too_large(), self.conversation.meter());
        let size = if by_bytes { self.conversation.request().len() as u64 } else { meter.tokens() };
        (size, move |item: &Value| if by_bytes { item.to_string().len() as u64 } else { meter.of_item(item) })
    }

    /// Makes room after a server has said that there is none.
    pub(super) async fn make_room_again(&mut self, is_harder: bool, reason: &str) -> Result<(), AgentError> {
        let (refused, _) = self.measure();
        if self.is_too_large() {
            self.room.refused_bytes = Some(usize::try_from(refused).unwrap_or(usize::MAX));
        } else {
            self.room.refused = Some(self.room.refused.map_or(refused, |known| known.min(refused)));
        }
        let is_too_large = self.is_too_large();
        let message = format!("{reason}; going on from a summary");
        self.compact(is_harder, vec![EventBody::Warning { message }]).await?;
        let now =
            if is_too_large { self.conversation.request().len() as u64 } else { self.conversation.meter().tokens() };
        if now >= refused {
            return Err(AgentError::ContextFull { reason: reason.to_owned() });
        }
        Ok(())
    }

    /// How many tokens a request may have: what is known of the window, without the answer and a reserve.
    fn room_tokens(&self) -> Option<u64> {
        let endpoint = self.context.endpoint;
        let known = endpoint.context_window.map(|window| {
            let default = if endpoint.protocol == Protocol::Messages { MESSAGES_ANSWER } else { 0 };
            let answer = endpoint.max_output_tokens.unwrap_or(default).min(window / 3);
            (window - answer).saturating_sub(window / 100 * RESERVE).min(window / 100 * FILLED)
        });
        let learnt = self.room.refused.map(|refused| refused / 100 * FILLED);
        known.into_iter().chain(learnt).min()
    }

    /// Counts by the vocabulary from now on.
    pub(super) async fn count_exactly(&mut self) -> Result<(), AgentError> {
        if self.conversation.meter().is_exact() {
            return Ok(());
        }
        tokens::load().await;
        let (all, _) = self.everything().await?;
        self.conversation.meter_mut().be_exact(live(&all));
        Ok(())
    }

    /// Every item there ever was, and how many of them are of earlier attempts.
    pub(super) async fn everything(&self) -> Result<(Vec<Value>, usize), AgentError> {
        let (earlier, own) = self.context.journal.conversation().await?;
        let mut all = settled(earlier);
        let before = all.len();
        all.extend(own);
        Ok((all, before))
    }

    /// Goes on from a shorter conversation.
    async fn compact(&mut self, is_harder: bool, mut bodies: Vec<EventBody>) -> Result<(), AgentError> {
        self.room.in_vain = match self.room.last {
            Some(step) if self.steps <= step + 1 => self.room.in_vain + 1,
            _ => 0,
        };
        self.room.last = Some(self.steps);
        if self.room.in_vain > MAX_IN_VAIN {
            let reason = "the conversation is too long for the model's context window again and again, although it is summarised each time; split the task, or choose a model with a larger window";
            return Err(AgentError::ContextFull { reason: reason.to_owned() });
        }
        let before_tokens = self.conversation.meter().tokens();
        let (all, before) = self.everything().await?;
        let summary = self.summarize(live(&all), &mut bodies).await?;
        self.room.unsummarised = if summary.is_some() { 0 } else { self.room.unsummarised + 1 };
        if self.room.unsummarised > MAX_UNSUMMARISED {
            let reason = "the conversation was too long for the model's context window, and the model wrote no summary of it, six times in a row; split the task, or choose a model with a larger window";
            return Err(AgentError::ContextFull { reason: reason.to_owned() });
        }
        let mut record = Record::of(&all, before);
        record.changed = self.changed_files().await;
        let room = self.room_tokens().unwrap_or(before_tokens);
        let items = items(&all, summary.as_deref(), &record, Budget::of(room, is_harder));
        let items: Vec<Value> = items.into_iter().map(|item| self.context.redactor.redact_json(item)).collect();
        self.conversation.push(&json!({ "type": CONTEXT_COMPACTED }));
        for item in &items {
            self.conversation.push(item);
        }
        bodies.push(EventBody::ContextCompacted {
            before_tokens,
            after_tokens: self.conversation.meter().tokens(),
            items_dropped: live(&all).len() as u64,
            by_model: summary.is_some(),
            items,
        });
        let redactor = self.context.redactor;
        let bodies = bodies.into_iter().map(|body| for_people(body, redactor)).collect();
        Ok(self.context.journal.record(bodies).await?)
    }

    /// The model's own summary; `None` when it cannot write one.
    async fn summarize(&mut self, live: &[Value], bodies: &mut Vec<EventBody>) -> Result<Option<String>, AgentError> {
        let request = preamble::message(REQUEST);
        let (size, _) = self.measure();
        // A server that has just refused the conversation would refuse it with one more item.
        let is_refused = self.is_too_large() || self.room.refused.is_some_and(|refused| size >= refused);
        let (mut target, mut tried) = if is_refused { (size * AFTER_REFUSAL / 100, size) } else { (size, u64::MAX) };
        loop {
            let asked = if target >= size {
                self.conversation.request_with(&request)
            } else {
                let (mut items, reached) = squeezed(live, size, target, self.measure().1);
                if reached >= tried {
                    break;
                }
                tried = reached;
                items.push(request.clone());
                self.conversation.request_of(&items)
            };
            match self.ask_for(asked).await {
                Ok((answer, duration)) => {
                    // What it cost is not lost with what becomes of it.
                    let responded = self.responded(&answer, duration);
                    self.context.journal.record(vec![responded]).await?;
                    return Ok(self.summary_in(&answer));
                }
                Err(AgentError::ContextFull { .. }) if target > size / 8 => target = target * AFTER_REFUSAL / 100,
                // A server that is away for a while is no reason to give the conversation up.
                Err(AgentError::ContextFull { reason } | AgentError::Model { reason, retryable: false }) => {
                    let message = format!("the model could not summarise the conversation: {reason}");
                    bodies.push(EventBody::Warning { message });
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What the model said for a summary. One that only called a tool has written none.
    fn summary_in(&self, answer: &Answer) -> Option<String> {
        let said = answer.items.iter().filter_map(message_text).collect::<Vec<_>>().join("\n\n");
        let text = visible(&self.context.redactor.redact(&said));
        (!text.trim().is_empty()).then_some(text)
    }

    /// What differs from the base commit, as git in the sandbox says. It is asked for nothing that matters more than a
    /// hint, so whatever is wrong is passed over.
    async fn changed_files(&self) -> Option<Vec<String>> {
        // The place in the conversation makes the id one of its own.
        let id = format!("changed-files-{}", self.conversation.len());
        let status = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain", "--untracked-files=normal"];
        let command = Command::new(id, status)
            .directory(self.workspace.clone())
            .time_limit(GIT_TIMEOUT)
            .output(Output::Kept { limit_bytes: GIT_BYTES });
        let listed = self.context.sandbox.run(command).await.ok().filter(|listed| listed.status.is_success())?;
        let text = self.context.redactor.redact(&String::from_utf8_lossy(&listed.output)).into_owned();
        Some(text.lines().take(GIT_LINES).map(one_line).collect())
    }
}

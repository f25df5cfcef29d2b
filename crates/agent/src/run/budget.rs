//! What an attempt may spend: steps, tokens, money, time. Before the last of it goes, the model is told to sum up, so that there
//! is an answer and a patch instead of nothing.

use std::future::Future;

use carrel_domain::{EventBody, Usage};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Agent;
use crate::journal::Bell;
use crate::model::is_note;
use crate::{AgentError, AgentLimits, AgentTask, Limit, preamble};

/// What the message is that asks to sum up.
const SUM_UP: &str = "budget_note";

/// What an answer is expected to have, in tokens.
const ANSWER_TOKENS: u64 = 4_000;

/// What a run may spend, and has.
#[derive(Debug)]
pub(super) struct Budget {
    limits: AgentLimits,
    /// From when on it is time to sum up, and when it is over.
    farewell: Instant,
    /// What was spent before a resumption.
    before: Usage,
    /// What the last request cost.
    last_cost: u64,
    closing: Closing,
}

/// How far the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Not near.
    Open,
    /// The model was told to sum up.
    Told,
    /// It has said something since.
    Said,
}

impl Budget {
    pub(super) fn new(task: &AgentTask) -> Self {
        let farewell = Instant::now() + task.limits.wall_clock.saturating_sub(task.limits.farewell);
        Self { limits: task.limits, farewell, before: task.spent, last_cost: 0, closing: Closing::Open }
    }

    /// Takes note of an item of before a resumption.
    pub(super) fn saw(&mut self, item: &Value, is_by_model: bool) {
        if asks_to_sum_up(item) {
            self.closing = Closing::Told;
        } else if is_by_model && self.closing == Closing::Told {
            self.closing = Closing::Said;
        }
    }

    /// Takes note of what a request has cost.
    pub(super) fn spend(&mut self, usage: Usage) {
        self.last_cost = usage.cost_usd_micros;
    }

    /// Whether the model is to sum up, or has.
    pub(super) fn is_closing(&self) -> bool {
        self.closing != Closing::Open
    }
}

/// Whether this is the message that asks to sum up.
pub(super) fn asks_to_sum_up(item: &Value) -> bool {
    is_note(item, SUM_UP)
}

impl Agent<'_> {
    /// Lets one more request be made; before the last one, tells the model that it is.
    pub(super) async fn stay_within(&mut self) -> Result<(), AgentError> {
        let Some(limit) = self.near(1) else {
            // A limit that was raised in the meantime.
            self.budget.closing = Closing::Open;
            return Ok(());
        };
        let is_over = self.near(0).is_some();
        match self.budget.closing {
            Closing::Said => return Err(AgentError::Limit(limit)),
            Closing::Told | Closing::Open if is_over => return Err(AgentError::Limit(limit)),
            Closing::Told => {}
            // A single step is no work to sum up.
            Closing::Open if self.steps == 0 => return Ok(()),
            Closing::Open => {
                let item = note(&limit);
                self.conversation.push(&item);
                let message = match &limit {
                    Limit::Budget { .. } => format!("the model was asked to sum up: {limit}"),
                    other => format!("{}; the model was asked to sum up", other.reached()),
                };
                let hit = EventBody::LimitHit { limit: limit.word().to_owned(), message };
                self.context.journal.record(vec![hit, EventBody::ConversationItem { item }]).await?;
            }
        }
        self.budget.closing = Closing::Said;
        Ok(())
    }

    /// A model that was told to sum up and called a tool instead has come to no end.
    pub(super) fn has_not_summed_up(&self) -> Result<(), AgentError> {
        match self.near(0).filter(|_| self.budget.is_closing()).or_else(|| self.near(1)) {
            Some(limit) if self.budget.is_closing() => Err(AgentError::Limit(limit)),
            _ => Ok(()),
        }
    }

    /// Why the model cannot be asked once more, if it cannot: its word stands then.
    pub(super) fn has_last_word(&self) -> Option<Limit> {
        match self.budget.closing {
            Closing::Said => self.near(1),
            Closing::Open | Closing::Told => self.near(0),
        }
    }

    /// The limit that so many requests beyond the next one would pass; with 0, the one that is passed already.
    pub(super) fn near(&self, requests: u32) -> Option<Limit> {
        let Budget { limits, farewell, before, last_cost, .. } = &self.budget;
        let tokens_of = |usage: &Usage| usage.input_tokens.saturating_add(usage.output_tokens);
        // These two say themselves when the last request is due.
        if requests > 0 {
            if Instant::now() >= *farewell {
                return Some(Limit::WallClock { wall_clock: limits.wall_clock });
            }
            if let Some(reason) = self.context.journal.bell().closing() {
                return Some(Limit::Budget { reason: reason.to_owned() });
            }
        }
        let steps = limits.steps;
        if self.steps.saturating_add(requests) >= steps {
            return Some(Limit::Steps { steps });
        }
        // The next request and the one that sums up.
        let more = u64::from(requests) * 2;
        let request = self.conversation.meter().tokens().saturating_add(ANSWER_TOKENS);
        let tokens =
            tokens_of(before).saturating_add(tokens_of(&self.usage)).saturating_add(more.saturating_mul(request));
        if let Some(most) = limits.tokens.filter(|most| tokens >= *most) {
            return Some(Limit::Tokens { tokens: most });
        }
        let cost = before.cost_usd_micros.saturating_add(self.usage.cost_usd_micros);
        let cost = cost.saturating_add(more.saturating_mul(*last_cost));
        limits.cost_usd_micros.filter(|most| cost >= *most).map(|most| Limit::Cost { cost_usd_micros: most })
    }
}

/// Lets a run go on until its time is over. Some time before, what it waits for in the sandbox is cut short, so that the
/// model can be asked to sum up.
pub(super) async fn within_time<T>(
    limits: AgentLimits,
    bell: &Bell,
    mut work: impl Future<Output = Result<T, AgentError>> + Unpin,
) -> Result<T, AgentError> {
    let began = Instant::now();
    let farewell = began + limits.wall_clock.saturating_sub(limits.farewell);
    let over = || AgentError::Limit(Limit::WallClock { wall_clock: limits.wall_clock });
    tokio::select! {
        biased;
        () = sleep_until(farewell) => bell.ring(),
        ended = &mut work => return ended,
    }
    timeout_at(began + limits.wall_clock, work).await.unwrap_or_else(|_| Err(over()))
}

/// What the model is told.
fn note(limit: &Limit) -> Value {
    let text = format!(
        "<{SUM_UP}>\n{}. This is your last message: call no tool any more. Sum up in the form of a final message what is done, what you \
         checked, and plainly what is not done or not checked. What you changed so far is kept.\n</budget_note>",
        limit.reached()
    );
    preamble::note(SUM_UP, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_known_again_and_names_the_limit() {
        let item = note(&Limit::Cost { cost_usd_micros: 1_500_000 });

        let text = item["content"][0]["text"].as_str().expect("a text");
        assert!(asks_to_sum_up(&item) && !asks_to_sum_up(&preamble::message(text)), "a person may say the same");
        assert!(item["content"][0]["text"].as_str().is_some_and(|text| text.contains("1.50 USD")), "{item}");
    }
}

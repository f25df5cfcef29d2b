//! Asking the model: again and again until there is an answer or no hope for one, and what the answer has cost.

use std::time::Duration;

use bytes::Bytes;
use carrel_domain::{EventBody, Usage};
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::Agent;
use crate::AgentError;
use crate::history::live;
use crate::model::failure::Again;
use crate::model::retry::wait_in_words;
use crate::model::{Answer, Failure, retry};

/// How much is kept of a server's name for its answer.
const MAX_ID_CHARS: usize = 200;

/// How often a conversation that is too long for its server is made shorter for one request.
const SHORTENED: u32 = 2;

/// How often reasoning is left out for one request: the second time, none is asked for any more.
const FORGOTTEN: u32 = 2;

impl Agent<'_> {
    /// Asks for what comes next. When the server says that the conversation is too long, a shorter one is gone on from,
    /// and once more a shorter one yet.
    pub(super) async fn ask(&mut self) -> Result<(Answer, Duration), AgentError> {
        let (mut times, mut forgotten) = (0, 0);
        loop {
            let asked = self.ask_for(self.conversation.request()).await;
            match asked {
                Err(AgentError::ContextFull { reason }) if self.is_too_large() && self.conversation.has_images() => {
                    let message = format!("{reason}; going on without the images");
                    self.context.journal.record(vec![EventBody::Warning { message }]).await?;
                    let (all, _) = self.everything().await?;
                    self.conversation.forget_images(live(&all));
                }
                Err(AgentError::ContextFull { reason }) if times < SHORTENED => {
                    self.make_room_again(times > 0, &reason).await?;
                    times += 1;
                }
                Err(AgentError::Model { reason, .. })
                    if self.refusal == Some(Again::Unverified) && forgotten < FORGOTTEN =>
                {
                    forgotten += 1;
                    let message = format!("{reason}; going on without it");
                    self.context.journal.record(vec![EventBody::Warning { message }]).await?;
                    let (all, _) = self.everything().await?;
                    self.conversation.forget_reasoning(live(&all), forgotten == FORGOTTEN);
                }
                Ok((answer, duration)) => {
                    match answer.usage {
                        Some(usage) => self.conversation.meter_mut().learn(usage.input_tokens),
                        None => self.count_exactly().await?,
                    }
                    return Ok((answer, duration));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes one request until there is an answer or no hope for one.
    pub(super) async fn ask_for(&mut self, request: Bytes) -> Result<(Answer, Duration), AgentError> {
        let endpoint = self.context.endpoint;
        // What would only be better than an answer that is there is not waited for long.
        let most = if self.review.has_a_standing_answer() { endpoint.retries.min(1) } else { endpoint.retries };
        let mut retries = 0;
        loop {
            let began = Instant::now();
            let span = tracing::info_span!("model request", model = endpoint.name, otel.kind = "client");
            let failure = match self.context.client.ask(endpoint, request.clone()).instrument(span).await {
                Ok(answer) => return Ok((answer, began.elapsed())),
                Err(failure) => failure,
            };
            let reason = self.context.redactor.redact(&failure.reason).into_owned();
            self.refusal = Some(failure.again);
            if let Some(usage) = failure.usage {
                self.record_loss(usage, began.elapsed()).await?;
            }
            let wait = match wait_before_retry(&failure, retries, most) {
                Ok(wait) => wait,
                Err(_) if matches!(failure.again, Again::ContextFull | Again::TooLarge) => {
                    return Err(AgentError::ContextFull { reason });
                }
                Err(retryable) => {
                    let reason = format!("{reason}{}", given_up(&failure, retries));
                    return Err(AgentError::Model { reason, retryable });
                }
            };
            retries += 1;
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let waiting = EventBody::ModelRetrying { reason, wait_ms, retry: retries, retries: most };
            self.context.journal.record(vec![waiting]).await?;
            sleep(wait).await;
        }
    }

    /// Counts what an answer has cost that came to nothing.
    async fn record_loss(&mut self, mut usage: Usage, duration: Duration) -> Result<(), AgentError> {
        usage.cost_usd_micros = self.context.endpoint.price.map_or(0, |price| price.of(&usage));
        self.usage += usage;
        let body = EventBody::ModelResponded {
            model: self.context.endpoint.name.clone(),
            response_id: String::new(),
            usage: Some(usage),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(self.context.journal.record(vec![body]).await?)
    }

    /// Counts what an answer has cost, and says so.
    pub(super) fn responded(&mut self, answer: &Answer, duration: Duration) -> EventBody {
        let usage = self.cost(answer);
        self.usage += usage;
        self.budget.spend(usage);
        EventBody::ModelResponded {
            model: self.context.endpoint.name.clone(),
            response_id: self.context.redactor.redact(&answer.id).chars().take(MAX_ID_CHARS).collect(),
            usage: Some(usage),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What an answer has cost: as its server counts, or as we do where it does not.
    fn cost(&self, answer: &Answer) -> Usage {
        let meter = self.conversation.meter();
        let mut usage = answer.usage.unwrap_or_else(|| Usage {
            input_tokens: meter.tokens(),
            output_tokens: answer.items.iter().map(|item| meter.of_item(item)).sum(),
            requests: 1,
            estimated_requests: 1,
            ..Usage::default()
        });
        usage.cost_usd_micros = self.context.endpoint.price.map_or(0, |price| price.of(&usage));
        usage
    }
}

/// Why it is not asked again, if that is not plain from what went wrong.
fn given_up(failure: &Failure, retries: u32) -> String {
    match failure.again {
        Again::After(wait) if wait > retry::MAX_ASKED_WAIT => {
            let (asked, most) = (wait_in_words(wait), wait_in_words(retry::MAX_ASKED_WAIT));
            format!(" (it asks to be asked again in {asked}, and at most {most} are waited)")
        }
        Again::After(_) | Again::Later if retries > 0 => format!(" (it was asked {} times)", retries + 1),
        _ => String::new(),
    }
}

/// How long to wait before asking again; or, when that makes no sense, whether a later attempt may.
fn wait_before_retry(failure: &Failure, retries: u32, max_retries: u32) -> Result<Duration, bool> {
    match failure.again {
        Again::Never | Again::Declined | Again::ContextFull | Again::TooLarge | Again::Shorter | Again::Unverified => {
            Err(false)
        }
        _ if retries >= max_retries => Err(true),
        Again::Later => Ok(retry::backoff(retries + 1)),
        Again::After(wait) if wait > retry::MAX_ASKED_WAIT => Err(true),
        Again::After(wait) => Ok(retry::asked(wait, retries + 1)),
    }
}

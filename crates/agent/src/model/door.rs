//! The model as an agent inside a sandbox asks it: its requests are checked, sent to the attempt's model with the key
//! that it never sees, answered as they come, and counted.
//!
//! What comes from inside is hostile: only the paths of the model's own protocol, only to the model the attempt is pinned
//! to, no header but two, and nothing at all beyond the limits.
//!
//! ```text
//! a request -> waits for its turn -> read (see `read`) -> room is taken (see `books`) -> sent -> counted (see `counting`)
//! ```

mod books;
mod counting;
pub(super) mod read;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use carrel_domain::{EventBody, Redactor, Usage};
use futures::StreamExt;
use reqwest::header;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::failure::causes;
use super::{ERROR_TIMEOUT, Failure, MAX_ERROR_BYTES, MAX_STREAM_BYTES, MAX_STREAM_TIME, bounded_body, with_headers};
use crate::{AgentLimits, Journal, Limit, ModelClient, ModelEndpoint, Protocol};
use books::{Books, Denied, Held};
use counting::{Counted, Counting};
use read::{Sent, Unread};

/// Pieces of an answer that wait for a slow reader.
const WAITING_PIECES: usize = 16;

/// How much is kept of a server's name for its answer.
const MAX_ID_CHARS: usize = 200;

/// Requests under way at the same time. An agent has one, and a few beside it.
const AT_ONCE: usize = 4;

/// How long a request waits for its turn, and for room.
const TURN_PATIENCE: Duration = Duration::from_mins(5);

/// How many tokens an answer is expected to have, where the request does not say.
const ANSWER_TOKENS: u64 = 4_000;

/// How long a reader that takes nothing is waited for before its answer is read without it.
const SLOW_READER: Duration = Duration::from_secs(60);

/// How long what is under way may take to be put down once it is broken off.
const PUT_DOWN: Duration = Duration::from_secs(2);

/// Headers of an agent that go on to the server: what features of the protocol it speaks.
const PASSED: [&str; 2] = ["anthropic-beta", "openai-beta"];

/// What an agent inside asks, as it came. Untrusted.
#[derive(Debug, Clone)]
pub struct GuestRequest {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// All of its body.
    pub body: Bytes,
}

/// The head of an answer, and its body as it comes.
#[derive(Debug)]
pub struct GuestAnswer {
    /// An HTTP status.
    pub status: u16,
    /// Such as `text/event-stream`.
    pub content_type: String,
    /// The pieces; `None` behind the last. Ending without that is a body that was cut.
    pub body: mpsc::Receiver<Option<Bytes>>,
}

/// The model of one attempt. Clones are the same.
#[derive(Debug, Clone)]
pub struct GuestModel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: ModelEndpoint,
    client: ModelClient,
    journal: Journal,
    redactor: Redactor,
    books: Arc<Books>,
    open: Semaphore,
    /// Why the last request failed, in words for a person.
    trouble: Mutex<Option<String>>,
    /// Goes up with every request and every answer.
    activity: watch::Sender<u64>,
    reached: watch::Sender<Option<Limit>>,
    /// Breaks off what is under way.
    broken_off: CancellationToken,
}

impl GuestModel {
    /// The model behind an endpoint, within these limits, of which so much is used up.
    #[must_use]
    pub fn new(
        endpoint: ModelEndpoint,
        client: ModelClient,
        journal: Journal,
        redactor: Redactor,
        limits: AgentLimits,
        spent: Usage,
    ) -> Self {
        let inner = Inner {
            endpoint,
            client,
            journal,
            redactor,
            books: Books::new(limits, spent),
            open: Semaphore::new(AT_ONCE),
            trouble: Mutex::new(None),
            activity: watch::Sender::new(0),
            reached: watch::Sender::new(None),
            broken_off: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Serves one request to its end. Nobody listens to `answer` any more when the agent has broken off; what it asked
    /// for is counted all the same.
    pub async fn serve(&self, request: GuestRequest, answer: impl FnOnce(GuestAnswer) + Send) {
        let inner = &*self.inner;
        inner.activity.send_modify(|count| *count += 1);
        match inner.asked(&request) {
            Err(refusal) => answer(refusal),
            Ok(Asked::Models) => answer(whole(200, &inner.models())),
            Ok(Asked::Model { path, is_counted }) => inner.take_turn(request, path, is_counted, answer).await,
        }
        inner.activity.send_modify(|count| *count += 1);
    }

    /// What was spent through it, and before.
    pub(crate) fn spent(&self) -> Usage {
        self.inner.books.spent()
    }

    /// Lets no further request through, and what is under way come to its end for so long. What does not is broken off
    /// and put down by what was seen of it, or by an estimate if that is more.
    pub(crate) async fn settle(&self, grace: Duration) {
        let books = &self.inner.books;
        books.close();
        if timeout(grace, books.idle()).await.is_err() {
            self.inner.broken_off.cancel();
            // What is not even then put down is the estimate when its task ends.
            let _late = timeout(PUT_DOWN, books.idle()).await;
        }
    }

    /// Returns once the end of a limit is near: four fifths of it are used up.
    pub(crate) async fn near(&self) -> Limit {
        self.inner.books.near().await
    }

    /// Lets so many more requests through once a budget is closed, so that the agent can sum up.
    pub(crate) fn allow_last_words(&self, requests: u32) {
        self.inner.books.allow_last_words(requests);
    }

    /// Why the last request failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes with every request and every answer.
    pub(crate) fn activity(&self) -> watch::Receiver<u64> {
        self.inner.activity.subscribe()
    }

    /// Returns once a limit is reached.
    pub(crate) async fn reached(&self) -> Limit {
        let mut reached = self.inner.reached.subscribe();
        let found = reached.wait_for(Option::is_some).await.map(|limit| limit.clone());
        match found {
            Ok(Some(limit)) => limit,
            // The sender is held by this very value.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The name of the model.
    pub(crate) fn name(&self) -> &str {
        &self.inner.endpoint.name
    }
}

enum Asked {
    Models,
    Model { path: &'static str, is_counted: bool },
}

impl Inner {
    /// What a request is for, by its head.
    fn asked(&self, request: &GuestRequest) -> Result<Asked, GuestAnswer> {
        let path = request.path.split(['?', '#']).next().unwrap_or_default();
        if request.method == "GET" && path == "/v1/models" {
            return Ok(Asked::Models);
        }
        let protocol = self.endpoint.protocol;
        let (path, is_counted) = match (request.method.as_str(), path, protocol) {
            ("POST", "/v1/responses", Protocol::Responses) => ("responses", true),
            ("POST", "/v1/chat/completions", Protocol::ChatCompletions) => ("chat/completions", true),
            ("POST", "/v1/messages", Protocol::Messages) => ("messages", true),
            ("POST", "/v1/messages/count_tokens", Protocol::Messages) => ("messages/count_tokens", false),
            _ => {
                let why = format!("the model of this attempt speaks the {} and nothing else", protocol.title());
                return Err(self.error(404, "not_found_error", &why));
            }
        };
        Ok(Asked::Model { path, is_counted })
    }

    /// Waits for a request's turn, reads it, takes room for it, and passes it on. Each of these has an end.
    async fn take_turn(
        &self,
        request: GuestRequest,
        path: &'static str,
        is_counted: bool,
        answer: impl FnOnce(GuestAnswer) + Send,
    ) {
        let deadline = Instant::now() + TURN_PATIENCE;
        let GuestRequest { headers, body, .. } = request;
        let Ok(Ok(_open)) = timeout_at(deadline, self.open.acquire()).await else {
            return answer(self.busy());
        };
        // Nothing is read of an agent that may ask no more.
        if let Err(denied) = self.books.look(self.closing()) {
            return answer(self.denied(denied));
        }
        let sent = match self.client.guests.read(&self.endpoint, body, deadline).await {
            Ok(sent) => sent,
            Err(Unread::Busy) => return answer(self.busy()),
            Err(Unread::Refused(why)) => {
                self.books.failed();
                return answer(self.error(400, "invalid_request_error", &why));
            }
        };
        let held = if is_counted {
            match self.books.take(self.estimate(&sent), || self.closing(), deadline).await {
                Ok(held) => Some(held),
                Err(denied) => return answer(self.denied(denied)),
            }
        } else if self.books.may_count() {
            None
        } else {
            return answer(self.error(
                429,
                "rate_limit_error",
                "tokens were counted too often; send the request itself",
            ));
        };
        self.pass(&headers, path, sent, held, answer).await;
    }

    fn closing(&self) -> Option<String> {
        self.journal.bell().closing().map(str::to_owned)
    }

    /// What a request may cost.
    fn estimate(&self, sent: &Sent) -> Usage {
        let mut usage =
            Usage { input_tokens: sent.tokens, output_tokens: ANSWER_TOKENS, requests: 1, ..Usage::default() };
        usage.cost_usd_micros = self.endpoint.price.map_or(0, |price| price.of(&usage));
        Usage { estimated_requests: 1, ..usage }
    }

    fn denied(&self, denied: Denied) -> GuestAnswer {
        match denied {
            Denied::Busy => self.busy(),
            Denied::Ended => self.error(400, "insufficient_quota", "the agent of this sandbox has come to its end"),
            Denied::Limit(limit) => {
                let why = limit.to_string();
                self.reached.send_replace(Some(limit));
                self.error(400, "insufficient_quota", &why)
            }
        }
    }

    fn busy(&self) -> GuestAnswer {
        self.books.failed();
        self.error(503, "overloaded_error", "too much is asked of the model at the same time; ask again later")
    }

    /// Sends a request and hands its answer on. Without `held` it costs nothing.
    async fn pass(
        &self,
        headers: &[(String, String)],
        path: &str,
        sent: Sent,
        held: Option<Held>,
        answer: impl FnOnce(GuestAnswer) + Send,
    ) {
        let began = Instant::now();
        let url = self.endpoint.url(path);
        let passed = headers.iter().filter(|(name, _)| PASSED.contains(&name.as_str()));
        let sending =
            passed.fold(self.client.http.post(url.clone()), |sending, (name, value)| sending.header(name, value));
        let sending = sending.header(header::CONTENT_TYPE, "application/json").body(sent.body);
        let responding = timeout(self.endpoint.timeouts.first_byte, with_headers(sending, &self.endpoint).send());
        let response = tokio::select! {
            biased;
            response = responding => response,
            () = self.broken_off.cancelled() => {
                // It may be paid for, though nothing came back yet.
                return self.count(held, &Counted::none(), began.elapsed(), sent.tokens).await;
            }
        };
        let response = match response {
            Err(_) => {
                let failure = Failure::stalled("did not begin to answer", self.endpoint.timeouts.first_byte);
                return answer(self.failed(held, 504, &failure));
            }
            Ok(Err(error)) => {
                return answer(self.failed(held, 502, &Failure::unreachable(&self.endpoint, &url, error)));
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if !status.is_success() {
            let headers = response.headers().clone();
            let body = bounded_body(response, MAX_ERROR_BYTES, ERROR_TIMEOUT).await;
            let failure = Failure::refused(&self.endpoint, status.as_u16(), &headers, &body, &[]);
            // A redirect would lead to where nobody said that requests may go.
            let status = if status.is_redirection() { 502 } else { status.as_u16() };
            return answer(self.failed(held, status, &failure));
        }
        self.note_trouble(None);
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or("text/event-stream").to_owned();
        let (sender, body) = mpsc::channel(WAITING_PIECES);
        answer(GuestAnswer { status: status.as_u16(), content_type: kind.clone(), body });
        let (counted, is_whole) = self.relay(response, &kind, &sender).await;
        // Before the agent has the end of the answer, so that nothing follows from what is not recorded.
        self.count(held, &counted, began.elapsed(), sent.tokens).await;
        // Without its end it is an answer that was cut, and whoever reads it knows.
        if is_whole {
            let _gone = timeout(SLOW_READER, sender.send(None)).await;
        }
    }

    /// Hands the pieces on, and reads beside it what the answer cost: the server's id and its count. Says, too, whether all
    /// of it came and was taken.
    async fn relay(
        &self,
        response: reqwest::Response,
        kind: &str,
        sender: &mpsc::Sender<Option<Bytes>>,
    ) -> (Counted, bool) {
        let mut counting = Counting::new(self.endpoint.protocol, kind);
        let (began, mut bytes) = (Instant::now(), 0);
        let mut is_read = true;
        let mut body = response.bytes_stream();
        let broken = loop {
            let chunk = tokio::select! {
                biased;
                chunk = timeout(self.endpoint.timeouts.idle, body.next()) => chunk,
                () = self.broken_off.cancelled() => break Some("the agent ended before the answer did".to_owned()),
            };
            let chunk = match chunk {
                Ok(None) => break None,
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => break Some(causes(&error.without_url())),
                Err(_) => break Some("the model server stopped in the middle of its answer".to_owned()),
            };
            bytes += chunk.len();
            if bytes > MAX_STREAM_BYTES || began.elapsed() > MAX_STREAM_TIME {
                break Some("the model server does not come to the end of its answer".to_owned());
            }
            counting.push(&chunk);
            // What is under way is paid for, whether anybody still listens or not: it is read to its end to be counted.
            is_read = is_read && self.is_taken(sender, chunk).await;
        };
        let is_cut = broken.is_some();
        if let Some(reason) = broken {
            let said = self.redactor.redact(&reason).into_owned();
            self.note_trouble(Some(said));
        }
        (counting.finish(is_cut), is_read && !is_cut)
    }

    /// Whether a piece was taken by the agent: before it is too late, and before it has ended.
    async fn is_taken(&self, sender: &mpsc::Sender<Option<Bytes>>, piece: Bytes) -> bool {
        tokio::select! {
            sent = timeout(SLOW_READER, sender.send(Some(piece))) => matches!(sent, Ok(Ok(()))),
            () = self.broken_off.cancelled() => false,
        }
    }

    /// Records what a request has cost, and puts it down.
    async fn count(&self, held: Option<Held>, counted: &Counted, duration: Duration, sent_tokens: u64) {
        let Some(held) = held else { return };
        let mut usage = counted.usage(sent_tokens);
        usage.cost_usd_micros = self.endpoint.price.map_or(0, |price| price.of(&usage));
        let body = EventBody::ModelResponded {
            model: self.endpoint.name.clone(),
            response_id: self.redactor.redact(&counted.id).chars().take(MAX_ID_CHARS).collect(),
            usage: Some(usage),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        };
        // Where nothing can be recorded any more, the agent is about to be ended.
        let _closed = self.journal.record(vec![body]).await;
        held.settle(usage);
    }

    fn failed(&self, held: Option<Held>, status: u16, failure: &Failure) -> GuestAnswer {
        match held {
            Some(held) => held.fail(),
            None => self.books.failed(),
        }
        let reason = self.redactor.redact(&failure.reason).into_owned();
        self.note_trouble(Some(reason.clone()));
        let kind = match status {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        self.error(status, kind, &reason)
    }

    fn note_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// An error in the form of the protocol.
    fn error(&self, status: u16, kind: &str, message: &str) -> GuestAnswer {
        let error = json!({ "type": kind, "code": kind, "message": message });
        let body = match self.endpoint.protocol {
            Protocol::Messages => json!({ "type": "error", "error": error }),
            Protocol::Responses | Protocol::ChatCompletions => json!({ "error": error }),
        };
        whole(status, &body)
    }

    fn models(&self) -> Value {
        let name = &self.endpoint.name;
        json!({
            "object": "list",
            "data": [{ "id": name, "type": "model", "object": "model", "created": 0, "owned_by": "carrel",
                       "display_name": name, "created_at": "1970-01-01T00:00:00Z" }],
            "has_more": false, "first_id": name, "last_id": name,
        })
    }
}

fn whole(status: u16, body: &Value) -> GuestAnswer {
    let (sender, receiver) = mpsc::channel(2);
    for piece in [Some(Bytes::from(body.to_string())), None] {
        sender.try_send(piece).expect("there is room for two");
    }
    GuestAnswer { status, content_type: "application/json".to_owned(), body: receiver }
}

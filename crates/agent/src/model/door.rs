//! The model as an agent inside a sandbox asks it: its requests are checked, sent to the attempt's model with the key
//! that it never sees, answered as they come, and counted.
//!
//! What comes from inside is hostile: only the paths of the model's own protocol, only to the model the attempt is pinned
//! to, no header but two, and nothing at all beyond the limits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use carrel_domain::{EventBody, Redactor, Usage};
use futures::StreamExt;
use reqwest::header;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::decode::Decoder;
use super::events::EventDecoder;
use super::failure::causes;
use super::{ERROR_TIMEOUT, Failure, MAX_ERROR_BYTES, MAX_STREAM_BYTES, MAX_STREAM_TIME, bounded_body, with_headers};
use crate::{AgentLimits, Journal, Limit, ModelClient, ModelEndpoint, Protocol};

/// Pieces of an answer that wait for a slow reader.
const WAITING_PIECES: usize = 16;

/// Bytes of text that make a token, where a server does not count.
const BYTES_OF_A_TOKEN: usize = 4;

/// How much is kept of a server's name for its answer.
const MAX_ID_CHARS: usize = 200;

/// Requests under way at the same time. An agent has one, and a few beside it; what is under way is not counted yet.
const AT_ONCE: usize = 4;

/// How long a reader that takes nothing is waited for before its answer is read without it.
const SLOW_READER: Duration = Duration::from_secs(60);

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
    limits: AgentLimits,
    spent: Mutex<Usage>,
    /// Requests that were answered with an error: they are no steps of the record, and are limited as if they were.
    failed: AtomicU64,
    open: Semaphore,
    /// Why the last request failed, in words for a person.
    trouble: Mutex<Option<String>>,
    /// Goes up with every request and every answer.
    activity: watch::Sender<u64>,
    reached: watch::Sender<Option<Limit>>,
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
        let (activity, _) = watch::channel(0);
        let (reached, _) = watch::channel(None);
        let (spent, trouble) = (Mutex::new(spent), Mutex::new(None));
        let (failed, open) = (AtomicU64::new(0), Semaphore::new(AT_ONCE));
        let inner =
            Inner { endpoint, client, journal, redactor, limits, spent, failed, open, trouble, activity, reached };
        Self { inner: Arc::new(inner) }
    }

    /// Serves one request to its end. Nobody listens to `answer` any more when the agent has broken off; what it asked
    /// for is counted all the same.
    pub async fn serve(&self, request: GuestRequest, answer: impl FnOnce(GuestAnswer) + Send) {
        let inner = &*self.inner;
        inner.activity.send_modify(|count| *count += 1);
        // Whoever waits here looks at the limits afterwards.
        let Ok(_open) = inner.open.acquire().await else { return };
        match inner.understood(&request) {
            Err(refusal) => answer(refusal),
            Ok(Asked::Models) => answer(whole(200, &inner.models())),
            Ok(Asked::Model { path, body, is_counted }) => {
                inner.pass(&request, path, body, is_counted, answer).await;
            }
        }
        inner.activity.send_modify(|count| *count += 1);
    }

    /// What was spent through it, and before.
    pub(crate) fn spent(&self) -> Usage {
        *self.inner.spent.lock().unwrap_or_else(PoisonError::into_inner)
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
    Model { path: &'static str, body: Bytes, is_counted: bool },
}

impl Inner {
    fn understood(&self, request: &GuestRequest) -> Result<Asked, GuestAnswer> {
        let path = request.path.split(['?', '#']).next().unwrap_or_default();
        if request.method == "GET" && path == "/v1/models" {
            return Ok(Asked::Models);
        }
        let protocol = self.endpoint.protocol;
        let (own, is_counted) = match (request.method.as_str(), path, protocol) {
            ("POST", "/v1/responses", Protocol::Responses) => ("responses", true),
            ("POST", "/v1/chat/completions", Protocol::ChatCompletions) => ("chat/completions", true),
            ("POST", "/v1/messages", Protocol::Messages) => ("messages", true),
            ("POST", "/v1/messages/count_tokens", Protocol::Messages) => ("messages/count_tokens", false),
            _ => {
                let why = format!("the model of this attempt speaks the {} and nothing else", protocol.title());
                return Err(self.error(404, "not_found_error", &why));
            }
        };
        if let Some(limit) = self.limit() {
            let why = limit.to_string();
            self.reached.send_replace(Some(limit));
            return Err(self.error(400, "insufficient_quota", &why));
        }
        let Ok(Value::Object(mut body)) = serde_json::from_slice(&request.body) else {
            return Err(self.error(400, "invalid_request_error", "the body is no JSON object"));
        };
        if let Err(why) = super::asked::allowed(protocol, &mut body) {
            return Err(self.error(400, "invalid_request_error", &why));
        }
        // An attempt has one model, whatever other names its agent knows: a smaller one for titles, for example.
        body.insert("model".to_owned(), json!(self.endpoint.name));
        let streams = body.get("stream") == Some(&Value::Bool(true));
        if protocol == Protocol::ChatCompletions && streams && self.endpoint.stream_usage {
            body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        }
        let body = Bytes::from(Value::Object(body).to_string());
        Ok(Asked::Model { path: own, body, is_counted })
    }

    /// The limit that is reached, if one is.
    fn limit(&self) -> Option<Limit> {
        let spent = *self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = spent.input_tokens.saturating_add(spent.output_tokens);
        let limits = &self.limits;
        let under_way = (AT_ONCE - self.open.available_permits()).saturating_sub(1) as u64;
        let asked = spent.requests.saturating_add(self.failed.load(Ordering::Acquire)).saturating_add(under_way);
        if asked >= u64::from(limits.steps) {
            return Some(Limit::Steps { steps: limits.steps });
        }
        if let Some(most) = limits.tokens.filter(|most| tokens >= *most) {
            return Some(Limit::Tokens { tokens: most });
        }
        let cost = limits.cost_usd_micros.filter(|most| spent.cost_usd_micros >= *most);
        if let Some(cost_usd_micros) = cost {
            return Some(Limit::Cost { cost_usd_micros });
        }
        let closing = self.journal.bell().closing().map(str::to_owned);
        closing.map(|reason| Limit::Budget { reason })
    }

    async fn pass(
        &self,
        request: &GuestRequest,
        path: &str,
        body: Bytes,
        is_counted: bool,
        answer: impl FnOnce(GuestAnswer) + Send,
    ) {
        let (began, sent_bytes) = (Instant::now(), body.len());
        let url = self.endpoint.url(path);
        let passed = request.headers.iter().filter(|(name, _)| PASSED.contains(&name.as_str()));
        let sending =
            passed.fold(self.client.http.post(url.clone()), |sending, (name, value)| sending.header(name, value));
        let sending = sending.header(header::CONTENT_TYPE, "application/json").body(body);
        let response =
            match timeout(self.endpoint.timeouts.first_byte, with_headers(sending, &self.endpoint).send()).await {
                Err(_) => {
                    let failure = Failure::stalled("did not begin to answer", self.endpoint.timeouts.first_byte);
                    return answer(self.failed(504, &failure));
                }
                Ok(Err(error)) => {
                    return answer(self.failed(502, &Failure::unreachable(&self.endpoint, &url, error)));
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
            return answer(self.failed(status, &failure));
        }
        self.note_trouble(None);
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or("text/event-stream").to_owned();
        let (sender, body) = mpsc::channel(WAITING_PIECES);
        answer(GuestAnswer { status: status.as_u16(), content_type: kind.clone(), body });
        let (usage, is_whole) = self.relay(response, &kind, &sender).await;
        if is_counted {
            // Before the agent has the end of the answer, so that nothing follows from what is not recorded.
            self.count(usage, began.elapsed(), sent_bytes).await;
        }
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
            let chunk = match timeout(self.endpoint.timeouts.idle, body.next()).await {
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
            is_read = is_read && matches!(timeout(SLOW_READER, sender.send(Some(chunk))).await, Ok(Ok(())));
        };
        let is_whole = is_read && broken.is_none();
        if let Some(reason) = broken {
            let said = self.redactor.redact(&reason).into_owned();
            self.note_trouble(Some(said));
        }
        (counting.finish(bytes), is_whole)
    }

    async fn count(&self, counted: Counted, duration: Duration, sent_bytes: usize) {
        let estimate = || Usage {
            input_tokens: (sent_bytes / BYTES_OF_A_TOKEN) as u64,
            output_tokens: (counted.bytes / BYTES_OF_A_TOKEN) as u64,
            estimated_requests: 1,
            ..Usage::default()
        };
        let mut usage = counted.usage.unwrap_or_else(estimate);
        usage.requests = 1;
        usage.cost_usd_micros = self.endpoint.price.map_or(0, |price| price.of(&usage));
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner) += usage;
        let body = EventBody::ModelResponded {
            model: self.endpoint.name.clone(),
            response_id: self.redactor.redact(&counted.id).chars().take(MAX_ID_CHARS).collect(),
            usage: Some(usage),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        };
        // Where nothing can be recorded any more, the agent is about to be ended.
        let _closed = self.journal.record(vec![body]).await;
    }

    fn failed(&self, status: u16, failure: &Failure) -> GuestAnswer {
        self.failed.fetch_add(1, Ordering::AcqRel);
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

/// What an answer cost, by its own word.
struct Counted {
    id: String,
    usage: Option<Usage>,
    bytes: usize,
}

/// Reads an answer for what it cost. One that cannot be read goes on all the same: it is the agent's to understand.
struct Counting {
    decoder: Option<Decoder>,
    events: EventDecoder,
    /// All of it, where it does not come in events.
    whole: Option<Vec<u8>>,
}

impl Counting {
    fn new(protocol: Protocol, kind: &str) -> Self {
        let is_whole = kind.to_ascii_lowercase().starts_with("application/json");
        let whole = is_whole.then(Vec::new);
        Self { decoder: Some(Decoder::new(protocol)), events: EventDecoder::default(), whole }
    }

    fn push(&mut self, chunk: &[u8]) {
        if let Some(whole) = &mut self.whole {
            return whole.extend_from_slice(chunk);
        }
        if self.events.push(chunk).is_err() {
            self.decoder = None;
        }
        while let (Some(data), Some(decoder)) = (self.events.next(), &mut self.decoder) {
            if decoder.event(&data).is_err() {
                self.decoder = None;
            }
        }
    }

    fn finish(self, bytes: usize) -> Counted {
        let answer = match (self.decoder, self.whole) {
            (Some(decoder), Some(whole)) => decoder.whole(&whole),
            (Some(decoder), None) => decoder.finish(),
            (None, _) => return Counted { id: String::new(), usage: None, bytes },
        };
        match answer {
            Ok(answer) => Counted { id: answer.id, usage: answer.usage, bytes },
            Err(failure) => Counted { id: String::new(), usage: failure.usage, bytes },
        }
    }
}

//! The client of model servers: one request, one answer, over each of the three protocols. Asking again is [`retry`]'s,
//! and what is asked is written by the encoders, item by item.
//!
//! It is lenient in what it does not need (unknown events and fields, missing `event:` lines, ids and usage, comments,
//! `[DONE]`) and strict in what it does: what a model said arrives whole, an answer has an end, and nothing is larger
//! than it may be.

mod answer;
mod asked;
mod decode;
pub(crate) mod door;
mod encode;
mod events;
pub(crate) mod failure;
mod item;
pub(crate) mod retry;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{RequestBuilder, header};
use serde_json::Value;
use tokio::time::{Instant, timeout};

pub(crate) use answer::{Answer, Remark};
pub(crate) use encode::Encoder;
pub(crate) use failure::Failure;
pub(crate) use item::{
    Call, CallKind, NOTE, ORIGIN, PAUSED, STANDS_FOR, calls_in, can_be_sent_back, is_by_model, is_compaction, is_note,
    message_text, reasoning_text,
};

use crate::{ModelEndpoint, ModelTimeouts, Protocol};
use decode::Decoder;
use events::EventDecoder;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for the next request: a command may take its time in between.
const KEEP_IDLE: Duration = Duration::from_mins(5);

/// After the end of an answer the connection is only of use once its body has been read; it is given this long.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// Once a model has said all, its server may still say what it cost; it is given this long for it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer, in bytes of its stream and in time: a server that goes on for ever is broken.
const MAX_STREAM_BYTES: usize = 64 << 20;
const MAX_STREAM_TIME: Duration = Duration::from_hours(2);

/// How many models an error names, how long a list of them may take, and how long it may be.
const MAX_LISTED: usize = 20;
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_LIST_BYTES: usize = 1 << 20;

/// The most that is read of the body of an HTTP error, and for how long.
const MAX_ERROR_BYTES: usize = 64 << 10;
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);

/// Which version of the Messages API is spoken: there is only one so far.
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// One connection pool for all model servers. Clones share it.
#[derive(Debug, Clone)]
pub struct ModelClient {
    http: reqwest::Client,
    /// What agents inside sandboxes ask, all together.
    guests: door::read::GuestRoom,
}

/// The model client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up HTTPS for the model server: {0}")]
pub struct ModelClientError(#[from] reqwest::Error);

impl ModelClient {
    /// Opens no connection yet. Proxies of the environment are not used and redirects are not followed, so that the
    /// key goes where the configuration says and nowhere else.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, ModelClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("carrel/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(KEEP_IDLE)
            .tcp_keepalive(Duration::from_secs(30))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, guests: door::read::GuestRoom::default() })
    }

    /// Sends one request and reads its answer to the end.
    pub(crate) async fn ask(&self, endpoint: &ModelEndpoint, body: Bytes) -> Result<Answer, Failure> {
        let url = endpoint.url(match endpoint.protocol {
            Protocol::Responses => "responses",
            Protocol::ChatCompletions => "chat/completions",
            Protocol::Messages => "messages",
        });
        let request = self
            .http
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .body(body);
        let response = timeout(endpoint.timeouts.first_byte, with_headers(request, endpoint).send())
            .await
            .map_err(|_| Failure::stalled("did not begin to answer", endpoint.timeouts.first_byte))?
            .map_err(|error| Failure::unreachable(endpoint, &url, error))?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            let headers = response.headers().clone();
            let body = bounded_body(response, MAX_ERROR_BYTES, ERROR_TIMEOUT).await;
            let listed = if status == 404 { self.listed(endpoint).await } else { Vec::new() };
            return Err(Failure::refused(endpoint, status, &headers, &body, &listed));
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match kind.map(str::to_ascii_lowercase) {
            Some(kind) if kind.starts_with("application/json") => read_whole(response, endpoint).await,
            Some(kind) if !kind.starts_with("text/event-stream") => Err(Failure::not_a_stream(endpoint, &url, &kind)),
            Some(_) | None => read(response, endpoint).await,
        }
    }

    /// The models the server says it has, those first whose name is like the one that was asked for. None when it does
    /// not say.
    async fn listed(&self, endpoint: &ModelEndpoint) -> Vec<String> {
        let request = with_headers(self.http.get(endpoint.url("models")), endpoint);
        let Ok(Ok(response)) = timeout(LIST_TIMEOUT, request.send()).await else { return Vec::new() };
        if !response.status().is_success() {
            return Vec::new();
        }
        let body = bounded_body(response, MAX_LIST_BYTES, LIST_TIMEOUT).await;
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        let models = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<String> = models.iter().filter_map(|model| Some(model["id"].as_str()?.to_owned())).collect();
        let shared =
            |name: &str| name.bytes().zip(endpoint.name.bytes()).take_while(|(one, other)| one == other).count();
        names.sort_by_key(|name| std::cmp::Reverse(shared(name)));
        names.truncate(MAX_LISTED);
        names
    }
}

/// A request with what the server knows us by.
fn with_headers(mut request: RequestBuilder, endpoint: &ModelEndpoint) -> RequestBuilder {
    if let Some(key) = &endpoint.key {
        request = match (&endpoint.key_header, endpoint.protocol) {
            (Some(name), _) => request.header(name, key.expose()),
            (None, Protocol::Messages) => request.header("x-api-key", key.expose()),
            (None, Protocol::Responses | Protocol::ChatCompletions) => request.bearer_auth(key.expose()),
        };
    }
    let configured = |name: &str| endpoint.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if endpoint.protocol == Protocol::Messages && !configured(ANTHROPIC_VERSION.0) {
        request = request.header(ANTHROPIC_VERSION.0, ANTHROPIC_VERSION.1);
    }
    endpoint.headers.iter().fold(request, |request, (name, value)| request.header(name, value.expose()))
}

/// Reads the events of an answer. When the stream breaks off after whole tool calls, these are the answer.
async fn read(response: reqwest::Response, endpoint: &ModelEndpoint) -> Result<Answer, Failure> {
    let ModelTimeouts { idle, silent, .. } = endpoint.timeouts;
    let mut body = response.bytes_stream();
    let mut events = EventDecoder::default();
    let mut answer = Decoder::new(endpoint.protocol);
    let (began, mut bytes) = (Instant::now(), 0);
    let mut last_said = began;
    let broken = 'stream: loop {
        let patience = if answer.is_all_said() { idle.min(LAST_WORDS_TIMEOUT) } else { idle };
        let chunk = match timeout(patience, body.next()).await {
            Err(_) => break Failure::stalled("stopped in the middle of its answer", idle),
            Ok(None) => break Failure::cut("it ended before its end was announced".to_owned()),
            Ok(Some(Err(error))) => break Failure::cut(failure::causes(&error.without_url())),
            Ok(Some(Ok(chunk))) => chunk,
        };
        bytes += chunk.len();
        if bytes > MAX_STREAM_BYTES {
            break Failure::cut(format!("it is longer than {MAX_STREAM_BYTES} bytes"));
        }
        if began.elapsed() > MAX_STREAM_TIME {
            break Failure::stalled("has not come to the end of its answer", MAX_STREAM_TIME);
        }
        if let Err(failure) = events.push(&chunk) {
            break failure;
        }
        while let Some(data) = events.next() {
            if !decode::is_keep_alive(&data) {
                last_said = Instant::now();
            }
            match answer.event(&data) {
                Ok(false) => {}
                Ok(true) => {
                    let _ = timeout(DRAIN_TIMEOUT, async { while let Some(Ok(_)) = body.next().await {} }).await;
                    return answer.finish();
                }
                Err(failure) => break 'stream failure,
            }
        }
        if last_said.elapsed() > silent {
            break Failure::stalled("has only kept its connection alive, and said nothing,", silent);
        }
    };
    answer.broken(broken)
}

/// Reads an answer from a server that does not stream although it was asked to: all of it at once, or an error.
async fn read_whole(response: reqwest::Response, endpoint: &ModelEndpoint) -> Result<Answer, Failure> {
    let idle = endpoint.timeouts.idle;
    let mut body = response.bytes_stream();
    let mut bytes = Vec::new();
    loop {
        match timeout(idle, body.next()).await {
            Err(_) => return Err(Failure::stalled("stopped in the middle of its answer", idle)),
            Ok(None) => return Decoder::new(endpoint.protocol).whole(&bytes),
            Ok(Some(Err(error))) => return Err(Failure::cut(failure::causes(&error.without_url()))),
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
        }
        if bytes.len() > events::MAX_EVENT_BYTES {
            return Err(Failure::cut(format!("it is longer than {} bytes", events::MAX_EVENT_BYTES)));
        }
    }
}

/// What there is of a body within its limits: whatever came is better than nothing.
async fn bounded_body(response: reqwest::Response, max_bytes: usize, patience: Duration) -> Vec<u8> {
    let mut body = response.bytes_stream();
    let mut bytes = Vec::new();
    let read = async {
        while let Some(Ok(chunk)) = body.next().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > max_bytes {
                break;
            }
        }
    };
    let _ = timeout(patience, read).await;
    bytes.truncate(max_bytes);
    bytes
}

//! The client of the Responses API: one request, one answer. Asking again is [`retry`]'s, and what is asked is the
//! conversation's.
//!
//! It is lenient in what it does not need (unknown events and fields, missing `event:` lines, ids and usage, comments,
//! `[DONE]`) and strict in what it does: items arrive whole, an answer has an end, and nothing is larger than it may be.

mod answer;
mod events;
pub(crate) mod failure;
pub(crate) mod retry;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::header;
use tokio::time::timeout;
use url::Url;

pub(crate) use answer::{
    Answer, Call, CallKind, calls_in, can_be_sent_back, is_by_model, message_text, reasoning_text,
};
pub(crate) use failure::Failure;

use crate::ModelEndpoint;
use answer::Builder;
use events::EventDecoder;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for the next request: a command may take its time in between.
const KEEP_IDLE: Duration = Duration::from_mins(5);

/// After the end of an answer the connection is only of use once its body has been read; it is given this long.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// The most that is read of the body of an HTTP error, and for how long.
const MAX_ERROR_BYTES: usize = 64 << 10;
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection pool for all model servers. Clones share it.
#[derive(Debug, Clone)]
pub struct ModelClient {
    http: reqwest::Client,
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
        Ok(Self { http })
    }

    /// Sends one request and reads its answer to the end.
    pub(crate) async fn ask(&self, endpoint: &ModelEndpoint, body: Bytes) -> Result<Answer, Failure> {
        let url = responses_url(&endpoint.base_url);
        let mut request = self
            .http
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .body(body);
        if let Some(key) = &endpoint.key {
            request = request.bearer_auth(key.expose());
        }
        let response = timeout(endpoint.timeouts.first_byte, request.send())
            .await
            .map_err(|_| Failure::stalled("did not begin to answer", endpoint.timeouts.first_byte))?
            .map_err(|error| Failure::unreachable(&url, error))?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            let headers = response.headers().clone();
            let body = error_body(response).await;
            return Err(Failure::refused(endpoint, status, &headers, &body));
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match kind.map(str::to_ascii_lowercase) {
            Some(kind) if kind.starts_with("application/json") => read_whole(response, endpoint.timeouts.idle).await,
            Some(kind) if !kind.starts_with("text/event-stream") => Err(Failure::not_a_stream(&url, &kind)),
            Some(_) | None => read(response, endpoint.timeouts.idle).await,
        }
    }
}

/// `responses` below the base URL, whether that ends in a slash or not.
fn responses_url(base: &Url) -> Url {
    let mut url = base.clone();
    let path = format!("{}/responses", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// Reads the events of an answer. When the stream breaks off after whole tool calls, these are the answer.
async fn read(response: reqwest::Response, idle: Duration) -> Result<Answer, Failure> {
    let mut body = response.bytes_stream();
    let mut decoder = EventDecoder::default();
    let mut answer = Builder::default();
    let broken = 'stream: loop {
        let chunk = match timeout(idle, body.next()).await {
            Err(_) => break Failure::stalled("stopped in the middle of its answer", idle),
            Ok(None) => break Failure::cut("it ended before its end was announced".to_owned()),
            Ok(Some(Err(error))) => break Failure::cut(failure::causes(&error.without_url())),
            Ok(Some(Ok(chunk))) => chunk,
        };
        if let Err(failure) = decoder.push(&chunk) {
            break failure;
        }
        while let Some(data) = decoder.next() {
            match answer.event(&data) {
                Ok(false) => {}
                Ok(true) => {
                    let _ = timeout(DRAIN_TIMEOUT, async { while let Some(Ok(_)) = body.next().await {} }).await;
                    return answer.finish();
                }
                Err(failure) => break 'stream failure,
            }
        }
    };
    answer.salvage(broken)
}

/// Reads an answer from a server that does not stream although it was asked to: all of it at once, or an error.
async fn read_whole(response: reqwest::Response, idle: Duration) -> Result<Answer, Failure> {
    let mut body = response.bytes_stream();
    let mut bytes = Vec::new();
    loop {
        match timeout(idle, body.next()).await {
            Err(_) => return Err(Failure::stalled("stopped in the middle of its answer", idle)),
            Ok(None) => return Builder::default().whole(&bytes),
            Ok(Some(Err(error))) => return Err(Failure::cut(failure::causes(&error.without_url()))),
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
        }
        if bytes.len() > events::MAX_EVENT_BYTES {
            return Err(Failure::cut(format!("it is longer than {} bytes", events::MAX_EVENT_BYTES)));
        }
    }
}

/// What there is of the body of an HTTP error within its limits: whatever came is better than nothing.
async fn error_body(response: reqwest::Response) -> Vec<u8> {
    let mut body = response.bytes_stream();
    let mut bytes = Vec::new();
    let read = async {
        while let Some(Ok(chunk)) = body.next().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ERROR_BYTES {
                break;
            }
        }
    };
    let _ = timeout(ERROR_TIMEOUT, read).await;
    bytes.truncate(MAX_ERROR_BYTES);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_below_the_base_url() {
        for (base, expected) in [
            ("https://api.example.com/v1", "https://api.example.com/v1/responses"),
            ("https://api.example.com/v1/", "https://api.example.com/v1/responses"),
            ("http://localhost:8000", "http://localhost:8000/responses"),
            ("https://x.example.com/openai?api-version=1", "https://x.example.com/openai/responses?api-version=1"),
        ] {
            let base = base.parse().expect("a URL");
            assert_eq!(responses_url(&base).as_str(), expected);
        }
    }
}

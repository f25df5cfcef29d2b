//! The HTTP server in front of the script.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::events::{Ending, Events, least};
use super::place::Place;
use super::{Exchange, Exchanges, Fault, Reply, Script, check};

/// The longest request that is read.
const MAX_REQUEST_BYTES: usize = 256 << 20;

/// Bytes of an event stream that are handed over at once.
const PIECE_BYTES: usize = 4096;

struct Server {
    script: Script,
    exchanges: Arc<Exchanges>,
    /// How many faults each conversation has seen at each step. A conversation is told by its cache key.
    faults_seen: Mutex<HashMap<(String, Place), usize>>,
}

/// How the body of an answer ends.
#[derive(Clone, Copy)]
enum Break {
    /// Properly.
    No,
    /// The connection breaks.
    Cut,
    /// Nothing more comes.
    Stall,
}

pub(super) async fn start(
    script: Script,
    exchanges: Arc<Exchanges>,
    stop: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = Arc::new(Server { script, exchanges, faults_seen: Mutex::default() });
    let routes = Router::new()
        .route("/v1/responses", post(respond))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(server);
    tokio::spawn(async move {
        tokio::select! {
            result = axum::serve(listener, routes) => result,
            () = stop.cancelled() => Ok(()),
        }
    });
    Ok(address)
}

async fn respond(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = server.remember(&headers, body.clone());
    if let Some(key) = &server.script.key {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if sent != Some(format!("Bearer {key}").as_str()) {
            let message = "Incorrect API key provided. You can find your API key in the settings of this server.";
            return error(401, message, "invalid_request_error", &json!("invalid_api_key"), &Value::Null);
        }
    }
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(broken) => return refused(&format!("We could not parse the JSON body of your request: {broken}"), "body"),
    };
    if let Err(refusal) = check::request(&request) {
        return refused(&refusal.message, &refusal.param);
    }
    let input = request["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(place) = server.script.place(input) else {
        return refused("The script has no conversation for this prompt.", "input");
    };
    let Some(step) = server.script.step(place) else {
        return refused(&format!("The script has no step {} in this conversation.", place.step + 1), "input");
    };
    let seen = server.count_fault(&request, place);
    let fault = step.faults.get(seen).or_else(|| step.reply.is_none().then(|| step.faults.last()).flatten());
    match (fault, &step.reply) {
        (Some(fault), reply) => {
            let fallback = Reply::message("This answer does not arrive whole.");
            server.fail(fault, reply.as_ref().unwrap_or(&fallback), &request, place, number)
        }
        (None, Some(reply)) => {
            if reply.delay_ms > 0 {
                tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
            }
            let events = begin(&request, place).reply(reply, usize::MAX, &Ending::Completed);
            server.stream(encode(reply.terse, events), Break::No, number)
        }
        (None, None) => refused("The script has an empty step here.", "input"),
    }
}

impl Server {
    fn remember(&self, headers: &HeaderMap, body: Bytes) -> usize {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut exchanges = self.exchanges.lock();
        exchanges.push(Exchange { headers, body, received_at: Instant::now(), answered_at: None });
        self.exchanges.arrived.notify_waiters();
        exchanges.len() - 1
    }

    /// How many requests for this place of this conversation there were before.
    fn count_fault(&self, request: &Value, place: Place) -> usize {
        let conversation = request["prompt_cache_key"].as_str().unwrap_or_default().to_owned();
        let mut seen = self.faults_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.entry((conversation, place)).or_default();
        *count += 1;
        *count - 1
    }

    fn fail(&self, fault: &Fault, reply: &Reply, request: &Value, place: Place, number: usize) -> Response {
        let events = begin(request, place);
        let whole = |events: Events| encode(reply.terse, events.reply(reply, usize::MAX, &Ending::Completed));
        match fault {
            Fault::Status { code, message, retry_after } => {
                let mut response = error(*code, message, "server_error", &json!(status_code_name(*code)), &Value::Null);
                if let Some(value) = retry_after.as_deref().and_then(|text| text.parse().ok()) {
                    response.headers_mut().insert(header::RETRY_AFTER, value);
                }
                response
            }
            Fault::Cut { after_bytes } => self.stream(cut(whole(events), *after_bytes), Break::Cut, number),
            Fault::Stall { after_bytes } => self.stream(cut(whole(events), *after_bytes), Break::Stall, number),
            Fault::Short { after_items } => {
                let events = events.reply(reply, *after_items, &Ending::None);
                self.stream(encode(reply.terse, events), Break::No, number)
            }
            Fault::Garbage => self.stream(
                b"event: response.created\ndata: {\"type\": \"response.\n\ndata: \xff\xfe\n\n: comment\n\n".to_vec(),
                Break::No,
                number,
            ),
            Fault::Html => ([(header::CONTENT_TYPE, "text/html")], "<html><h1>Welcome</h1></html>").into_response(),
            Fault::Huge { size_bytes } => {
                let mut bytes = b"data: {\"type\":\"response.output_item.done\",\"item\":\"".to_vec();
                bytes.resize(bytes.len() + size_bytes, b'x');
                bytes.extend_from_slice(b"\"}\n\n");
                self.stream(bytes, Break::No, number)
            }
            Fault::Incomplete { reason } => {
                let events = events.reply(reply, usize::MAX, &Ending::Incomplete(reason));
                self.stream(encode(false, events), Break::No, number)
            }
            Fault::Failed { code, message } => {
                self.stream(encode(false, events.failed(code, message)), Break::No, number)
            }
            Fault::Error { code, message } => {
                self.stream(encode(false, events.error(code, message)), Break::No, number)
            }
        }
    }

    fn stream(&self, bytes: Vec<u8>, how: Break, number: usize) -> Response {
        let bytes = Bytes::from(bytes);
        let pieces: Vec<Bytes> = (0..bytes.len())
            .step_by(PIECE_BYTES)
            .map(|at| bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))
            .collect();
        let exchanges = Arc::clone(&self.exchanges);
        let end = stream::once(async move {
            match how {
                Break::No => {
                    let mut exchanges = exchanges.lock();
                    exchanges[number].answered_at = Some(Instant::now());
                    Ok(Bytes::new())
                }
                Break::Cut => {
                    // What was said before is sent first: the connection flushes when there is nothing to say.
                    tokio::task::yield_now().await;
                    Err(io::Error::from(io::ErrorKind::ConnectionReset))
                }
                Break::Stall => std::future::pending().await,
            }
        });
        let body = stream::iter(pieces.into_iter().map(Ok)).chain(end);
        event_stream(body)
    }
}

fn event_stream(body: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body)).into_response()
}

fn begin(request: &Value, place: Place) -> Events {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Events::begin(request, &format!("{}_{}", place.conversation, place.step), now)
}

fn encode(terse: bool, events: Vec<Value>) -> Vec<u8> {
    let mut text = String::new();
    for event in if terse { least(events) } else { events } {
        if !terse && let Some(kind) = event["type"].as_str() {
            text.push_str(&format!("event: {kind}\n"));
        }
        text.push_str(&format!("data: {event}\n\n"));
    }
    if terse {
        text.insert_str(0, ": welcome\n\n");
        text.push_str("data: [DONE]\n\n");
    }
    text.into_bytes()
}

fn cut(mut bytes: Vec<u8>, after_bytes: usize) -> Vec<u8> {
    bytes.truncate(after_bytes);
    bytes
}

fn refused(message: &str, param: &str) -> Response {
    error(400, message, "invalid_request_error", &Value::Null, &json!(param))
}

fn status_code_name(code: u16) -> &'static str {
    match code {
        401 => "invalid_api_key",
        404 => "model_not_found",
        429 => "rate_limit_exceeded",
        _ => "server_error",
    }
}

fn error(status: u16, message: &str, kind: &str, code: &Value, param: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({ "error": { "message": message, "type": kind, "param": param, "code": code } });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

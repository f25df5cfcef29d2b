//! The HTTP server in front of the script.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::events::Ending;
use super::place::Place;
use super::turn::{Told, Turn};
use super::wire::Wire;
use super::{Exchange, Exchanges, Fault, Reply, Script, check, refusals};

/// The longest request that is read.
const MAX_REQUEST_BYTES: usize = 256 << 20;

/// Bytes of an event stream that are handed over at once.
const PIECE_BYTES: usize = 4096;

/// What keeps a connection alive, and how often.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n";
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(20);

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
    /// Nothing more comes but what keeps the connection alive.
    KeepAlive,
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
        .route("/v1/chat/completions", post(respond))
        .route("/v1/messages", post(respond))
        .route("/v1/models", get(models))
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

async fn respond(State(server): State<Arc<Server>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let wire = Wire::at(uri.path());
    let number = server.remember(uri.path(), &headers, body.clone());
    if !server.lets_in(&headers) {
        let message = "Incorrect API key provided. You can find your API key in the settings of this server.";
        return error(wire, 401, message, "invalid_request_error", &json!("invalid_api_key"), &Value::Null);
    }
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(broken) => {
            return refused(wire, &format!("We could not parse the JSON body of your request: {broken}"), "body");
        }
    };
    let model = request["model"].as_str().unwrap_or_default();
    if !server.script.models.is_empty() && !server.script.models.iter().any(|known| known == model) {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        return error(wire, 404, &message, "invalid_request_error", &json!("model_not_found"), &Value::Null);
    }
    let input = wire.items(&request);
    let checked = match wire {
        Wire::Responses => check::request(&request),
        Wire::Chat => refusals::chat(&request).and_then(|()| check::conversation(&input)),
        Wire::Messages => refusals::messages(&request).and_then(|()| check::conversation(&input)),
    };
    if let Err(refusal) = checked {
        return refused(wire, &refusal.message, &refusal.param);
    }
    server.answer(wire, &request, &input, number).await
}

/// `GET /v1/models`.
async fn models(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    if !server.lets_in(&headers) {
        return error(Wire::Responses, 401, "Incorrect API key provided.", "", &Value::Null, &Value::Null);
    }
    let models = server.script.models.iter();
    let data: Vec<Value> =
        models.map(|id| json!({ "id": id, "object": "model", "created": 0, "owned_by": "carrel" })).collect();
    let body = json!({ "object": "list", "data": data });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

impl Server {
    /// Whether the key was sent, in one of the two ways there are.
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        self.script.key.as_ref().is_none_or(|key| {
            sent("x-api-key") == Some(key) || sent("authorization") == Some(format!("Bearer {key}").as_str())
        })
    }

    async fn answer(&self, wire: Wire, request: &Value, input: &[Value], number: usize) -> Response {
        let Some(place) = self.script.place(input) else {
            return refused(wire, "The script has no conversation for this prompt.", "input");
        };
        let Some(step) = self.script.step(place) else {
            let message = format!("The script has no step {} in this conversation.", place.step + 1);
            return refused(wire, &message, "input");
        };
        let created_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let tag = format!("{}_{}", place.conversation, place.step);
        let turn = Turn { wire, request, input, tag, created_at };
        let seen = self.count_fault(request, place);
        let fault = step.faults.get(seen).or_else(|| step.reply.is_none().then(|| step.faults.last()).flatten());
        match (fault, &step.reply) {
            (Some(fault), reply) => {
                let fallback = Reply::message("This answer does not arrive whole.");
                self.fail(fault, reply.as_ref().unwrap_or(&fallback), &turn, number)
            }
            (None, Some(reply)) => {
                if reply.delay_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
                }
                if reply.whole {
                    let body = turn.whole(reply).to_string();
                    return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
                }
                let bytes = turn.stream(&Told::Reply(reply, usize::MAX, Ending::Completed));
                self.stream(bytes, Break::No, number)
            }
            (None, None) => refused(wire, "The script has an empty step here.", "input"),
        }
    }

    fn remember(&self, path: &str, headers: &HeaderMap, body: Bytes) -> usize {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut exchanges = self.exchanges.lock();
        let path = path.to_owned();
        exchanges.push(Exchange { path, headers, body, received_at: Instant::now(), answered_at: None });
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

    fn fail(&self, fault: &Fault, reply: &Reply, turn: &Turn<'_>, number: usize) -> Response {
        let whole = || turn.stream(&Told::Reply(reply, usize::MAX, Ending::Completed));
        let told = |told: Told<'_>| self.stream(turn.stream(&told), Break::No, number);
        match fault {
            Fault::Status { code, message, retry_after } => {
                let name = json!(status_code_name(*code));
                let mut response = error(turn.wire, *code, message, "server_error", &name, &Value::Null);
                if let Some(value) = retry_after.as_deref().and_then(|text| text.parse().ok()) {
                    response.headers_mut().insert(header::RETRY_AFTER, value);
                }
                response
            }
            Fault::Cut { after_bytes } => self.stream(cut(whole(), *after_bytes), Break::Cut, number),
            Fault::Stall { after_bytes } => self.stream(cut(whole(), *after_bytes), Break::Stall, number),
            Fault::KeepAlive { after_bytes } => {
                let mut bytes = cut(whole(), *after_bytes);
                let end = bytes.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
                bytes.truncate(end);
                self.stream(bytes, Break::KeepAlive, number)
            }
            Fault::Short { after_items } => told(Told::Reply(reply, *after_items, Ending::None)),
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
            Fault::Empty => told(Told::Reply(reply, 0, Ending::Completed)),
            Fault::Incomplete { reason } => told(Told::Reply(reply, usize::MAX, Ending::Incomplete(reason))),
            Fault::Failed { code, message } => told(Told::Failed(code, message)),
            Fault::Error { code, message } => told(Told::Error(code, message)),
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
                Break::KeepAlive => Ok(Bytes::new()),
            }
        });
        let times = if matches!(how, Break::KeepAlive) { usize::MAX } else { 0 };
        let alive = stream::repeat(KEEP_ALIVE).take(times).then(|said| async move {
            tokio::time::sleep(KEEP_ALIVE_EVERY).await;
            Ok(Bytes::from_static(said))
        });
        let body = stream::iter(pieces.into_iter().map(Ok)).chain(end).chain(alive);
        event_stream(body)
    }
}

fn event_stream(body: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body)).into_response()
}

fn cut(mut bytes: Vec<u8>, after_bytes: usize) -> Vec<u8> {
    bytes.truncate(after_bytes);
    bytes
}

fn refused(wire: Wire, message: &str, param: &str) -> Response {
    error(wire, 400, message, "invalid_request_error", &Value::Null, &json!(param))
}

fn status_code_name(code: u16) -> &'static str {
    match code {
        401 => "invalid_api_key",
        404 => "model_not_found",
        429 => "rate_limit_exceeded",
        _ => "server_error",
    }
}

/// What the Messages API calls an error of this status.
fn status_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

fn error(wire: Wire, status: u16, message: &str, kind: &str, code: &Value, param: &Value) -> Response {
    let body = match wire {
        Wire::Responses | Wire::Chat => {
            json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
        }
        Wire::Messages => {
            let message = if param.is_null() { message.to_owned() } else { format!("{message} ({param})") };
            let error = json!({ "type": status_type(status), "message": message });
            json!({ "type": "error", "error": error, "request_id": "req_scripted" })
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

//! The door to an attempt's model: a host name of ours that leads from a sandbox to whoever asks the model for it, with
//! the network off as well. Nothing is resolved or connected to here, and no key is known here.
//!
//! Which requests make sense is decided behind the door. In front of it they are read as strictly as all others, whole,
//! and bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use carrel_domain::HostName;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use crate::body;
use crate::connection::{Serving, Wire};
use crate::decide::Refused;
use crate::forward;
use crate::http1::head::{Framing, Head};
use crate::http1::reader::{BodyState, ReadError};
use crate::http1::writer::{self, Asked};
use crate::target::{Host, Target};
use crate::upstream::{Origin, Scheme};

/// The host that leads to the model, in every sandbox whose agent runs inside.
pub const MODEL_HOST: &str = "model.carrel.internal";

/// The longest request to a model, in bytes: a window's worth of text with its images.
const MAX_REQUEST_BYTES: usize = 32 << 20;

/// How many requests wait behind the door before further ones wait in front of it.
const WAITING: usize = 8;

/// How long a model may think before it begins to answer, and between two pieces: whoever asks it is stricter.
const PATIENCE: Duration = Duration::from_mins(15);

/// The way from a sandbox to its model. Clones lead to the same.
#[derive(Debug, Clone)]
pub struct ModelDoor {
    requests: mpsc::Sender<ModelRequest>,
}

/// A request that came through the door. Dropping it unanswered is answered with 502.
#[derive(Debug)]
pub struct ModelRequest {
    /// Such as `POST`.
    pub method: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The headers that are not between neighbours: untrusted.
    pub headers: Vec<(String, String)>,
    /// All of the body: untrusted.
    pub body: Bytes,
    /// Takes the answer.
    pub answer: oneshot::Sender<ModelAnswer>,
}

/// The head of an answer, and where its body comes from.
#[derive(Debug)]
pub struct ModelAnswer {
    /// An HTTP status.
    pub status: u16,
    /// Such as `text/event-stream`.
    pub content_type: String,
    /// The pieces of the body, and `None` behind the last; ending without that is a body that was cut.
    pub body: mpsc::Receiver<Option<Bytes>>,
}

impl ModelDoor {
    /// A door, and where what comes through it arrives. It is shut when the receiver is gone.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<ModelRequest>) {
        let (requests, behind) = mpsc::channel(WAITING);
        (Self { requests }, behind)
    }
}

/// Whether something is meant for the model.
pub(crate) fn leads_to(target: &Target) -> bool {
    matches!(&target.host, Host::Name(name) if is_model_host(name))
}

fn is_model_host(name: &HostName) -> bool {
    name.as_str() == MODEL_HOST
}

/// Serves requests inside a tunnel to the model, which some clients open for plain HTTP as well.
pub(crate) async fn inside<S>(serving: &Serving, mut wire: Wire<S>, target: &Target)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &serving.session.core.limits;
    let origin = Origin { scheme: Scheme::Http, target: target.clone() };
    while let Ok(Some(head)) = wire.reader.head(limits.idle, limits.head).await {
        let path = match forward::read_inside(&origin, &head.method, &head.target, head.host.as_deref()) {
            Ok(path) => path,
            Err(refused) => {
                serving.session.refused(target, Some(head.method.as_str()), &refused).await;
                wire.refuse(&asked(&head, false), &refused).await;
                break;
            }
        };
        if !exchange(serving, &mut wire, target, path, head).await {
            break;
        }
    }
    wire.close().await;
}

/// One request to the model and its answer. Returns whether another may follow.
pub(crate) async fn exchange<S>(
    serving: &Serving,
    wire: &mut Wire<S>,
    target: &Target,
    path: String,
    head: Head,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let method = head.method.clone();
    let refused = match pass(serving, wire, target, path, head).await {
        Ok(again) => return again,
        Err(Some(refused)) => refused,
        // The client is gone.
        Err(None) => return false,
    };
    serving.session.refused(target, Some(method.as_str()), &refused).await;
    wire.refuse(&Asked { method, is_old: false, keeps_alive: false }, &refused).await;
    false
}

async fn pass<S>(
    serving: &Serving,
    wire: &mut Wire<S>,
    target: &Target,
    path: String,
    head: Head,
) -> Result<bool, Option<Refused>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(door) = serving.session.policy.model.clone() else { return Err(Some(shut())) };
    if target.port != Scheme::Http.port() || head.is_websocket {
        let why = format!("the model is asked by plain HTTP requests at http://{MODEL_HOST}/v1, on port 80");
        return Err(Some(Refused::by_policy(why, None)));
    }
    let asked = asked(&head, head.keeps_alive);
    let body = read_body(serving, wire, &head).await?;
    serving.progress.allow(PATIENCE);
    let (answer, answered) = oneshot::channel();
    let headers = head
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let request = ModelRequest { method: head.method.to_string(), path, headers: headers.collect(), body, answer };
    let gone = || Some(Refused::upstream("nobody asks the model for this sandbox any more".to_owned()));
    door.requests.send(request).await.map_err(|_| gone())?;
    let answer = tokio::time::timeout(PATIENCE, answered).await.map_err(|_| gone())?.map_err(|_| gone())?;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind = HeaderValue::try_from(answer.content_type).unwrap_or(HeaderValue::from_static("application/json"));
    parts.headers.insert(header::CONTENT_TYPE, kind);
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let body = body::timed(body::received(answer.body), PATIENCE);
    Ok(writer::answer(&mut wire.writer, &asked, parts, body).await.unwrap_or(false))
}

async fn read_body<S>(serving: &Serving, wire: &mut Wire<S>, head: &Head) -> Result<Bytes, Option<Refused>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let too_long = || {
        let why = format!("a request to the model is longer than {MAX_REQUEST_BYTES} bytes");
        Some(Refused { status: StatusCode::PAYLOAD_TOO_LARGE, ..Refused::malformed(why) })
    };
    if matches!(head.framing, Framing::Length(length) if length > MAX_REQUEST_BYTES as u64) {
        return Err(too_long());
    }
    if head.expects_continue && writer::go_on(&mut wire.writer).await.is_err() {
        return Err(None);
    }
    let (mut state, mut body) = (BodyState::new(head.framing), BytesMut::new());
    loop {
        match wire.reader.body(&mut state, serving.session.core.limits.idle).await {
            Ok(Some(piece)) if body.len() + piece.len() > MAX_REQUEST_BYTES => return Err(too_long()),
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body.freeze()),
            Err(ReadError::Gone(_)) => return Err(None),
            Err(error) => return Err(Some(Refused::malformed(error.to_string()))),
        }
    }
}

fn asked(head: &Head, keeps_alive: bool) -> Asked {
    Asked { method: Method::clone(&head.method), is_old: head.is_old, keeps_alive }
}

/// What is said where no agent runs inside.
fn shut() -> Refused {
    let why = format!("{MODEL_HOST} leads to a model only for an agent that runs in the sandbox, and none does here");
    Refused::by_policy(why, None)
}

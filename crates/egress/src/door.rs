//! The door to an attempt's model: a host name of ours that leads from a sandbox to whoever asks the model for it, with
//! the network off as well. Nothing is resolved or connected to here, and no key is known here.
//!
//! Which requests make sense is decided behind the door. In front of it they are read as strictly as all others, whole,
//! and bounded: each by itself, and all that are held at once, of all sandboxes together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use carrel_domain::HostName;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

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
    let most = most(serving, &head)?;
    let Some(room) = Room::take(serving, most).await else {
        turn_away(serving, wire, target, asked).await;
        return Ok(false);
    };
    let reading = read_body(serving, wire, &head, most, room);
    let late =
        || Refused { status: StatusCode::REQUEST_TIMEOUT, ..Refused::malformed("the body did not come in time") };
    let body = timeout(serving.session.core.limits.model_body, reading).await.map_err(|_| Some(late()))??;
    serving.progress.allow(PATIENCE);
    let (answer, answered) = oneshot::channel();
    let headers = head
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let request = ModelRequest { method: head.method.to_string(), path, headers: headers.collect(), body, answer };
    let gone = || Some(Refused::upstream("nobody asks the model for this sandbox any more".to_owned()));
    door.requests.send(request).await.map_err(|_| gone())?;
    let answer = timeout(PATIENCE, answered).await.map_err(|_| gone())?.map_err(|_| gone())?;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind = HeaderValue::try_from(answer.content_type).unwrap_or(HeaderValue::from_static("application/json"));
    parts.headers.insert(header::CONTENT_TYPE, kind);
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let body = body::timed(body::received(answer.body), PATIENCE);
    Ok(writer::answer(&mut wire.writer, &asked, parts, body).await.unwrap_or(false))
}

/// Room for one body, in its sandbox's part and in the whole.
struct Room {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

/// A body that gives its room back once nobody holds it.
struct Held {
    bytes: BytesMut,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    /// Takes so many bytes, when they can be had in time.
    async fn take(serving: &Serving, bytes: u32) -> Option<Self> {
        let (session, core) = (&serving.session, &serving.session.core);
        let deadline = Instant::now() + core.limits.model_wait;
        let own = timeout_at(deadline, Arc::clone(&session.model_bodies).acquire_many_owned(bytes)).await.ok()?.ok()?;
        let all = timeout_at(deadline, Arc::clone(&core.model_bodies).acquire_many_owned(bytes)).await.ok()?.ok()?;
        Some(Self { own, all })
    }

    /// Gives back what is not needed.
    fn shrink(&mut self, bytes: usize) {
        for permit in [&mut self.own, &mut self.all] {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }
}

fn too_long(most: u64) -> Refused {
    let why = format!("a request to the model is longer than {most} bytes");
    Refused { status: StatusCode::PAYLOAD_TOO_LARGE, ..Refused::malformed(why) }
}

/// How long a body may be: as long as it says; where it does not say, half of what one sandbox may hold, so that there is
/// room for another beside it.
fn most(serving: &Serving, head: &Head) -> Result<u32, Option<Refused>> {
    let most = match head.framing {
        Framing::Empty => 0,
        Framing::Length(length) => length,
        Framing::Chunked => (serving.session.core.limits.model_bodies_bytes / 4) as u64,
    };
    let any = MAX_REQUEST_BYTES as u64;
    u32::try_from(most).ok().filter(|_| most <= any).ok_or_else(|| Some(too_long(any)))
}

/// Says that there was no room in time, as the clients of all models understand it: to be asked again.
async fn turn_away<S>(serving: &Serving, wire: &mut Wire<S>, target: &Target, asked: Asked)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let why = "too many requests to models are held at the moment; ask again later".to_owned();
    let refused = Refused { status: StatusCode::SERVICE_UNAVAILABLE, ..Refused::malformed(why) };
    serving.session.refused(target, Some(asked.method.as_str()), &refused).await;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = refused.status;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    let error = format!(
        "{{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"code\":\"overloaded_error\",\"message\":\"{}\"}}}}",
        refused.why
    );
    let asked = Asked { keeps_alive: false, ..asked };
    // A client that has gone needs no answer.
    let _gone = writer::answer(&mut wire.writer, &asked, parts, body::full(error)).await;
}

/// Reads a body of `most` bytes or less.
async fn read_body<S>(
    serving: &Serving,
    wire: &mut Wire<S>,
    head: &Head,
    most: u32,
    mut room: Room,
) -> Result<Bytes, Option<Refused>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if head.expects_continue && writer::go_on(&mut wire.writer).await.is_err() {
        return Err(None);
    }
    // Taken at once, so that it does not grow to twice of what it holds; the system gives it as it is filled.
    let most = most as usize;
    let (mut state, mut bytes) = (BodyState::new(head.framing), BytesMut::with_capacity(most));
    loop {
        match wire.reader.body(&mut state, serving.session.core.limits.idle).await {
            Ok(Some(piece)) if bytes.len() + piece.len() > most => {
                return Err(Some(too_long(most as u64)));
            }
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            Ok(None) => break,
            Err(ReadError::Gone(_)) => return Err(None),
            Err(error) => return Err(Some(Refused::malformed(error.to_string()))),
        }
    }
    room.shrink(bytes.len());
    Ok(Bytes::from_owner(Held { bytes, _room: room }))
}

fn asked(head: &Head, keeps_alive: bool) -> Asked {
    Asked { method: Method::clone(&head.method), is_old: head.is_old, keeps_alive }
}

/// What is said where no agent runs inside.
fn shut() -> Refused {
    let why = format!("{MODEL_HOST} leads to a model only for an agent that runs in the sandbox, and none does here");
    Refused::by_policy(why, None)
}

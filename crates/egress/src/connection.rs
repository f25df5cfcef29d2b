//! A connection of a sandbox: requests to the proxy one after the other, each judged by itself, and requests inside an
//! opened tunnel.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::body;
use crate::decide::Refused;
use crate::door;
use crate::forward::{self, Ask, Prepared};
use crate::http1::head::{Framing, Head};
use crate::http1::reader::{BodyState, ReadError, Reader};
use crate::http1::writer::{self, Asked};
use crate::session::Inner;
use crate::stream::{Progress, Rewound, Spawner};
use crate::target::{Target, shown};
use crate::tls::Protocol;
use crate::tunnel;
use crate::upstream::{Origin, Pool};

/// What is still read of a client that is not heard any more, so that it reads the answer before its connection ends.
pub(crate) const DRAINED_BYTES: usize = 1 << 20;
pub(crate) const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Buffer for each direction of a tunnel.
pub(crate) const COPY_BYTES: usize = 128 << 10;

/// What every part of a connection needs.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) session: Arc<Inner>,
    pub(crate) spawner: Spawner,
    pub(crate) progress: Progress,
}

/// A client's stream as HTTP/1.
pub(crate) struct Wire<S> {
    pub(crate) reader: Reader<ReadHalf<S>>,
    pub(crate) writer: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, first: BytesMut) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: Reader::new(reader, first), writer }
    }

    /// The stream, with what was read too far in front.
    pub(crate) fn into_stream(self) -> Rewound<S> {
        let (reader, first) = self.reader.into_parts();
        Rewound::new(first, reader.unsplit(self.writer))
    }

    /// Ends the connection so that the client has read the last answer.
    pub(crate) async fn close(mut self) {
        // A client that is gone needs no end.
        let _ = self.writer.shutdown().await;
        self.reader.drain(DRAINED_BYTES, DRAIN_WAIT).await;
    }

    /// Answers with a refusal. Returns whether another request may follow.
    pub(crate) async fn refuse(&mut self, asked: &Asked, refused: &Refused) -> bool {
        let (parts, body) = forward::refusal(refused);
        writer::answer(&mut self.writer, asked, parts, body).await.unwrap_or(false)
    }
}

/// What comes after a request.
enum Next {
    Again,
    Close,
    /// The stream belongs to a WebSocket.
    Switched(Upgraded),
}

/// Serves a client that speaks to us as to a proxy, until it is done.
pub(crate) async fn proxy<S>(serving: &Serving, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = &serving.session;
    let pool = Pool::new(Arc::clone(session), serving.spawner.clone(), Protocol::Http1);
    let mut wire = Wire::new(stream, BytesMut::new());
    while let Some(head) = next_head(serving, &mut wire, None).await {
        if head.method == Method::CONNECT {
            return tunnel::open(serving, wire, head).await;
        }
        let next = match forward::read_absolute(&head.target, head.host.as_deref()) {
            Ok((origin, path)) if door::leads_to(&origin.target) => {
                match door::exchange(serving, &mut wire, &origin.target, path, head).await {
                    true => Next::Again,
                    false => Next::Close,
                }
            }
            Ok((origin, path)) => exchange(serving, &mut wire, &pool, &origin, path, head).await,
            Err(refused) => {
                session.refused_unread(&shown(&head.target), Some(head.method.as_str()), &refused).await;
                wire.refuse(&only(&head), &refused).await;
                Next::Close
            }
        };
        match next {
            Next::Again => {}
            Next::Close => break,
            Next::Switched(upgraded) => return switched(serving, wire, upgraded).await,
        }
    }
    // What it leaves behind is there before the client can ask again.
    drop(pool);
    wire.close().await;
}

/// Serves HTTP/1 inside a tunnel that was opened.
pub(crate) async fn inside<S>(serving: &Serving, mut wire: Wire<S>, origin: &Origin, pool: &Pool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    while let Some(head) = next_head(serving, &mut wire, Some(&origin.target)).await {
        let next = match forward::read_inside(origin, &head.method, &head.target, head.host.as_deref()) {
            Ok(path) => exchange(serving, &mut wire, pool, origin, path, head).await,
            Err(refused) => {
                serving.session.refused(&origin.target, Some(head.method.as_str()), &refused).await;
                wire.refuse(&only(&head), &refused).await;
                Next::Close
            }
        };
        match next {
            Next::Again => {}
            Next::Close => break,
            Next::Switched(upgraded) => return switched(serving, wire, upgraded).await,
        }
    }
    wire.close().await;
}

/// The next request's head. One that cannot be read is answered and told.
async fn next_head<S>(serving: &Serving, wire: &mut Wire<S>, known: Option<&Target>) -> Option<Head>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = &serving.session;
    let limits = &session.core.limits;
    let error = match wire.reader.head(limits.idle, limits.head).await {
        Ok(head) => return head,
        Err(error) => error,
    };
    let refused = unreadable(&error)?;
    match known {
        Some(target) => session.refused(target, None, &refused).await,
        None => session.refused_unread("", None, &refused).await,
    }
    wire.refuse(&Asked { method: Method::GET, is_old: false, keeps_alive: false }, &refused).await;
    None
}

/// What is answered to a request that could not be read; nothing to a client that is gone.
fn unreadable(error: &ReadError) -> Option<Refused> {
    match error {
        ReadError::Invalid(invalid) => Some(Refused::malformed(invalid.to_string())),
        ReadError::Slow => {
            Some(Refused { status: StatusCode::REQUEST_TIMEOUT, ..Refused::malformed(error.to_string()) })
        }
        ReadError::Gone(_) => None,
    }
}

/// How the last answer of a connection is written.
fn only(head: &Head) -> Asked {
    Asked { method: head.method.clone(), is_old: head.is_old, keeps_alive: false }
}

/// One request and its answer.
async fn exchange<S>(
    serving: &Serving,
    wire: &mut Wire<S>,
    pool: &Pool,
    origin: &Origin,
    path: String,
    head: Head,
) -> Next
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = &serving.session;
    let framing = head.framing;
    let has_body = !matches!(framing, Framing::Empty | Framing::Length(0));
    let mut asked = only(&head);
    asked.keeps_alive = head.keeps_alive;
    let ask = Ask {
        method: head.method,
        path,
        headers: head.headers,
        is_websocket: head.is_websocket,
        has_body,
        framing,
        takes_trailers: false,
    };
    let prepared = match session.prepare(pool, origin, ask).await {
        Ok(prepared) => prepared,
        Err(refused) => {
            asked.keeps_alive &= !has_body;
            return if wire.refuse(&asked, &refused).await { Next::Again } else { Next::Close };
        }
    };
    if has_body && head.expects_continue && writer::go_on(&mut wire.writer).await.is_err() {
        return Next::Close;
    }
    relay(serving, wire, pool, origin, asked, framing, prepared).await
}

/// Sends a request whose head is judged, its body as it is read, and the answer as it comes.
async fn relay<S>(
    serving: &Serving,
    wire: &mut Wire<S>,
    pool: &Pool,
    origin: &Origin,
    mut asked: Asked,
    framing: Framing,
    prepared: Prepared,
) -> Next
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = &serving.session;
    let is_websocket = prepared.is_websocket();
    let Wire { reader, writer } = wire;
    let (sender, body) = body::channel(framing);
    let pumping = pump(reader, framing, sender, session.core.limits.idle);
    tokio::pin!(pumping);
    let mut pumped = None;
    let sending = session.send(pool, origin, prepared, body);
    let response = match beside(&mut pumped, pumping.as_mut(), sending).await {
        Ok(response) => response,
        Err(error) => {
            let Some(refused) = unreadable(&error) else { return Next::Close };
            session.refused(&origin.target, Some(asked.method.as_str()), &refused).await;
            asked.keeps_alive = false;
            refuse_on(writer, &asked, &refused).await;
            return Next::Close;
        }
    };
    asked.keeps_alive &= pumped == Some(true);
    let answered = match response {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            return switch(writer, &asked, response, is_websocket).await;
        }
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let answering = writer::answer(writer, &asked, parts, body);
            // A client that breaks off or misspeaks while it is answered gets no more of the answer.
            beside(&mut pumped, pumping, answering).await.is_ok_and(|answered| answered.unwrap_or(false))
        }
        Err(refused) => refuse_on(writer, &asked, &refused).await,
    };
    if answered { Next::Again } else { Next::Close }
}

/// Waits for something while a body is read beside it, and for no longer than the body can be read.
async fn beside<T>(
    pumped: &mut Option<bool>,
    mut pumping: Pin<&mut impl Future<Output = Result<bool, ReadError>>>,
    other: impl Future<Output = T>,
) -> Result<T, ReadError> {
    tokio::pin!(other);
    loop {
        tokio::select! {
            biased;
            outcome = &mut pumping, if pumped.is_none() => *pumped = Some(outcome?),
            done = &mut other => return Ok(done),
        }
    }
}

async fn refuse_on<W: AsyncWrite + Unpin>(writer: &mut W, asked: &Asked, refused: &Refused) -> bool {
    let (parts, body) = forward::refusal(refused);
    writer::answer(writer, asked, parts, body).await.unwrap_or(false)
}

/// Reads a body and hands it on. Returns whether it was read to its end: a server may want no more of it.
async fn pump<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    framing: Framing,
    sender: mpsc::Sender<Option<Bytes>>,
    idle: Duration,
) -> Result<bool, ReadError> {
    let mut state = BodyState::new(framing);
    while let Some(piece) = reader.body(&mut state, idle).await? {
        if sender.send(Some(piece)).await.is_err() {
            return Ok(false);
        }
    }
    // Without anybody who waits for the end, it is the end all the same.
    let _ = sender.send(None).await;
    Ok(true)
}

async fn switch<W: AsyncWrite + Unpin>(
    writer: &mut W,
    asked: &Asked,
    mut response: http::Response<body::Body>,
    is_websocket: bool,
) -> Next {
    if !is_websocket {
        let refused = Refused::upstream("the server switches to another protocol without being asked".into());
        refuse_on(writer, &Asked { keeps_alive: false, ..asked.clone() }, &refused).await;
        return Next::Close;
    }
    let upgrading = hyper::upgrade::on(&mut response);
    let (parts, _) = response.into_parts();
    let Ok(upgraded) = upgrading.await else { return Next::Close };
    if writer::switched(writer, &parts).await.is_ok() { Next::Switched(upgraded) } else { Next::Close }
}

async fn switched<S>(serving: &Serving, wire: Wire<S>, upgraded: Upgraded)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    copy(serving, wire.into_stream(), TokioIo::new(upgraded)).await;
}

/// Copies both ways until both sides are done. How a side breaks off is the sides' own business.
pub(crate) async fn copy<A, B>(serving: &Serving, mut client: A, mut server: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    serving.progress.allow(serving.session.core.limits.tunnel_idle);
    let copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, COPY_BYTES, COPY_BYTES).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a tunnel broke off");
    }
}

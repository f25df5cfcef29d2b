//! Connections to servers, kept for the next request of the same client connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::Core;
use crate::body::Body;
use crate::decide::Refused;
use crate::http1::head::MAX_HEAD_BYTES;
use crate::session::Inner;
use crate::stream::{Spawner, Tasks};
use crate::target::Target;
use crate::tls::{self, Protocol};

/// Servers that one client connection keeps connections to.
const MAX_KEPT: usize = 16;
/// Shorter than servers keep a connection open that nothing moves on.
const LEFT_BEHIND_LIFE: Duration = Duration::from_secs(4);
/// A kept connection that is not ready by then is given up for a new one.
const READY: Duration = Duration::from_secs(1);

/// What is spoken with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP in TLS.
    Https,
}

impl Scheme {
    /// The port that goes without saying.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A server as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) target: Target,
}

impl Origin {
    /// As `host` says it: without the port that goes without saying.
    pub(crate) fn authority(&self) -> String {
        if self.target.port == self.scheme.port() { self.target.host.to_string() } else { self.target.to_string() }
    }

    /// The whole address of a path, as HTTP/2 takes it apart.
    pub(crate) fn uri(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme.name(), self.authority())
    }
}

/// A connection that takes requests.
#[derive(Debug)]
pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    pub(crate) const fn protocol(&self) -> Protocol {
        match self {
            Self::Http1(_) => Protocol::Http1,
            Self::Http2(_) => Protocol::Http2,
        }
    }

    async fn is_ready(&mut self) -> bool {
        let ready = async {
            match self {
                Self::Http1(sender) => sender.ready().await.is_ok(),
                Self::Http2(sender) => sender.ready().await.is_ok(),
            }
        };
        timeout(READY, ready).await.unwrap_or(false)
    }

    async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<Body>>)> {
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let request = error.take_message();
            (error.into_error(), request)
        })
    }
}

/// A connection to send one request on, and whether it has been used before.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) sender: Sender,
    is_used: bool,
}

/// The connections that one client connection has.
#[derive(Debug)]
pub(crate) struct Pool {
    session: Arc<Inner>,
    spawner: Spawner,
    /// What the client's side of an opened TLS connection was told is spoken.
    protocol: Protocol,
    /// Why the server of an opened tunnel cannot be spoken to.
    broken: Option<Refused>,
    kept: Mutex<HashMap<Origin, Sender>>,
}

impl Pool {
    pub(crate) fn new(session: Arc<Inner>, spawner: Spawner, protocol: Protocol) -> Self {
        Self { session, spawner, protocol, broken: None, kept: Mutex::default() }
    }

    /// One that says why there is no server.
    pub(crate) fn broken(session: Arc<Inner>, spawner: Spawner, protocol: Protocol, why: Refused) -> Self {
        let mut pool = Self::new(session, spawner, protocol);
        pool.broken = Some(why);
        pool
    }

    /// Takes in a connection that is open already.
    pub(crate) async fn adopt<S>(&self, origin: &Origin, stream: S) -> Result<(), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sender = Box::pin(self.start(origin, stream)).await?;
        self.keep(origin, sender);
        Ok(())
    }

    /// A connection to this server, a kept one or a new one. One that another client connection left behind is taken
    /// only for what may be sent twice: the server may be about to close it.
    pub(crate) async fn ready(&self, origin: &Origin, is_repeatable: bool) -> Result<Ready, Refused> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let left_behind = || self.session.left_behind.take(origin).filter(|_| is_repeatable).map(Sender::Http1);
        if let Some(mut sender) = self.take(origin).or_else(left_behind)
            && sender.is_ready().await
        {
            if let Sender::Http2(shared) = &sender {
                self.keep(origin, Sender::Http2(shared.clone()));
            }
            return Ok(Ready { sender, is_used: true });
        }
        Box::pin(self.connect(origin)).await
    }

    async fn connect(&self, origin: &Origin) -> Result<Ready, Refused> {
        let stream = self.session.connect(&origin.target).await?;
        let sender = match origin.scheme {
            Scheme::Http => self.start(origin, stream).await?,
            Scheme::Https => {
                let (stream, _) = open_tls(&self.session.core, &origin.target, stream, &[self.protocol]).await?;
                self.start(origin, stream).await?
            }
        };
        if let Sender::Http2(shared) = &sender {
            self.keep(origin, Sender::Http2(shared.clone()));
        }
        Ok(Ready { sender, is_used: false })
    }

    async fn start<S>(&self, origin: &Origin, stream: S) -> Result<Sender, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| Refused::upstream(format!("cannot speak with {}: {error}", origin.target));
        let stream = TokioIo::new(stream);
        if origin.scheme == Scheme::Https && self.protocol == Protocol::Http2 {
            let mut builder = http2::Builder::new(self.spawner.clone());
            builder.max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX));
            builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
            let (sender, connection) = builder.handshake(stream).await.map_err(failed)?;
            self.spawner.spawn(async move {
                // How it ended is told to the requests on it.
                let _ = connection.await;
            });
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::Builder::new().handshake(stream).await.map_err(failed)?;
        let driven = async move {
            let _ = connection.with_upgrades().await;
        };
        match origin.scheme {
            Scheme::Http => self.session.left_behind.tasks.spawner().spawn(driven),
            Scheme::Https => self.spawner.spawn(driven),
        }
        Ok(Sender::Http1(sender))
    }

    /// Sends a request and waits for the head of the answer. A kept connection that turns out to be closed is replaced,
    /// where the request has not been taken by the server, or may be made twice.
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        ready: Ready,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Refused> {
        let wait = self.session.core.limits.idle;
        let has_body = !http_body::Body::is_end_stream(request.body());
        let is_upgrade = request.headers().contains_key(http::header::UPGRADE);
        let is_repeatable = is_repeatable(request.method(), has_body, is_upgrade);
        let again = (ready.is_used && is_repeatable).then(|| copy_of(&request));
        let Ready { mut sender, .. } = ready;
        let failed =
            |why: &dyn std::fmt::Display| Refused::upstream(format!("{} gave no answer: {why}", origin.target));
        let slow = || failed(&"it did not come in time");
        let first = timeout(wait, sender.send(request)).await.map_err(|_| slow())?;
        let (error, unsent) = match first {
            Ok(response) => {
                if let Sender::Http1(_) = &sender {
                    self.keep(origin, sender);
                }
                return Ok(response);
            }
            Err(failure) => failure,
        };
        let Some(request) = unsent.or(again) else { return Err(failed(&innermost(&error))) };
        let mut sender = Box::pin(self.connect(origin)).await?.sender;
        let second = timeout(wait, sender.send(request)).await.map_err(|_| slow())?;
        let response = second.map_err(|(error, _)| failed(&innermost(&error)))?;
        if let Sender::Http1(_) = &sender {
            self.keep(origin, sender);
        }
        Ok(response)
    }

    fn take(&self, origin: &Origin) -> Option<Sender> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(origin)
    }

    fn keep(&self, origin: &Origin, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(origin.clone(), sender);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (origin, sender) in self.kept.get_mut().unwrap_or_else(PoisonError::into_inner).drain() {
            if let (Scheme::Http, Sender::Http1(sender)) = (origin.scheme, sender) {
                self.session.left_behind.put(origin, sender);
            }
        }
    }
}

/// Plain connections that ended client connections leave to the next ones of the same session: most programs make a new
/// connection for each request.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// What drives them; they outlive the client connection.
    tasks: Tasks,
    senders: Mutex<Vec<(Origin, Instant, http1::SendRequest<Body>)>>,
}

impl LeftBehind {
    fn put(&self, origin: Origin, sender: http1::SendRequest<Body>) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|(_, since, sender)| since.elapsed() < LEFT_BEHIND_LIFE && !sender.is_closed());
        if senders.len() < MAX_KEPT && !sender.is_closed() {
            senders.push((origin, Instant::now(), sender));
        }
    }

    fn take(&self, origin: &Origin) -> Option<http1::SendRequest<Body>> {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|(_, since, sender)| since.elapsed() < LEFT_BEHIND_LIFE && !sender.is_closed());
        let at = senders.iter().rposition(|(of, ..)| of == origin)?;
        Some(senders.swap_remove(at).2)
    }
}

/// Whether sending it twice is as good as once (RFC 9110, section 9.2.2), and there is no body to lose.
pub(crate) fn is_repeatable(method: &Method, has_body: bool, is_upgrade: bool) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !has_body && !is_upgrade
}

fn copy_of(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(crate::body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The reason that is worth telling.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

/// Opens TLS to a server, which has to prove its name, and says which of the protocols it chose.
pub(crate) async fn open_tls<S>(
    core: &Core,
    target: &Target,
    stream: S,
    protocols: &[Protocol],
) -> Result<(tokio_rustls::client::TlsStream<S>, Protocol), Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |why: &dyn std::fmt::Display| Refused::upstream(format!("no TLS connection to {target}: {why}"));
    let name = tls::server_name(&target.host).ok_or_else(|| failed(&"no certificate can be for that name"))?;
    let connector = core.tls.connector(protocols);
    let stream = match timeout(core.limits.handshake, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(&innermost(&error))),
        Err(_) => return Err(failed(&"it did not answer in time")),
    };
    let chosen = match stream.get_ref().1.alpn_protocol() {
        Some(name) if name == Protocol::Http2.name() => Protocol::Http2,
        _ => Protocol::Http1,
    };
    if !protocols.contains(&chosen) {
        return Err(failed(&"it speaks another version of HTTP than the program"));
    }
    Ok((stream, chosen))
}

/// Whether two ways of naming a server name the same one.
pub(crate) fn is_same(origin: &Origin, authority: &str) -> bool {
    Target::parse(authority, Some(origin.scheme.port())).is_ok_and(|target| target == origin.target)
}

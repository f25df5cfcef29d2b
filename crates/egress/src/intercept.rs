//! TLS that is opened: a certificate of ours for the program, the server's own verified, and every request inside judged,
//! in HTTP/1.1 and in HTTP/2 alike.

use std::convert::Infallible;
use std::sync::Arc;

use http::header;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::body::{self, Body};
use crate::connection::{self, DRAIN_WAIT, DRAINED_BYTES, Serving, Wire};
use crate::decide::Refused;
use crate::forward::{self, Ask, Prepared};
use crate::hello::Hello;
use crate::http1::head::{Framing, MAX_HEAD_BYTES, drop_hop_by_hop};
use crate::stream::Rewound;
use crate::target::{Host, Target};
use crate::tls::{self, Protocol};
use crate::upstream::{Origin, Pool, Scheme, open_tls};

/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// Serves the inside of a tunnel whose greeting has been read and checked.
pub(crate) async fn serve<S>(
    serving: &Serving,
    wire: Wire<S>,
    target: Target,
    reason: String,
    hello: &Hello,
    server: TcpStream,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = &serving.session;
    let offered = offered(hello);
    let opened = open_tls(&session.core, &target, server, &offered).await;
    let protocol = opened.as_ref().map_or(offered[offered.len() - 1], |(_, protocol)| *protocol);
    let says_protocol = !hello.protocols.is_empty();
    let client = match accept(serving, wire.into_stream(), &target.host, says_protocol.then_some(protocol)).await {
        Ok(client) => client,
        Err(why) => {
            let why = format!("TLS to {} has to be opened, and the program does not take part: {why}", target.host);
            return session.refused(&target, Some("CONNECT"), &Refused::by_policy(why, None)).await;
        }
    };
    if session.allowed(&target, "CONNECT", reason).await.is_err() {
        return;
    }
    let origin = Origin { scheme: Scheme::Https, target };
    let (shared, spawner) = (Arc::clone(session), serving.spawner.clone());
    let pool = match opened {
        Ok((server, _)) => {
            let pool = Pool::new(Arc::clone(&shared), spawner.clone(), protocol);
            match pool.adopt(&origin, server).await {
                Ok(()) => pool,
                Err(refused) => Pool::broken(shared, spawner, protocol, refused),
            }
        }
        Err(refused) => Pool::broken(shared, spawner, protocol, refused),
    };
    match protocol {
        Protocol::Http1 => {
            let wire = Wire::new(client, bytes::BytesMut::new());
            connection::inside(serving, wire, &origin, &pool).await;
        }
        Protocol::Http2 => streams(serving, client, origin, pool).await,
    }
}

/// What both the program and we speak, in our order; without a word from the program it is HTTP/1.1.
fn offered(hello: &Hello) -> Vec<Protocol> {
    let speaks = |protocol: &Protocol| hello.protocols.iter().any(|name| name == protocol.name());
    let both: Vec<Protocol> = [Protocol::Http2, Protocol::Http1].into_iter().filter(speaks).collect();
    if both.is_empty() { vec![Protocol::Http1] } else { both }
}

/// Answers the program's greeting as the host would.
async fn accept<S>(
    serving: &Serving,
    stream: Rewound<S>,
    host: &Host,
    protocol: Option<Protocol>,
) -> Result<TlsStream<Rewound<S>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let core = &serving.session.core;
    let certified = core.authority.leaf(host).map_err(|error| error.to_string())?;
    let acceptor = tls::acceptor(certified, protocol).map_err(|error| error.to_string())?;
    let accepted = timeout(core.limits.handshake, acceptor.accept(stream)).await;
    let stream = accepted.map_err(|_| "it did not answer in time".to_owned())?.map_err(|error| error.to_string())?;
    // The same greeting as another reader reads it.
    let is_same = match (host, stream.get_ref().1.server_name()) {
        (Host::Name(asked), Some(named)) => asked.as_str().eq_ignore_ascii_case(named),
        (Host::Address(_), None) => true,
        _ => false,
    };
    if is_same { Ok(stream) } else { Err("its greeting can be read in two ways".to_owned()) }
}

/// Serves HTTP/2: every stream is judged by itself.
async fn streams<S>(serving: &Serving, client: S, origin: Origin, pool: Pool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Arc::new((serving.clone(), origin, pool));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let (serving, origin, pool) = &*shared;
            Ok::<_, Infallible>(stream(serving, origin, pool, request).await)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(serving.spawner.clone());
    builder.timer(TokioTimer::new());
    builder.max_concurrent_streams(MAX_STREAMS);
    builder.max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX));
    builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
    if let Err(error) = builder.serve_connection(TokioIo::new(client), service).await {
        tracing::debug!(%error, "an HTTP/2 connection broke off");
    }
}

async fn stream(serving: &Serving, origin: &Origin, pool: &Pool, request: Request<Incoming>) -> Response<Body> {
    let session = &serving.session;
    let (parts, incoming) = request.into_parts();
    let body = body::timed(incoming, session.core.limits.idle);
    // On the way to an HTTP/1 server the length is taken from the body itself.
    let framing = match http_body::Body::size_hint(&body).exact() {
        _ if http_body::Body::is_end_stream(&body) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let answered = match judged(serving, origin, pool, parts, framing).await {
        Ok(prepared) => session.send(pool, origin, prepared, body).await,
        Err(refused) => {
            // With its body unread the stream would be reset, and clients then do not tell of the answer they have.
            serving.spawner.execute(body::drain(body, DRAINED_BYTES, DRAIN_WAIT));
            Err(refused)
        }
    };
    answered.unwrap_or_else(|refused| {
        let (parts, body) = forward::refusal(&refused);
        Response::from_parts(parts, body)
    })
}

/// A request that may be sent on.
async fn judged(
    serving: &Serving,
    origin: &Origin,
    pool: &Pool,
    parts: http::request::Parts,
    framing: Framing,
) -> Result<Prepared, Refused> {
    let session = &serving.session;
    let path = match read_stream(origin, &parts) {
        Ok(path) => path,
        Err(refused) => {
            session.refused(&origin.target, Some(parts.method.as_str()), &refused).await;
            return Err(refused);
        }
    };
    let takes_trailers = parts.headers.get(header::TE).is_some_and(|value| value == "trailers");
    let mut headers = parts.headers;
    drop_hop_by_hop(&mut headers, &[]);
    let has_body = framing != Framing::Empty;
    let ask = Ask { method: parts.method, path, headers, is_websocket: false, has_body, framing, takes_trailers };
    session.prepare(pool, origin, ask).await
}

/// The path of an HTTP/2 request, once its authority and its `host` are those of the tunnel.
fn read_stream(origin: &Origin, parts: &http::request::Parts) -> Result<String, Refused> {
    if parts.method == Method::CONNECT {
        return Err(Refused::by_policy("CONNECT inside a tunnel is not let through".into(), None));
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let host = host.map(|host| host.to_str().unwrap_or("?"));
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if more.is_some() {
        return Err(Refused::malformed("a request has two host headers"));
    }
    if let (Some(_), Some(host)) = (authority, host) {
        forward::read_inside(origin, &parts.method, "/", Some(host))?;
    }
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    forward::read_inside(origin, &parts.method, path, authority.or(host))
}

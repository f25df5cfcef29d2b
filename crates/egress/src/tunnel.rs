//! CONNECT: a tunnel to one destination. What is inside is TLS for the very name that was asked for, sealed or opened, or
//! plain HTTP where the port is not that of HTTPS; anything else is refused.

use std::sync::Arc;

use carrel_domain::{Internet, Methods};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::{self, Serving, Wire};
use crate::decide::Refused;
use crate::door;
use crate::hello::{self, Hello, InvalidHello};
use crate::http1::head::{Framing, Head};
use crate::http1::reader::ReadError;
use crate::http1::writer::{self, Asked};
use crate::intercept;
use crate::options::OpenTls;
use crate::target::{Host, Target, shown};
use crate::tls::Protocol;
use crate::upstream::{Origin, Pool, Scheme};

const CONNECT: Option<&str> = Some("CONNECT");
/// What a TLS connection begins with.
const TLS_BYTE: u8 = 22;

/// Serves a CONNECT, until its tunnel ends.
pub(crate) async fn open<S>(serving: &Serving, mut wire: Wire<S>, head: Head)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = &serving.session;
    // An answer to CONNECT that is no success has a body like any other.
    let asked = Asked { method: Method::GET, is_old: head.is_old, keeps_alive: false };
    let target = match read_target(&head) {
        Ok(target) => target,
        Err(refused) => {
            session.refused_unread(&shown(&head.target), CONNECT, &refused).await;
            wire.refuse(&asked, &refused).await;
            return wire.close().await;
        }
    };
    if door::leads_to(&target) {
        if writer::tunnel_open(&mut wire.writer).await.is_ok() {
            door::inside(serving, wire, &target).await;
        }
        return;
    }
    let connected = match session.rules().destination(&target) {
        Ok(reason) => session.connect(&target).await.map(|server| (reason, server)),
        Err(refused) => Err(refused),
    };
    let (reason, server) = match connected {
        Ok(connected) => connected,
        Err(refused) => {
            session.refused(&target, CONNECT, &refused).await;
            wire.refuse(&asked, &refused).await;
            return wire.close().await;
        }
    };
    if writer::tunnel_open(&mut wire.writer).await.is_err() {
        return;
    }
    match first_byte(serving, &mut wire).await {
        Err(ReadError::Gone(_)) => {}
        Err(error) => session.refused(&target, CONNECT, &Refused::malformed(error.to_string())).await,
        Ok(None) => {
            let refused = Refused::malformed("a tunnel ended before anything was sent in it");
            session.refused(&target, CONNECT, &refused).await;
        }
        Ok(Some(byte)) if byte == TLS_BYTE && target.port != Scheme::Http.port() => {
            greeted(serving, wire, target, reason, server).await;
        }
        Ok(Some(_)) if target.port != Scheme::Https.port() => plain(serving, wire, target, reason, server).await,
        Ok(Some(_)) => {
            let refused = Refused::by_policy(format!("what is sent in a tunnel to {target} is no TLS"), None);
            session.refused(&target, CONNECT, &refused).await;
            alert(wire, InvalidHello::NotTls.alert()).await;
        }
    }
}

fn read_target(head: &Head) -> Result<Target, Refused> {
    let target = Target::parse(&head.target, None).map_err(|error| Refused::malformed(error.to_string()))?;
    if let Some(host) = &head.host
        && Target::parse(host, Some(target.port)).as_ref() != Ok(&target)
    {
        let why = format!("a CONNECT to {target} has the host header `{}`", shown(host));
        return Err(Refused::malformed(why));
    }
    if !matches!(head.framing, Framing::Empty | Framing::Length(0)) {
        return Err(Refused::malformed("a CONNECT has a body"));
    }
    Ok(target)
}

async fn first_byte<S>(serving: &Serving, wire: &mut Wire<S>) -> Result<Option<u8>, ReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    wire.reader.peek(serving.session.core.limits.handshake).await.map(|bytes| bytes.first().copied())
}

/// Plain HTTP in a tunnel, as some programs use a proxy for everything: each request is judged like any other.
async fn plain<S>(serving: &Serving, wire: Wire<S>, target: Target, reason: String, server: TcpStream)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = &serving.session;
    if session.allowed(&target, "CONNECT", reason).await.is_err() {
        return;
    }
    let origin = Origin { scheme: Scheme::Http, target };
    let pool = Pool::new(Arc::clone(session), serving.spawner.clone(), Protocol::Http1);
    if pool.adopt(&origin, server).await.is_ok() {
        connection::inside(serving, wire, &origin, &pool).await;
    }
}

/// TLS in a tunnel: its greeting names the host of the tunnel, or it goes no further.
async fn greeted<S>(serving: &Serving, mut wire: Wire<S>, target: Target, reason: String, mut server: TcpStream)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = &serving.session;
    let greeting = timeout(session.core.limits.handshake, read_hello(serving, &mut wire)).await;
    let refused = match greeting {
        Err(_) | Ok(Err(None)) => {
            Err((Refused::malformed("a TLS greeting was not sent in time"), InvalidHello::Malformed.alert()))
        }
        Ok(Err(Some(invalid))) => {
            Err((Refused::by_policy(format!("in a tunnel to {target}: {invalid}"), None), invalid.alert()))
        }
        Ok(Ok(hello)) => check_name(&target, &hello).map(|()| hello),
    };
    let hello = match refused {
        Ok(hello) => hello,
        Err((refused, description)) => {
            session.refused(&target, CONNECT, &refused).await;
            return alert(wire, description).await;
        }
    };
    if is_opened(serving, &target.host, &hello) {
        return intercept::serve(serving, wire, target, reason, &hello, server).await;
    }
    if session.allowed(&target, "CONNECT", reason).await.is_err() {
        return;
    }
    let (reader, first) = wire.reader.into_parts();
    let client = reader.unsplit(wire.writer);
    if server.write_all(&first).await.is_ok() {
        connection::copy(serving, client, server).await;
    }
}

/// Reads the greeting without taking it from the wire; an empty error when it does not come.
async fn read_hello<S>(serving: &Serving, wire: &mut Wire<S>) -> Result<Hello, Option<InvalidHello>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wait = serving.session.core.limits.handshake;
    let mut bytes = wire.reader.peek(wait).await.map_err(|_| None)?;
    loop {
        match hello::read(bytes) {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) => bytes = wire.reader.peek_more(wait).await.map_err(|_| None)?,
            Err(invalid) => return Err(Some(invalid)),
        }
    }
}

fn check_name(target: &Target, hello: &Hello) -> Result<(), (Refused, u8)> {
    let why = match (&target.host, &hello.server_name) {
        (Host::Name(asked), Some(named)) if asked == named => return Ok(()),
        // There is no server name for an address.
        (Host::Address(_), None) => return Ok(()),
        (_, Some(named)) => format!("the TLS greeting in a tunnel to {target} is for {named}"),
        (_, None) => format!("the TLS greeting in a tunnel to {target} does not say for which host it is"),
    };
    Err((Refused::by_policy(why, None), InvalidHello::Name.alert()))
}

/// Whether a rule needs to see inside.
fn is_opened(serving: &Serving, host: &Host, hello: &Hello) -> bool {
    let session = &serving.session;
    let network = &session.policy.network;
    // A greeting that may hide another name is not taken at its word where names decide: opened, it is the name that is
    // served.
    let hides = hello.is_encrypted && network.internet != Internet::All;
    session.core.open_tls == OpenTls::Always
        || network.methods == Methods::Read
        || session.secrets.are_for(host)
        || hides
}

/// Ends a tunnel with a fatal TLS alert.
async fn alert<S>(mut wire: Wire<S>, description: u8)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The other side may be gone already, or may never have spoken TLS.
    let _ = wire.writer.write_all(&[21, 3, 3, 0, 2, 2, description]).await;
    wire.close().await;
}

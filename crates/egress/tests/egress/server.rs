//! Servers on loopback that note every byte they are sent and every request they understand.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::world::Spawner;

/// A request as a server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Debug, Default)]
struct Notes {
    connections: usize,
    bytes: Vec<u8>,
    requests: Vec<Seen>,
}

/// A server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    notes: Arc<Mutex<Notes>>,
}

impl Server {
    /// Plain HTTP, or HTTP/1.1 and HTTP/2 in TLS.
    pub(crate) async fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Self { address: listener.local_addr().expect("bound"), notes: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.notes.lock().expect("no panic").connections += 1;
                let (server, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move { server.serve(stream, tls).await });
            }
        });
        server
    }

    async fn serve(self, stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) {
        let stream = Noted { inner: stream, notes: Arc::clone(&self.notes) };
        let Some(config) = tls else { return self.http1(stream).await };
        let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else { return };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let service = hyper::service::service_fn(move |request| answer(self.clone(), request));
            let builder = hyper::server::conn::http2::Builder::new(Spawner);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        } else {
            self.http1(stream).await;
        }
    }

    async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = hyper::service::service_fn(move |request| answer(self.clone(), request));
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.notes.lock().expect("no panic").connections
    }

    /// How many bytes it was sent.
    pub(crate) fn bytes(&self) -> usize {
        self.notes.lock().expect("no panic").bytes.len()
    }

    /// Whether it was sent this text.
    pub(crate) fn saw(&self, text: &str) -> bool {
        self.notes.lock().expect("no panic").bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// The requests it understood.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.notes.lock().expect("no panic").requests.clone()
    }
}

/// Any body, with or without trailers.
type Answered = UnsyncBoxBody<Bytes, Infallible>;

/// `/ws` switches and echoes, `/switch` switches unasked, `/redirect` sends elsewhere, `/between` tells what is for
/// neighbours only, `/trailers` repeats the authorization behind its body, `/big` sends a megabyte, `/leak` repeats the authorization it
/// was sent, in a header and piece by piece in the body, `/encoded` says that its body is in the encoding of the query;
/// anything else says the method and how long the body was.
async fn answer(server: Server, request: Request<Incoming>) -> Result<Response<Answered>, Infallible> {
    let leaked = request.headers().get("authorization").filter(|_| request.uri().path() == "/trailers").cloned();
    let (parts, body) = answer_to(server, request).await.into_parts();
    let trailers = leaked.map(|value| Ok(HeaderMap::from_iter([(HeaderName::from_static("x-echo"), value)])));
    Ok(Response::from_parts(parts, body.with_trailers(std::future::ready(trailers)).boxed_unsync()))
}

async fn answer_to(server: Server, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path == "/ws" && request.headers().contains_key("upgrade") {
        note(&server, &request, Bytes::new());
        let upgrading = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(upgraded) = upgrading.await else { return };
            let mut stream = TokioIo::new(upgraded);
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
        let builder = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let builder = builder.header("connection", "upgrade").header("upgrade", "websocket").header("x-seen", "yes");
        return builder.body(Full::default()).expect("an answer");
    }
    if path == "/switch" {
        note(&server, &request, Bytes::new());
        let builder = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let builder = builder.header("connection", "upgrade").header("upgrade", "tunnel");
        return builder.body(Full::default()).expect("an answer");
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Response::new(Full::default()) };
    let body = body.to_bytes();
    let length = body.len();
    let request = Request::from_parts(parts, ());
    note(&server, &request, body);
    let mut response = Response::new(Full::default());
    match path.as_str() {
        "/redirect" => {
            *response.status_mut() = StatusCode::FOUND;
            let to = request.uri().query().unwrap_or_default().to_owned();
            response.headers_mut().insert("location", to.parse().expect("a header"));
        }
        "/between" => {
            for (name, value) in [
                ("proxy-authenticate", "Basic"),
                ("keep-alive", "timeout=5"),
                ("connection", "x-mine"),
                ("x-mine", "1"),
                ("upgrade", "h2c"),
                ("trailer", "x-echo"),
                ("x-kept", "1"),
            ] {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
        }
        "/big" => *response.body_mut() = Full::from(vec![b'x'; 1 << 20]),
        "/encoded" => {
            let encoding = request.uri().query().unwrap_or_default().to_owned();
            response.headers_mut().insert("content-encoding", encoding.parse().expect("a header"));
            *response.body_mut() = Full::from("encoded");
        }
        "/leak" => {
            let authorization = request.headers().get("authorization").cloned();
            let text = authorization.as_ref().map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default();
            let query = request.uri().query().unwrap_or_default();
            *response.body_mut() = Full::from(format!("you sent {text} and {query}, twice: {text}"));
            if let Some(value) = authorization {
                response.headers_mut().insert("x-echo", value);
            }
        }
        _ => *response.body_mut() = Full::from(format!("{} {path} {length}", request.method())),
    }
    response
}

fn note<B>(server: &Server, request: &Request<B>, body: Bytes) {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).map(ToOwned::to_owned);
    let seen = Seen {
        method: request.method().clone(),
        path: request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned(),
        authority: host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default(),
        headers: request.headers().clone(),
        body,
    };
    server.notes.lock().expect("no panic").requests.push(seen);
}

/// A stream whose bytes are noted as they are read.
struct Noted {
    inner: TcpStream,
    notes: Arc<Mutex<Notes>>,
}

impl AsyncRead for Noted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(context, out);
        this.notes.lock().expect("no panic").bytes.extend_from_slice(&out.filled()[before..]);
        poll
    }
}

impl AsyncWrite for Noted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

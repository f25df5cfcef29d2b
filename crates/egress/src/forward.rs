//! One request on its way, the same for every road it may have come by: judged, told, sent, and its answer cleaned.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;

use crate::body::{self, Body};
use crate::decide::{Refused, RequestFacts};
use crate::http1::head::Framing;
use crate::secrets::{self, TakeOut};
use crate::session::Inner;
use crate::tls::Protocol;
use crate::upstream::{Origin, Pool, Ready, is_repeatable};

/// Headers of answers that are between neighbours, beside those that `connection` names.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// A request without its body, read and cleaned of what is between neighbours.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) is_websocket: bool,
    pub(crate) has_body: bool,
    /// How an HTTP/1 client delimits the body.
    pub(crate) framing: Framing,
    /// Whether an HTTP/2 client takes trailers.
    pub(crate) takes_trailers: bool,
}

/// A request that may go, and the connection that it goes on.
#[derive(Debug)]
pub(crate) struct Prepared {
    ready: Ready,
    request: Request<()>,
    take_out: Option<TakeOut>,
}

impl Prepared {
    /// Whether a WebSocket is asked for.
    pub(crate) fn is_websocket(&self) -> bool {
        self.request.headers().contains_key(header::UPGRADE)
    }
}

impl Inner {
    /// Judges a request, connects to its server, and tells of the decision.
    pub(crate) async fn prepare(&self, pool: &Pool, origin: &Origin, ask: Ask) -> Result<Prepared, Refused> {
        let method = ask.method.clone();
        match self.judge(pool, origin, ask).await {
            Ok((prepared, reason)) => {
                self.allowed(&origin.target, method.as_str(), reason).await?;
                Ok(prepared)
            }
            Err(refused) => {
                self.refused(&origin.target, Some(method.as_str()), &refused).await;
                Err(refused)
            }
        }
    }

    async fn judge(&self, pool: &Pool, origin: &Origin, mut ask: Ask) -> Result<(Prepared, String), Refused> {
        let rules = self.rules();
        let reason = rules.destination(&origin.target)?;
        let facts = RequestFacts {
            method: &ask.method,
            headers: &ask.headers,
            is_upgrade: ask.is_websocket,
            has_body: ask.has_body,
        };
        rules.request(&origin.target, &facts)?;
        if ask.is_websocket
            && let Some(name) = self.secrets.first_for(origin)
        {
            return Err(unseen_socket(origin, name));
        }
        self.secrets.put_in(origin, &mut ask.path, &mut ask.headers)?;
        let take_out = self.secrets.take_out(origin);
        let is_repeatable = is_repeatable(&ask.method, ask.has_body, ask.is_websocket);
        let ready = pool.ready(origin, is_repeatable).await?;
        let request = build(origin, ask, ready.sender.protocol())?;
        Ok((Prepared { ready, request, take_out }, reason))
    }

    /// Sends a request, and cleans the head of its answer. An answer with status 101 keeps its extension for the switch.
    pub(crate) async fn send(
        &self,
        pool: &Pool,
        origin: &Origin,
        prepared: Prepared,
        body: Body,
    ) -> Result<Response<Body>, Refused> {
        let Prepared { ready, request, take_out } = prepared;
        let method = request.method().clone();
        let response = pool.send(origin, ready, request.map(|()| body)).await?;
        let cleaned = cleaned(origin, response, take_out.as_ref(), self.core.limits.idle);
        if let Err(refused) = &cleaned {
            self.refused(&origin.target, Some(method.as_str()), refused).await;
        }
        cleaned
    }
}

/// A WebSocket is bytes that are masked and cut at will: a value that comes back in it cannot be found.
fn unseen_socket(origin: &Origin, name: &str) -> Refused {
    let host = &origin.target.host;
    let why = format!("a WebSocket to {host} is not let through: the value of the secret {name} could come back in it");
    Refused::by_policy(why, Some(format!("take {host} from the hosts of the secret {name}")))
}

fn build(origin: &Origin, ask: Ask, protocol: Protocol) -> Result<Request<()>, Refused> {
    let unreadable = |_| Refused::malformed("a request's path cannot be read");
    let mut request = Request::new(());
    let authority = HeaderValue::try_from(origin.authority()).map_err(|_| Refused::malformed("a host is no text"))?;
    let mut headers = ask.headers;
    match protocol {
        Protocol::Http1 => {
            *request.uri_mut() = Uri::try_from(ask.path).map_err(unreadable)?;
            headers.insert(header::HOST, authority);
            match ask.framing {
                Framing::Empty => {}
                Framing::Length(length) => {
                    headers.insert(header::CONTENT_LENGTH, length.into());
                }
                Framing::Chunked => {
                    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
            }
            if ask.is_websocket {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
        }
        Protocol::Http2 => {
            *request.uri_mut() = Uri::try_from(origin.uri(&ask.path)).map_err(unreadable)?;
            *request.version_mut() = http::Version::HTTP_2;
            if ask.takes_trailers {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
    }
    *request.method_mut() = ask.method;
    *request.headers_mut() = headers;
    Ok(request)
}

fn cleaned(
    origin: &Origin,
    response: Response<Incoming>,
    take_out: Option<&TakeOut>,
    idle: std::time::Duration,
) -> Result<Response<Body>, Refused> {
    let (mut parts, incoming) = response.into_parts();
    let encoding = secrets::encoding(&parts.headers);
    drop_hop_by_hop(&mut parts.headers);
    let body = body::timed(incoming, idle);
    let Some(take_out) = take_out else { return Ok(Response::from_parts(parts, body)) };
    if let Some(encoding) = encoding.filter(|_| !http_body::Body::is_end_stream(&body)) {
        let host = &origin.target.host;
        return Err(Refused::upstream(format!(
            "{host} answers in the encoding `{encoding}` though it was asked for none; a secret is for this host, and its \
             value could come back unseen"
        )));
    }
    take_out.headers(&mut parts.headers);
    let body = take_out.body(body);
    if http_body::Body::size_hint(&body).exact().is_none() {
        // A placeholder is not as long as what it stands for.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Ok(Response::from_parts(parts, body))
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        // What delimits an answer is ours to say.
        .filter(|name| !name.is_empty() && name != "content-length")
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// A refusal as an answer.
pub(crate) fn refusal(refused: &Refused) -> (Parts, Body) {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = refused.status;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (parts, body::full(refused.body()))
}

/// Reads where a request to the proxy itself goes: `http://host:port/path`, and a `host` header that says the same.
pub(crate) fn read_absolute(target: &str, host: Option<&str>) -> Result<(Origin, String), Refused> {
    use crate::target::Target;
    use crate::upstream::{Scheme, is_same};

    let Some(rest) = target.strip_prefix("http://") else {
        let why = "this is an HTTP proxy: a request names a whole address that begins with http://, and HTTPS goes through CONNECT";
        return Err(Refused::malformed(why));
    };
    if rest.contains('#') {
        return Err(Refused::malformed("a request's address has a fragment"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let target =
        Target::parse(authority, Some(Scheme::Http.port())).map_err(|error| Refused::malformed(error.to_string()))?;
    let origin = Origin { scheme: Scheme::Http, target };
    if let Some(host) = host.filter(|host| !is_same(&origin, host)) {
        let why = format!("a request to {} has the host header `{}`", origin.target, crate::target::shown(host));
        return Err(Refused::malformed(why));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((origin, path))
}

/// Reads where a request inside a tunnel goes: a path, and the `host` that the tunnel is for.
pub(crate) fn read_inside(
    origin: &Origin,
    method: &Method,
    target: &str,
    host: Option<&str>,
) -> Result<String, Refused> {
    let is_path = target.starts_with('/') || (target == "*" && *method == Method::OPTIONS);
    if !is_path || target.contains('#') {
        return Err(Refused::malformed("a request inside a tunnel names a path and no more"));
    }
    match host {
        Some(host) if crate::upstream::is_same(origin, host) => Ok(target.to_owned()),
        Some(host) => {
            let why =
                format!("a request in a tunnel to {} is for the host `{}`", origin.target, crate::target::shown(host));
            Err(Refused::by_policy(why, None))
        }
        None => Err(Refused::malformed("a request has no host header")),
    }
}

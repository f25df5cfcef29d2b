//! One file of a forge, asked for by us: a diff whose address a prompt has. So the address is a person's, the answer anybody's:
//! the name is resolved once and its addresses judged, redirections lead nowhere but to hosts that are allowed, a login goes
//! to one host only, and the answer has a bound.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use carrel_domain::Secret;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use crate::target::Target;
use crate::tls::Protocol;
use crate::{Core, Egress, upstream};

/// How often an answer may lead elsewhere.
const MAX_MOVES: usize = 4;

/// What is to be downloaded, and what may be done for it.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// Where it is.
    pub url: Url,
    /// The hosts, with their ports where those are not of the scheme, that may be asked over TLS.
    pub hosts: &'a [String],
    /// The server that holds the repository: it may be asked by this scheme, and at a private address, unless another leads
    /// there.
    pub own: Option<&'a Url>,
    /// The user and the password for the first host.
    pub login: Option<(String, Secret)>,
    /// The types of content that are wanted.
    pub accept: &'a str,
    /// The longest answer that is taken, in bytes.
    pub max_bytes: usize,
    /// How long all of it may take.
    pub deadline: Duration,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What the server says it is.
    pub content_type: Option<String>,
}

enum Answer {
    Whole(Downloaded),
    Moved(String),
}

impl Egress {
    /// Downloads it.
    ///
    /// # Errors
    /// Why not, for people: the host is not allowed, refused, or answered with something else than the file.
    pub async fn download(&self, wanted: &Download<'_>) -> Result<Downloaded, String> {
        let downloading = self.core.download(wanted);
        let late = || format!("it did not arrive within {} s", wanted.deadline.as_secs());
        tokio::time::timeout(wanted.deadline, downloading).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Core {
    async fn download(&self, wanted: &Download<'_>) -> Result<Downloaded, String> {
        let mut url = wanted.url.clone();
        // Nobody but the repository's own server sends us to it: what lies at private addresses is none of others' business.
        let mut is_own = true;
        for _ in 0..=MAX_MOVES {
            let is_first = url.origin() == wanted.url.origin();
            let login = wanted.login.as_ref().filter(|_| is_first);
            is_own &= wanted.own.is_some_and(|own| own.origin() == url.origin());
            match self.ask(wanted, &url, is_own, login).await? {
                Answer::Whole(downloaded) => return Ok(downloaded),
                Answer::Moved(to) => {
                    url = url.join(&to).map_err(|_| "it leads to an address that is none".to_owned())?;
                }
            }
        }
        Err(format!("it leads from one address to another more than {MAX_MOVES} times"))
    }

    async fn ask(
        &self,
        wanted: &Download<'_>,
        url: &Url,
        is_own: bool,
        login: Option<&(String, Secret)>,
    ) -> Result<Answer, String> {
        let host = url.host_str().ok_or("the address names no host")?;
        let shown = authority(url);
        let is_listed = url.scheme() == "https" && wanted.hosts.contains(&shown);
        if !(is_own || is_listed) {
            return Err(format!("{}://{shown} is none of the hosts that diffs are fetched from", url.scheme()));
        }
        let port = url.port_or_known_default().ok_or("the address names no port")?;
        let target = Target::parse(&format!("{host}:{port}"), None).map_err(|error| error.to_string())?;
        // Git talks to the repository's own server already, wherever that is.
        let stream =
            if is_own { self.resolver.connect_anywhere(&target).await } else { self.resolver.connect(&target).await };
        let stream = stream.map_err(|refused| refused.why)?;
        if url.scheme() == "https" {
            let opened = upstream::open_tls(self, &target, stream, &[Protocol::Http1]).await;
            get(opened.map_err(|refused| refused.why)?.0, url, login, wanted).await
        } else {
            get(stream, url, login, wanted).await
        }
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// One GET request on a connection of its own.
async fn get<S>(stream: S, url: &Url, login: Option<&(String, Secret)>, wanted: &Download<'_>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let max_bytes = wanted.max_bytes;
    let said = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(said)?;
    let asking = async {
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, authority(url))
            .header(header::ACCEPT, wanted.accept)
            .header(header::USER_AGENT, concat!("carrel/", env!("CARGO_PKG_VERSION")));
        if let Some((user, password)) = login {
            let both = STANDARD.encode(format!("{user}:{}", password.expose()));
            request = request.header(header::AUTHORIZATION, format!("Basic {both}"));
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(said)?;
        let status = response.status();
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if status.is_redirection() {
            return text(header::LOCATION).map(Answer::Moved).ok_or_else(|| format!("the server says {status}"));
        }
        if status != StatusCode::OK {
            return Err(refused(status, login.is_some()));
        }
        let content_type = text(header::CONTENT_TYPE);
        if text(header::CONTENT_LENGTH)
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: usize| length > max_bytes)
        {
            return Err(too_long(max_bytes));
        }
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(said)?.into_data() {
                if data.len() > max_bytes - bytes.len() {
                    return Err(too_long(max_bytes));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Answer::Whole(Downloaded { bytes, content_type }))
    };
    tokio::pin!(connection, asking);
    tokio::select! {
        answer = &mut asking => answer,
        // The answer may still be on its way when the other side has closed.
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(said(error)),
        },
    }
}

fn refused(status: StatusCode, had_login: bool) -> String {
    match status {
        StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if had_login => {
            format!("the server says {status}: it is not there, or the service's credentials may not see it")
        }
        StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!(
                "the server says {status}: it is not there, or needs credentials, and the service has none for this host"
            )
        }
        _ => format!("the server says {status}"),
    }
}

fn too_long(max_bytes: usize) -> String {
    format!("it is longer than {max_bytes} bytes")
}

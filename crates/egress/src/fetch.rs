//! Requests of our own: asking a package index where its files are. Its address came from an image, so the same holds as for
//! what a sandbox asks for: addresses are checked, certificates proved, answers bounded.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use crate::packages::{self, Fetched, Found, Known, PackageHosts};
use crate::target::Target;
use crate::tls::Protocol;
use crate::{Core, Egress, upstream};

impl Egress {
    /// The hosts that an image's package managers need: those its tools are configured for, and those where the indexes
    /// they name have their files. Takes a minute at most; what cannot be asked is left out, with a note.
    pub async fn package_hosts(&self, found: &Found) -> PackageHosts {
        let fetch = |url, accept, max_bytes| self.core.fetch(url, accept, max_bytes);
        packages::hosts(found, &self.core.packages, fetch).await
    }

    /// What is known of package managers beside what their tools say.
    #[must_use]
    pub fn known_packages(&self) -> &Known {
        &self.core.packages
    }
}

impl Core {
    async fn fetch(&self, url: Url, accept: &'static str, max_bytes: usize) -> Result<Fetched, String> {
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("`{other}` is no scheme to ask by")),
        };
        let host = url.host_str().ok_or("the address names no host")?;
        let port = url.port_or_known_default().unwrap_or(443);
        let target = Target::parse(&format!("{host}:{port}"), None).map_err(|error| error.to_string())?;
        let stream = self.resolver.connect(&target).await.map_err(|refused| refused.why)?;
        if is_https {
            let opened = upstream::open_tls(self, &target, stream, &[Protocol::Http1]).await;
            get(opened.map_err(|refused| refused.why)?.0, &url, accept, max_bytes).await
        } else {
            get(stream, &url, accept, max_bytes).await
        }
    }
}

/// One GET request on a connection of its own, its answer cut off at so many bytes.
async fn get<S>(stream: S, url: &Url, accept: &'static str, max_bytes: usize) -> Result<Fetched, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let said = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(said)?;
    let asking = async {
        let host = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let request = Request::builder()
            .method(Method::GET)
            .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, authority)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, concat!("carrel/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(said)?;
        let status = response.status();
        if status.is_redirection() {
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            return location.map(|to| Fetched::MovedTo(to.to_owned())).ok_or_else(|| format!("it says {status}"));
        }
        if status != StatusCode::OK {
            return Err(format!("it says {status}"));
        }
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(said)?.into_data() {
                bytes.extend_from_slice(&data[..data.len().min(max_bytes - bytes.len())]);
            }
            if bytes.len() >= max_bytes {
                break;
            }
        }
        Ok(Fetched::Body(bytes))
    };
    tokio::pin!(connection, asking);
    tokio::select! {
        answer = &mut asking => answer,
        // The answer may still be on its way when the other side has closed.
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

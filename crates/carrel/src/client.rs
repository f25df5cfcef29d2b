//! A client of the public API: where the service is, and one function a request. Nothing here that another program
//! could not do.

mod socket;

use std::time::Duration;

use carrel_domain::Secret;
use carrel_wire::{Event, Problem};
use eventsource_stream::Eventsource as _;
use futures::{Stream, StreamExt as _};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::exit::Failure;
use crate::settings::Settings;

pub(crate) use socket::{Sink, Stream as SocketStream};

/// The file of the data folder that holds the local token.
pub(crate) const TOKEN_FILE: &str = "token";

/// The file of the data folder that says where the running service listens.
pub(crate) const ADDRESS_FILE: &str = "address";

/// How long a request that is no stream may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a stream may be silent: the service says something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// A service, and the right to use it.
#[derive(Clone)]
pub(crate) struct Client {
    base: Url,
    token: Secret,
    http: reqwest::Client,
    /// Whether it runs on this machine: then a relative path means the same to both.
    pub(crate) is_local: bool,
}

impl Client {
    /// The service the settings name.
    ///
    /// # Errors
    /// When no service was ever started with this data folder, or its token cannot be read.
    pub(crate) fn find(settings: &Settings) -> Result<Self, Failure> {
        if let Some(remote) = &settings.remote {
            return Self::at(remote.url.clone(), remote.token.clone(), false);
        }
        let file = settings.data.join(TOKEN_FILE);
        let token = std::fs::read_to_string(&file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::unreachable(format!(
                "no service has been started with the data folder {}; run `carrel serve`, or set CARREL_DATA, or CARREL_URL \
                 and CARREL_TOKEN",
                settings.data.display()
            )),
            _ => Failure::usage(format!("cannot read the token in {}: {error}", file.display())),
        })?;
        Self::at(local_url(settings)?, Secret::new(token.trim()), true)
    }

    /// A service at an address.
    pub(crate) fn at(base: Url, token: Secret, is_local: bool) -> Result<Self, Failure> {
        let http = Self::builder(is_local).build().map_err(no_client)?;
        Ok(Self { base, token, http, is_local })
    }

    fn builder(is_local: bool) -> reqwest::ClientBuilder {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none());
        // A local service is spoken to directly, whatever proxy the person uses for the rest of the world.
        if is_local { http.no_proxy() } else { http }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.json(self.request(Method::GET, path)?.timeout(TIMEOUT)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.json(self.request(Method::POST, path)?.json(body).timeout(TIMEOUT)).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn upload<T: DeserializeOwned>(&self, path: &str, bytes: Vec<u8>) -> Result<T, Failure> {
        let request = self.request(Method::POST, path)?.header("content-type", "application/octet-stream");
        self.json(request.body(bytes).timeout(TIMEOUT)).await
    }

    pub(crate) async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.json(self.request(Method::PATCH, path)?.json(body).timeout(TIMEOUT)).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.json(self.request(Method::PUT, path)?.json(body).timeout(TIMEOUT)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(self.request(Method::DELETE, path)?.timeout(TIMEOUT)).await.map(drop)
    }

    /// The bytes behind a path.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        Ok(response.bytes().await.map_err(|error| self.unreachable(&error))?.to_vec())
    }

    /// Whether the service answers.
    pub(crate) async fn is_there(&self) -> bool {
        let Ok(request) = self.request(Method::GET, "me") else { return false };
        self.send(request.timeout(Duration::from_secs(2))).await.is_ok()
    }

    /// A task's events behind `after`, live. The stream ends when the connection does.
    pub(crate) async fn events(
        &self,
        task: uuid::Uuid,
        after: i64,
    ) -> Result<impl Stream<Item = Option<Event>> + use<>, Failure> {
        let request = self.request(Method::GET, &format!("tasks/{task}/events?after={after}"))?;
        let response = self.send(request.header("accept", "text/event-stream")).await?;
        let frames = response.bytes_stream().eventsource();
        Ok(frames.map(|frame| frame.ok().and_then(|frame| serde_json::from_str(&frame.data).ok())))
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, Failure> {
        let url = format!("{}/api/v1/{path}", self.base.as_str().trim_end_matches('/'));
        let url =
            Url::parse(&url).map_err(|error| Failure::usage(format!("the service's address makes no URL: {error}")))?;
        Ok(self.http.request(method, url).bearer_auth(self.token.expose()))
    }

    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::service(format!(
                "{} gave an answer that this program does not understand ({error}); are both of one version?",
                self.base
            ))
        })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Failure::refused(&problem),
            Err(_) if status == StatusCode::BAD_GATEWAY || status == StatusCode::GATEWAY_TIMEOUT => {
                Failure::unreachable(format!("what stands before {} answers {status}", self.base))
            }
            Err(_) => Failure::service(format!("{} answers {status}, and not as a Carrel service would", self.base)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            reason = error.to_string();
            cause = error.source();
        }
        Failure::unreachable(format!("cannot reach the service at {}: {reason}; is `carrel serve` running?", self.base))
    }
}

fn no_client(error: reqwest::Error) -> Failure {
    Failure::service(format!("cannot make an HTTP client: {error}"))
}

/// Where the service on this machine listens: what `CARREL_LISTEN` says, or what the service wrote down.
fn local_url(settings: &Settings) -> Result<Url, Failure> {
    let written = std::fs::read_to_string(settings.data.join(ADDRESS_FILE)).ok();
    let address = match (settings.listen, written.and_then(|text| text.trim().parse().ok())) {
        (Some(listen), _) if listen.port() != 0 => listen,
        (_, Some(written)) => written,
        (_, None) => settings.listen(),
    };
    let host = match address.ip() {
        ip if !ip.is_unspecified() => address,
        std::net::IpAddr::V4(_) => (std::net::Ipv4Addr::LOCALHOST, address.port()).into(),
        std::net::IpAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
    };
    Url::parse(&format!("http://{host}"))
        .map_err(|error| Failure::usage(format!("CARREL_LISTEN makes no URL: {error}")))
}

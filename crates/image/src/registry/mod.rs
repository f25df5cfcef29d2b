//! A client of the registry protocol (OCI distribution specification 1.1), for pulling only.
//!
//! It is our own because what matters here is decided between a request and the next: each redirect and each token
//! server passes the gate, credentials go to the registry they are for and nowhere else, and a broken download goes on
//! where it broke. Every wait has a deadline, every answer a bound.

mod download;
mod gate;
mod login;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrel_domain::Secret;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::digest::Digest;
use crate::error::{ImageError, cleaned};
use crate::manifest::{self, Descriptor};
use crate::options::{Credential, ImageOptions};
use crate::reference::ImageReference;
use gate::Gate;
use login::Challenge;

/// The longest wait for an answer's headers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest wait for the next piece of a body.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause that a registry may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How often a request is made before it counts as failed.
const TRIES: u32 = 5;
/// How often an answer may send elsewhere.
const MAX_REDIRECTS: u32 = 5;
/// The longest answer of a token server, and the longest error.
const MAX_WORDS_BYTES: u64 = 1 << 20;

/// Asks registries.
pub(crate) struct Registry {
    gate: Gate,
    credentials: Vec<Credential>,
    first_pause: Duration,
    manifest_bytes: u64,
    /// The `Authorization` that a registry took last, by registry and repository.
    logins: Mutex<HashMap<(String, String), Secret>>,
}

/// A document as it was served.
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
}

/// One request for something of an image.
struct Ask<'a> {
    reference: &'a ImageReference,
    /// Below the repository: `manifests/latest`.
    path: String,
    accept: Option<&'static str>,
    /// The first byte that is wanted.
    from: u64,
}

/// Why one try did not do.
enum Failure {
    /// Trying again would not help.
    Final(ImageError),
    /// It may.
    Transient { error: ImageError, after: Option<Duration> },
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Final(error)
    }
}

impl Registry {
    pub(crate) fn new(options: &ImageOptions) -> Result<Self, ImageError> {
        Ok(Self {
            gate: Gate::new(options)?,
            credentials: options.credentials.clone(),
            first_pause: options.first_pause,
            manifest_bytes: options.limits.manifest_bytes,
            logins: Mutex::default(),
        })
    }

    /// The manifest, or index, that a tag or digest stands for. Checked against the digest, where it is one.
    pub(crate) async fn manifest(&self, reference: &ImageReference, selector: &str) -> Result<Served, ImageError> {
        let path = format!("manifests/{selector}");
        let served = self.document(reference, path, Some(manifest::ACCEPT), None).await?;
        if let Ok(wanted) = selector.parse::<Digest>() {
            let found = wanted.found_in(&served.bytes);
            if found != wanted {
                return Err(ImageError::wrong_digest(reference, "its manifest", &wanted, &found));
            }
        }
        Ok(served)
    }

    /// A blob that is small enough to be held: a config.
    pub(crate) async fn small_blob(&self, reference: &ImageReference, of: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if of.size_bytes > self.manifest_bytes {
            return Err(self.too_long(reference));
        }
        let path = format!("blobs/{}", of.digest);
        let served = self.document(reference, path, None, Some(of.size_bytes)).await?;
        let found = of.digest.found_in(&served.bytes);
        if found != of.digest {
            return Err(ImageError::wrong_digest(reference, "its config", &of.digest, &found));
        }
        Ok(served.bytes)
    }

    async fn document(
        &self,
        reference: &ImageReference,
        path: String,
        accept: Option<&'static str>,
        size: Option<u64>,
    ) -> Result<Served, ImageError> {
        let ask = Ask { reference, path, accept, from: 0 };
        let mut tries = 1;
        loop {
            let failure = match self.document_once(&ask).await {
                Ok(served) if size.is_none_or(|size| size == served.bytes.len() as u64) => return Ok(served),
                Ok(_) => return Err(ImageError::invalid(reference, "its config is not as long as promised")),
                Err(failure) => failure,
            };
            self.pause(failure, &mut tries).await?;
        }
    }

    async fn document_once(&self, ask: &Ask<'_>) -> Result<Served, Failure> {
        let response = self.answer(ask).await?;
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.map(str::to_owned);
        let bytes = bounded(response, self.manifest_bytes).await.map_err(|words| transient(ask, words))?;
        let bytes = bytes.ok_or_else(|| self.too_long(ask.reference))?;
        Ok(Served { bytes, content_type })
    }

    fn too_long(&self, reference: &ImageReference) -> ImageError {
        let limit = format!("{} bytes", self.manifest_bytes);
        ImageError::TooLarge { image: reference.to_string(), what: "a longer manifest or config".to_owned(), limit }
    }

    /// Waits before the next try, or gives up.
    async fn pause(&self, failure: Failure, tries: &mut u32) -> Result<(), ImageError> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Transient { error, after } => (error, after),
        };
        if *tries >= TRIES {
            return Err(error);
        }
        let own = self.first_pause.saturating_mul(1 << (*tries - 1));
        *tries += 1;
        tracing::debug!(error = %error, "a registry is asked again");
        sleep(after.unwrap_or(own).min(MAX_PAUSE)).await;
        Ok(())
    }

    /// One try: a success, after redirects and, where it is asked for, a login.
    async fn answer(&self, ask: &Ask<'_>) -> Result<Response, Failure> {
        let key = (ask.reference.registry().to_owned(), ask.reference.repository().to_owned());
        let known = self.logins.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let response = self.follow(ask, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return checked(ask, response).await;
        }
        // A token that was taken before may have run out: it is asked for anew, once.
        let Some(challenge) = login::challenge(response.headers()) else { return checked(ask, response).await };
        let Some(login) = self.log_in(ask, &challenge).await? else { return checked(ask, response).await };
        let response = self.follow(ask, Some(&login)).await?;
        self.remember(key, (response.status() != StatusCode::UNAUTHORIZED).then_some(login));
        checked(ask, response).await
    }

    /// Keeps the login that was taken, or forgets one that was not.
    fn remember(&self, key: (String, String), login: Option<Secret>) {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        match login {
            Some(login) => logins.insert(key, login),
            None => logins.remove(&key),
        };
    }

    /// Sends a request and follows where it leads. The login goes to the registry's own origin only.
    async fn follow(&self, ask: &Ask<'_>, login: Option<&Secret>) -> Result<Response, Failure> {
        let host = ask.reference.host();
        let refused = |host: &str, problem: String| ImageError::Refused {
            host: host.to_owned(),
            image: ask.reference.to_string(),
            problem,
        };
        let base = self.gate.base(host).map_err(|problem| refused(host, problem))?;
        let path = format!("v2/{}/{}", ask.reference.repository(), ask.path);
        let mut url = base.join(&path).map_err(|error| refused(host, error.to_string()))?;
        for _ in 0..=MAX_REDIRECTS {
            let client = self.gate.client_for(&url).map_err(|problem| refused(url.authority(), problem))?;
            let mut request = client.get(url.clone());
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            if let Some(value) = login.filter(|_| url.origin() == base.origin()).and_then(login::header_value) {
                request = request.header(AUTHORIZATION, value);
            }
            let response = self.send(ask, &url, request).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| ImageError::invalid(ask.reference, "its registry redirects to nowhere"))?;
        }
        Err(ImageError::invalid(ask.reference, "its registry redirects too often").into())
    }

    async fn send(&self, ask: &Ask<'_>, url: &Url, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let sent = timeout(ANSWER_TIMEOUT, request.send()).await;
        let sent = sent.map_err(|_| transient(ask, format!("no answer came within {} s", ANSWER_TIMEOUT.as_secs())))?;
        sent.map_err(|error| match refusal_in(&error) {
            Some(refusal) => Failure::Final(ImageError::Refused {
                host: url.authority().to_owned(),
                image: ask.reference.to_string(),
                problem: refusal.to_string(),
            }),
            None => transient(ask, words_of(&error)),
        })
    }

    /// What to show next to the registry; `None` when there is nothing.
    async fn log_in(&self, ask: &Ask<'_>, challenge: &Challenge) -> Result<Option<Secret>, Failure> {
        let registry = ask.reference.registry();
        let credential = self.credentials.iter().find(|one| one.registry.eq_ignore_ascii_case(registry));
        let basic = credential.map(|one| {
            let pair = Secret::new(format!("{}:{}", one.user, one.password.expose()));
            Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))
        });
        let (realm, service) = match challenge {
            Challenge::Basic => return Ok(basic),
            Challenge::Bearer { realm, service } => (realm, service.as_deref()),
        };
        let url = login::token_url(realm, service, ask.reference.repository());
        let client = self.gate.client_for(&url).map_err(|problem| ImageError::Refused {
            host: url.authority().to_owned(),
            image: ask.reference.to_string(),
            problem,
        })?;
        let mut request = client.get(url.clone());
        if let Some(value) = basic.as_ref().and_then(login::header_value) {
            request = request.header(AUTHORIZATION, value);
        }
        // A token server's redirects are not followed: it would be the credentials that go along.
        let response = self.send(ask, &url, request).await?;
        let response = checked(ask, response).await?;
        let body = bounded(response, MAX_WORDS_BYTES).await.map_err(|words| transient(ask, words))?;
        let token = body.as_deref().and_then(login::token_in);
        let none = || ImageError::invalid(ask.reference, "its registry's token server gives no token");
        Ok(Some(token.ok_or_else(none)?))
    }
}

/// A success, or what its status means.
async fn checked(ask: &Ask<'_>, response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let after = after.map(Duration::from_secs);
    let body = bounded(response, MAX_WORDS_BYTES).await.ok().flatten().unwrap_or_default();
    let words = words_in(&body).map(|words| format!(": {words}")).unwrap_or_default();
    let registry = ask.reference.registry().to_owned();
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            Failure::Final(ImageError::NotFound { registry, image: ask.reference.to_string(), words })
        }
        StatusCode::TOO_MANY_REQUESTS => {
            Failure::Transient { error: ImageError::RateLimited { registry, words }, after }
        }
        _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            let words = format!("it answers with {}{words}", status.as_u16());
            Failure::Transient { error: ImageError::Unreachable { registry, words }, after }
        }
        _ => {
            let problem = format!("its registry answers with {}{words}", status.as_u16());
            Failure::Final(ImageError::invalid(ask.reference, problem))
        }
    })
}

fn transient(ask: &Ask<'_>, words: impl Into<String>) -> Failure {
    let error = ImageError::Unreachable { registry: ask.reference.registry().to_owned(), words: words.into() };
    Failure::Transient { error, after: None }
}

/// A body that must be held; `None` when it is longer than this.
async fn bounded(mut response: Response, longest: u64) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    let read = async {
        while let Some(piece) = response.chunk().await.map_err(|error| words_of(&error))? {
            if body.len() as u64 + piece.len() as u64 > longest {
                return Ok(None);
            }
            body.extend_from_slice(&piece);
        }
        Ok(Some(body))
    };
    timeout(STALL_TIMEOUT, read).await.map_err(|_| "the answer did not come to its end".to_owned())?
}

#[derive(Deserialize)]
struct ErrorAnswer {
    errors: Vec<ErrorWords>,
}

#[derive(Deserialize)]
struct ErrorWords {
    #[serde(default)]
    message: String,
}

/// What a registry says in the shape that the specification gives errors.
fn words_in(body: &[u8]) -> Option<String> {
    let answer: ErrorAnswer = serde_json::from_slice(body).ok()?;
    let words = cleaned(&answer.errors.first()?.message, 200);
    (!words.is_empty()).then_some(words)
}

/// What an HTTP client's error says at its root, without the URL: it may hold a signature.
fn words_of(error: &reqwest::Error) -> String {
    let mut root: &dyn Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    if error.source().is_none() {
        return if error.is_timeout() { "it took too long".to_owned() } else { "the connection broke".to_owned() };
    }
    cleaned(&root.to_string(), 200)
}

/// The gate's refusal, when that is why a connection was not made.
fn refusal_in(error: &reqwest::Error) -> Option<&gate::NotAllowed> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        cause = error.source();
    }
    None
}

//! A registry that serves what it is given, and misbehaves as it is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use carrel_image::Digest;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::tars::gzip;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What is done instead of answering as one should, once.
#[derive(Clone)]
pub(crate) enum Fault {
    /// The connection breaks after this many bytes.
    Break(usize),
    /// After this many bytes nothing more comes. `Fake::stalled` hears of it.
    Stall(usize),
    /// The whole, whatever range was asked for.
    NoRanges,
    /// This answer.
    Answer(u16, Vec<(&'static str, String)>, String),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) login: Option<String>,
}

#[derive(Default)]
struct Inner {
    /// By path: kind and content.
    things: Mutex<HashMap<String, (String, Bytes)>>,
    /// For paths that hold this text, in order.
    faults: Mutex<Vec<(String, Fault)>>,
    seen: Mutex<Vec<Seen>>,
    /// The `Authorization` that is wanted, and the challenge for those without.
    login: Mutex<Option<(String, String)>>,
    stalled: Notify,
}

/// The registry.
#[derive(Clone)]
pub(crate) struct Fake {
    inner: Arc<Inner>,
    pub(crate) address: SocketAddr,
}

/// A layer: what is sent, and the archive's digest.
#[derive(Clone)]
pub(crate) struct FakeLayer {
    pub(crate) kind: String,
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: String,
}

impl FakeLayer {
    pub(crate) fn gzip(archive: &[u8]) -> Self {
        Self::of(LAYER, gzip(archive), archive)
    }

    pub(crate) fn of(kind: &str, blob: Vec<u8>, archive: &[u8]) -> Self {
        Self { kind: kind.to_owned(), blob, diff_id: Digest::of(archive).to_string() }
    }
}

/// What the image runs on here.
pub(crate) fn platform() -> Value {
    let here = carrel_image::Platform::here();
    json!({"os": here.os, "architecture": here.architecture})
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner::default());
        let routes = Router::new().fallback(answer).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { inner, address }
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub(crate) fn put(&self, path: &str, kind: &str, bytes: impl Into<Bytes>) {
        self.inner.things.lock().expect("no panic").insert(path.to_owned(), (kind.to_owned(), bytes.into()));
    }

    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.put(&format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", bytes.to_vec());
        json!({"digest": digest.as_str(), "size": bytes.len()})
    }

    /// Puts a document under a tag and under its digest.
    pub(crate) fn document(&self, repository: &str, tag: &str, kind: &str, document: &Value) -> Digest {
        let bytes = serde_json::to_vec(document).expect("json");
        let digest = Digest::of(&bytes);
        for selector in [tag, digest.as_str()] {
            self.put(&format!("/v2/{repository}/manifests/{selector}"), kind, bytes.clone());
        }
        digest
    }

    /// The manifest of an image whose blobs are put where they belong.
    pub(crate) fn manifest(&self, repository: &str, layers: &[FakeLayer], platform: &Value) -> Value {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let mut config = platform.clone();
        config["config"] = json!({"Env": ["PATH=/bin"], "User": "1000", "WorkingDir": "/work"});
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let mut config = self.blob(repository, &serde_json::to_vec(&config).expect("json"));
        config["mediaType"] = json!(CONFIG);
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let mut descriptor = self.blob(repository, &layer.blob);
                descriptor["mediaType"] = json!(layer.kind);
                descriptor
            })
            .collect();
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
    }

    /// An image for this machine, under a name and tag.
    pub(crate) fn image(&self, repository: &str, tag: &str, layers: &[FakeLayer]) -> Digest {
        let manifest = self.manifest(repository, layers, &platform());
        self.document(repository, tag, MANIFEST, &manifest)
    }

    pub(crate) fn fault(&self, path_has: &str, fault: Fault) {
        self.inner.faults.lock().expect("no panic").push((path_has.to_owned(), fault));
    }

    pub(crate) fn wants_login(&self, authorization: &str, challenge: &str) {
        *self.inner.login.lock().expect("no panic") = Some((authorization.to_owned(), challenge.to_owned()));
    }

    pub(crate) fn seen(&self, path_has: &str) -> Vec<Seen> {
        let seen = self.inner.seen.lock().expect("no panic");
        seen.iter().filter(|one| one.path.contains(path_has)).cloned().collect()
    }

    pub(crate) async fn stalled(&self) {
        self.inner.stalled.notified().await;
    }
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let header =
        |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let (range, login) = (header(RANGE), header(AUTHORIZATION));
    let seen = Seen { path: path.clone(), range: range.clone(), login: login.clone() };
    inner.seen.lock().expect("no panic").push(seen);

    let fault = {
        let mut faults = inner.faults.lock().expect("no panic");
        let at = faults.iter().position(|(text, _)| path.contains(text.as_str()));
        at.map(|at| faults.remove(at).1)
    };
    if let Some(Fault::Answer(status, headers, body)) = fault {
        return said(status, &headers, body);
    }
    let wanted = inner.login.lock().expect("no panic").clone();
    if let Some((wanted, challenge)) = wanted
        && path.starts_with("/v2/")
        && login.as_deref() != Some(wanted.as_str())
    {
        let body = r#"{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}"#;
        return said(401, &[("www-authenticate", challenge)], body.to_owned());
    }
    let found = inner.things.lock().expect("no panic").get(&path).cloned();
    let Some((kind, bytes)) = found else {
        let body = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest\u001b[31m unknown"}]}"#;
        return said(404, &[], body.to_owned());
    };
    serve(&inner, &kind, bytes, range, fault)
}

fn said(status: u16, headers: &[(&'static str, String)], body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        response.headers_mut().append(*name, HeaderValue::from_str(value).expect("a value"));
    }
    response
}

fn serve(inner: &Arc<Inner>, kind: &str, bytes: Bytes, range: Option<String>, fault: Option<Fault>) -> Response {
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let from = if matches!(fault, Some(Fault::NoRanges)) { None } else { from };
    let rest = bytes.slice(from.unwrap_or(0)..);
    let length = rest.len();
    let body = match fault {
        Some(Fault::Break(after)) => {
            // The server writes what it has when it must wait, and throws it away when it must stop.
            let broken = futures::stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken on purpose"))
            });
            Body::from_stream(pieces(rest.slice(..after.min(length))).chain(broken))
        }
        Some(Fault::Stall(after)) => {
            let inner = inner.clone();
            let stalled = futures::stream::once(async move {
                inner.stalled.notify_one();
                std::future::pending().await
            });
            Body::from_stream(pieces(rest.slice(..after.min(length))).chain(stalled))
        }
        _ => Body::from_stream(pieces(rest)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).expect("a kind"));
    if let Some(from) = from {
        let part = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        headers.insert(CONTENT_RANGE, HeaderValue::from_str(&part).expect("a value"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Small pieces, the first ones tiny: what is read must not depend on how it is cut.
fn pieces(bytes: Bytes) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    let mut cuts = vec![0, 1, 2, 3];
    cuts.extend((1..).map(|nth| nth * 10_000).take_while(|at| *at < bytes.len()));
    cuts.push(bytes.len());
    let cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
    let parts: Vec<_> = cuts.windows(2).map(|pair| Ok(bytes.slice(pair[0]..pair[1].max(pair[0])))).collect();
    futures::stream::iter(parts)
}

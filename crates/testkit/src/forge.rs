//! A forge on the loopback: repositories over HTTP, as git's own dumb protocol serves them, and pages of a test's own words. What
//! it was asked can be looked at.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An answer to a page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Page {
    /// A diff, as forges send one.
    #[must_use]
    pub fn diff(text: &str) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        Self { status: 200, headers, body: text.as_bytes().to_vec() }
    }

    /// A redirection.
    #[must_use]
    pub fn moved(to: &str) -> Self {
        Self { status: 302, headers: vec![("location", to.to_owned())], body: Vec::new() }
    }
}

/// A request that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The path, without its query.
    pub path: String,
    /// What it said in `authorization`.
    pub authorization: Option<String>,
}

struct Inner {
    folder: PathBuf,
    pages: Mutex<HashMap<String, Page>>,
    asked: Mutex<Vec<Asked>>,
}

/// A forge that runs as long as it is held.
pub struct FakeForge {
    inner: Arc<Inner>,
    address: std::net::SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl FakeForge {
    /// Serves what lies in a folder.
    ///
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start(folder: impl Into<PathBuf>) -> Self {
        let inner = Arc::new(Inner { folder: folder.into(), pages: Mutex::default(), asked: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let app = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move {
            let _ended = axum::serve(listener, app).await;
        });
        Self { inner, address, server }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The host and the port.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Answers a path with this.
    pub fn put(&self, path: &str, page: Page) {
        self.inner.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), page);
    }

    /// The requests for a path so far.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }
}

impl Drop for FakeForge {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(inner): State<Arc<Inner>>, headers: HeaderMap, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    inner.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { path: path.clone(), authorization });
    let page = inner.pages.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
    if let Some(page) = page {
        let mut response = Response::builder().status(page.status);
        for (name, value) in page.headers {
            response = response.header(name, value);
        }
        return response.body(Body::from(page.body)).expect("a test's own headers");
    }
    match std::fs::read(inner.folder.join(path.trim_start_matches('/'))) {
        Ok(bytes) if !path.contains("..") => bytes.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

//! `GET /metrics`: figures for Prometheus. On the main address they want a token, as everything does; a listener of its own
//! ([`figures`]), which an administrator has to ask for, wants none.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use carrel_control::{Control, FIGURES_TYPE};
use tokio_util::sync::CancellationToken;

use crate::{Shared, health};

/// The routes of a listener that is meant for those who watch the service: `/metrics`, `/healthz` and `/readyz`.
pub fn figures(control: Control, stop: CancellationToken) -> Router {
    let ready = {
        let control = control.clone();
        move || async move { health::readiness(&control, &stop).await }
    };
    Router::new()
        .route("/metrics", get(move || async move { page(&control).await }))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(ready))
}

/// The same for somebody who has proved who they are.
pub(crate) async fn show(State(shared): State<Shared>) -> Response {
    page(&shared.control).await
}

async fn page(control: &Control) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, FIGURES_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, control.figures().await).into_response()
}

/// Times every request by its route.
pub(crate) async fn time(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let since = Instant::now();
    let method = word(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    // Without a route it is a file of the web app, or nothing at all.
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    shared.control.request_was_answered(method, route, response.status().as_u16(), since);
    response
}

/// One of few words, whatever a client makes up.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_a_client_makes_up_is_no_label() {
        let made_up = Method::from_bytes(b"X1234").expect("a token");

        assert_eq!(word(&made_up), "other");
        assert_eq!(word(&Method::PATCH), "PATCH");
    }
}

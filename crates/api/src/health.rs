//! Whether the service lives, and whether it can work. Anybody may ask, so nothing is said but what is in order.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use carrel_control::Control;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::Shared;

/// What `/readyz` says.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// What the process does: `all`, `api` or `worker`.
    role: &'static str,
    checks: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
}

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: everything it takes to work is in order. Otherwise 503, and what is not.
pub(crate) async fn ready(State(shared): State<Shared>) -> Response {
    readiness(&shared.control, &shared.stop).await
}

pub(crate) async fn readiness(control: &Control, stop: &CancellationToken) -> Response {
    let mut checks: Vec<Checked> = control
        .checks()
        .await
        .into_iter()
        .map(|check| Checked { name: check.name, ok: check.problem.is_none(), problem: check.problem })
        .collect();
    let problem = stop.is_cancelled().then_some("the service is stopping");
    checks.push(Checked { name: "not stopping", ok: problem.is_none(), problem });
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(Readiness { ready, role: control.role().word(), checks }))
        .into_response()
}

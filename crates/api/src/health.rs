//! Whether the service lives, and whether it can work.

use axum::extract::State;
use axum::http::StatusCode;

use crate::Shared;
use crate::problem::ApiError;

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database answers too.
pub(crate) async fn ready(State(shared): State<Shared>) -> Result<&'static str, ApiError> {
    match shared.control.store().ping().await {
        Ok(()) => Ok("ok\n"),
        Err(error) => {
            tracing::error!(%error, "not ready");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable").detail(error.to_string()))
        }
    }
}

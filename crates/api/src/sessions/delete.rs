//! `DELETE /sessions/current`.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use carrel_wire::Problem;

use super::cookie;
use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// Signs the browser out
#[utoipa::path(
    delete, path = "/sessions/current", tag = "sessions", operation_id = "delete_session", security(("session" = [])),
    responses(
        (status = 204, description = "Signed out"),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1]), ApiError> {
    if let Some(session) = caller.session() {
        shared.identity.sign_out(session.expose()).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie(&shared, ""))]))
}

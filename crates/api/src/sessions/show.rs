//! `GET /sessions/current`.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use carrel_wire::Me;

use super::me;
use crate::Shared;
use crate::caller;
use crate::problem::ApiError;

/// Who is signed in with this browser, if somebody is
///
/// Asked by a page that does not know yet: to be signed out is an answer here, and no error.
#[utoipa::path(
    get, path = "/sessions/current", tag = "sessions", operation_id = "get_session", security(()),
    responses((status = 200, description = "The person, the organization and the default model; null when nobody is signed in", body = Option<Me>))
)]
pub(crate) async fn show(State(shared): State<Shared>, headers: HeaderMap) -> Result<Json<Option<Me>>, ApiError> {
    Ok(Json(match caller::of_session(&shared, &headers).await? {
        Some(principal) => Some(me::of(&shared, principal).await?),
        None => None,
    }))
}

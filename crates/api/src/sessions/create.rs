//! `POST /sessions`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use carrel_wire::{CreateSession, Me, Problem};

use super::{cookie, me};
use crate::extract::Body;
use crate::problem::ApiError;
use crate::{Shared, guard};

/// Signs a browser in with a one-time owner link
#[utoipa::path(
    post, path = "/sessions", tag = "sessions", operation_id = "create_session", security(()),
    request_body = CreateSession,
    responses(
        (status = 201, description = "Signed in", body = Me, headers(("set-cookie" = String, description = "The session"))),
        (status = 401, description = "The link was used or is too old", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The request comes from another site", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Body(request): Body<CreateSession>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Me>), ApiError> {
    // Another site must not sign its visitor into an account of its own choice.
    guard::require_own_origin(&shared, &Method::POST, &headers)?;
    let (principal, session) = shared.identity.redeem_owner_link(&request.owner_link).await?;
    let me = me::of(&shared, principal).await?;
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie(&shared, session.secret.expose()))], Json(me)))
}

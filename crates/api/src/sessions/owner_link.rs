//! `POST /owner-links`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use carrel_wire::{OwnerLink, Problem};

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// Makes a fresh one-time link that signs a browser in
#[utoipa::path(
    post, path = "/owner-links", tag = "sessions", operation_id = "create_owner_link",
    security(("token" = []), ("session" = [])),
    responses(
        (status = 201, description = "The link; it works once, for an hour", body = OwnerLink),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<(StatusCode, Json<OwnerLink>), ApiError> {
    let issued = shared.identity.owner_link(caller.principal).await?;
    let url = sign_in_url(&shared.public_url, issued.secret.expose());
    Ok((StatusCode::CREATED, Json(OwnerLink { url, expires_at: issued.expires_at })))
}

/// The URL of an owner link. Its secret stands behind `#`: browsers do not send that part, so it is in no log.
pub fn sign_in_url(public_url: &url::Url, secret: &str) -> String {
    let mut url = public_url.clone();
    url.set_path("/sign-in");
    url.set_fragment(Some(secret));
    url.to_string()
}

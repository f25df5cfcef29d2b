//! `POST /attachments`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use carrel_domain::attachment::{MAX_BYTES, image_type, safe_name};
use carrel_wire::{Attachment, Problem};
use serde::Deserialize;

use crate::Shared;
use crate::caller::Caller;
use crate::extract::Params;
use crate::problem::ApiError;

/// What stands in the query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    /// What the file is called.
    name: String,
}

/// The room of this route's body, which is larger than that of others.
pub(crate) fn room() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_BYTES)
}

/// Takes a file that is to go along with a prompt
///
/// The body is the file, as it is: 20 MiB at most. Its name becomes a safe one. PNG, JPEG, GIF and WebP, by their content, are
/// images. Give its id with a task or a follow-up; one that none has taken for a day is removed.
#[utoipa::path(
    post, path = "/attachments", tag = "attachments", operation_id = "create_attachment",
    security(("token" = []), ("session" = [])),
    params(("name" = String, Query, description = "What the file is called")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "The attachment", body = Attachment),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Too many of the person's attachments wait for a task", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The file is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The file is empty", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    Params(query): Params<Query>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Attachment>), ApiError> {
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large")
            .detail(format!("the file is larger than the {MAX_BYTES} bytes that an attachment may have")),
        status => ApiError::new(status, "invalid-request").detail(rejection.body_text()),
    })?;
    if bytes.is_empty() {
        return Err(ApiError::field("body", "the file is empty; attach one that says something"));
    }
    let (principal, name) = (caller.principal, safe_name(&query.name));
    let media_type = image_type(&bytes);
    let store = shared.control.store();
    let attachment =
        store.add_attachment(principal.organization, principal.user, (&name, media_type), bytes.to_vec()).await?;
    Ok((StatusCode::CREATED, Json(attachment.into())))
}

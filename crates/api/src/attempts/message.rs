//! `POST /attempts/{id}/messages`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use carrel_domain::prompt::{InvalidPrompt, MAX_PROMPT_BYTES};
use carrel_domain::{AttemptId, Prompt};
use carrel_wire::{Message, Problem, SendMessage};

use crate::Shared;
use crate::caller::Caller;
use crate::extract::{Body, Id};
use crate::problem::ApiError;

/// Says something to an attempt while it works
///
/// The message is stored, and reaches the agent before it asks its model again; one that is sent before the agent has begun
/// is kept until then. The task's log says when it was delivered. An agent that is about to give its answer goes on with it.
#[utoipa::path(
    post, path = "/attempts/{id}/messages", tag = "attempts", operation_id = "send_message",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attempt")),
    request_body = SendMessage,
    responses(
        (status = 201, description = "The message, which is stored", body = Message),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The attempt hears nothing any more, or too many messages wait for it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn message(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<AttemptId>,
    Body(request): Body<SendMessage>,
) -> Result<(StatusCode, Json<Message>), ApiError> {
    let principal = caller.principal;
    let text = Prompt::parse(&request.text).map_err(|error| ApiError::field("text", in_words(&error)))?;
    let sent = shared.control.steer(principal.organization, id, &text, principal.user).await?;
    let message = Message {
        id: sent.id.as_uuid(),
        attempt_id: sent.attempt.as_uuid(),
        text: sent.text,
        created_at: sent.created_at,
        created_by: sent.created_by.as_uuid(),
    };
    Ok((StatusCode::CREATED, Json(message)))
}

/// Why a text can be no message. It is read as a prompt is, and called what it is.
fn in_words(error: &InvalidPrompt) -> String {
    match error {
        InvalidPrompt::Empty => "the message is empty; say what the agent is to know".to_owned(),
        InvalidPrompt::TooLong { size_bytes } => {
            format!("the message has {size_bytes} bytes, more than the {MAX_PROMPT_BYTES} allowed; say less")
        }
        InvalidPrompt::Nul { at } => format!("the message has a NUL character at byte {at}; remove it"),
    }
}

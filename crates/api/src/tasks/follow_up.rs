//! `POST /tasks/{id}/turns`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use carrel_domain::{AttemptId, NewTurn, TaskId};
use carrel_wire::{CreateTurn, Problem, Task};

use super::{attachments, attempts, limits, prompt, refused, shown};
use crate::Shared;
use crate::caller::Caller;
use crate::extract::{Body, Id};
use crate::problem::ApiError;

/// Follows up on a task
///
/// The new turn goes on from the files and the conversation of one attempt.
#[utoipa::path(
    post, path = "/tasks/{id}/turns", tag = "tasks", operation_id = "follow_up",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The task")),
    request_body = CreateTurn,
    responses(
        (status = 201, description = "The task with its new turn", body = Task),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is still being worked on, or a budget is used up", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn follow_up(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<TaskId>,
    Body(request): Body<CreateTurn>,
) -> Result<(StatusCode, Json<Task>), ApiError> {
    let principal = caller.principal;
    let thread = shared.control.store().task(principal.organization, id).await?;
    let before = thread.turns.last().map_or(carrel_domain::Mode::Code, |last| last.turn.mode);
    let new = NewTurn {
        prompt: prompt(&request.prompt)?,
        mode: request.mode.map_or(before, Into::into),
        attempts: attempts(request.attempts)?,
        attachments: attachments(&request.attachments)?,
        from_attempt: request.from_attempt_id.map(AttemptId::from_uuid),
        model: request.model,
        effort: request.effort,
        agent: request.agent,
        limits: limits(request.limits)?,
    };
    shared.control.follow_up(principal.organization, id, new, principal.user).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(shown(&shared, principal, id).await?)))
}

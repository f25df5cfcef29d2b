//! `POST /attempts/{id}/retry`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use carrel_domain::AttemptId;
use carrel_store::NewRetry;
use carrel_wire::{Attempt, Problem, RetryAttempt};

use crate::caller::Caller;
use crate::extract::{Body, Id};
use crate::problem::ApiError;
use crate::tasks::limits;
use crate::{Shared, view};

/// Makes an attempt again
///
/// One that failed or was stopped, of the task's last turn. The new attempt belongs to the same turn, starts from the same
/// commit, and has the same model and, unless asked otherwise, the same version of the environment. What is said of its
/// limits counts over what was said of those of the one before.
#[utoipa::path(
    post, path = "/attempts/{id}/retry", tag = "attempts", operation_id = "retry_attempt",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attempt")),
    request_body = RetryAttempt,
    responses(
        (status = 201, description = "The new attempt", body = Attempt),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It cannot be made again as things stand", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retry(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<AttemptId>,
    Body(request): Body<RetryAttempt>,
) -> Result<(StatusCode, Json<Attempt>), ApiError> {
    let organization = caller.principal.organization;
    let limits = limits(request.limits)?;
    let new = NewRetry { resumes: request.resume, latest_environment: request.latest_environment, limits };
    let attempt = shared.control.retry(organization, id, new).await?;
    let thread = shared.control.store().task(organization, attempt.task).await?;
    Ok((StatusCode::CREATED, Json(view::attempt(attempt, &thread.publications, &thread.environments))))
}

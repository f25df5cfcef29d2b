//! `POST /attempts/{id}/cancel`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use carrel_domain::AttemptId;
use carrel_wire::{Attempt, Problem};

use crate::caller::Caller;
use crate::extract::Id;
use crate::problem::ApiError;
use crate::{Shared, view};

/// Stops an attempt
///
/// The wish is stored; the attempt's state says `cancelled` once every process of its sandbox is gone. An attempt that
/// has ended stays as it is.
#[utoipa::path(
    post, path = "/attempts/{id}/cancel", tag = "attempts", operation_id = "cancel_attempt",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attempt")),
    responses(
        (status = 202, description = "The attempt as it stands", body = Attempt),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<AttemptId>,
) -> Result<(StatusCode, Json<Attempt>), ApiError> {
    let principal = caller.principal;
    let attempt = shared.control.cancel(principal.organization, id, principal.user).await?;
    let thread = shared.control.store().task(principal.organization, attempt.task).await?;
    Ok((StatusCode::ACCEPTED, Json(view::attempt(attempt, &thread.publications, &thread.environments))))
}

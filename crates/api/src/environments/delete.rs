//! `DELETE /environments/{name}`.

use axum::extract::State;
use axum::http::StatusCode;
use carrel_wire::Problem;

use super::Name;
use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// Deletes an environment with its secrets and its snapshots
///
/// Attempts that have ended go on showing what they ran with.
#[utoipa::path(
    delete, path = "/environments/{name}", tag = "environments", operation_id = "delete_environment",
    security(("token" = []), ("session" = [])),
    params(("name" = String, Path, description = "The environment")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is the default one, or attempts are under way in it", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
) -> Result<StatusCode, ApiError> {
    shared.control.delete_environment(caller.principal.organization, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

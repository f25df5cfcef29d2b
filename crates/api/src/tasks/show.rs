//! `GET /tasks/{id}`.

use axum::Json;
use axum::extract::State;
use carrel_domain::TaskId;
use carrel_wire::{Problem, Task};

use super::shown;
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Id;
use crate::problem::ApiError;

/// A task with its turns, attempts and results
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "tasks", operation_id = "get_task", security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The task", body = Task),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<TaskId>,
) -> Result<Json<Task>, ApiError> {
    Ok(Json(shown(&shared, caller.principal, id).await?))
}

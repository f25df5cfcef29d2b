//! `GET /environments/{name}`.

use axum::Json;
use axum::extract::State;
use carrel_wire::{Environment, Problem};

use super::{Name, shown};
use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// An environment at its current version
#[utoipa::path(
    get, path = "/environments/{name}", tag = "environments", operation_id = "get_environment",
    security(("token" = []), ("session" = [])),
    params(("name" = String, Path, description = "The environment")),
    responses(
        (status = 200, description = "The environment", body = Environment),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
) -> Result<Json<Environment>, ApiError> {
    let environment = shared.control.store().environment(caller.principal.organization, &name).await?;
    Ok(Json(shown(&shared, environment).await?))
}

//! `GET /environments`.

use axum::Json;
use axum::extract::State;
use carrel_wire::{EnvironmentList, Problem};

use super::shown;
use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// The organization's environments, by name
#[utoipa::path(
    get, path = "/environments", tag = "environments", operation_id = "list_environments",
    security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "The environments", body = EnvironmentList),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Json<EnvironmentList>, ApiError> {
    let environments = shared.control.store().environments(caller.principal.organization).await?;
    let mut items = Vec::with_capacity(environments.len());
    for environment in environments {
        items.push(shown(&shared, environment).await?);
    }
    Ok(Json(EnvironmentList { items }))
}

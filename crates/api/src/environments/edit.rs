//! `PATCH /environments/{name}`.

use axum::Json;
use axum::extract::State;
use carrel_control::EnvironmentEdit;
use carrel_wire::{EditEnvironment, Environment, Problem};

use super::{Name, change, shown};
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Body;
use crate::problem::ApiError;

/// Makes the next version of an environment
///
/// What is left out stays as it is, and null gives a field its default. Attempts under way keep the version they are
/// pinned to. A change that changes nothing makes no version.
#[utoipa::path(
    patch, path = "/environments/{name}", tag = "environments", operation_id = "edit_environment",
    security(("token" = []), ("session" = [])),
    params(("name" = String, Path, description = "The environment")),
    request_body = EditEnvironment,
    responses(
        (status = 200, description = "The environment at its next version", body = Environment),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another version is current than was looked at", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn edit(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
    Body(request): Body<EditEnvironment>,
) -> Result<Json<Environment>, ApiError> {
    let edit = EnvironmentEdit {
        organization: caller.principal.organization,
        name,
        expected: request.version,
        by: caller.principal.user,
    };
    let change = |current: &carrel_domain::Environment| change::understood(&current.spec, request.clone());
    let environment = shared.control.edit_environment(&edit, change).await?;
    Ok(Json(shown(&shared, environment).await?))
}

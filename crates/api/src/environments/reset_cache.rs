//! `POST /environments/{name}/reset-cache`.

use axum::Json;
use axum::extract::State;
use carrel_wire::{CacheReset, Problem};

use super::Name;
use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// Lets no snapshot of an environment be reused
///
/// The next attempt prepares the environment anew. Attempts under way are not touched.
#[utoipa::path(
    post, path = "/environments/{name}/reset-cache", tag = "environments", operation_id = "reset_environment_cache",
    security(("token" = []), ("session" = [])),
    params(("name" = String, Path, description = "The environment")),
    responses(
        (status = 200, description = "How many snapshots there were", body = CacheReset),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn reset_cache(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
) -> Result<Json<CacheReset>, ApiError> {
    let snapshots = shared.control.reset_snapshots(caller.principal.organization, &name).await?;
    Ok(Json(CacheReset { snapshots }))
}

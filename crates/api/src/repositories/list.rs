//! `GET /repositories`.

use axum::Json;
use axum::extract::State;
use carrel_wire::{Problem, RepositoryList};

use crate::caller::Caller;
use crate::problem::ApiError;
use crate::{Shared, view};

/// The repositories the organization has worked on, the last used first
#[utoipa::path(
    get, path = "/repositories", tag = "repositories", operation_id = "list_repositories",
    security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "The repositories", body = RepositoryList),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Json<RepositoryList>, ApiError> {
    let rows = shared.control.store().repositories(caller.principal.organization).await?;
    Ok(Json(RepositoryList { items: rows.iter().map(|row| view::repository(row.id, &row.location)).collect() }))
}

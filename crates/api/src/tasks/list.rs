//! `GET /tasks`.

use axum::Json;
use axum::extract::State;
use carrel_domain::TaskId;
use carrel_store::TaskListing;
use carrel_wire::{Problem, TaskPage};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::caller::Caller;
use crate::extract::Params;
use crate::problem::ApiError;
use crate::{Shared, view};

const MAX_LIMIT: u32 = 100;

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListTasks {
    /// How many: 1 to 100. Default: 30.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// Only tasks older than this one: the `next` of the page before.
    before: Option<Uuid>,
}

/// The organization's tasks, newest first
#[utoipa::path(
    get, path = "/tasks", tag = "tasks", operation_id = "list_tasks", security(("token" = []), ("session" = [])),
    params(ListTasks),
    responses(
        (status = 200, description = "A page of tasks", body = TaskPage),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A parameter makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Params(params): Params<ListTasks>,
) -> Result<Json<TaskPage>, ApiError> {
    let limit = params.limit.unwrap_or(30);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::field("limit", format!("`limit` is 1 to {MAX_LIMIT}, not {limit}")));
    }
    let before = params.before.map(TaskId::from_uuid);
    // One more than asked for tells whether there is another page.
    let mut listings = shared.control.store().tasks(caller.principal.organization, before, limit + 1).await?;
    let more = listings.len() > limit as usize;
    listings.truncate(limit as usize);
    let mut waits =
        shared.control.store().waits(caller.principal.organization, &listings, shared.control.gone_after()).await?;
    let shown = |listing: TaskListing| {
        let wait = waits.remove(&listing.task.id);
        view::summary(listing, wait)
    };
    let items: Vec<_> = listings.into_iter().map(shown).collect();
    let next = items.last().filter(|_| more).map(|last| last.id);
    Ok(Json(TaskPage { items, next }))
}

//! `GET /tasks/changes`: tells that logs have grown, so that a list can move by itself.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use carrel_store::{Change, Changes};
use carrel_wire::{Problem, TaskChange};
use futures::{Stream, StreamExt, stream};

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// A stream of which tasks have changed
///
/// Each message names a task of the organization whose log has grown. It is a hint to read again, not the log itself.
#[utoipa::path(
    get, path = "/tasks/changes", tag = "tasks", operation_id = "watch_tasks", security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "Changes as they happen", content((TaskChange = "text/event-stream"))),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn changes(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Sse<impl Stream<Item = Result<Frame, Infallible>>>, ApiError> {
    let changes = shared.control.store().changes();
    let stop = shared.stop.clone();
    let frames = stream::unfold((shared, caller, changes), next).map(Ok);
    Ok(Sse::new(frames.take_until(async move { stop.cancelled().await })).keep_alive(KeepAlive::default()))
}

type Reader = (Shared, Caller, Changes);

async fn next((shared, caller, mut changes): Reader) -> Option<(Frame, Reader)> {
    loop {
        let change = tokio::time::timeout(std::time::Duration::from_secs(5), changes.next()).await;
        let Ok(change) = change else {
            if caller.still_holds(&shared.identity).await {
                continue;
            }
            return None;
        };
        let frame = match change {
            Change::Log { organization, task, last_seq } if organization == caller.principal.organization => {
                Frame::default().event("task").json_data(TaskChange { task_id: task.as_uuid(), last_seq }).ok()?
            }
            Change::Anything => Frame::default().event("anything").data("{}"),
            Change::Log { .. } | Change::Job | Change::CancelRequested(_) => continue,
        };
        return Some((frame, (shared, caller, changes)));
    }
}

//! `GET /tasks/changes`: tells that logs have grown, so that a list can move by itself.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use carrel_store::{Change, Changes};
use carrel_wire::{Problem, TaskChange};
use futures::{Stream, StreamExt, stream};

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// How often it is asked whether the reader may still read.
const CHECK_EVERY: Duration = Duration::from_secs(5);

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
    let frames = stream::unfold(Reader { shared, caller, changes, checked_at: Instant::now() }, next).map(Ok);
    Ok(Sse::new(frames.take_until(async move { stop.cancelled().await })).keep_alive(KeepAlive::default()))
}

/// Where a stream stands.
struct Reader {
    shared: Shared,
    caller: Caller,
    changes: Changes,
    checked_at: Instant,
}

async fn next(mut reader: Reader) -> Option<(Frame, Reader)> {
    loop {
        if reader.checked_at.elapsed() >= CHECK_EVERY {
            if !reader.caller.still_holds(&reader.shared.identity).await {
                return None;
            }
            reader.checked_at = Instant::now();
        }
        let Ok(change) = tokio::time::timeout(CHECK_EVERY, reader.changes.next()).await else { continue };
        let frame = match change {
            Change::Log { organization, task, last_seq } if organization == reader.caller.principal.organization => {
                Frame::default().event("task").json_data(TaskChange { task_id: task.as_uuid(), last_seq }).ok()?
            }
            Change::Anything => Frame::default().event("anything").data("{}"),
            Change::Log { .. } | Change::Job | Change::CancelRequested(_) | Change::MessageSent(_) => continue,
        };
        return Some((frame, reader));
    }
}

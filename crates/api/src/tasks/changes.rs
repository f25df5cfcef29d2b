//! `GET /tasks/changes`: tells that logs have grown, so that a list can move by itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use carrel_domain::TaskId;
use carrel_store::{Change, Changes};
use carrel_wire::{Problem, TaskChange};
use futures::{Stream, StreamExt, stream};

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// How often it is asked whether the reader may still read.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// How often a reader is told of the same task at most.
const MOMENT: Duration = Duration::from_millis(250);

/// A stream of which tasks have changed
///
/// Each message names a task of the organization whose log has grown, four times a second at most. It is a hint to read
/// again, not the log itself.
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
    let reader = Reader { shared, caller, changes, checked_at: Instant::now(), told_at: None };
    let frames = stream::unfold(reader, next).flat_map(stream::iter).map(Ok);
    Ok(Sse::new(frames.take_until(async move { stop.cancelled().await })).keep_alive(KeepAlive::default()))
}

/// Where a stream stands.
struct Reader {
    shared: Shared,
    caller: Caller,
    changes: Changes,
    checked_at: Instant,
    told_at: Option<Instant>,
}

/// What is to be told next: of each task once, however much it says. Whoever looks at a list of a thousand tasks at work would
/// otherwise hear of each of their events.
async fn next(mut reader: Reader) -> Option<(Vec<Frame>, Reader)> {
    loop {
        if reader.checked_at.elapsed() >= CHECK_EVERY {
            if !reader.caller.still_holds(&reader.shared.identity).await {
                return None;
            }
            reader.checked_at = Instant::now();
        }
        let Ok(first) = tokio::time::timeout(CHECK_EVERY, reader.changes.next()).await else { continue };
        if !is_told(first, &reader.caller) {
            continue;
        }
        // The first after a quiet time is told at once.
        let rest = reader.told_at.map_or(Duration::ZERO, |at| MOMENT.saturating_sub(at.elapsed()));
        tokio::time::sleep(rest).await;
        let mut changes = vec![first];
        changes.extend(reader.changes.all_so_far());
        changes.retain(|change| is_told(*change, &reader.caller));
        reader.told_at = Some(Instant::now());
        return Some((frames(&changes)?, reader));
    }
}

fn is_told(change: Change, caller: &Caller) -> bool {
    match change {
        Change::Log { organization, .. } => organization == caller.principal.organization,
        Change::Anything => true,
        Change::Job | Change::CancelRequested(_) | Change::MessageSent(_) => false,
    }
}

fn frames(changes: &[Change]) -> Option<Vec<Frame>> {
    let mut tasks = BTreeMap::new();
    for change in changes {
        match change {
            Change::Log { task, last_seq, .. } => drop(tasks.insert(*task, *last_seq)),
            // It says more than all the others.
            _ => return Some(vec![Frame::default().event("anything").data("{}")]),
        }
    }
    let frame = |(task, last_seq): (TaskId, i64)| {
        Frame::default().event("task").json_data(TaskChange { task_id: task.as_uuid(), last_seq }).ok()
    };
    tasks.into_iter().map(frame).collect()
}

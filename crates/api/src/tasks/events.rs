//! `GET /tasks/{id}/events`: a task's log, as a page of JSON or as a live stream.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use carrel_domain::TaskId;
use carrel_store::{Change, Changes};
use carrel_wire::{Event, EventPage, Problem};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::Shared;
use crate::caller::Caller;
use crate::extract::{Id, Params};
use crate::problem::ApiError;

const MAX_LIMIT: u32 = 1000;

/// Events read from the store at a time, while streaming.
const BATCH: u32 = 200;

/// How often a quiet stream looks into the store, and whether its reader may still read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// From where.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadEvents {
    /// Only events behind this sequence number. Default: 0, the beginning. A stream's `Last-Event-ID` goes before it.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Pages only: how many, 1 to 1000. Default: 200.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A task's log
///
/// With `Accept: text/event-stream` a live stream: the `id` of each message is the event's sequence number, its data the
/// event; a client that reconnects sends `Last-Event-ID` and misses nothing. Otherwise a page of JSON.
#[utoipa::path(
    get, path = "/tasks/{id}/events", tag = "tasks", operation_id = "read_events",
    security(("token" = []), ("session" = [])),
    params(
        ("id" = Uuid, Path, description = "The task"), ReadEvents,
        ("Last-Event-ID" = Option<i64>, Header, description = "Streams only: the last event that was received"),
    ),
    responses(
        (status = 200, description = "Events, oldest first", content((EventPage = "application/json"), (Event = "text/event-stream"))),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A parameter makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<TaskId>,
    Params(params): Params<ReadEvents>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let organization = caller.principal.organization;
    let after = params.after.unwrap_or(0);
    if after < 0 {
        return Err(ApiError::field("after", "`after` is a sequence number, 0 or more"));
    }
    let limit = params.limit.unwrap_or(200);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::field("limit", format!("`limit` is 1 to {MAX_LIMIT}, not {limit}")));
    }
    // Says 404 before a stream begins.
    shared.control.store().require_task(organization, id).await?;
    if wants_stream(&headers) {
        let after = last_event_id(&headers)?.unwrap_or(after);
        return Ok(live(shared, caller, id, after).into_response());
    }
    let items = shared.control.store().events(organization, id, after, limit).await?;
    let next = items.last().filter(|_| items.len() == limit as usize).map(|last| last.seq);
    Ok(Json(EventPage { items: items.into_iter().map(Event::from).collect(), next }).into_response())
}

pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.to_ascii_lowercase().contains("text/event-stream"))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|seq: &i64| *seq >= 0);
    seq.map(Some).ok_or_else(|| ApiError::field("Last-Event-ID", "`Last-Event-ID` is a sequence number, 0 or more"))
}

/// Where a stream stands.
struct Reader {
    shared: Shared,
    caller: Caller,
    task: TaskId,
    after: i64,
    changes: Changes,
    checked_at: Instant,
    /// Whether it has caught up with the log: from then on what comes is new.
    is_live: bool,
}

fn live(
    shared: Shared,
    caller: Caller,
    task: TaskId,
    after: i64,
) -> Sse<impl Stream<Item = Result<Frame, Infallible>>> {
    // Listening begins before the first reading, so nothing falls between the two.
    let changes = shared.control.store().changes();
    let stop = shared.stop.clone();
    let reader = Reader { shared, caller, task, after, changes, checked_at: Instant::now(), is_live: false };
    let frames = stream::unfold(reader, next_batch).flat_map(stream::iter).map(Ok);
    Sse::new(frames.take_until(async move { stop.cancelled().await })).keep_alive(KeepAlive::default())
}

/// Waits until there is something to send, and gives it. The stream ends when its reader may not read any more, or
/// the store fails: the client reconnects and hears why.
async fn next_batch(mut reader: Reader) -> Option<(Vec<Frame>, Reader)> {
    loop {
        if reader.checked_at.elapsed() >= LOOK_EVERY {
            if !reader.caller.still_holds(&reader.shared.identity).await {
                return None;
            }
            reader.checked_at = Instant::now();
        }
        let organization = reader.caller.principal.organization;
        let events = reader.shared.control.store().events(organization, reader.task, reader.after, BATCH).await.ok()?;
        if let Some(last) = events.last() {
            reader.after = last.seq;
            if reader.is_live {
                reader.shared.control.event_was_delivered(last.at);
            }
            let frames = events.into_iter().map(frame).collect::<Option<Vec<_>>>()?;
            return Some((frames, reader));
        }
        reader.is_live = true;
        let heard = grown(&mut reader.changes, reader.task, reader.after);
        // Hearing nothing for a while is no failure: the store is looked into all the same.
        let _quiet = tokio::time::timeout(LOOK_EVERY, heard).await;
    }
}

async fn grown(changes: &mut Changes, task: TaskId, after: i64) {
    loop {
        match changes.next().await {
            Change::Log { task: changed, last_seq, .. } if changed == task && last_seq > after => return,
            Change::Anything => return,
            Change::Log { .. } | Change::Job | Change::CancelRequested(_) | Change::MessageSent(_) => {}
        }
    }
}

fn frame(event: carrel_domain::Event) -> Option<Frame> {
    let event = Event::from(event);
    Frame::default().id(event.seq.to_string()).json_data(&event).ok()
}

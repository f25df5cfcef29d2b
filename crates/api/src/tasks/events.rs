//! `GET /tasks/{id}/events`: a task's log, as a page of JSON or as a live stream.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use carrel_domain::TaskId;
use carrel_store::{Tail, Told};
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

/// How often it is looked whether the reader of a stream may still read.
const CHECK_EVERY: Duration = Duration::from_secs(5);

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
    if wants_stream(&headers) {
        let after = last_event_id(&headers)?.unwrap_or(after);
        // Following begins before the first reading, so nothing falls between the two; and it says 404 before a stream begins.
        let tail = shared.control.store().follow(organization, id).await?;
        return Ok(live(Reader::new(shared, caller, (id, after), tail)).into_response());
    }
    shared.control.store().last_seq(organization, id).await?;
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
    tail: Tail,
    checked_at: Instant,
    /// Whether it has caught up with the log: from then on what comes is new.
    is_live: bool,
}

impl Reader {
    fn new(shared: Shared, caller: Caller, (task, after): (TaskId, i64), tail: Tail) -> Self {
        Self { shared, caller, task, after, tail, checked_at: Instant::now(), is_live: false }
    }

    /// What is to be sent of these events, oldest first.
    fn send(&mut self, events: impl IntoIterator<Item = Event>) -> Option<Vec<Frame>> {
        events
            .into_iter()
            .map(|event| {
                self.after = event.seq;
                Frame::default().id(event.seq.to_string()).json_data(&event).ok()
            })
            .collect()
    }
}

fn live(reader: Reader) -> Sse<impl Stream<Item = Result<Frame, Infallible>>> {
    let stop = reader.shared.stop.clone();
    let frames = stream::unfold(reader, next_batch).flat_map(stream::iter).map(Ok);
    Sse::new(frames.take_until(async move { stop.cancelled().await })).keep_alive(KeepAlive::default())
}

/// Waits until there is something to send, and gives it. The stream ends when its reader may not read any more, or
/// the store fails: the client reconnects and hears why.
async fn next_batch(mut reader: Reader) -> Option<(Vec<Frame>, Reader)> {
    loop {
        if reader.checked_at.elapsed() >= CHECK_EVERY {
            if !reader.caller.still_holds(&reader.shared.identity).await {
                return None;
            }
            reader.checked_at = Instant::now();
        }
        if !reader.is_live {
            let (organization, store) = (reader.caller.principal.organization, reader.shared.control.store());
            let events = store.events(organization, reader.task, reader.after, BATCH).await.ok()?;
            reader.is_live = events.is_empty();
            if !reader.is_live {
                let frames = reader.send(events.into_iter().map(Event::from))?;
                return Some((frames, reader));
            }
        }
        // Hearing nothing for a while is no failure, but a time to look whether the reader may still read.
        let Ok(told) = tokio::time::timeout(CHECK_EVERY, reader.tail.next()).await else { continue };
        let Told::Events(events) = told else {
            reader.is_live = false;
            continue;
        };
        let new = events.partition_point(|event| event.seq <= reader.after);
        let Some((first, last)) = events[new..].first().zip(events.last()) else { continue };
        if first.seq != reader.after + 1 {
            reader.is_live = false;
            continue;
        }
        reader.shared.control.event_was_delivered(last.at);
        let frames = reader.send(events[new..].iter().cloned().map(Event::from))?;
        return Some((frames, reader));
    }
}

//! `/tasks`: things delegated, their turns and their logs.

pub(crate) mod changes;
pub(crate) mod create;
pub(crate) mod events;
pub(crate) mod follow_up;
pub(crate) mod list;
pub(crate) mod show;

use carrel_control::ControlError;
use carrel_domain::attachment::MAX_IN_TURN;
use carrel_domain::task::Attempts;
use carrel_domain::{AttachmentId, AttemptLimits, Prompt, TaskId};
use carrel_store::{Principal, StoreError};
use carrel_wire as wire;
use uuid::Uuid;

use crate::problem::ApiError;
use crate::{Shared, view};

/// The shortest time that an attempt may be given, in seconds.
const SHORTEST_S: u32 = 10;

fn prompt(text: &str) -> Result<Prompt, ApiError> {
    Prompt::parse(text).map_err(|error| ApiError::field("prompt", error))
}

/// What each attempt may use: where something is said, it is more than nothing.
pub(crate) fn limits(asked: wire::AttemptLimits) -> Result<AttemptLimits, ApiError> {
    let wire::AttemptLimits { steps, tokens, cost_usd_micros, wall_clock_s } = asked;
    let none = [
        ("limits.steps", steps == Some(0)),
        ("limits.tokens", tokens == Some(0)),
        ("limits.cost_usd_micros", cost_usd_micros == Some(0)),
    ];
    if let Some((field, _)) = none.into_iter().find(|(_, is_none)| *is_none) {
        let message = format!("`{field}` is 0, and with nothing no attempt can be made; leave it out for no limit");
        return Err(ApiError::field(field, message));
    }
    if let Some(seconds) = wall_clock_s.filter(|seconds| *seconds < SHORTEST_S) {
        return Err(ApiError::field(
            "limits.wall_clock_s",
            format!("`limits.wall_clock_s` is {seconds}, and may be {SHORTEST_S} or more"),
        ));
    }
    Ok(AttemptLimits { steps, tokens, cost_usd_micros, wall_clock_s })
}

fn attempts(count: Option<u32>) -> Result<Attempts, ApiError> {
    Attempts::new(count.unwrap_or(1)).map_err(|error| ApiError::field("attempts", error))
}

/// The files that go along: not too many, and none twice.
fn attachments(ids: &[Uuid]) -> Result<Vec<AttachmentId>, ApiError> {
    if ids.len() > MAX_IN_TURN {
        let message = format!("{} attachments were given; a turn has {MAX_IN_TURN} at most", ids.len());
        return Err(ApiError::field("attachments", message));
    }
    let is_repeated = |at: usize| ids[..at].contains(&ids[at]);
    if let Some(at) = (0..ids.len()).find(|at| is_repeated(*at)) {
        return Err(ApiError::field("attachments", format!("the attachment {} is given twice", ids[at])));
    }
    Ok(ids.iter().copied().map(AttachmentId::from_uuid).collect())
}

/// What is not there is a field that makes no sense, not a route that leads nowhere.
fn refused(error: ControlError) -> ApiError {
    match error {
        ControlError::Store(unknown @ StoreError::UnknownEnvironment { .. }) => ApiError::field("environment", unknown),
        ControlError::Store(unknown @ StoreError::UnknownAttachment { .. }) => ApiError::field("attachments", unknown),
        other => other.into(),
    }
}

async fn shown(shared: &Shared, principal: Principal, id: TaskId) -> Result<wire::Task, ApiError> {
    let store = shared.control.store();
    let thread = store.task(principal.organization, id).await?;
    let waits_for = store.wait(&thread, shared.control.gone_after()).await?;
    Ok(view::task(thread, waits_for))
}

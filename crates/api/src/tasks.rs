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
use carrel_domain::{AttachmentId, Prompt, TaskId};
use carrel_store::{Principal, StoreError};
use carrel_wire as wire;
use uuid::Uuid;

use crate::problem::ApiError;
use crate::{Shared, view};

fn prompt(text: &str) -> Result<Prompt, ApiError> {
    Prompt::parse(text).map_err(|error| ApiError::field("prompt", error))
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
    Ok(view::task(shared.control.store().task(principal.organization, id).await?))
}

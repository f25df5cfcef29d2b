//! `/tasks`: things delegated, their turns and their logs.

pub(crate) mod changes;
pub(crate) mod create;
pub(crate) mod events;
pub(crate) mod follow_up;
pub(crate) mod list;
pub(crate) mod show;

use carrel_domain::task::Attempts;
use carrel_domain::{Prompt, TaskId};
use carrel_store::Principal;
use carrel_wire as wire;

use crate::problem::ApiError;
use crate::{Shared, view};

fn prompt(text: &str) -> Result<Prompt, ApiError> {
    Prompt::parse(text).map_err(|error| ApiError::field("prompt", error))
}

fn attempts(count: Option<u32>) -> Result<Attempts, ApiError> {
    Attempts::new(count.unwrap_or(1)).map_err(|error| ApiError::field("attempts", error))
}

async fn shown(shared: &Shared, principal: Principal, id: TaskId) -> Result<wire::Task, ApiError> {
    Ok(view::task(shared.control.store().task(principal.organization, id).await?))
}

//! An attempt whose worker is gone: its sandbox and its files are on a machine that nobody has heard of for a while.
//!
//! What had not begun is prepared here instead. What had begun ends, with the reason, and is made again here from its
//! beginning: a sandbox that cannot be reached may still be working, and nothing of it must be taken for done.

use carrel_domain::{Attempt, AttemptLimits, AttemptState, WorkerId};
use carrel_store::{Job, Store, StoreError};

use super::Halt;
use crate::Control;

/// Where the attempt was.
pub(super) struct Away {
    home: WorkerId,
}

impl Away {
    /// Where the attempt of a job was, if that is not here.
    pub(super) fn of(job: &Job, store: &Store) -> Option<Self> {
        job.home.filter(|home| *home != store.worker()).map(|home| Self { home })
    }

    /// Goes on with an attempt here, if that can be.
    pub(super) async fn taken_up(&self, store: &Store, attempt: &Attempt) -> Result<(), Halt> {
        match attempt.state {
            // Nothing of it is here that would have to end first.
            _ if attempt.cancel_requested_by.is_some() => Err(Halt::Cancelled),
            AttemptState::Preparing => Ok(store.take_over(attempt).await?),
            AttemptState::SettingUp | AttemptState::Running | AttemptState::Collecting { .. }
                if store.worker_of(attempt.organization, attempt.id).await? == Some(self.home) =>
            {
                Err(Halt::Lost { reason: self.words(store).await? })
            }
            // Nobody has begun with it, or this worker has by now, or it is over.
            _ => Ok(()),
        }
    }

    async fn words(&self, store: &Store) -> Result<String, StoreError> {
        let worker = store.find_worker(self.home).await?;
        let (name, since) = match &worker {
            Some(worker) => (format!("`{}`", worker.name), format!("since {}", worker.seen_at)),
            None => ("that had it".to_owned(), "for a while".to_owned()),
        };
        Ok(format!("the worker {name} was not heard of {since}, and the attempt's sandbox is on its machine"))
    }
}

/// Whether an attempt is to be made again, because what it had is lost. Once: one that was made again for whatever reason is
/// left to a person, and so is one that could not be now.
pub(super) async fn is_made_again(control: &Control, attempt: &Attempt) -> bool {
    if attempt.retry.is_some() {
        return false;
    }
    let may_be = control.may_be_made_again(attempt, AttemptLimits::NONE).await;
    if let Err(error) = &may_be {
        tracing::info!(attempt = %attempt.id, %error, "an attempt that has lost what it had is not made again");
    }
    may_be.is_ok()
}

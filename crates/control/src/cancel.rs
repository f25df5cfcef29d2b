//! Stopping an attempt: the wish is written down, and whoever drives the attempt makes it true.

use carrel_domain::{Attempt, AttemptId, CancelledBy, OrganizationId, UserId};
use carrel_store::{Change, Changes, Store};
use tokio_util::sync::CancellationToken;

use crate::{Control, ControlError};

/// How often the store is asked when nothing is heard: another process may have taken the wish.
const ASK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

impl Control {
    /// Asks for an attempt to be stopped. One that has ended stays as it is.
    ///
    /// # Errors
    /// When this organization has no such attempt.
    pub async fn cancel(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
        by: UserId,
    ) -> Result<Attempt, ControlError> {
        Ok(self.inner.store.request_cancel(organization, attempt, CancelledBy::User(by)).await?)
    }
}

/// Cancels the token once somebody wants the attempt stopped. Runs until then; drop it when it is no longer needed.
pub(crate) async fn watch(store: &Store, mut changes: Changes, attempt: &Attempt, token: &CancellationToken) {
    loop {
        // A store that does not answer now is asked again; the stage itself will fail on it if that lasts.
        if let Ok(now) = store.attempt(attempt.organization, attempt.id).await
            && now.cancel_requested_by.is_some()
        {
            token.cancel();
            return;
        }
        let heard = async {
            loop {
                match changes.next().await {
                    Change::CancelRequested(id) if id == attempt.id => return,
                    Change::Anything => return,
                    Change::CancelRequested(_) | Change::MessageSent(_) | Change::Job | Change::Log { .. } => {}
                }
            }
        };
        // Hearing nothing for a while is no failure: the store is asked all the same.
        let _timed_out = tokio::time::timeout(ASK_EVERY, heard).await;
    }
}

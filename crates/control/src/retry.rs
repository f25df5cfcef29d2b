//! Making an attempt again that has ended without a result.

use carrel_domain::{Attempt, AttemptId, AttemptLimits, AttemptState, OrganizationId, Stage};
use carrel_store::NewRetry;

use crate::{Control, ControlError};

impl Control {
    /// Makes an attempt again, in the same turn and with the same pins. One that resumes goes on from the conversation and
    /// the files of the one before.
    ///
    /// # Errors
    /// When this organization has no such attempt, its model is gone, or it cannot be made again as things stand. Nothing
    /// is stored then.
    pub async fn retry(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
        new: NewRetry,
    ) -> Result<Attempt, ControlError> {
        let before = self.inner.store.attempt(organization, attempt).await?;
        self.may_be_made_again(&before, new.limits).await?;
        if new.resumes && before.state.can_be_retried() {
            self.can_be_resumed(&before, new).await?;
        }
        Ok(self.inner.store.retry_attempt(organization, attempt, new).await?)
    }

    /// Whether an attempt can be asked for once more, with these limits.
    pub(crate) async fn may_be_made_again(&self, before: &Attempt, limits: AttemptLimits) -> Result<(), ControlError> {
        if self.inner.models.get(&before.model).is_none() {
            return Err(ControlError::NotNow(format!(
                "the model `{}` is no longer configured; follow up on the task, or delegate it anew, with another",
                before.model
            )));
        }
        self.gives(limits, &before.model)?;
        let thread = self.inner.store.task(before.organization, before.task).await?;
        if let Some((turn, _)) = thread.attempt(before.id) {
            self.admit(before.organization, turn.created_by).await?;
        }
        Ok(())
    }

    /// Whether there is anything to go on from.
    async fn can_be_resumed(&self, before: &Attempt, new: NewRetry) -> Result<(), ControlError> {
        if new.latest_environment {
            return Err(ControlError::invalid(
                "latest_environment",
                "kept files stand on the environment they were made in; either resume, or take the latest environment",
            ));
        }
        let began = match before.state {
            AttemptState::Failed { stage, .. } => matches!(stage, Stage::Running | Stage::Collecting),
            _ => true,
        };
        if !began || self.inner.store.conversation(before.organization, before.id).await?.is_empty() {
            return Err(ControlError::NotNow(
                "the attempt ended before its agent began, so there is nothing to resume; retry it without resuming"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

//! Saying something to an attempt while it works. It is stored first; its agent hears the bell, reads what waits before
//! its next step, and says in one transaction what it was told and that it was.

use std::convert::Infallible;

use carrel_agent::Bell;
use carrel_domain::{Attempt, AttemptId, Message, OrganizationId, Prompt, UserId};
use carrel_store::{Change, Changes, Store};

use crate::{Control, ControlError};

impl Control {
    /// Takes a message for an attempt that works, or will.
    ///
    /// # Errors
    /// When this organization has no such attempt, or it hears nothing any more. Nothing is stored then.
    pub async fn steer(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
        text: &Prompt,
        by: UserId,
    ) -> Result<Message, ControlError> {
        Ok(self.inner.store.send_message(organization, attempt, text.as_str(), by).await?)
    }
}

/// Rings an agent's bell whenever something is said to its attempt. Runs for ever; drop it when it is no longer needed.
pub(crate) async fn ring(store: &Store, mut changes: Changes, attempt: &Attempt, bell: &Bell) -> Infallible {
    loop {
        match changes.next().await {
            Change::MessageSent(id) if id == attempt.id => bell.ring(),
            // The bell ends the agent's waiting for a command, so it is not rung for nothing.
            Change::Anything => match store.waiting_messages(attempt).await {
                Ok(waiting) if waiting.is_empty() => {}
                Ok(_) => bell.ring(),
                Err(error) => tracing::warn!(attempt = %attempt.id, %error, "cannot look for messages to an attempt"),
            },
            Change::MessageSent(_) | Change::CancelRequested(_) | Change::Job | Change::Log { .. } => {}
        }
    }
}

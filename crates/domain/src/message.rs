//! What a person says to an attempt while it works.

use jiff::Timestamp;

use crate::{AttemptId, MessageId, UserId};

/// The most messages that wait for one attempt: more are no steering.
pub const MAX_WAITING: u32 = 50;

/// A message as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which one. Ids sort by age, and messages are delivered in that order.
    pub id: MessageId,
    /// Whom it is for.
    pub attempt: AttemptId,
    /// What was said.
    pub text: String,
    /// Who said it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// When the agent was told; `None` while it waits.
    pub delivered_at: Option<Timestamp>,
}

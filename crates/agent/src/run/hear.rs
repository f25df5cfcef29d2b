//! What people say while the agent works: put behind the conversation before the next request, and told to have been
//! delivered together with that.

use carrel_domain::EventBody;

use super::Agent;
use crate::{AgentError, preamble};

impl Agent<'_> {
    /// Takes up what waits, in order; whether there was anything.
    pub(super) async fn hear(&mut self) -> Result<bool, AgentError> {
        let said = self.context.journal.messages().await?;
        let mut bodies = Vec::with_capacity(2 * said.len());
        for message in &said {
            let item = self.context.redactor.redact_json(preamble::message(&message.text));
            self.review.saw(&item);
            self.conversation.push(&item);
            bodies.push(EventBody::ConversationItem { item });
            bodies.push(EventBody::MessageDelivered { message_id: message.id });
        }
        if said.is_empty() {
            return Ok(false);
        }
        self.context.journal.record(bodies).await?;
        Ok(true)
    }
}

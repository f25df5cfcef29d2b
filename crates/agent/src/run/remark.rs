//! What the model is told about its own answer before it goes on: that there was nothing in it, or that it was too long.

use carrel_domain::EventBody;
use serde_json::Value;

use super::Agent;
use crate::model::{Answer, Remark};
use crate::{AgentError, preamble};

/// What the message is.
const REMARK: &str = "remark";

/// How many answers in a row may be empty or too long.
const MAX_REMARKS: u32 = 3;

impl Agent<'_> {
    /// The item that tells the model what was wrong with its answer, if there was something and it was not told too often.
    pub(super) async fn remark(&mut self, answer: &Answer) -> Result<Option<Value>, AgentError> {
        let Some(remark) = answer.remark else {
            self.remarks = 0;
            return Ok(None);
        };
        self.remarks += 1;
        match remark {
            _ if self.remarks <= MAX_REMARKS => Ok(Some(preamble::note(REMARK, remark.words()))),
            Remark::Empty if self.steps == self.remarks => {
                let reason = format!("the model gave nothing but empty answers, {} in a row", self.remarks);
                Err(AgentError::Model { reason, retryable: true })
            }
            // The work may well be done; a model that has nothing to say of it does not undo it.
            Remark::Empty => {
                let message = format!(
                    "the model gave {} empty answers in a row; what it did before counts as it is",
                    self.remarks
                );
                self.context.journal.record(vec![EventBody::Warning { message }]).await?;
                Ok(None)
            }
            Remark::TooLong => {
                let reason = answer.cut_short.clone().unwrap_or_default();
                Err(AgentError::Model { reason: self.context.redactor.redact(&reason).into_owned(), retryable: false })
            }
        }
    }

    /// Tells it, behind the results of its calls.
    pub(super) async fn tell(&mut self, item: Value) -> Result<(), AgentError> {
        self.review.saw(&item);
        self.conversation.push(&item);
        Ok(self.context.journal.record(vec![EventBody::ConversationItem { item }]).await?)
    }
}

//! What is made durable, before anything follows from it: an answer, and the result of a call.

use std::time::Duration;

use carrel_domain::EventBody;
use serde_json::{Value, json};

use super::Agent;
use crate::AgentError;
use crate::guard::Verdict;
use crate::model::{Answer, Call, can_be_sent_back, message_text, reasoning_text};
use crate::output::bare::Bare;
use crate::output::for_people;
use crate::tools::{Outcome, Pending};

impl Agent<'_> {
    /// Makes an answer, in which there is no secret, durable: in the form for the model and in the one for people. What
    /// the model is told about it stands right behind it, unless results of calls must. Returns the calls.
    pub(super) async fn record_answer(
        &mut self,
        answer: &Answer,
        duration: Duration,
        remark: Option<&Value>,
    ) -> Result<Vec<Pending>, AgentError> {
        let redactor = self.context.redactor;
        let mut bodies = vec![self.responded(answer, duration)];
        if let Some(reason) = &answer.cut_short {
            let message = format!("{}; going on with what arrived whole", redactor.redact(reason));
            bodies.push(EventBody::Warning { message });
        }
        let mut calls = Vec::new();
        for item in &answer.items {
            bodies.extend(reasoning_text(item).map(|text| EventBody::AgentReasoning { text }));
            bodies.extend(message_text(item).map(|text| EventBody::AgentMessage { text }));
            if !can_be_sent_back(item) {
                continue;
            }
            self.review.saw(item);
            let position = self.conversation.push(item);
            calls.extend(Call::of(item).map(|call| Pending { call, position, is_resumed: false }));
            bodies.push(EventBody::ConversationItem { item: item.clone() });
        }
        if let Some(item) = remark.filter(|_| calls.is_empty()) {
            self.review.saw(item);
            self.conversation.push(item);
            bodies.push(EventBody::ConversationItem { item: item.clone() });
        }
        let bodies = bodies.into_iter().map(|body| for_people(body, redactor)).collect();
        self.context.journal.record(bodies).await?;
        Ok(calls)
    }

    /// Makes the result of a call durable, with what the guard has to say about it.
    pub(super) async fn record_result(&mut self, call: &Call, outcome: Outcome) -> Result<(), AgentError> {
        let redactor = self.context.redactor;
        let Outcome { text, image, events, attachments, result } = outcome;
        let verdict = match result {
            Some(result) => self.guard.saw(&call.name, &call.input, &result),
            // Only a poll has none.
            None => self.guard.waited(&call.name, text.ends_with("Output:\n")),
        };
        // Secrets are looked for in what was printed, and in what is left of it: a colour must not cut one in two.
        let mut text = Bare::of(&redactor.redact(&text)).told();
        if let Verdict::Tell(note) = &verdict {
            text.push_str("\n\n");
            text.push_str(note);
        }
        let text = redactor.redact(&text).into_owned();
        let item = match image {
            None => call.output(text),
            Some(url) => call.output(json!([
                { "type": "input_text", "text": text },
                { "type": "input_image", "image_url": url },
            ])),
        };
        self.review.saw(&item);
        self.conversation.push(&item);
        let mut bodies: Vec<EventBody> = events.into_iter().map(|body| for_people(body, redactor)).collect();
        bodies.push(EventBody::ConversationItem { item });
        self.context.journal.record_with(bodies, attachments).await?;
        match verdict {
            Verdict::Stop(limit) => Err(AgentError::Limit(limit)),
            Verdict::Fine | Verdict::Tell(_) => Ok(()),
        }
    }
}

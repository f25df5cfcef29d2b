//! How a run gets its conversation: what is said before the first request, or what an earlier worker left.

use carrel_domain::{EventBody, Mode};
use serde_json::Value;

use super::Agent;
use super::budget::asks_to_sum_up;
use crate::answer::own;
use crate::given;
use crate::history::live;
use crate::model::{Call, NOTE, PAUSED, STANDS_FOR, calls_in, is_by_model, is_compaction};
use crate::preamble;
use crate::tools::Pending;
use crate::{AgentError, AgentTask};

impl Agent<'_> {
    /// Says what there is to say before the first request. What an earlier turn was told is not said again, unless the
    /// conversation was told something else since.
    pub(super) async fn begin(&mut self, task: &AgentTask) -> Result<(), AgentError> {
        if task.mode == Mode::Ask {
            own::note_the_beginning(self.context.sandbox).await;
        }
        let instructions = preamble::repository_instructions(self.context.sandbox, &task.workspace).await?;
        let mut bodies = Vec::new();
        let first = [Some(preamble::environment(task)), preamble::repository(task), instructions];
        for item in first.into_iter().flatten() {
            let item = self.context.redactor.redact_json(item);
            let told_last = live(&task.history).iter().rfind(|told| told[NOTE] == item[NOTE]);
            if told_last != Some(&item) {
                self.conversation.push(&item);
                bodies.push(EventBody::ConversationItem { item });
            }
        }
        let room = self.conversation.image_room();
        let item = self.context.redactor.redact_json(given::prompt(task, self.context.endpoint, room));
        self.conversation.push(&item);
        bodies.push(EventBody::ConversationItem { item });
        Ok(self.context.journal.record(bodies).await?)
    }

    /// Takes up what an earlier worker left: its items, then the calls that have no result. Says whether the answer
    /// had been given already.
    pub(super) async fn resume(&mut self, items: &[Value]) -> Result<bool, AgentError> {
        let mut open: Vec<Pending> = Vec::new();
        // What a compaction kept had been seen before it.
        let mut is_kept = false;
        for item in items {
            is_kept |= is_compaction(item);
            if !is_kept {
                self.budget.saw(item, is_by_model(item));
            }
            if !is_kept && !asks_to_sum_up(item) {
                self.review.saw(item);
            }
            is_kept &= item[STANDS_FOR].is_null();
            let position = self.conversation.push(item);
            if let Some(call) = Call::of(item) {
                open.push(Pending { call, position, is_resumed: true });
            } else if let Some(call_id) = item["call_id"].as_str()
                && let Some(at) = open.iter().position(|pending| pending.call.call_id == call_id)
            {
                open.remove(at);
            }
        }
        let groups: Vec<&[Value]> = items.chunk_by(|one, next| is_by_model(one) == is_by_model(next)).collect();
        let answers = groups.iter().filter(|group| is_by_model(&group[0])).count();
        self.steps = u32::try_from(answers).unwrap_or(u32::MAX);
        if let Some(last) = groups.last().filter(|group| is_by_model(&group[0]))
            && calls_in(last).is_empty()
        {
            return Ok(!last.iter().any(|item| item[PAUSED] == true));
        }
        self.act(open).await?;
        Ok(false)
    }
}

//! What an agent inside tells, as events: bounded, without secrets, and without what does not show.

use std::collections::BTreeMap;
use std::time::Duration;

use carrel_domain::event::{CommandEnd, PlanStep};
use carrel_domain::patch::ChangeKind;
use carrel_domain::{EventBody, FileChange};
use tokio::time::Instant;

use crate::output::for_people;
use crate::{AgentContext, AgentError};

/// How much of one command's output is shown, in bytes.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// How long a command, a message or a name may be that is shown, in bytes.
const MAX_TEXT_BYTES: usize = 256 << 10;

/// Commands that are remembered at once: an agent that never ends them is broken.
const MAX_RUNNING: usize = 1000;

/// Files of one patch that are shown.
const MAX_FILES: usize = 1000;

/// Makes events.
pub(super) struct Show<'a> {
    context: &'a AgentContext<'a>,
    running: BTreeMap<String, Running>,
    /// Commands of before a restart: their ids may come again, and are told apart.
    before: Vec<String>,
    answer: String,
}

struct Running {
    began: Instant,
    printed: u64,
    dropped: u64,
}

impl<'a> Show<'a> {
    pub(super) fn new(context: &'a AgentContext<'a>, before: impl Iterator<Item = String>) -> Self {
        Self { context, running: BTreeMap::new(), before: before.collect(), answer: String::new() }
    }

    /// What it said last.
    pub(super) fn into_answer(self) -> String {
        self.answer
    }

    /// Whether it has said anything yet.
    pub(super) fn has_spoken(&self) -> bool {
        !self.answer.is_empty()
    }

    pub(super) async fn started(&mut self, id: &str, command: &str, directory: &str) -> Result<(), AgentError> {
        let command_id = self.id(id);
        if self.running.contains_key(&command_id) || self.running.len() >= MAX_RUNNING {
            return Ok(());
        }
        self.running.insert(command_id.clone(), Running { began: Instant::now(), printed: 0, dropped: 0 });
        let (command, directory) = (short(command), short(directory));
        self.tell(EventBody::CommandStarted { command_id, command, directory }).await
    }

    pub(super) async fn printed(&mut self, id: &str, text: &str) -> Result<(), AgentError> {
        let command_id = self.id(id);
        let Some(running) = self.running.get_mut(&command_id) else { return Ok(()) };
        let room = usize::try_from(MAX_OUTPUT_BYTES.saturating_sub(running.printed)).unwrap_or(usize::MAX);
        let end = text.floor_char_boundary(room.min(text.len()));
        running.printed += end as u64;
        running.dropped += (text.len() - end) as u64;
        if end == 0 {
            return Ok(());
        }
        let body = EventBody::CommandOutput { command_id, text: text[..end].to_owned() };
        let body = for_people(body, self.context.redactor);
        Ok(self.context.journal.send(vec![body]).await?)
    }

    /// That a command is over. `whole` is all that it printed, where nothing came while it ran.
    pub(super) async fn ended(
        &mut self,
        id: &str,
        end: CommandEnd,
        duration: Option<Duration>,
        whole: Option<&str>,
    ) -> Result<(), AgentError> {
        let command_id = self.id(id);
        if let Some(text) = whole.filter(|_| self.running.get(&command_id).is_some_and(|one| one.printed == 0)) {
            self.printed(id, text).await?;
        }
        let Some(running) = self.running.remove(&command_id) else { return Ok(()) };
        let duration = duration.unwrap_or_else(|| running.began.elapsed());
        self.tell(EventBody::CommandEnded {
            command_id,
            end,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            output_bytes: running.printed + running.dropped,
            dropped_bytes: running.dropped,
        })
        .await
    }

    pub(super) async fn message(&mut self, text: &str) -> Result<(), AgentError> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let text = short(text);
        self.answer.clone_from(&text);
        self.tell(EventBody::AgentMessage { text }).await
    }

    pub(super) async fn reasoning(&mut self, text: &str) -> Result<(), AgentError> {
        if text.trim().is_empty() {
            return Ok(());
        }
        self.tell(EventBody::AgentReasoning { text: short(text) }).await
    }

    pub(super) async fn plan(&mut self, explanation: Option<&str>, steps: Vec<PlanStep>) -> Result<(), AgentError> {
        self.tell(EventBody::PlanUpdated { explanation: explanation.map(short), steps }).await
    }

    pub(super) async fn patched(&mut self, mut files: Vec<FileChange>) -> Result<(), AgentError> {
        files.truncate(MAX_FILES);
        self.tell(EventBody::PatchApplied { files }).await
    }

    pub(super) async fn not_patched(&mut self, reason: &str) -> Result<(), AgentError> {
        self.tell(EventBody::PatchRefused { reason: short(reason) }).await
    }

    pub(super) async fn warn(&mut self, message: &str) -> Result<(), AgentError> {
        self.tell(EventBody::Warning { message: short(message) }).await
    }

    /// Ends what is still said to run.
    pub(super) async fn close(&mut self) -> Result<(), AgentError> {
        for id in self.running.keys().cloned().collect::<Vec<_>>() {
            self.ended(&id, CommandEnd::Interrupted, None, None).await?;
        }
        Ok(())
    }

    pub(super) async fn tell(&self, body: EventBody) -> Result<(), AgentError> {
        Ok(self.context.journal.record(vec![for_people(body, self.context.redactor)]).await?)
    }

    /// The id of a command in events.
    fn id(&self, id: &str) -> String {
        let id: String = id.chars().take(200).collect();
        if self.before.contains(&id) { format!("{id}-again") } else { id }
    }
}

/// A change of a file, with its lines counted in a diff without a head.
pub(super) fn change(path: String, old_path: Option<String>, kind: ChangeKind, diff: &str) -> FileChange {
    let count = |sign: char, head: &str| {
        diff.lines().filter(|line| line.starts_with(sign) && !line.starts_with(head)).count() as u64
    };
    let (additions, deletions) = match kind {
        // Some show the whole file in place of a diff.
        ChangeKind::Added if !diff.starts_with("@@") && !diff.starts_with("---") => (diff.lines().count() as u64, 0),
        ChangeKind::Deleted if !diff.starts_with("@@") && !diff.starts_with("---") => (0, diff.lines().count() as u64),
        _ => (count('+', "+++"), count('-', "---")),
    };
    FileChange { path, old_path, kind, additions, deletions, binary: false }
}

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES.min(text.len()))].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_change_are_counted_whatever_form_it_has() {
        let of = |kind, diff| {
            let change = change("a".to_owned(), None, kind, diff);
            (change.additions, change.deletions)
        };

        assert_eq!(of(ChangeKind::Modified, "@@ -1,2 +1,2 @@\n-a\n+b\n c\n"), (1, 1));
        assert_eq!(of(ChangeKind::Added, "one\ntwo\n"), (2, 0));
        assert_eq!(of(ChangeKind::Deleted, "one\n"), (0, 1));
        assert_eq!(of(ChangeKind::Added, "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+one\n"), (1, 0));
    }
}

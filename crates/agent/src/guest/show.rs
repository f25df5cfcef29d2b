//! What an agent inside tells, as events: bounded, without secrets, and without what does not show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use carrel_domain::event::{CommandEnd, PlanStep};
use carrel_domain::patch::ChangeKind;
use carrel_domain::{EventBody, FileChange};
use tokio::time::Instant;

use crate::output::for_people;
use crate::{AgentContext, AgentError};

/// How much of one command's output is shown, in bytes.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// How long a command or a message may be that is shown, in bytes.
const MAX_TEXT_BYTES: usize = 256 << 10;

/// How long a path, a step of a plan or what is done at the moment may be, in bytes.
const MAX_LINE_BYTES: usize = 4 << 10;

/// The longest id of a command, in bytes.
const MAX_ID_BYTES: usize = 200;

/// Commands that are remembered at once: an agent that never ends them is broken.
const MAX_RUNNING: usize = 1000;

/// Files of one patch that are shown.
const MAX_FILES: usize = 1000;

/// What is shown of one attempt: events, and the bytes they are kept in.
const MAX_EVENTS: u64 = 20_000;
const MAX_EVENT_BYTES: u64 = 64 << 20;

/// Makes events.
pub(super) struct Show<'a> {
    context: &'a AgentContext<'a>,
    /// By the agent's ids.
    running: BTreeMap<String, Running>,
    names: Names,
    room: Room,
    answer: String,
}

struct Running {
    command_id: String,
    began: Instant,
    printed: u64,
    dropped: u64,
}

/// What commands are called in events: no two the same in one attempt, whatever ids the agent gives, and after whatever
/// restart.
#[derive(Default)]
struct Names {
    used: BTreeSet<String>,
    /// The last number behind an id that came again.
    again: BTreeMap<String, u64>,
}

/// How much may still be shown.
struct Room {
    events: u64,
    bytes: u64,
    is_told: bool,
}

impl<'a> Show<'a> {
    /// `before` has the commands of before a restart, each with the bytes that were shown of it: their ids may come again.
    pub(super) fn new(context: &'a AgentContext<'a>, before: &BTreeMap<String, u64>) -> Self {
        let mut names = Names::default();
        names.used.extend(before.keys().cloned());
        let shown = before.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let mut room = Room::default();
        // Each has begun, and ended.
        room.take(2 * before.len() as u64, shown);
        Self { context, running: BTreeMap::new(), names, room, answer: String::new() }
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
        let id = cut(id, MAX_ID_BYTES);
        if self.running.contains_key(id) || self.running.len() >= MAX_RUNNING || self.room.is_empty() {
            return Ok(());
        }
        let command_id = self.names.fresh(id);
        let running = Running { command_id: command_id.clone(), began: Instant::now(), printed: 0, dropped: 0 };
        self.running.insert(id.to_owned(), running);
        let (command, directory) = (self.short(command, MAX_TEXT_BYTES), self.short(directory, MAX_LINE_BYTES));
        self.tell(EventBody::CommandStarted { command_id, command, directory }).await
    }

    pub(super) async fn printed(&mut self, id: &str, text: &str) -> Result<(), AgentError> {
        let Some(running) = self.running.get_mut(cut(id, MAX_ID_BYTES)) else { return Ok(()) };
        let room = MAX_OUTPUT_BYTES.saturating_sub(running.printed);
        let room = if self.room.is_empty() { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) };
        let shown = cut(text, room);
        running.printed += shown.len() as u64;
        running.dropped += (text.len() - shown.len()) as u64;
        if shown.is_empty() {
            return Ok(());
        }
        let body = EventBody::CommandOutput { command_id: running.command_id.clone(), text: shown.to_owned() };
        let Some(bodies) = self.within_room(body) else { return Ok(()) };
        Ok(self.context.journal.send(bodies).await?)
    }

    /// That a command is over. `whole` is all that it printed, where nothing came while it ran.
    pub(super) async fn ended(
        &mut self,
        id: &str,
        end: CommandEnd,
        duration: Option<Duration>,
        whole: Option<&str>,
    ) -> Result<(), AgentError> {
        let id = cut(id, MAX_ID_BYTES);
        if let Some(text) = whole.filter(|_| self.running.get(id).is_some_and(|one| one.printed == 0)) {
            self.printed(id, text).await?;
        }
        let Some(running) = self.running.remove(id) else { return Ok(()) };
        let duration = duration.unwrap_or_else(|| running.began.elapsed());
        let body = EventBody::CommandEnded {
            command_id: running.command_id,
            end,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            output_bytes: running.printed + running.dropped,
            dropped_bytes: running.dropped,
        };
        // Whatever was said to begin is said to end, room or not.
        self.room.take(1, 0);
        Ok(self.context.journal.record(vec![for_people(body, self.context.redactor)]).await?)
    }

    pub(super) async fn message(&mut self, text: &str) -> Result<(), AgentError> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let text = self.short(text, MAX_TEXT_BYTES);
        self.answer.clone_from(&text);
        self.tell(EventBody::AgentMessage { text }).await
    }

    pub(super) async fn reasoning(&mut self, text: &str) -> Result<(), AgentError> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let text = self.short(text, MAX_TEXT_BYTES);
        self.tell(EventBody::AgentReasoning { text }).await
    }

    pub(super) async fn plan(&mut self, explanation: Option<&str>, mut steps: Vec<PlanStep>) -> Result<(), AgentError> {
        for step in &mut steps {
            step.step = self.short(&step.step, MAX_LINE_BYTES);
        }
        let explanation = explanation.map(|text| self.short(text, MAX_LINE_BYTES));
        self.tell(EventBody::PlanUpdated { explanation, steps }).await
    }

    pub(super) async fn patched(&mut self, mut files: Vec<FileChange>) -> Result<(), AgentError> {
        files.truncate(MAX_FILES);
        for file in &mut files {
            file.path = self.short(&file.path, MAX_LINE_BYTES);
            file.old_path = file.old_path.as_ref().map(|path| self.short(path, MAX_LINE_BYTES));
        }
        self.tell(EventBody::PatchApplied { files }).await
    }

    pub(super) async fn not_patched(&mut self, reason: &str) -> Result<(), AgentError> {
        let reason = self.short(reason, MAX_LINE_BYTES);
        self.tell(EventBody::PatchRefused { reason }).await
    }

    /// What it does that is no command and no patch.
    pub(super) async fn progress(&mut self, message: &str) -> Result<(), AgentError> {
        let message = self.short(message, MAX_LINE_BYTES);
        self.tell(EventBody::Progress { message, duration_ms: None }).await
    }

    pub(super) async fn warn(&mut self, message: &str) -> Result<(), AgentError> {
        let message = self.short(message, MAX_LINE_BYTES);
        self.tell(EventBody::Warning { message }).await
    }

    /// Ends what is still said to run.
    pub(super) async fn close(&mut self) -> Result<(), AgentError> {
        for id in self.running.keys().cloned().collect::<Vec<_>>() {
            self.ended(&id, CommandEnd::Interrupted, None, None).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, body: EventBody) -> Result<(), AgentError> {
        let Some(bodies) = self.within_room(body) else { return Ok(()) };
        Ok(self.context.journal.record(bodies).await?)
    }

    /// An event as it is shown, if there is room for it; the first time there is none, that there is none.
    fn within_room(&mut self, body: EventBody) -> Option<Vec<EventBody>> {
        let body = for_people(body, self.context.redactor);
        let bytes = serde_json::to_vec(&body).map_or(0, |json| json.len() as u64);
        if self.room.take(1, bytes) {
            return Some(vec![body]);
        }
        let message = format!(
            "the agent told more than {MAX_EVENTS} events or {} MiB; it goes on, and only its answer and its files are kept \
             from here on",
            MAX_EVENT_BYTES >> 20
        );
        let is_told = std::mem::replace(&mut self.room.is_told, true);
        (!is_told).then(|| vec![EventBody::Warning { message }])
    }

    /// A text without secrets, then cut: one that is cut through would not be known again.
    fn short(&self, text: &str, most: usize) -> String {
        cut(&self.context.redactor.redact(text), most).to_owned()
    }
}

impl Names {
    /// A name for a command whose agent calls it this.
    fn fresh(&mut self, id: &str) -> String {
        let mut name = id.to_owned();
        while !self.used.insert(name.clone()) {
            let number = self.again.entry(id.to_owned()).or_insert(1);
            *number += 1;
            name = format!("{id}-{number}");
        }
        name
    }
}

impl Default for Room {
    fn default() -> Self {
        Self { events: MAX_EVENTS, bytes: MAX_EVENT_BYTES, is_told: false }
    }
}

impl Room {
    /// Takes as much, or all that is left; whether there was enough. Once there was not, there is none.
    fn take(&mut self, events: u64, bytes: u64) -> bool {
        let is_enough = self.events >= events && self.bytes >= bytes;
        (self.events, self.bytes) = if is_enough { (self.events - events, self.bytes - bytes) } else { (0, 0) };
        is_enough
    }

    const fn is_empty(&self) -> bool {
        self.is_told
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

/// The beginning of a text, of so many bytes at most.
pub(super) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most.min(text.len()))]
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

    #[test]
    fn no_two_commands_of_an_attempt_have_one_name_whatever_ids_come_again() {
        let mut names = Names::default();
        // Those of before two restarts.
        names.used.extend(["call".to_owned(), "call-2".to_owned(), "call-4".to_owned()]);

        let fresh: Vec<String> = ["call", "call", "other", "call-2", "other"].map(|id| names.fresh(id)).into();

        assert_eq!(fresh, ["call-3", "call-5", "other", "call-2-2", "other-2"]);
    }

    #[test]
    fn there_is_room_until_either_bound_is_passed_and_never_again() {
        let mut room = Room { events: 3, bytes: 10, is_told: false };

        assert!(room.take(1, 10) && room.take(1, 0));
        assert!(!room.take(1, 1), "a byte too many");
        assert!(!room.take(1, 0), "what comes later is not shown without what came before");
    }
}

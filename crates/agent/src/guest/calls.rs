//! What is known of the calls of tools of an agent of the Agent Client Protocol, from which its events are made. All of it is
//! the agent's word, so each field, each call and the sum of them are bounded when they are learned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use carrel_domain::patch::ChangeKind;
use carrel_domain::{FileChange, Redactor};
use serde_json::Value;

use super::show::cut;

/// The longest id of a call, in bytes.
const MAX_ID_BYTES: usize = 200;

/// The longest title, kind or command, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// How much of one call's output is kept, in bytes.
const MAX_OUTPUT_BYTES: usize = 256 << 10;

/// Files that one call may change, as far as they are shown.
const MAX_FILES: usize = 1000;

/// Calls that are under way at once.
const MAX_OPEN: usize = 256;

/// Calls that are over and whose ids are remembered: nothing is shown of them twice.
const MAX_OVER: usize = 10_000;

/// What is held of all calls together, in bytes. What does not go into it is not shown.
const MAX_HELD_BYTES: usize = 8 << 20;

/// The calls of one run.
#[derive(Default)]
pub(super) struct Calls {
    open: BTreeMap<String, Call>,
    over: BTreeSet<String>,
    /// Those that are over, the oldest first.
    order: VecDeque<String>,
    /// The size of those that are under way.
    held: usize,
}

/// What is known of a call; updates name only what changes.
#[derive(Default)]
pub(super) struct Call {
    pub(super) title: String,
    pub(super) kind: String,
    pub(super) command: Option<String>,
    pub(super) output: String,
    pub(super) files: Vec<FileChange>,
    pub(super) exit_code: Option<i64>,
    /// Whether its title was shown.
    pub(super) is_noted: bool,
}

impl Calls {
    /// Takes up what an update says of a call, and gives the id it is remembered by. Nothing where the call is over, or where
    /// too many are under way.
    pub(super) fn learn(
        &mut self,
        id: &str,
        update: &Value,
        workspace: &str,
        redactor: &Redactor,
    ) -> Option<(String, &mut Call)> {
        let id = cut(id, MAX_ID_BYTES);
        let is_full = self.open.len() >= MAX_OPEN && !self.open.contains_key(id);
        if is_full || self.over.contains(id) {
            return None;
        }
        let call = self.open.entry(id.to_owned()).or_default();
        self.held -= call.size();
        call.learn(update, workspace, redactor);
        if self.held + call.size() > MAX_HELD_BYTES {
            (call.output, call.files) = (String::new(), Vec::new());
        }
        self.held += call.size();
        Some((id.to_owned(), call))
    }

    /// Forgets all of a call but that it is over.
    pub(super) fn end(&mut self, id: &str) -> Call {
        let call = self.open.remove(id).unwrap_or_default();
        self.held -= call.size();
        if self.over.insert(id.to_owned()) {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > MAX_OVER
            && let Some(oldest) = self.order.pop_front()
        {
            self.over.remove(&oldest);
        }
        call
    }
}

impl Call {
    fn learn(&mut self, update: &Value, workspace: &str, redactor: &Redactor) {
        // A secret that is cut through would not be known again.
        let text = |text: &str| cut(&redactor.redact(text), MAX_TEXT_BYTES).to_owned();
        if let Some(title) = update["title"].as_str() {
            self.title = text(title);
        }
        if let Some(kind) = update["kind"].as_str() {
            self.kind = text(kind);
        }
        self.command = command(&update["rawInput"]["command"]).map(|command| text(&command)).or(self.command.take());
        self.exit_code =
            ["exit_code", "exitCode"].iter().find_map(|name| update["rawOutput"][name].as_i64()).or(self.exit_code);
        let Some(content) = update["content"].as_array() else { return };
        // An update's content stands in place of what was before.
        (self.output, self.files) = (String::new(), Vec::new());
        for one in content {
            match one["type"].as_str().unwrap_or_default() {
                "content" => append(&mut self.output, &one["content"], MAX_OUTPUT_BYTES),
                "diff" if self.files.len() < MAX_FILES => self.files.extend(changed(one, workspace, text)),
                _ => {}
            }
        }
    }

    /// About how much memory it takes, in bytes.
    fn size(&self) -> usize {
        let files = self.files.iter().map(|file| size_of::<FileChange>() + file.path.len()).sum::<usize>();
        let texts = self.title.len() + self.kind.len() + self.command.as_ref().map_or(0, String::len);
        texts + self.output.len() + files
    }
}

/// Adds a block of text to what was said, as far as there is room.
pub(super) fn append(to: &mut String, content: &Value, most: usize) {
    if let Some(text) = content["text"].as_str() {
        to.push_str(cut(text, most.saturating_sub(to.len())));
    }
}

fn command(raw: &Value) -> Option<String> {
    match raw {
        Value::String(text) => Some(text.clone()),
        Value::Array(words) => Some(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

fn changed(diff: &Value, workspace: &str, text: impl Fn(&str) -> String) -> Option<FileChange> {
    let path = diff["path"].as_str()?;
    let path = text(path.strip_prefix(workspace).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path));
    let (old, new) = (diff["oldText"].as_str(), diff["newText"].as_str().unwrap_or_default());
    let mut lines: BTreeMap<&str, i64> = BTreeMap::new();
    for line in new.lines() {
        *lines.entry(line).or_default() += 1;
    }
    for line in old.unwrap_or_default().lines() {
        *lines.entry(line).or_default() -= 1;
    }
    let count =
        |sign: i64| lines.values().filter(|count| count.signum() == sign).map(|count| count.unsigned_abs()).sum();
    let kind = if old.is_none() { ChangeKind::Added } else { ChangeKind::Modified };
    Some(FileChange { path, old_path: None, kind, additions: count(1), deletions: count(-1), binary: false })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new([&carrel_domain::Secret::new("sk-canary-0123456789")])
    }

    #[test]
    fn an_update_of_a_call_changes_only_what_it_names() {
        let mut call = Call::default();
        let first = json!({"title": "Run", "kind": "execute", "rawInput": {"command": ["ls", "-l"]}});
        let second = json!({"content": [{"type": "content", "content": {"type": "text", "text": "a"}}],
                            "rawOutput": {"exit_code": 2}});

        call.learn(&first, "/w", &redactor());
        call.learn(&second, "/w", &redactor());

        assert_eq!((call.title.as_str(), call.command.as_deref()), ("Run", Some("ls -l")));
        assert_eq!((call.output.as_str(), call.exit_code), ("a", Some(2)));
    }

    #[test]
    fn a_changed_file_is_counted_by_its_lines() {
        let of = |diff: Value| {
            changed(&diff, "/workspace/api", str::to_owned)
                .map(|one| (one.path, one.kind, one.additions, one.deletions))
        };

        let edit = of(json!({"path": "/workspace/api/a", "oldText": "a\nb\n", "newText": "a\nc\nd\n"}));
        let new = of(json!({"path": "/etc/x", "oldText": null, "newText": "a\n"}));

        assert_eq!(edit, Some(("a".to_owned(), ChangeKind::Modified, 2, 1)));
        assert_eq!(new, Some(("/etc/x".to_owned(), ChangeKind::Added, 1, 0)));
        assert_eq!(of(json!({"newText": "a"})), None);
    }

    #[test]
    fn each_field_of_a_call_is_cut_when_it_is_learned() {
        let mut calls = Calls::default();
        let long = "x".repeat(1 << 20);
        let files = vec![json!({"type": "diff", "path": long, "newText": "a"}); 10];
        let update = json!({"title": long, "kind": long, "rawInput": {"command": long}, "content": files});

        let (id, call) = calls.learn(&long, &update, "/w", &redactor()).expect("there is room");

        assert_eq!(id.len(), MAX_ID_BYTES);
        assert_eq!((call.title.len(), call.kind.len()), (MAX_TEXT_BYTES, MAX_TEXT_BYTES));
        assert_eq!(call.command.as_ref().map(String::len), Some(MAX_TEXT_BYTES));
        assert!(call.files.iter().all(|file| file.path.len() == MAX_TEXT_BYTES));
        let output = json!({"content": [{"type": "content", "content": {"text": long}}, {"type": "content", "content": {"text": long}}]});
        let (_, call) = calls.learn(&long, &output, "/w", &redactor()).expect("it is known");
        assert_eq!((call.output.len(), call.files.len()), (MAX_OUTPUT_BYTES, 0));
    }

    #[test]
    fn no_number_of_calls_takes_more_than_the_bound_of_their_sum() {
        let (mut calls, redactor) = (Calls::default(), redactor());
        let update =
            json!({"title": "t", "content": [{"type": "content", "content": {"text": "x".repeat(MAX_OUTPUT_BYTES)}}]});

        for id in 0..10 * MAX_OPEN {
            calls.learn(&id.to_string(), &update, "/w", &redactor);
        }

        let size: usize = calls.open.values().map(Call::size).sum();
        assert_eq!((calls.open.len(), calls.held), (MAX_OPEN, size));
        assert!(size <= MAX_HELD_BYTES, "{size}");
    }

    #[test]
    fn of_a_call_that_is_over_only_its_id_is_left_and_not_for_ever() {
        let (mut calls, redactor) = (Calls::default(), redactor());
        let update = json!({"title": "t", "kind": "execute"});

        for id in 0..=MAX_OVER {
            calls.learn(&id.to_string(), &update, "/w", &redactor).expect("there is room");
            calls.end(&id.to_string());
        }

        assert_eq!((calls.open.len(), calls.held), (0, 0));
        assert_eq!((calls.over.len(), calls.order.len()), (MAX_OVER, MAX_OVER));
        assert!(calls.learn("7", &update, "/w", &redactor).is_none(), "it is over");
        assert!(calls.learn("0", &update, "/w", &redactor).is_some(), "the oldest is forgotten");
    }

    #[test]
    fn a_secret_is_taken_out_before_a_text_is_cut() {
        let mut call = Call::default();
        let title = format!("{}sk-canary-0123456789", "x".repeat(MAX_TEXT_BYTES - 10));

        call.learn(&json!({"title": title}), "/w", &redactor());

        assert!(!call.title.contains("sk-"), "{}", &call.title[MAX_TEXT_BYTES - 20..]);
    }
}

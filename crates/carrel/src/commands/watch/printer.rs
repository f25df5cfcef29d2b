//! What `carrel task watch` prints of an event, and which attempt each line is about.

use std::collections::HashMap;

use anstyle::{AnsiColor, Reset, Style};
use carrel_wire::{Citations, Event, Task};
use serde_json::Value;
use uuid::Uuid;

use crate::output::{self, safe};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const COMMAND: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Blue)));
const WARNING: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));

/// Makes text for people of events.
#[derive(Default)]
pub(super) struct Printer {
    /// What stands in front of an attempt's lines: its number, where its turn has several; else nothing.
    marks: HashMap<Uuid, Option<u32>>,
    /// Whose line was begun and not ended.
    open_line: Option<Option<Uuid>>,
}

impl Printer {
    /// Whether it is known how the lines of this event are marked.
    pub(super) fn knows(&self, event: &Event) -> bool {
        event.attempt_id.is_none_or(|attempt| self.marks.contains_key(&attempt))
    }

    /// Takes the numbers of the attempts from the task's thread.
    pub(super) fn learn(&mut self, task: &Task) {
        for turn in &task.turns {
            let attempts: Vec<(Uuid, u32)> = turn.attempts.iter().map(|attempt| (attempt.id, attempt.number)).collect();
            self.learn_turn(&attempts);
        }
    }

    /// Takes the ids and numbers of a turn's attempts.
    fn learn_turn(&mut self, attempts: &[(Uuid, u32)]) {
        let several = attempts.len() > 1;
        self.marks.extend(attempts.iter().map(|(id, number)| (*id, several.then_some(*number))));
    }

    /// What is printed of an event.
    pub(super) fn text(&mut self, event: &Event) -> String {
        if event.kind == "command.output" {
            let text = event.data["text"].as_str().map(safe).unwrap_or_default();
            return self.marked(event.attempt_id, &text);
        }
        match shown(event) {
            shown if shown.is_empty() => shown,
            shown => self.close_line() + &self.marked(event.attempt_id, &format!("{shown}\n")),
        }
    }

    /// The text with the mark of its attempt in front of each line that begins in it. A line that was begun by another is
    /// ended first.
    fn marked(&mut self, attempt: Option<Uuid>, text: &str) -> String {
        let mark = attempt.and_then(|attempt| *self.marks.get(&attempt)?);
        // Colours that are still on belong to whoever wrote before.
        let mark = mark.map(|number| format!("{Reset}{DIM}[{number}]{DIM:#} ")).unwrap_or_default();
        let mut out = String::with_capacity(text.len());
        if self.open_line.is_some_and(|whose| whose != attempt) {
            out.push_str(&self.close_line());
        }
        for line in text.split_inclusive('\n') {
            if self.open_line.is_none() {
                out.push_str(&mark);
            }
            out.push_str(line);
            self.open_line = (!line.ends_with('\n')).then_some(attempt);
        }
        out
    }

    /// What ends the line that was begun, if one was.
    fn close_line(&mut self) -> String {
        self.open_line.take().map(|_| "\n".to_owned()).unwrap_or_default()
    }
}

/// An event in one line or more, without the end of the last; nothing for those that are passed over.
fn shown(event: &Event) -> String {
    let text = |field: &str| event.data[field].as_str().map(safe).unwrap_or_default();
    match event.kind.as_str() {
        "turn.created" => {
            format!("{BOLD}turn {}{BOLD:#} {}", event.data["number"], output::first_line(&text("prompt")))
        }
        "attempt.state" => state(&event.data),
        "environment.resolved" => resolved(&event.data),
        "snapshot.looked_up" => format!("{DIM}{}{DIM:#}", text("reason")),
        "snapshot.kept" if text("reason").is_empty() => String::new(),
        "snapshot.kept" => {
            format!("{WARNING}nothing of the prepared environment is kept: {}{WARNING:#}", text("reason"))
        }
        "network.decided" => decided(&event.data),
        "limit.hit" | "sandbox.relaunched" => format!("{WARNING}{}{WARNING:#}", text("message")),
        "attempt.progress" => format!("{DIM}{}{DIM:#}", text("message")),
        "attempt.warning" => format!("{WARNING}{}{WARNING:#}", text("message")),
        "model.retrying" => {
            let number = |field: &str| event.data[field].as_u64().unwrap_or_default();
            let of = match number("retries") {
                0 => String::new(),
                retries => format!(" of {retries}"),
            };
            format!(
                "{WARNING}waiting for the model: retry {}{of} in {:.1} s ({}){WARNING:#}",
                number("retry"),
                millis(number("wait_ms")),
                text("reason"),
            )
        }
        "agent.message" => text("text"),
        "agent.reasoning" => format!("{DIM}{}{DIM:#}", text("text")),
        "plan.updated" => plan(&event.data),
        "command.started" => format!("{COMMAND}$ {}{COMMAND:#}", text("command")),
        "command.ended" => ended(&event.data),
        "patch.applied" => changed(&event.data),
        "image.viewed" => format!("{DIM}looked at {}{DIM:#}", text("path")),
        "artifact.attached" => attached(&event.data),
        "local_changes.applied" => started_from(&event.data),
        "diff.provided" => provided(&event.data),
        "message.sent" => format!("{BOLD}you:{BOLD:#} {}", text("text")),
        "message.delivered" => format!("{DIM}the agent was told{DIM:#}"),
        "attempt.retried" if event.data["resumes"] == true => {
            format!("{BOLD}tried again{BOLD:#}, from the conversation and the files of before")
        }
        "attempt.retried" => format!("{BOLD}tried again{BOLD:#}"),
        "citations.checked" => citations(&event.data),
        "context.compacted" => compacted(&event.data),
        "patch.refused" | "tool.refused" => format!("{WARNING}{}{WARNING:#}", text("reason")),
        "publication.state" => format!("branch {} {}", text("branch"), output::painted(&text("state"))),
        _ => String::new(),
    }
}

fn state(data: &Value) -> String {
    let state = data["state"].as_str().unwrap_or_default();
    match data["reason"].as_str() {
        Some(reason) => format!("{}: {}", output::painted(state), safe(reason)),
        None => output::painted(state),
    }
}

/// What the sandbox is made of, and where each setting comes from.
fn resolved(data: &Value) -> String {
    let text = |value: &Value| value.as_str().map(safe).unwrap_or_default();
    let sources = data["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let from: Vec<String> =
        sources.iter().map(|source| format!("{} from {}", text(&source[0]), text(&source[1]))).collect();
    let from = if from.is_empty() { String::new() } else { format!(" ({})", from.join(", ")) };
    format!(
        "{DIM}environment {} version {}, image {}{from}{DIM:#}",
        text(&data["name"]),
        data["version"],
        text(&data["image"])
    )
}

/// A request of the sandbox's that was let through or refused.
fn decided(data: &Value) -> String {
    let text = |field: &str| data[field].as_str().map(safe).unwrap_or_default();
    let times = match data["count"].as_u64() {
        Some(0 | 1) | None => String::new(),
        Some(count) => format!(" ({count} times)"),
    };
    let what = format!("{} {}:{}{times}", text("method"), text("host"), data["port"]);
    match data["allowed"].as_bool() {
        Some(true) => format!("{DIM}network: {} allowed by {}{DIM:#}", what.trim(), text("reason")),
        _ => {
            let way_out = text("way_out");
            let way_out = if way_out.is_empty() { way_out } else { format!("; to allow it: {way_out}") };
            format!("{WARNING}network: {} refused: {}{way_out}{WARNING:#}", what.trim(), text("reason"))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds for a person")]
fn millis(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn ended(data: &Value) -> String {
    let took = millis(data["duration_ms"].as_u64().unwrap_or_default());
    let end = &data["end"];
    let how = match end["how"].as_str() {
        Some("exited") => format!("exit code {}", end["code"]),
        Some("signalled") => format!("ended by signal {}", end["signal"]),
        Some("timed_out") => "stopped by its time limit".to_owned(),
        // With its sandbox: nobody was there to see how long it took.
        _ if took <= 0.0 => return format!("{DIM}interrupted{DIM:#}"),
        _ => "interrupted".to_owned(),
    };
    format!("{DIM}{how} after {took:.1} s{DIM:#}")
}

fn changed(data: &Value) -> String {
    let files = data["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = files.iter().map(|file| {
        let name = file["path"].as_str().map(safe).unwrap_or_default();
        format!("{} {name}", file["kind"].as_str().unwrap_or_default())
    });
    names.collect::<Vec<_>>().join("\n")
}

/// That the conversation was made shorter.
fn compacted(data: &Value) -> String {
    let tokens = |field: &str| data[field].as_u64().unwrap_or_default();
    let by = if data["by_model"] == true { "the model's" } else { "the record's" };
    format!(
        "{DIM}the conversation became too long and goes on from {by} summary ({} to {} tokens){DIM:#}",
        tokens("before_tokens"),
        tokens("after_tokens")
    )
}

/// Which citations of the answer hold.
fn citations(data: &Value) -> String {
    let Ok(checked) = serde_json::from_value::<Citations>(data.clone()) else { return String::new() };
    let failing = checked.failing.iter();
    let failing = failing.map(|one| format!("\n  {}: {}", safe(&one.citation), safe(&one.reason))).collect::<String>();
    let counts = output::checked(&checked).unwrap_or_default();
    if failing.is_empty() { format!("{DIM}{counts}{DIM:#}") } else { format!("{WARNING}{counts}{failing}{WARNING:#}") }
}

/// A file that the agent keeps for people.
fn attached(data: &Value) -> String {
    let text = |field: &str| data[field].as_str().map(safe).unwrap_or_default();
    let (name, size, description) =
        (text("name"), data["size_bytes"].as_u64().unwrap_or_default(), text("description"));
    let description = if description.is_empty() { description } else { format!(": {description}") };
    format!("attached {BOLD}{name}{BOLD:#} ({size} bytes){description}")
}

/// Local changes that the attempt starts from.
fn started_from(data: &Value) -> String {
    let patch = &data["patch"];
    let files = output::files(patch["files"].as_array().map_or(0, Vec::len));
    format!("starts from local changes: {files}, +{} -{}", patch["additions"], patch["deletions"])
}

/// A diff that the prompt names or holds.
fn provided(data: &Value) -> String {
    let text = |field: &str| data[field].as_str().map(safe).unwrap_or_default();
    match data["path"].as_str() {
        Some(path) => format!("{DIM}the diff of {} is at {}{DIM:#}", text("source"), safe(path)),
        None => format!("{WARNING}the diff of {} could not be had: {}{WARNING:#}", text("source"), text("problem")),
    }
}

fn plan(data: &Value) -> String {
    let steps = data["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines = steps.iter().map(|step| {
        let mark = match step["status"].as_str() {
            Some("completed") => "✓",
            Some("in_progress") => "→",
            _ => "·",
        };
        format!("{mark} {}", step["step"].as_str().map(safe).unwrap_or_default())
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "printer_tests.rs"]
mod tests;

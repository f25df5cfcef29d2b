//! `carrel task watch`: the log, live, until every attempt of the last turn has ended. A connection that breaks is made
//! again from the last event seen.

use std::collections::HashMap;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use carrel_wire::{Citations, Event, Task, TaskState};
use futures::StreamExt as _;
use serde_json::Value;
use uuid::Uuid;

use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, safe};

/// How often a broken connection is made again before giving up.
const RECONNECTS: u32 = 10;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const COMMAND: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Blue)));
const WARNING: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));

pub(crate) async fn watch(client: &Client, id: Uuid, after: i64, json: bool) -> Result<(), Failure> {
    let mut watcher = Watcher { client, id, after, json, seen: false, printer: Printer::default() };
    let mut broken = 0;
    loop {
        let before = watcher.after;
        match watcher.follow().await {
            Ok(Some(task)) => return verdict(&task, json),
            Ok(None) => {}
            // A service that is started again is waited for; one that was never there is not.
            Err(failure) if !failure.is_unreachable() || !watcher.seen => return Err(failure),
            Err(_) => {}
        }
        broken = if watcher.after > before { 1 } else { broken + 1 };
        if broken > RECONNECTS {
            return Err(Failure::unreachable(
                "the connection to the service broke again and again; run the command again",
            ));
        }
        tokio::time::sleep(Duration::from_millis(200 * u64::from(broken))).await;
    }
}

/// Follows one task.
struct Watcher<'a> {
    client: &'a Client,
    id: Uuid,
    after: i64,
    json: bool,
    /// Whether the service has answered at all.
    seen: bool,
    printer: Printer,
}

impl Watcher<'_> {
    /// Follows the log on one connection: gives the task when it is over, nothing when the connection breaks.
    async fn follow(&mut self) -> Result<Option<Task>, Failure> {
        let mut events = Box::pin(self.client.events(self.id, self.after).await?);
        self.seen = true;
        // Whoever comes late sees the end in the task, not in the stream.
        if let Some(task) = self.over().await? {
            return Ok(Some(task));
        }
        while let Some(Some(event)) = events.next().await {
            self.after = event.seq;
            if self.json {
                output::json_line(&event)?;
            } else {
                self.printer.print(&event)?;
            }
            let may_be_last = event.kind == "publication.state" || (event.kind == "attempt.state" && ends(&event.data));
            if may_be_last && let Some(task) = self.over().await? {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    /// The task, when it is over and all of its log was seen.
    async fn over(&self) -> Result<Option<Task>, Failure> {
        let task: Task = self.client.get(&format!("tasks/{}", self.id)).await?;
        Ok((is_over(&task) && task.last_seq <= self.after).then_some(task))
    }
}

fn ends(state: &Value) -> bool {
    matches!(state["state"].as_str(), Some("ready" | "failed" | "cancelled"))
}

const fn is_over(task: &Task) -> bool {
    matches!(task.state, TaskState::Ready | TaskState::Failed | TaskState::Cancelled)
}

fn verdict(task: &Task, json: bool) -> Result<(), Failure> {
    if !json {
        let last = task.turns.last().map(|turn| turn.attempts.as_slice()).unwrap_or_default();
        let changed = last.iter().any(|attempt| attempt.result.as_ref().is_some_and(|result| result.patch.is_some()));
        if changed {
            output::line(&format!(
                "\nsee the patch with `carrel task diff {0}`, apply it with `carrel task apply {0}`",
                task.id
            ))?;
        }
    }
    match task.state {
        TaskState::Ready => Ok(()),
        TaskState::Queued | TaskState::Running | TaskState::Failed | TaskState::Cancelled => {
            Err(Failure::work(format!("the task is {}", output::task_word(task.state))))
        }
    }
}

/// Prints events for people.
#[derive(Default)]
struct Printer {
    /// Attempts in the order they first appear, for the marks in front of their lines.
    numbers: HashMap<Uuid, usize>,
    /// Whether the last thing printed did not end its line.
    open_line: bool,
}

impl Printer {
    fn print(&mut self, event: &Event) -> Result<(), Failure> {
        let text = |field: &str| event.data[field].as_str().map(safe).unwrap_or_default();
        let shown = match event.kind.as_str() {
            "turn.created" => {
                format!("{BOLD}turn {}{BOLD:#} {}", event.data["number"], output::first_line(&text("prompt")))
            }
            "attempt.state" => self.state(&event.data),
            "environment.resolved" => resolved(&event.data),
            "snapshot.looked_up" => format!("{DIM}{}{DIM:#}", text("reason")),
            "snapshot.kept" if text("reason").is_empty() => String::new(),
            "snapshot.kept" => {
                format!("{WARNING}nothing of the prepared environment is kept: {}{WARNING:#}", text("reason"))
            }
            "network.decided" => decided(&event.data),
            "limit.hit" => format!("{WARNING}{}{WARNING:#}", text("message")),
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
            "command.output" => return self.output(&text("text")),
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
            _ => return Ok(()),
        };
        if shown.is_empty() {
            return Ok(());
        }
        let mark = self.mark(event.attempt_id);
        self.close_line()?;
        output::line(&format!("{mark}{shown}"))
    }

    fn state(&self, data: &Value) -> String {
        let state = data["state"].as_str().unwrap_or_default();
        match data["reason"].as_str() {
            Some(reason) => format!("{}: {}", output::painted(state), safe(reason)),
            None => output::painted(state),
        }
    }

    fn output(&mut self, text: &str) -> Result<(), Failure> {
        self.open_line = !text.ends_with('\n');
        output::text(text)
    }

    fn close_line(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.open_line) { output::line("") } else { Ok(()) }
    }

    /// Says which attempt a line is about, once there are several.
    fn mark(&mut self, attempt: Option<Uuid>) -> String {
        let Some(attempt) = attempt else { return String::new() };
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(attempt).or_insert(next);
        if self.numbers.len() > 1 { format!("{DIM}[{number}]{DIM:#} ") } else { String::new() }
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

//! `carrel task watch`: the log, live, until every attempt of the last turn has ended. A connection that breaks is made
//! again from the last event seen.

mod printer;

use std::time::Duration;

use carrel_wire::{Task, TaskState};
use futures::StreamExt as _;
use serde_json::Value;
use uuid::Uuid;

use crate::client::Client;
use crate::exit::Failure;
use crate::output;
use printer::Printer;

/// How often a broken connection is made again before giving up.
const RECONNECTS: u32 = 10;

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
            if self.json {
                output::json_line(&event)?;
            } else {
                // A follow-up or a retry has attempts that were not there when the thread was read.
                if !self.printer.knows(&event) {
                    self.task().await?;
                }
                output::text(&self.printer.text(&event))?;
            }
            self.after = event.seq;
            let may_be_last = event.kind == "publication.state" || (event.kind == "attempt.state" && ends(&event.data));
            if may_be_last && let Some(task) = self.over().await? {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    /// The task, when it is over and all of its log was seen.
    async fn over(&mut self) -> Result<Option<Task>, Failure> {
        let task = self.task().await?;
        Ok((is_over(&task) && task.last_seq <= self.after).then_some(task))
    }

    async fn task(&mut self) -> Result<Task, Failure> {
        let task = self.client.get(&format!("tasks/{}", self.id)).await?;
        self.printer.learn(&task);
        Ok(task)
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

//! Any agent that speaks the Agent Client Protocol, version 1 (agentclientprotocol.com).
//!
//! It runs in the sandbox and is told that its client serves no files and no terminals: it has those of the sandbox
//! itself. It knows no way to be told something during a turn: what people say ends the turn, and begins the next one.

use carrel_domain::event::{CommandEnd, PlanStatus, PlanStep};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::calls::{Calls, append};
use super::lines::{Heard, Lines};
use super::show::Show;
use super::{FOLDER, Last, PATIENCE, STALLED, Work, sandbox};
use crate::AgentError;

/// The version that is spoken.
const VERSION: u64 = 1;

/// How much of what it says in pieces is put together, in bytes.
const MAX_SAID_BYTES: usize = 1 << 20;

/// Runs a turn and gives what it said last.
pub(super) async fn run(work: &Work<'_>, show: Show<'_>) -> Result<Last, AgentError> {
    // A folder of its own for its settings and its sessions, which some want to be there already.
    let home = format!("{FOLDER}/{}", work.guest.name);
    let note = b"The folder of the agent that runs in this sandbox.\n";
    let made = work.context.sandbox.write_file(&format!("{home}/README"), note, None).await;
    made.map_err(sandbox("make the agent's folder"))?;
    let lines = Lines::start(work, vec![("CARREL_AGENT_HOME".to_owned(), home)]).await?;
    let (said, thought) = (String::new(), String::new());
    let mut acp =
        Acp { work, lines, show, session: String::new(), said, thought, calls: Calls::default(), is_old: false };
    let first = acp.open().await?;
    acp.work(first).await?;
    acp.show.close().await?;
    Ok(Last { answer: acp.show.into_answer(), why: None })
}

struct Acp<'a> {
    work: &'a Work<'a>,
    lines: Lines<'a>,
    show: Show<'a>,
    session: String,
    /// What it has said and thought that is not shown yet: both come in small pieces.
    said: String,
    thought: String,
    calls: Calls,
    /// Whether what it tells is of a session that is loaded, and was told before.
    is_old: bool,
}

impl Acp<'_> {
    /// Opens a session and gives the prompt of the first turn.
    async fn open(&mut self) -> Result<Vec<Value>, AgentError> {
        let answer = self
            .call(
                "initialize",
                json!({
                    "protocolVersion": VERSION,
                    "clientInfo": { "name": "carrel", "title": "Carrel", "version": env!("CARGO_PKG_VERSION") },
                    "clientCapabilities": { "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false },
                }),
            )
            .await?;
        if answer["protocolVersion"].as_u64() != Some(VERSION) {
            return Err(self.work.failed(&format!("does not speak version {VERSION} of the Agent Client Protocol")));
        }
        let abilities = &answer["agentCapabilities"];
        let place = json!({ "cwd": self.work.workspace, "mcpServers": [] });
        let mut is_loaded = false;
        if let Some(session) = self.work.session.clone().filter(|_| abilities["loadSession"] == true) {
            let mut load = place.clone();
            load["sessionId"] = json!(session);
            self.is_old = true;
            is_loaded = self.try_call("session/load", load).await?.is_ok();
            self.is_old = false;
            self.session = session;
        }
        if !is_loaded {
            let answer = self.call("session/new", place).await?;
            self.session = answer["sessionId"].as_str().unwrap_or_default().to_owned();
        }
        super::record_session(self.work, &self.session).await?;
        let history = match &*self.work.history {
            earlier if !is_loaded && !earlier.is_empty() => format!("What was said before:\n{earlier}\nNow:\n"),
            _ => String::new(),
        };
        let mut prompt = vec![text(&format!("{history}{}\n\n{}", self.work.prompt, self.work.instructions))];
        if abilities["promptCapabilities"]["image"] == true {
            prompt.extend(self.work.images.iter().filter_map(|url| image(url)));
        }
        Ok(prompt)
    }

    /// Has it take turns until one is over and nobody has anything more to say.
    async fn work(&mut self, first: Vec<Value>) -> Result<(), AgentError> {
        let bell = self.work.context.journal.bell();
        let mut activity = self.work.model.activity();
        let mut turn = Some(self.prompt(first).await?);
        let mut heard_at = Instant::now();
        while let Some(id) = turn {
            tokio::select! {
                heard = self.lines.next() => {
                    heard_at = Instant::now();
                    match heard? {
                        Heard::Answered { id: answered, result } if answered == id => {
                            self.flush().await?;
                            let is_cancelled = self.judge(result)?;
                            turn = self.hear_people().await?;
                            if turn.is_none() && is_cancelled {
                                return Err(self.work.failed("broke off by itself"));
                            }
                        }
                        heard => self.took(heard).await?,
                    }
                }
                () = bell.rung() => {
                    self.lines.tell("session/cancel", json!({ "sessionId": self.session })).await?;
                    if let Some(reason) = bell.closing() {
                        let reason = reason.to_owned();
                        self.flush().await?;
                        self.show.close().await?;
                        return Err(AgentError::Limit(crate::Limit::Budget { reason }));
                    }
                    turn = Some(self.after_cancel(id).await?);
                }
                Ok(()) = activity.changed() => heard_at = Instant::now(),
                () = tokio::time::sleep_until(heard_at + STALLED) => {
                    return Err(self.work.failed(&format!("was silent for {} minutes", STALLED.as_secs() / 60)));
                }
            }
        }
        if self.show.has_spoken() { Ok(()) } else { Err(self.work.failed("came to its end without an answer")) }
    }

    /// Waits until it has ended its turn, and begins the next one with what people have said. Gives the turn that runs.
    async fn after_cancel(&mut self, turn: i64) -> Result<i64, AgentError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.lines.next()).await {
                Err(_) => return Err(self.work.failed("does not stop when it is asked to")),
                Ok(Ok(Heard::Answered { id, .. })) if id == turn => break,
                Ok(heard) => self.took(heard?).await?,
            }
        }
        self.flush().await?;
        match self.hear_people().await? {
            Some(turn) => Ok(turn),
            // It rang for nothing: it goes on with what it was doing.
            None => self.prompt(vec![text("Go on.")]).await,
        }
    }

    async fn hear_people(&mut self) -> Result<Option<i64>, AgentError> {
        let said = self.work.context.journal.messages().await?;
        if said.is_empty() {
            return Ok(None);
        }
        let turn = self.prompt(said.iter().map(|message| text(&message.text)).collect()).await?;
        for message in &said {
            super::record_said(self.work, message).await?;
        }
        Ok(Some(turn))
    }

    async fn prompt(&mut self, prompt: Vec<Value>) -> Result<i64, AgentError> {
        self.lines.ask("session/prompt", json!({ "sessionId": self.session, "prompt": prompt })).await
    }

    /// Whether the turn was cancelled; an error when it failed.
    fn judge(&self, result: Result<Value, String>) -> Result<bool, AgentError> {
        let answer = result.map_err(|why| self.work.failed(&format!("failed: {why}")))?;
        match answer["stopReason"].as_str().unwrap_or_default() {
            "cancelled" => Ok(true),
            "refusal" => Err(self.work.failed("refused to go on")),
            "max_turn_requests" => Err(self.work.failed("made as many requests as it makes in one turn")),
            _ => Ok(false),
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, AgentError> {
        let answer = self.try_call(method, params).await?;
        answer.map_err(|why| self.work.failed(&format!("refused `{method}`: {why}")))
    }

    async fn try_call(&mut self, method: &str, params: Value) -> Result<Result<Value, String>, AgentError> {
        let wanted = self.lines.ask(method, params).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.lines.next()).await {
                Err(_) => return Err(self.work.failed(&format!("did not answer `{method}`"))),
                Ok(Ok(Heard::Answered { id, result })) if id == wanted => return Ok(result),
                Ok(heard) => self.took(heard?).await?,
            }
        }
    }

    async fn took(&mut self, heard: Heard) -> Result<(), AgentError> {
        match heard {
            Heard::Told { method, params } if method == "session/update" && !self.is_old => {
                self.updated(&params["update"]).await
            }
            Heard::Asked { id, method, params } if method == "session/request_permission" => {
                let answer = permission(&params["options"]);
                self.lines.answer(id, Ok(answer)).await
            }
            Heard::Asked { id, method, .. } => {
                self.lines.answer(id, Err((-32601, format!("`{method}` is not offered here")))).await
            }
            Heard::Told { .. } | Heard::Answered { .. } => Ok(()),
        }
    }

    async fn updated(&mut self, update: &Value) -> Result<(), AgentError> {
        let kind = update["sessionUpdate"].as_str().unwrap_or_default();
        match kind {
            "agent_message_chunk" => {
                self.flush_thought().await?;
                append(&mut self.said, &update["content"], MAX_SAID_BYTES);
                Ok(())
            }
            "agent_thought_chunk" => {
                self.flush_said().await?;
                append(&mut self.thought, &update["content"], MAX_SAID_BYTES);
                Ok(())
            }
            "tool_call" | "tool_call_update" => {
                self.flush().await?;
                self.called(update).await
            }
            "plan" => self.show.plan(None, steps(&update["entries"])).await,
            _ => Ok(()),
        }
    }

    async fn called(&mut self, update: &Value) -> Result<(), AgentError> {
        let Some(id) = update["toolCallId"].as_str() else { return Ok(()) };
        let (workspace, redactor) = (&self.work.workspace, self.work.context.redactor);
        let Some((id, call)) = self.calls.learn(id, update, workspace, redactor) else { return Ok(()) };
        let status = update["status"].as_str().unwrap_or_default();
        let is_over = matches!(status, "completed" | "failed");
        if call.kind == "execute" {
            let command = call.command.as_deref().unwrap_or(&call.title);
            if !command.is_empty() {
                self.show.started(&id, command, workspace).await?;
            }
        } else if !is_over && !call.is_noted && !call.title.is_empty() {
            call.is_noted = true;
            let message = call.title.clone();
            return self.show.progress(&message).await;
        }
        if !is_over {
            return Ok(());
        }
        let call = self.calls.end(&id);
        if call.kind == "execute" {
            let code = call.exit_code.and_then(|code| i32::try_from(code).ok());
            let code = code.or((status == "completed").then_some(0));
            let end = code.map_or(CommandEnd::Interrupted, |code| CommandEnd::Exited { code });
            return self.show.ended(&id, end, None, Some(&call.output)).await;
        }
        match (call.files.is_empty(), status) {
            (false, "completed") => self.show.patched(call.files).await,
            (false, _) => self.show.not_patched(&call.output).await,
            (true, _) => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), AgentError> {
        self.flush_thought().await?;
        self.flush_said().await
    }

    async fn flush_said(&mut self) -> Result<(), AgentError> {
        let said = std::mem::take(&mut self.said);
        self.show.message(&said).await
    }

    async fn flush_thought(&mut self) -> Result<(), AgentError> {
        let thought = std::mem::take(&mut self.thought);
        self.show.reasoning(&thought).await
    }
}

/// The sandbox is the boundary, so whatever it may do in there it may do: the first option that allows.
fn permission(options: &Value) -> Value {
    let all = || options.as_array().into_iter().flatten();
    let of = |kind: &str| all().find(|option| option["kind"] == kind).and_then(|option| option["optionId"].as_str());
    match of("allow_always").or_else(|| of("allow_once")) {
        Some(id) => json!({ "outcome": { "outcome": "selected", "optionId": id } }),
        None => json!({ "outcome": { "outcome": "cancelled" } }),
    }
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// A data URL as the protocol has images.
fn image(url: &str) -> Option<Value> {
    let (kind, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    Some(json!({ "type": "image", "mimeType": kind, "data": data }))
}

fn steps(entries: &Value) -> Vec<PlanStep> {
    let of = |entry: &Value| {
        let status = match entry["status"].as_str().unwrap_or_default() {
            "completed" => PlanStatus::Completed,
            "in_progress" => PlanStatus::InProgress,
            _ => PlanStatus::Pending,
        };
        Some(PlanStep { step: entry["content"].as_str()?.to_owned(), status })
    };
    entries.as_array().into_iter().flatten().take(200).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_permission_is_given_and_none_where_there_is_none() {
        let options = json!([{"optionId": "n", "kind": "reject_once"}, {"optionId": "o", "kind": "allow_once"},
                             {"optionId": "a", "kind": "allow_always"}]);

        assert_eq!(permission(&options)["outcome"]["optionId"], "a");
        assert_eq!(permission(&json!([{"optionId": "n", "kind": "reject_once"}]))["outcome"]["outcome"], "cancelled");
        assert_eq!(permission(&json!(null))["outcome"]["outcome"], "cancelled");
    }
}

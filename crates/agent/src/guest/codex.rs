//! The stock Codex CLI: `codex app-server`, as its own `generate-json-schema` describes it (0.169).

use std::time::Duration;

use carrel_domain::FileChange;
use carrel_domain::event::{CommandEnd, PlanStatus, PlanStep};
use carrel_domain::patch::ChangeKind;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::lines::{Heard, Lines};
use super::show::{self, Show};
use super::{FOLDER, Last, MODEL_URL, PATIENCE, STALLED, Work, sandbox};
use crate::{AgentError, Limit};

/// Requests to the model that are let through once a budget is closed: the one that hears that it is to sum up, and one in
/// which it does.
const LAST_WORDS: u32 = 2;

/// How long it may take to end its turn when it was told to.
const INTERRUPTED: Duration = Duration::from_millis(500);

/// Runs a turn and gives what it said last.
pub(super) async fn run(work: &Work<'_>, show: Show<'_>) -> Result<Last, AgentError> {
    let home = format!("{FOLDER}/{}", work.guest.name);
    let config = config(work.model.name());
    let written = work.context.sandbox.write_file(&format!("{home}/config.toml"), config.as_bytes(), None).await;
    written.map_err(sandbox("write the agent's settings"))?;
    let lines = Lines::start(work, vec![("CODEX_HOME".to_owned(), home)]).await?;
    let (thread, closing) = (String::new(), None);
    let mut codex = Codex { work, lines, show, thread, turn: None, end: None, has_told: false, closing };
    work.model.allow_last_words(LAST_WORDS);
    codex.open().await?;
    codex.work().await?;
    codex.show.close().await?;
    Ok(Last { answer: codex.show.into_answer(), why: codex.closing.map(|(reason, _)| reason) })
}

struct Codex<'a> {
    work: &'a Work<'a>,
    lines: Lines<'a>,
    show: Show<'a>,
    thread: String,
    /// The turn that runs.
    turn: Option<String>,
    /// How the turn ended.
    end: Option<Value>,
    /// Whether it was told that the end of a limit is near.
    has_told: bool,
    /// Why it is to sum up, if it is, and by when.
    closing: Option<(String, Instant)>,
}

impl Codex<'_> {
    /// Goes on with a thread that is there, or begins one, and starts the turn.
    async fn open(&mut self) -> Result<(), AgentError> {
        let client = json!({ "name": "carrel", "title": "Carrel", "version": env!("CARGO_PKG_VERSION") });
        self.call("initialize", json!({ "clientInfo": client })).await?;
        self.lines.tell("initialized", json!({})).await?;
        let mut thread = json!({
            "cwd": self.work.workspace, "model": self.work.model.name(), "modelProvider": "carrel",
            "approvalPolicy": "never", "sandbox": "danger-full-access",
            "developerInstructions": self.work.instructions,
        });
        let mut is_resumed = false;
        if let Some(session) = &self.work.session {
            thread["threadId"] = json!(session);
            // Its files may have gone with the sandbox: then what was said is told as text.
            is_resumed = self.try_call("thread/resume", thread.clone()).await?.is_ok_and(|answer| {
                self.thread = id_of(&answer["thread"]);
                !self.thread.is_empty()
            });
        }
        let mut prompt = self.work.prompt.clone();
        if !is_resumed {
            thread.as_object_mut().expect("made as one").remove("threadId");
            let answer = self.call("thread/start", thread).await?;
            self.thread = id_of(&answer["thread"]);
            if !self.work.history.is_empty() {
                prompt = format!("What was said before:\n{}\nNow:\n{prompt}", self.work.history);
            }
        }
        super::record_session(self.work, &self.thread).await?;
        let images = self.work.images.iter().map(|url| json!({ "type": "image", "url": url }));
        let input: Vec<Value> = std::iter::once(text(&prompt)).chain(images).collect();
        let mut turn = json!({ "threadId": self.thread, "input": input });
        if let Some(effort) = &self.work.effort {
            turn["effort"] = json!(effort);
        }
        let answer = self.call("turn/start", turn).await?;
        self.turn = Some(id_of(&answer["turn"])).filter(|id| !id.is_empty());
        Ok(())
    }

    /// Hears what it does until its turn is over, and tells it what people say.
    async fn work(&mut self) -> Result<(), AgentError> {
        let bell = self.work.context.journal.bell();
        let mut activity = self.work.model.activity();
        let mut heard_at = Instant::now();
        loop {
            if let Some(end) = self.end.take() {
                self.judge(&end)?;
                // What was said while it came to its end is heard in a turn of its own, if there can be another.
                if self.closing.is_some() || !self.hear_people().await? {
                    return Ok(());
                }
            }
            let closes_at = self.closing.as_ref().map(|(_, at)| *at);
            tokio::select! {
                heard = self.lines.next() => {
                    heard_at = Instant::now();
                    self.took(heard?).await?;
                }
                () = bell.rung() => match bell.closing().filter(|_| self.closing.is_none()) {
                    Some(reason) => self.close(reason.to_owned()).await?,
                    None => self.hear_bell().await?,
                },
                limit = self.work.near_end(), if !self.has_told => {
                    self.has_told = true;
                    self.sum_up(&limit).await?;
                }
                () = until(closes_at) => return self.give_up().await,
                Ok(()) = activity.changed() => heard_at = Instant::now(),
                () = tokio::time::sleep_until(heard_at + STALLED) => {
                    return Err(self.work.failed(&format!("was silent for {} minutes", STALLED.as_secs() / 60)));
                }
            }
        }
    }

    /// Has it sum up because a budget is closed; ends it where it cannot be told.
    async fn close(&mut self, reason: String) -> Result<(), AgentError> {
        self.closing = Some((reason.clone(), Instant::now() + self.work.limits.farewell));
        self.has_told = true;
        if self.sum_up(&Limit::Budget { reason }).await? { self.hear_bell().await } else { self.give_up().await }
    }

    /// Tells the turn that runs to come to its end. Whether it was told.
    async fn sum_up(&mut self, limit: &Limit) -> Result<bool, AgentError> {
        let note = format!(
            "<budget_note>\n{}. Come to your end now: begin nothing new, call a tool only to check what you have, and sum up what \
             is done, what you checked, and plainly what is not done or not checked. At the limit you are ended without \
             another word. What you changed so far is kept.\n</budget_note>",
            limit.reached()
        );
        if !self.steer(&note).await? {
            return Ok(false);
        }
        let message = match limit {
            Limit::Budget { .. } => format!("the agent was asked to sum up: {limit}"),
            other => format!("{}; the agent was asked to sum up", other.reached()),
        };
        let hit = carrel_domain::EventBody::LimitHit { limit: limit.word().to_owned(), message };
        self.work.context.journal.record(vec![hit]).await?;
        Ok(true)
    }

    /// Ends it because it has not summed up.
    async fn give_up(&mut self) -> Result<(), AgentError> {
        let reason = self.closing.take().map(|(reason, _)| reason).unwrap_or_default();
        self.interrupt().await?;
        Err(AgentError::Limit(Limit::Budget { reason }))
    }

    /// Does what the bell rings for. What is said to one that sums up waits for whoever follows it.
    async fn hear_bell(&mut self) -> Result<(), AgentError> {
        if self.closing.is_some() {
            self.work.context.journal.messages().await?;
            return Ok(());
        }
        self.hear_people().await.map(|_| ())
    }

    /// Says something to the turn that runs. Whether it was heard.
    async fn steer(&mut self, words: &str) -> Result<bool, AgentError> {
        let Some(turn) = &self.turn else { return Ok(false) };
        let steer = json!({ "threadId": self.thread, "input": [text(words)], "expectedTurnId": turn });
        Ok(self.try_call("turn/steer", steer).await?.is_ok())
    }

    /// Says what people have said: to the turn that runs, or in another one. Whether there was anything.
    async fn hear_people(&mut self) -> Result<bool, AgentError> {
        let said = self.work.context.journal.messages().await?;
        for message in &said {
            if !self.steer(&message.text).await? {
                // A short turn may have ended before its beginning was answered.
                (self.end, self.turn) = (None, None);
                let input = json!([text(&message.text)]);
                let answer = self.call("turn/start", json!({ "threadId": self.thread, "input": input })).await?;
                if self.end.is_none() {
                    self.turn = Some(id_of(&answer["turn"])).filter(|id| !id.is_empty());
                }
            }
            super::record_said(self.work, message).await?;
        }
        Ok(!said.is_empty())
    }

    async fn interrupt(&mut self) -> Result<(), AgentError> {
        let Some(turn) = self.turn.clone() else { return Ok(()) };
        let asked = self.lines.ask("turn/interrupt", json!({ "threadId": self.thread, "turnId": turn })).await;
        // It is ended right after, whether it heard that or not.
        let _ = asked;
        let deadline = Instant::now() + INTERRUPTED;
        while self.end.is_none() {
            match timeout_at(deadline, self.lines.next()).await {
                Ok(Ok(heard)) => self.took(heard).await?,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        self.show.close().await
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
            Heard::Told { method, params } => self.told(&method, &params).await,
            Heard::Asked { id, method, .. } => {
                let answer = permission(&method).ok_or_else(|| (-32601, format!("`{method}` is not offered here")));
                self.lines.answer(id, answer).await
            }
            // To what nobody waits for any more.
            Heard::Answered { .. } => Ok(()),
        }
    }

    async fn told(&mut self, method: &str, params: &Value) -> Result<(), AgentError> {
        if params["threadId"].as_str().is_some_and(|thread| !self.thread.is_empty() && thread != self.thread) {
            return Ok(());
        }
        let words = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
        match method {
            "item/started" => self.began(&params["item"]).await,
            "item/completed" => self.completed(&params["item"]).await,
            "item/commandExecution/outputDelta" => self.show.printed(&words("itemId"), &words("delta")).await,
            "turn/started" => {
                self.turn = Some(id_of(&params["turn"])).filter(|id| !id.is_empty());
                Ok(())
            }
            "turn/plan/updated" => self.show.plan(params["explanation"].as_str(), steps(&params["plan"])).await,
            "turn/completed" => {
                self.turn = None;
                self.end = Some(params["turn"].clone());
                Ok(())
            }
            "error" if params["willRetry"] == true => {
                let why = params["error"]["message"].as_str().unwrap_or("its model did not answer");
                self.show.warn(&format!("the agent asks its model again: {why}")).await
            }
            // Newer ones say more than we know.
            _ => Ok(()),
        }
    }

    async fn began(&mut self, item: &Value) -> Result<(), AgentError> {
        if item["type"] == "commandExecution" {
            let (command, directory) = (item["command"].as_str(), item["cwd"].as_str());
            return self.show.started(&id_of(item), command.unwrap_or_default(), directory.unwrap_or_default()).await;
        }
        Ok(())
    }

    async fn completed(&mut self, item: &Value) -> Result<(), AgentError> {
        match item["type"].as_str().unwrap_or_default() {
            "commandExecution" => {
                self.began(item).await?;
                let end = item["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
                let end = end.map_or(CommandEnd::Interrupted, |code| CommandEnd::Exited { code });
                let duration = item["durationMs"].as_u64().map(Duration::from_millis);
                self.show.ended(&id_of(item), end, duration, item["aggregatedOutput"].as_str()).await
            }
            "fileChange" if item["status"] == "completed" => self.show.patched(self.changes(item)).await,
            "fileChange" => self.show.not_patched("the agent's patch could not be applied").await,
            "agentMessage" => self.show.message(item["text"].as_str().unwrap_or_default()).await,
            "reasoning" => {
                let parts = item["summary"].as_array().into_iter().flatten();
                let summary: Vec<&str> = parts.filter_map(Value::as_str).collect();
                self.show.reasoning(&summary.join("\n\n")).await
            }
            _ => Ok(()),
        }
    }

    fn changes(&self, item: &Value) -> Vec<FileChange> {
        let relative = |path: &str| {
            let inside = path.strip_prefix(&self.work.workspace).and_then(|rest| rest.strip_prefix('/'));
            inside.unwrap_or(path).to_owned()
        };
        let of = |change: &Value| {
            let path = relative(change["path"].as_str()?);
            let moved = change["kind"]["move_path"].as_str().map(relative);
            let kind = match change["kind"]["type"].as_str()? {
                "add" => ChangeKind::Added,
                "delete" => ChangeKind::Deleted,
                _ => ChangeKind::Modified,
            };
            let diff = change["diff"].as_str().unwrap_or_default();
            Some(match moved {
                Some(to) => show::change(to, Some(path), kind, diff),
                None => show::change(path, None, kind, diff),
            })
        };
        item["changes"].as_array().into_iter().flatten().filter_map(of).collect()
    }

    /// Whether a turn that is over has an answer.
    fn judge(&self, turn: &Value) -> Result<(), AgentError> {
        match turn["status"].as_str().unwrap_or_default() {
            "completed" if self.show.has_spoken() => Ok(()),
            "completed" => Err(self.work.failed("came to its end without an answer")),
            "interrupted" => Err(self.work.failed("broke off by itself")),
            _ => {
                let why = turn["error"]["message"].as_str().unwrap_or("it does not say why");
                Err(self.work.failed(&format!("failed: {why}")))
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What is answered to a question for permission: the sandbox is the boundary, so whatever it may do in there it may do.
fn permission(method: &str) -> Option<Value> {
    match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            Some(json!({ "decision": "acceptForSession" }))
        }
        "applyPatchApproval" | "execCommandApproval" => Some(json!({ "decision": "approved_for_session" })),
        _ => None,
    }
}

/// What it is configured with. The key is put in outside, and there is nothing to be fetched or told anywhere.
fn config(model: &str) -> String {
    format!(
        "model = {model}\nmodel_provider = \"carrel\"\napproval_policy = \"never\"\nsandbox_mode = \"danger-full-access\"\n\
         check_for_update_on_startup = false\nweb_search = \"disabled\"\n\n[model_providers.carrel]\nname = \"Carrel\"\nbase_url = \"{MODEL_URL}\"\n\
         wire_api = \"responses\"\nrequires_openai_auth = false\n\n[analytics]\nenabled = false\n\n[features]\nplugins = false\n",
        model = Value::from(model)
    )
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text, "text_elements": [] })
}

fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap_or_default().to_owned()
}

fn steps(plan: &Value) -> Vec<PlanStep> {
    let of = |step: &Value| {
        let status = match step["status"].as_str().unwrap_or_default() {
            "completed" => PlanStatus::Completed,
            "inProgress" | "in_progress" => PlanStatus::InProgress,
            _ => PlanStatus::Pending,
        };
        Some(PlanStep { step: step["step"].as_str()?.to_owned(), status })
    };
    plan.as_array().into_iter().flatten().take(200).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_with_an_odd_name_is_still_one_word_of_its_settings() {
        let settings = config("odd\" \n[x]");

        assert!(settings.starts_with("model = \"odd\\\" \\n[x]\"\n"), "{settings}");
    }

    #[test]
    fn only_questions_for_permission_are_granted() {
        assert_eq!(permission("execCommandApproval"), Some(json!({"decision": "approved_for_session"})));
        assert_eq!(permission("account/chatgptAuthTokens/refresh"), None);
    }

    #[test]
    fn a_plan_is_read_as_far_as_it_makes_sense() {
        let plan = json!([{"step": "a", "status": "inProgress"}, {"status": "x"}, 1, {"step": "b", "status": "new"}]);

        let steps = steps(&plan);

        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].status, steps[1].status), (PlanStatus::InProgress, PlanStatus::Pending));
    }
}

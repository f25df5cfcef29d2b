//! JSON-RPC in lines over the standard streams of a command in the sandbox. Bounded, whatever comes.

use std::collections::VecDeque;
use std::time::Duration;

use carrel_sandbox::{Command, CommandId, Output, Process, ProcessEvent, ProcessInput, SandboxError, Stdin};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Work, sandbox};
use crate::AgentError;

/// The longest line that is taken, in bytes.
const MAX_LINE_BYTES: usize = 16 << 20;

/// How long an agent may take to read what it is told.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// The most of its last words that a failure repeats.
const MAX_WORDS: usize = 2000;

/// An agent that is spoken to.
pub(super) struct Lines<'a> {
    work: &'a Work<'a>,
    process: Process,
    input: ProcessInput,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no end of a line.
    scanned: usize,
    ready: VecDeque<Heard>,
    next_id: i64,
}

/// What an agent says.
#[derive(Debug)]
pub(super) enum Heard {
    /// That something happened.
    Told { method: String, params: Value },
    /// That it wants an answer.
    Asked { id: Value, method: String, params: Value },
    /// An answer to what it was asked.
    Answered { id: i64, result: Result<Value, String> },
}

impl<'a> Lines<'a> {
    /// Starts the agent.
    pub(super) async fn start(work: &'a Work<'a>, variables: Vec<(String, String)>) -> Result<Self, AgentError> {
        // Never the id of an agent that an earlier worker has started.
        let id = CommandId::new(format!("agent-{}", jiff::Timestamp::now().as_nanosecond()));
        let mut command = Command::new(id, work.guest.command.iter().cloned())
            .directory(&work.workspace)
            .stdin(Stdin::Piped)
            .output(Output::Streamed);
        command.environment = variables;
        command.environment.extend(work.guest.environment.iter().cloned());
        let process = match work.context.sandbox.exec(command).await {
            Ok(process) => process,
            Err(error @ SandboxError::CannotStart { .. }) => {
                let reason =
                    format!("the agent `{}` cannot be started: {error}; see CARREL_AGENTS_FILE", work.guest.name);
                return Err(AgentError::Model { reason, retryable: false });
            }
            Err(source) => return Err(AgentError::Sandbox { action: "start the agent", source }),
        };
        let input = process.input();
        let (buffer, ready) = (Vec::new(), VecDeque::new());
        Ok(Self { work, process, input, buffer, scanned: 0, ready, next_id: 1 })
    }

    /// The next thing it says. Nothing is lost when the wait is cancelled.
    pub(super) async fn next(&mut self) -> Result<Heard, AgentError> {
        loop {
            if let Some(heard) = self.ready.pop_front() {
                return Ok(heard);
            }
            match self.process.next().await {
                Some(ProcessEvent::Output(bytes)) => self.push(&bytes)?,
                Some(ProcessEvent::Dropped(_)) => {}
                Some(ProcessEvent::Ended(finished)) => {
                    let words = finished.stderr.trim();
                    let from = words.ceil_char_boundary(words.len().saturating_sub(MAX_WORDS));
                    let said = if words.is_empty() { "without a word" } else { &words[from..] };
                    return Err(self.work.failed(&format!("ended by itself ({:?}): {said}", finished.status)));
                }
                None => {
                    return Err(AgentError::Sandbox { action: "keep its agent", source: SandboxError::Disconnected });
                }
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), AgentError> {
        self.buffer.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let line = &self.buffer[begin..self.scanned + at];
            // Some say things on their standard output that are no messages.
            if line.len() > 1 {
                self.ready.extend(serde_json::from_slice(line).ok().and_then(heard));
            }
            self.scanned += at + 1;
            begin = self.scanned;
        }
        self.buffer.drain(..begin);
        self.scanned = self.buffer.len();
        if self.buffer.len() > MAX_LINE_BYTES {
            return Err(self.work.failed(&format!("said more than {MAX_LINE_BYTES} bytes in one line")));
        }
        Ok(())
    }

    /// Asks something; the answer comes by [`Lines::next`] with this id.
    pub(super) async fn ask(&mut self, method: &str, params: Value) -> Result<i64, AgentError> {
        let id = self.next_id;
        self.next_id += 1;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await?;
        Ok(id)
    }

    /// Says something that wants no answer.
    pub(super) async fn tell(&mut self, method: &str, params: Value) -> Result<(), AgentError> {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params })).await
    }

    /// Answers what it asked; an error is its code and its words.
    pub(super) async fn answer(&mut self, id: Value, result: Result<Value, (i64, String)>) -> Result<(), AgentError> {
        let answer = match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err((code, message)) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
        };
        self.write(&answer).await
    }

    async fn write(&mut self, message: &Value) -> Result<(), AgentError> {
        let line = message.to_string() + "\n";
        match timeout(WRITE_PATIENCE, self.input.write(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            // Why it does not read is in its last words.
            Ok(Err(SandboxError::StdinClosed)) => Ok(()),
            Ok(Err(source)) => Err(sandbox("speak to its agent")(source)),
            Err(_) => Err(self.work.failed("does not read what it is told")),
        }
    }
}

fn heard(message: Value) -> Option<Heard> {
    let Value::Object(mut message) = message else { return None };
    let mut take = |name: &str| message.remove(name).unwrap_or_default();
    let (params, id, method) = (take("params"), take("id"), take("method"));
    match method.as_str() {
        Some(method) if id.is_null() => Some(Heard::Told { method: method.to_owned(), params }),
        Some(method) => Some(Heard::Asked { id, method: method.to_owned(), params }),
        None => {
            let id = id.as_i64()?;
            let result = match take("error") {
                Value::Null => Ok(take("result")),
                error => Err(error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned)),
            };
            Some(Heard::Answered { id, result })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_what_they_have() {
        let told = heard(json!({"method": "a", "params": {"x": 1}}));
        let asked = heard(json!({"method": "b", "id": "q-1"}));
        let answered = heard(json!({"id": 3, "result": {}}));
        let failed = heard(json!({"id": 4, "error": {"code": -1, "message": "no"}}));

        assert!(matches!(told, Some(Heard::Told { method, params }) if method == "a" && params["x"] == 1));
        assert!(matches!(asked, Some(Heard::Asked { id, .. }) if id == "q-1"));
        assert!(matches!(answered, Some(Heard::Answered { id: 3, result: Ok(_) })));
        assert!(matches!(failed, Some(Heard::Answered { id: 4, result: Err(why) }) if why == "no"));
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        for odd in [json!([]), json!(1), json!(null), json!({}), json!({"id": "x"}), json!({"id": null, "result": 1})] {
            assert!(heard(odd).is_none());
        }
    }
}

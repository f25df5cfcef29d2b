//! JSON-RPC in lines over the standard streams of a command in the sandbox. Bounded, whatever comes.

use std::collections::VecDeque;
use std::time::Duration;

use carrel_sandbox::{Command, CommandId, Output, Process, ProcessEvent, ProcessInput, SandboxError, Stdin};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Work, sandbox};
use crate::AgentError;

/// The longest line that is taken, in bytes.
const MAX_LINE_BYTES: usize = 4 << 20;

/// How long an agent may take to read what it is told.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// The most of its last words that a failure repeats.
const MAX_WORDS: usize = 2000;

/// An agent that is spoken to.
pub(super) struct Lines<'a> {
    work: &'a Work<'a>,
    process: Process,
    input: ProcessInput,
    buffer: Buffer,
    ready: VecDeque<Heard>,
    next_id: i64,
}

/// What has come of a line that is not whole.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How much of it is known to hold no end of a line.
    scanned: usize,
}

/// A line is longer than one may be.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

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
        Ok(Self { work, process, input, buffer: Buffer::default(), ready: VecDeque::new(), next_id: 1 })
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
        let pushed =
            self.buffer.push(bytes, |line| self.ready.extend(serde_json::from_slice(line).ok().and_then(heard)));
        pushed.map_err(|TooLong| {
            self.work.failed(&format!(
                "said more than {} MiB in one line; see that it sends large things in pieces, or by files",
                MAX_LINE_BYTES >> 20
            ))
        })
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

impl Buffer {
    /// Takes what comes, and hands out each line that is whole. What was looked at is not looked at again.
    fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) -> Result<(), TooLong> {
        self.bytes.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(at) = self.bytes[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let whole = &self.bytes[begin..self.scanned + at];
            if whole.len() > MAX_LINE_BYTES {
                return Err(TooLong);
            }
            // Some say things on their standard output that are no messages.
            if whole.len() > 1 {
                line(whole);
            }
            self.scanned += at + 1;
            begin = self.scanned;
        }
        self.bytes.drain(..begin);
        self.scanned = self.bytes.len();
        if self.bytes.len() > MAX_LINE_BYTES { Err(TooLong) } else { Ok(()) }
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

    /// The lines that come of these pieces.
    fn lines<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Vec<String>, TooLong> {
        let (mut buffer, mut lines) = (Buffer::default(), Vec::new());
        for piece in pieces {
            buffer.push(piece, |line| lines.push(String::from_utf8_lossy(line).into_owned()))?;
        }
        Ok(lines)
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let said = b"{\"a\":1}\n\n{\"b\":2}\n{\"c\":3}\nrest";

        for size in 1..=said.len() {
            assert_eq!(lines(said.chunks(size)), Ok(["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"].map(str::to_owned).into()));
        }
    }

    #[test]
    fn a_long_line_in_small_pieces_is_looked_at_once() {
        let (mut buffer, piece) = (Buffer::default(), [b'x'; 16]);
        let began = std::time::Instant::now();

        for _ in 0..MAX_LINE_BYTES / piece.len() {
            buffer.push(&piece, |_| panic!("there is no line yet")).expect("it is not too long yet");
            // 250,000 pieces of which each has all before it looked at again would take hours.
            assert!(began.elapsed() < Duration::from_secs(20), "{} bytes", buffer.bytes.len());
        }

        assert_eq!((buffer.bytes.len(), buffer.scanned), (MAX_LINE_BYTES, MAX_LINE_BYTES));
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_with_its_end_or_without() {
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        let ended = [long.as_slice(), b"\n"].concat();

        assert_eq!(lines([long.as_slice()]), Err(TooLong));
        assert_eq!(lines([ended.as_slice()]), Err(TooLong));
        assert_eq!(lines([&ended[1..]]).map(|lines| lines.len()), Ok(1));
    }
}

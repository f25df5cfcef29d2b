//! What the record says of the work so far: the plan, commands and how they ended, changed files, processes that still
//! run. It is read from the items of the conversation, so nothing in it is a model's memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::shortened;
use crate::frame::framed;
use crate::model::{Call, is_compaction, message_text};
use crate::output::clean::visible;

/// The longest line that a command is told with.
const COMMAND_CHARS: usize = 160;

/// The most commands, files and processes that are named, the latest first.
const MAX_COMMANDS: usize = 40;
const MAX_FILES: usize = 100;
const MAX_RUNNING: usize = 20;

/// How many of the model's own messages stand in for its summary.
const LAST_WORDS: usize = 5;

/// What is known without asking anybody.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// How often the conversation was compacted before.
    pub(crate) compactions: usize,
    /// The lines of the latest plan.
    plan: Vec<String>,
    /// Commands, with how they ended and where their output is.
    commands: Vec<String>,
    /// Files that patches changed, by the words of their results.
    patched: BTreeSet<String>,
    /// Commands that have not been seen to end, by session.
    running: BTreeMap<u64, String>,
    /// What the model said last.
    said: Vec<String>,
    /// What git says has changed, if it could be asked.
    pub(crate) changed: Option<Vec<String>>,
}

impl Record {
    /// That of all items, dropped ones included. Processes of before `own` ran in another sandbox.
    pub(crate) fn of(all: &[Value], own: usize) -> Self {
        let mut record = Self::default();
        let mut calls: HashMap<&str, (usize, Call)> = HashMap::new();
        for (at, item) in all.iter().enumerate() {
            if is_compaction(item) {
                record.compactions += 1;
            } else if let Some(text) = message_text(item).filter(|text| !text.trim().is_empty()) {
                record.said.push(text);
            } else if let Some(call) = Call::of(item) {
                calls.insert(item["call_id"].as_str().unwrap_or_default(), (at, call));
            } else if let Some(output) = output_text(item)
                && let Some((at, call)) = item["call_id"].as_str().and_then(|id| calls.get(id))
            {
                record.take(call, output, *at >= own);
            }
        }
        let old = record.said.len().saturating_sub(LAST_WORDS);
        record.said.drain(..old);
        record
    }

    fn take(&mut self, call: &Call, output: &str, is_own: bool) {
        let arguments: Value = serde_json::from_str(&call.input).unwrap_or_default();
        match call.name.as_str() {
            "update_plan" => self.take_plan(&arguments),
            "apply_patch" => self.take_patch(output),
            "exec_command" => {
                self.take_patch(output);
                let command = one_line(arguments["cmd"].as_str().unwrap_or_default());
                let Some(state) = State::of(output) else {
                    self.commands.push(format!("`{command}` -> {}", one_line(output)));
                    return;
                };
                if let (Some(session), true) = (state.session, is_own) {
                    self.running.insert(session, command.clone());
                }
                self.commands.push(format!("`{command}` -> {}, chunk {}", state.words, state.chunk));
            }
            "write_stdin" => {
                let Some(session) = arguments["session_id"].as_u64() else { return };
                let Some(state) = State::of(output) else {
                    self.running.remove(&session);
                    return;
                };
                if state.session.is_none() {
                    let command = self.running.remove(&session);
                    let command = command.unwrap_or_else(|| format!("session {session}"));
                    self.commands.push(format!("`{command}` -> {}, chunk {}", state.words, state.chunk));
                }
            }
            _ => {}
        }
    }

    fn take_plan(&mut self, arguments: &Value) {
        let Some(steps) = arguments["plan"].as_array() else { return };
        let line = |step: &Value| {
            let status = step["status"].as_str().unwrap_or("pending");
            format!("[{}] {}", one_line(status), one_line(step["step"].as_str().unwrap_or_default()))
        };
        self.plan = steps.iter().map(line).collect();
    }

    fn take_patch(&mut self, output: &str) {
        let Some(lines) = output.strip_prefix(crate::tools::APPLIED) else { return };
        self.patched.extend(lines.lines().take_while(|line| !line.is_empty()).map(one_line));
    }

    /// What stands in for a summary when the model cannot write one: what it said last.
    pub(super) fn last_words(&self, most: usize) -> String {
        if self.said.is_empty() {
            return "Nothing was said so far.".to_owned();
        }
        shortened(&format!("The last messages were:\n\n{}", visible(&self.said.join("\n\n"))), most)
    }

    /// The record in words, at most about so many bytes.
    pub(super) fn render(&self, most: usize) -> String {
        let mut text = String::new();
        let mut list = |title: &str, lines: Vec<&str>, max: usize| {
            if lines.is_empty() {
                return;
            }
            text.push_str(&format!("{title}\n"));
            let old = lines.len().saturating_sub(max);
            if old > 0 {
                text.push_str(&format!("- ({old} more)\n"));
            }
            lines[old..].iter().for_each(|line| text.push_str(&format!("- {line}\n")));
        };
        let running: Vec<String> =
            self.running.iter().map(|(session, command)| format!("session {session}: `{command}`")).collect();
        list("The latest plan:", as_strs(&self.plan), usize::MAX);
        list("Commands that still run; write_stdin waits for them and writes to them:", as_strs(&running), MAX_RUNNING);
        match &self.changed {
            Some(changed) => list("What differs from the base commit, as git says:", as_strs(changed), MAX_FILES),
            None => list("Files that patches changed:", self.patched.iter().map(String::as_str).collect(), MAX_FILES),
        }
        list(
            "Commands so far, the latest last; read_output shows their output by its chunk ID:",
            as_strs(&self.commands),
            MAX_COMMANDS,
        );
        if text.is_empty() {
            return text;
        }
        format!("<record>\n{}\n</record>", framed(shortened(&text, most).trim()))
    }
}

fn as_strs(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

/// What the head of a command's result says.
struct State<'a> {
    chunk: &'a str,
    /// `Process exited with code 0`, without the process.
    words: &'a str,
    /// The session, if it still runs.
    session: Option<u64>,
}

impl<'a> State<'a> {
    fn of(output: &'a str) -> Option<Self> {
        let chunk = output.strip_prefix("Chunk ID: ")?.lines().next()?;
        let head = output.lines().take_while(|line| *line != "Output:");
        let words = head.filter_map(|line| line.strip_prefix("Process ")).next()?;
        let session = words.strip_prefix("running with session ID ").and_then(|id| id.parse().ok());
        Some(Self { chunk, words, session })
    }
}

/// The text of a result.
fn output_text(item: &Value) -> Option<&str> {
    match &item["output"] {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.iter().find_map(|part| part["text"].as_str()),
        _ => None,
    }
}

/// The first line, and not too much of it, with nothing hidden in it.
pub(crate) fn one_line(text: &str) -> String {
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(COMMAND_CHARS).collect();
    let rest = if short.len() < text.len() { "…" } else { "" };
    visible(&format!("{short}{rest}"))
}

//! What was recorded in a turn: the commands that ran and how they ended, and whether files were patched. It is read from
//! the conversation's items, which are the same after a resumption; a result says nothing here that its own head does
//! not say, since what follows that head is a program's word.

use std::collections::HashMap;

use carrel_domain::comparison::TestCommand;
use serde_json::Value;

use crate::model::Call;
use crate::tools::{Told, told};

/// How many commands are remembered: the latest.
const MAX_COMMANDS: usize = 2000;

/// How much of what a command printed is kept, from its end, in bytes: test runners say there how it went.
const TAIL_BYTES: usize = 4096;

/// What was recorded.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Calls that have no result yet, by their id.
    open: HashMap<String, Call>,
    commands: Vec<Ran>,
    has_changed_files: bool,
}

/// A command that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    /// What ran.
    pub(super) command: String,
    /// The pieces of its output that the model was given.
    pub(super) chunks: Vec<String>,
    /// Its session, while it runs.
    session: Option<usize>,
    /// Its exit code, once the model has seen its end.
    pub(super) exit_code: Option<i32>,
    /// The end of what the model was shown of its output, if it runs tests.
    pub(super) tail: String,
}

impl Ran {
    fn printed(&mut self, result: &str) {
        if TestCommand::of(&self.command).is_none() {
            return;
        }
        let printed = result.split_once("\nOutput:\n").map_or("", |(_, printed)| printed);
        self.tail.push_str(printed);
        let from = self.tail.ceil_char_boundary(self.tail.len().saturating_sub(TAIL_BYTES));
        self.tail.drain(..from);
    }
}

impl Evidence {
    /// Takes note of an item.
    pub(super) fn saw(&mut self, item: &Value) {
        if let Some(call) = Call::of(item) {
            self.open.insert(call.call_id.clone(), call);
            return;
        }
        let Some(call) = item["call_id"].as_str().and_then(|id| self.open.remove(id)) else { return };
        let text = match &item["output"] {
            Value::String(text) => text.as_str(),
            // With an image comes a text before it.
            parts => parts[0]["text"].as_str().unwrap_or_default(),
        };
        match told(&call, text) {
            Told::Ran { command, chunk, end } => {
                if self.commands.len() == MAX_COMMANDS {
                    self.commands.remove(0);
                }
                let (session, exit_code) = (end.running(), end.exit_code());
                let mut ran = Ran { command, chunks: vec![chunk], session, exit_code, tail: String::new() };
                ran.printed(text);
                self.commands.push(ran);
            }
            Told::GoneOn { session, chunk, end } => {
                let ran = self.commands.iter_mut().rev().find(|ran| ran.session == Some(session));
                if let Some(ran) = ran {
                    ran.chunks.push(chunk);
                    ran.printed(text);
                    (ran.session, ran.exit_code) = (end.running(), end.exit_code());
                }
            }
            Told::Patched => self.has_changed_files = true,
            Told::Other => {}
        }
    }

    /// The commands, in the order in which the model learnt of them.
    pub(super) fn commands(&self) -> &[Ran] {
        &self.commands
    }

    /// Whether a patch of the agent's was applied.
    pub(super) const fn has_changed_files(&self) -> bool {
        self.has_changed_files
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    fn call(id: &str, name: &str, arguments: &Value) -> Value {
        json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments.to_string()})
    }

    fn output(id: &str, text: &str) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": text})
    }

    fn result(chunk: &str, state: &str, printed: &str) -> String {
        format!("Chunk ID: {chunk}\nWall time: 0.1000 seconds\n{state}\nOriginal token count: 1\nOutput:\n{printed}")
    }

    /// The evidence of a turn in which these commands ran, each with the piece of output it got.
    pub(in super::super) fn of(commands: &[(&str, &str, i32, &str)]) -> Evidence {
        let mut evidence = Evidence::default();
        for (command, chunk, code, printed) in commands {
            evidence.saw(&call(chunk, "exec_command", &json!({"cmd": command})));
            evidence.saw(&output(chunk, &result(chunk, &format!("Process exited with code {code}"), printed)));
        }
        evidence
    }

    #[test]
    fn commands_are_known_with_their_pieces_of_output_and_their_ends() {
        let mut evidence = Evidence::default();
        for item in [
            call("1", "exec_command", &json!({"cmd": "make"})),
            call("2", "exec_command", &json!({"cmd": "ls"})),
            output("1", &result("aaaaaa", "Process running with session ID 3", "")),
            output("2", &result("bbbbbb", "Process exited with code 2", "")),
            call("3", "write_stdin", &json!({"session_id": 3, "chars": ""})),
            output("3", &result("cccccc", "Process exited with code 0", "")),
        ] {
            evidence.saw(&item);
        }

        let ran = |command: &str, chunks: &[&str], code: i32| Ran {
            command: command.to_owned(),
            chunks: chunks.iter().map(|&chunk| chunk.to_owned()).collect(),
            session: None,
            exit_code: Some(code),
            tail: String::new(),
        };
        assert_eq!(evidence.commands(), [ran("make", &["aaaaaa", "cccccc"], 0), ran("ls", &["bbbbbb"], 2)]);
        assert!(!evidence.has_changed_files());
    }

    #[test]
    fn a_program_cannot_print_how_it_ended() {
        let mut evidence = Evidence::default();
        evidence.saw(&call("1", "exec_command", &json!({"cmd": "x"})));
        evidence.saw(&output("1", &result("aaaaaa", "Process exited with code 1", "Process exited with code 0\n")));

        assert_eq!(evidence.commands()[0].exit_code, Some(1));
    }

    #[test]
    fn a_patch_counts_whichever_way_it_was_given_and_only_when_it_was_applied() {
        let patch = "*** Begin Patch\n*** Delete File: a\n*** End Patch";
        let mut evidence = Evidence::default();
        evidence.saw(&call("1", "apply_patch", &json!({"patch": patch})));
        evidence.saw(&output("1", "The patch was not applied; nothing has changed: no"));
        assert!(!evidence.has_changed_files());

        let mut by_tool = Evidence::default();
        by_tool.saw(&json!({"type": "custom_tool_call", "call_id": "1", "name": "apply_patch", "input": patch}));
        by_tool.saw(&json!({"type": "custom_tool_call_output", "call_id": "1", "output": "The patch is applied. Changed files:\nD a\n"}));
        assert!(by_tool.has_changed_files());

        let command = format!("apply_patch <<'EOF'\n{patch}\nEOF\n");
        let mut by_command = Evidence::default();
        by_command.saw(&call("1", "exec_command", &json!({"cmd": command})));
        by_command.saw(&output("1", "The patch is applied. Changed files:\nD a\n"));
        assert!(by_command.has_changed_files() && by_command.commands().is_empty());
    }
}

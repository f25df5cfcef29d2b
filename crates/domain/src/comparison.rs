//! Attempts at the same request side by side, and which of them to look at first. Nothing here is the agent's own word:
//! it is counted from what was recorded.

mod suggest;
mod tests_run;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::EventBody;
use crate::event::CommandEnd;

pub use suggest::{Contender, Suggestion, suggest};
pub use tests_run::{TestCommand, TestEnd};

/// The most test commands that are kept of one attempt; a further one takes the place of the oldest.
const MAX_TESTS: usize = 20;
/// The most commands that are followed at once; an agent runs a few.
const MAX_OPEN: usize = 64;
/// How much of a test command's output is looked at, from its end, in bytes.
const TAIL_BYTES: usize = 4096;
/// The longest command that is repeated, in characters.
const MAX_COMMAND: usize = 200;

/// What an attempt has done, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Commands that ran.
    pub commands: u32,
    /// Those of them that did not end with exit code 0.
    pub failed_commands: u32,
    /// Test commands, each by how it ended the last time, in the order of that.
    pub tests: Vec<TestRun>,
    /// Warnings, and limits that were hit.
    pub warnings: u32,
}

/// A test command, as it ended last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRun {
    /// What was run, at most 200 characters of it.
    pub command: String,
    /// Whether its tests passed: by its exit code, or by what the runner says where something behind it on its line hides
    /// that.
    pub passed: bool,
    /// What the test runner says in the end, on one line, where that is known: untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

impl Tally {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all test commands ended well the last time; `None` when there was none.
    #[must_use]
    pub fn passes(&self) -> Option<bool> {
        (!self.tests.is_empty()).then(|| self.tests.iter().all(|test| test.passed))
    }
}

/// Counts while events come, in their order.
#[derive(Debug, Default)]
pub struct Counter {
    tally: Tally,
    /// The commands that have begun, by their names; for those that run tests, what they are and printed last.
    open: BTreeMap<String, Option<Open>>,
}

#[derive(Debug)]
struct Open {
    command: String,
    is_told_by_exit_code: bool,
    tail: String,
}

impl Counter {
    /// The kinds of events that say something of an attempt's work: the others need not be read.
    pub const KINDS: [&str; 5] = ["command.started", "command.output", "command.ended", "attempt.warning", "limit.hit"];

    /// Takes the next event of the attempt. Those that say nothing of its work are passed over.
    pub fn saw(&mut self, body: &EventBody) {
        match body {
            EventBody::CommandStarted { command_id, command, .. } if self.open.len() < MAX_OPEN => {
                // What else the command line did is no part of which test it is: a test that is seen failing after a
                // look at a file, and passing by itself, is one.
                let open = |TestCommand { part, is_told_by_exit_code }| Open {
                    command: shortened(part),
                    is_told_by_exit_code,
                    tail: String::new(),
                };
                self.open.insert(command_id.clone(), TestCommand::of(command).map(open));
            }
            EventBody::CommandOutput { command_id, text } => {
                if let Some(Some(open)) = self.open.get_mut(command_id) {
                    open.tail.push_str(text);
                    let from = open.tail.floor_char_boundary(open.tail.len().saturating_sub(TAIL_BYTES));
                    open.tail.drain(..from);
                }
            }
            EventBody::CommandEnded { command_id, end, .. } => {
                if let Some(open) = self.open.remove(command_id) {
                    let exit_code = if let CommandEnd::Exited { code } = end { Some(*code) } else { None };
                    self.ended(open, exit_code);
                }
            }
            EventBody::Warning { .. } | EventBody::LimitHit { .. } => {
                self.tally.warnings = self.tally.warnings.saturating_add(1);
            }
            _ => {}
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn finish(self) -> Tally {
        self.tally
    }

    fn ended(&mut self, open: Option<Open>, exit_code: Option<i32>) {
        self.tally.commands = self.tally.commands.saturating_add(1);
        self.tally.failed_commands = self.tally.failed_commands.saturating_add(u32::from(exit_code != Some(0)));
        let Some(Open { command, is_told_by_exit_code, tail }) = open else { return };
        let passed = match tests_run::ended(is_told_by_exit_code, exit_code, &tail) {
            TestEnd::Passed => true,
            TestEnd::Failed => false,
            // That says nothing of the change.
            TestEnd::NoneRan | TestEnd::Hidden => return,
        };
        let tests = &mut self.tally.tests;
        tests.retain(|test| test.command != command);
        if tests.len() == MAX_TESTS {
            tests.remove(0);
        }
        tests.push(TestRun { command, passed, summary: tests_run::summary(&tail) });
    }
}

fn shortened(command: &str) -> String {
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_COMMAND) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(id: &str, command: &str, printed: &str, code: i32) -> Vec<EventBody> {
        let (command_id, directory) = (id.to_owned(), "/workspace/r".to_owned());
        vec![
            EventBody::CommandStarted { command_id: command_id.clone(), command: command.to_owned(), directory },
            EventBody::CommandOutput { command_id: command_id.clone(), text: printed.to_owned() },
            EventBody::CommandEnded {
                command_id,
                end: CommandEnd::Exited { code },
                duration_ms: 1,
                output_bytes: 1,
                dropped_bytes: 0,
            },
        ]
    }

    fn counted(bodies: &[Vec<EventBody>]) -> Tally {
        let mut counter = Counter::default();
        bodies.iter().flatten().for_each(|body| counter.saw(body));
        counter.finish()
    }

    #[test]
    fn commands_and_tests_are_counted_and_a_test_counts_as_it_ended_last() {
        let tally = counted(&[
            ran("1", "ls", "a\n", 0),
            ran("2", "cargo test", "test result: FAILED. 1 passed; 1 failed; 0 ignored\n", 101),
            ran("3", "cargo  test", "test result: ok. 2 passed; 0 failed; 0 ignored\n", 0),
            ran("4", "cat nothing", "no\n", 1),
        ]);

        assert_eq!((tally.commands, tally.failed_commands, tally.passes()), (4, 2, Some(true)));
        let summary = Some("test result: ok. 2 passed; 0 failed; 0 ignored".to_owned());
        assert_eq!(tally.tests, [TestRun { command: "cargo test".to_owned(), passed: true, summary }]);
    }

    #[test]
    fn a_test_is_the_same_whatever_is_done_on_the_same_line() {
        let tally = counted(&[
            ran("1", "nl -ba calc.py; pytest -q", "1 failed in 0.1s\n", 1),
            ran("2", "cd src && pytest -q", "1 passed in 0.1s\n", 0),
        ]);

        assert_eq!((tally.tests.len(), tally.passes()), (1, Some(true)));
        assert_eq!(tally.tests[0].command, "pytest -q");
    }

    #[test]
    fn every_kind_that_is_counted_is_among_those_that_are_read() {
        let (warning, limit) = (String::new(), String::new());
        let mut bodies = ran("1", "ls", "", 0);
        bodies.push(EventBody::Warning { message: warning });
        bodies.push(EventBody::LimitHit { limit, message: String::new() });

        let kinds: Vec<&str> = bodies.iter().map(EventBody::kind).collect();

        assert_eq!(kinds, Counter::KINDS);
    }

    #[test]
    fn commands_side_by_side_are_told_apart() {
        let (one, two) = (ran("1", "pytest a", "1 passed in 0.1s\n", 0), ran("2", "pytest b", "1 failed in 0.1s\n", 1));
        let woven: Vec<EventBody> = one.into_iter().zip(two).flat_map(|(one, two)| [one, two]).collect();

        let tally = counted(&[woven]);

        assert_eq!(tally.tests.iter().map(|test| test.passed).collect::<Vec<_>>(), [true, false]);
        assert_eq!(tally.passes(), Some(false));
    }

    #[test]
    fn what_never_ends_and_what_never_stops_takes_no_more_than_its_room() {
        let mut counter = Counter::default();
        for number in 0..1000 {
            let command = format!("pytest {number}{}", "x".repeat(1000));
            for body in &ran(&number.to_string(), &command, &"ä".repeat(10_000), 0)[..2] {
                counter.saw(body);
            }
        }
        let is_bounded = |open: &Option<Open>| open.as_ref().is_some_and(|open| open.tail.len() <= TAIL_BYTES + 4);
        assert!(counter.open.len() == MAX_OPEN && counter.open.values().all(is_bounded));

        let many: Vec<_> = (0..100).map(|number| ran("x", &format!("pytest {number}"), "", 0)).collect();
        assert_eq!(counted(&many).tests.len(), MAX_TESTS);
    }

    #[test]
    fn warnings_and_limits_are_counted() {
        let warning = EventBody::Warning { message: "w".to_owned() };
        let limit = EventBody::LimitHit { limit: "disk".to_owned(), message: "m".to_owned() };

        assert_eq!(counted(&[vec![warning, limit]]).warnings, 2);
    }

    #[test]
    fn a_tally_is_stored_as_it_is_and_one_of_before_is_empty() {
        let tally = counted(&[ran("1", "npm test", "Tests: 1 passed, 1 total", 0)]);

        let stored = serde_json::to_value(&tally).expect("plain data");

        assert_eq!(serde_json::from_value::<Tally>(stored).expect("what was stored"), tally);
        assert!(serde_json::from_str::<Tally>("{}").expect("readable").is_empty());
    }
}

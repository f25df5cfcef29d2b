//! `carrel task compare`: the attempts of a turn side by side, by what they changed and did.

use carrel_wire::{Attempt, Task, Turn};
use serde_json::json;
use uuid::Uuid;

use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// Shows the attempts of this turn, the last one unless it is named.
pub(crate) async fn compare(client: &Client, id: Uuid, turn: Option<u32>, json: bool) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let found = match turn {
        Some(number) => task.turns.iter().find(|one| one.number == number),
        None => task.turns.last(),
    };
    let none = || Failure::usage(format!("the task has turns 1 to {}", task.turns.len()));
    let turn = found.ok_or_else(none)?;
    if json {
        return output::document(&json!({ "comparison": turn.comparison, "attempts": turn.attempts }));
    }
    output::line(table(turn).trim_end())
}

fn table(turn: &Turn) -> String {
    let mut text = format!(
        "{:<8} {:<10} {:<16} {:<9} {:<18} {:>9} {:>8}\n",
        "ATTEMPT", "STATE", "CHANGES", "COMMANDS", "TESTS", "TOKENS", "TIME"
    );
    for attempt in &turn.attempts {
        text.push_str(&row(attempt));
    }
    for attempt in &turn.attempts {
        for test in attempt.result.iter().flat_map(|result| &result.work.tests) {
            let verdict = if test.passed { "passed" } else { "failed" };
            let said = test.summary.as_ref().map_or_else(String::new, |summary| format!(": {summary}"));
            let line = format!("{}: {verdict}  {}{said}", attempt.number, test.command);
            text.push_str(&format!("{}\n", output::safe(&line)));
        }
    }
    text.push_str(&verdict(turn));
    text
}

fn row(attempt: &Attempt) -> String {
    let result = attempt.result.as_ref();
    let patch = result.and_then(|result| result.patch.as_ref());
    let changes = patch.map_or_else(
        || "-".to_owned(),
        |patch| format!("+{} -{} in {}", patch.additions, patch.deletions, patch.files.len()),
    );
    let commands = result.map_or_else(|| "-".to_owned(), |result| result.work.commands.to_string());
    let tests = result.map_or_else(
        || "-".to_owned(),
        |result| {
            let all = result.work.tests.len();
            let passed = result.work.tests.iter().filter(|test| test.passed).count();
            if all == 0 { "none".to_owned() } else { format!("{passed} of {all} passed") }
        },
    );
    let tokens = attempt.usage.input_tokens.saturating_add(attempt.usage.output_tokens);
    let time = attempt
        .started_at
        .zip(attempt.ended_at)
        .map_or_else(|| "-".to_owned(), |(from, to)| format!("{} s", to.duration_since(from).as_secs()));
    let state = output::attempt_word(attempt.state);
    format!("{:<8} {state:<10} {changes:<16} {commands:<9} {tests:<18} {tokens:>9} {time:>8}\n", attempt.number)
}

fn verdict(turn: &Turn) -> String {
    let Some(comparison) = &turn.comparison else {
        return "\nthey are compared once there are several and all have ended\n".to_owned();
    };
    let suggested = comparison.suggested_attempt_id;
    match turn.attempts.iter().find(|attempt| Some(attempt.id) == suggested) {
        Some(attempt) => format!("\nlook at attempt {} first: {}\n", attempt.number, comparison.reason),
        None => format!("\n{}\n", comparison.reason),
    }
}

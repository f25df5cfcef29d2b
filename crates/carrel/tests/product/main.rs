//! The product as its users meet it: the real program as a process, the real command line, real git, a scripted model.

mod access;
mod advice;
mod artifacts;
mod attachments;
mod bad_input;
mod browser;
mod bucket;
mod budgets;
mod canary;
mod command_line;
mod compacting;
mod comparison;
mod doctor;
mod elsewhere;
mod environment_words;
mod environments;
mod facts;
mod guests;
mod hostile_texts;
mod images;
mod limits;
mod lists;
mod local_changes;
mod lost_keys;
mod main_job;
mod model_trouble;
mod models;
mod moving;
mod network;
mod observability;
mod packs;
mod postgres;
mod prompt_diffs;
mod publishing;
mod recovery;
mod repository_settings;
mod resources;
mod retries;
mod roles;
mod setup;
mod snapshot_reasons;
mod snapshots;
mod steering;
mod stopping;
mod terminal;
mod traces;
mod turns;
mod workers;

use carrel_testkit::model::{Reply, Script, Step};
use carrel_testkit::{Ran, Repository, World};
use serde_json::{Value, json};

/// The program under test.
pub(crate) const CARREL: &str = env!("CARGO_BIN_EXE_carrel");

/// A repository with a failing check, and the patch that mends it.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("check.sh", "#!/bin/sh\n[ \"$(cat answer)\" = 42 ] || { echo 'the answer is wrong'; exit 1; }\necho fine\n"),
    ("answer", "41\n"),
    ("docs/note.txt", "one\ntwo\nthree\n"),
];

pub(crate) const MENDING: &str = "*** Begin Patch\n*** Update File: answer\n@@\n-41\n+42\n*** End Patch\n";

pub(crate) fn patch(text: &str) -> Reply {
    Reply::custom("apply_patch", text)
}

/// A model that sees the check fail, mends it, sees it pass, and says so.
pub(crate) fn mends() -> Script {
    Script::new([
        Reply::command("./check.sh"),
        patch(MENDING),
        Reply::command("./check.sh"),
        Reply::message("The answer was off by one. `./check.sh` passes."),
    ])
}

pub(crate) fn says(steps: impl IntoIterator<Item = impl Into<Step>>) -> Script {
    Script::new(steps)
}

/// The last turn's first attempt.
pub(crate) fn attempt(task: &Value) -> &Value {
    let turns = task["turns"].as_array().expect("a task has turns");
    &turns.last().expect("at least one")["attempts"][0]
}

/// Why the last turn's first attempt failed.
pub(crate) fn reason(task: &Value) -> String {
    let attempt = attempt(task);
    assert_eq!(attempt["state"], "failed", "{attempt:#}");
    attempt["failure"]["reason"].as_str().expect("a failure has a reason").to_owned()
}

/// A refusal, said on standard error, with nothing stored.
pub(crate) async fn assert_refused(world: &World, ran: &Ran, says: &str) {
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains(says), "{ran:?} does not say {says:?}");
    let list = world.json(&["task", "list"]).await;
    assert_eq!(list["items"], json!([]), "nothing is stored of what was refused");
}

/// Events of one type.
pub(crate) fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

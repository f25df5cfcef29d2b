//! What the model says in a case: it sees the test fail, looks at the place, patches it, sees the test pass, and
//! answers with citations.

use std::path::Path;

use anyhow::{Context, Result};
use carrel_testkit::model::{Reply, Script};
use serde_json::json;

use super::case::Case;
use super::{patch, tree};

/// The longest that a call waits for its command.
const YIELD_MS: u32 = 30_000;

/// What tells one case's requests from those of the others.
pub(super) fn tag(case: &Case) -> String {
    format!("[replay of {}]", case.name)
}

/// What the person asks.
pub(super) fn prompt(case: &Case) -> String {
    format!("The test `{}` of {} fails. {} Fix it. {}", case.test.name, case.project, case.fix, tag(case))
}

/// The names that pieces of output get in a conversation like these: the first run of the test, and the second.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    pub(super) before: String,
    pub(super) after: String,
}

/// Adds the case's conversation. `folder` has the bug.
pub(super) fn add(script: Script, case: &Case, folder: &Path, chunks: &Chunks) -> Result<Script> {
    let file = case.changed_files().into_iter().next().context("a fix changes a file")?;
    let change = case.changes.iter().find(|change| change.file == file).context("that was its name")?;
    let fixed = tree::fixed_text(case, file, folder)?;
    let begins = tree::place_of(file, &fixed, &change.fixed)?;
    let first = fixed[..begins].lines().count() + 1;
    let last = first + change.fixed.lines().count() - 1;
    let look = format!("sed -n '{},{}p' '{}'", first.saturating_sub(5).max(1), last + 5, case.before(file));
    let answer = format!(
        "**Summary**\n\n- {} 【F:{file}†L{first}-L{last}】\n\n**Testing**\n\n- ✅ `{}` passes 【{}†L1-L1】, and failed before \
         【{}†L1-L1】\n",
        case.fix, case.test.command, chunks.after, chunks.before
    );
    Ok(script.when(tag(case), steps(&case.test.command, &look, patch::write(case, folder)?, answer)))
}

/// A conversation of the same shape about nothing, in which the names of pieces can be read.
pub(super) fn rehearsal() -> Script {
    let patch = "*** Begin Patch\n*** Add File: new.txt\n+new\n*** End Patch\n";
    Script::new(steps("echo before", "echo look", patch.to_owned(), "Done.".to_owned()))
}

fn steps(test: &str, look: &str, patch: String, answer: String) -> [Reply; 5] {
    let command = |line: &str| Reply::call("exec_command", json!({ "cmd": line, "yield_time_ms": YIELD_MS }));
    [command(test), command(look), Reply::custom("apply_patch", patch), command(test), Reply::message(answer)]
}

//! A case through the whole product: a repository, a task, a sandbox, the patch out of it, and a clean clone.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use carrel_testkit::model::Exchange;
use carrel_testkit::{Repository, World};
use serde_json::Value;

use super::case::{Case, Language};
use super::host::{Place, judge};
use super::program::{PATH, run};
use super::script;
use super::tree;
use super::verdict::Verdict;

/// How long a task may take, its setup included.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often it is asked how far it is.
const POLL: Duration = Duration::from_millis(50);

/// What a case took.
#[derive(Debug)]
pub(super) struct Played {
    /// From the request to the collected patch.
    pub(super) task: Duration,
    /// Of that, what the agent's commands took.
    pub(super) commands: Duration,
    /// From the end of each answer of the model to its next request, less the command in between.
    pub(super) turns: Vec<Duration>,
}

/// The environment a case needs: its name, and the arguments that make it.
pub(super) fn environment(case: &Case, place: &Place, setups: &[&str], folder: &Path) -> Result<(String, Vec<String>)> {
    let mut arguments: Vec<String> = Vec::new();
    let mut name = "plain".to_owned();
    if let Some(rust) = place.rust.as_ref().filter(|_| case.language == Language::Rust) {
        name = "rust".to_owned();
        arguments.push("--variable".to_owned());
        arguments.push(format!("PATH={}:{PATH}", rust.display()));
    }
    match case.test.setup.as_deref() {
        Some(setup) => {
            let number = setups.iter().position(|known| *known == setup).context("every setup is known")?;
            name = format!("{name}-setup-{number}");
            let file = folder.join(format!("{name}.sh"));
            fs::write(&file, format!("set -euo pipefail\n{setup}\n"))?;
            arguments.extend(["--setup-internet", "packages", "--setup-script"].map(str::to_owned));
            arguments.push(file.to_string_lossy().into_owned());
        }
        None => arguments.push("--no-setup".to_owned()),
    }
    Ok((name, arguments))
}

/// Makes the repository of a case.
pub(super) fn repository(case: &Case, place: &Place, folder: &Path) -> Result<Repository> {
    tree::lay_out(case, &place.archives, folder)?;
    let repository = Repository::empty(folder);
    // Whatever a project ignores, its archive has for a reason.
    repository.git(&["add", "--all", "--force"]);
    repository.commit("As it was before the fix", &[]);
    Ok(repository)
}

/// Has the product do it, and looks at everything that it did.
pub(super) async fn play(
    world: &World,
    case: &Case,
    repository: &Repository,
    environment: &str,
) -> Result<(Played, String)> {
    let began = Instant::now();
    let id = world.create_with(repository, &["--environment", environment, &script::prompt(case)]).await;
    let events = ended(world, &id).await?;
    let task = began.elapsed();
    let tag = script::tag(case);
    let belongs = |exchange: &Exchange| exchange.input().iter().any(|item| item.to_string().contains(&tag));
    let exchanges: Vec<Exchange> = world.model().requests().into_iter().filter(belongs).collect();
    let commands = look_at(case, &events, &exchanges)?;
    let patch = world.carrel(&["task", "diff", &id]).await;
    ensure!(patch.code == 0 && !patch.stdout.is_empty(), "no patch: {}", patch.stderr);
    // The patch has no command of its own: the third of the four turns.
    let between = [commands[0], commands[1], Duration::ZERO, commands[2]];
    let turns = exchanges.windows(2).zip(between).map(|(pair, command)| {
        let answered = pair[0].answered_at.context("an answer was cut off")?;
        Ok(pair[1].received_at.saturating_duration_since(answered).saturating_sub(command))
    });
    let played = Played { task, commands: commands.iter().sum(), turns: turns.collect::<Result<_>>()? };
    Ok((played, patch.stdout))
}

/// Applies a patch to a clean clone, where the test fails before and passes after.
pub(super) fn verify(case: &Case, place: &Place, repository: &Repository, patch: &str, folder: &Path) -> Result<()> {
    let clone = folder.join("clone");
    let from = repository.path().to_string_lossy().into_owned();
    run("git", &["clone", "--quiet", "--no-hardlinks", &from, &clone.to_string_lossy()], folder)?;
    let wanted = tree::fixed(case, repository.path())?;
    place.set_up(case, &clone)?;
    place.test(case, &clone, Verdict::Failed).context("in a clean clone")?;
    let file = folder.join("patch");
    fs::write(&file, patch)?;
    run("git", &["apply", "--whitespace=nowarn", &file.to_string_lossy()], &clone).context("in a clean clone")?;
    for (file, text) in wanted {
        let found = fs::read(clone.join(&file)).ok();
        ensure!(found == text.map(String::into_bytes), "the patch makes something else of {file}");
    }
    place.test(case, &clone, Verdict::Passed).context("in a clean clone with the patch")
}

async fn ended(world: &World, id: &str) -> Result<Vec<Value>> {
    let ended = async {
        loop {
            let events = world.events(id).await;
            let is = |name: &str| {
                events.iter().any(|event| event["type"] == "attempt.state" && event["data"]["state"] == name)
            };
            if is("ready") {
                return Ok(events);
            }
            if is("failed") || is("cancelled") {
                let told = events.iter().rev().take(4).map(|event| event["data"].to_string());
                bail!("the attempt failed: {}", told.collect::<Vec<_>>().join("; "));
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.context("the task did not end")?
}

/// Whether the log and the conversation say what they must; gives how long each command took.
fn look_at(case: &Case, events: &[Value], exchanges: &[Exchange]) -> Result<Vec<Duration>> {
    let of = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind).map(|event| &event["data"]);
    for kind in ["tool.refused", "patch.refused", "model.retrying", "limit.hit"] {
        ensure!(of(kind).next().is_none(), "`{kind}` happened: {:?}", of(kind).next());
    }
    ensure!(exchanges.len() == 5, "{} requests were made, not 5", exchanges.len());
    // What setup ran is in the log as well.
    let by_agent = |data: &&Value| !data["command_id"].as_str().is_some_and(|id| id.starts_with("setup"));
    let ends: Vec<&Value> = of("command.ended").filter(by_agent).collect();
    ensure!(ends.len() == 3, "{} commands ended, not 3", ends.len());
    let last = exchanges.last().context("there are five")?;
    let output = |number| last.output(number).context("a call has no output");
    let code = |end: &Value| end["end"]["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
    let (before, after) = (output(0)?, output(3)?);
    judge(case, code(ends[0]), &before, Verdict::Failed).context("in the sandbox, before the patch")?;
    judge(case, code(ends[2]), &after, Verdict::Passed).context("in the sandbox, after the patch")?;
    ensure!(of("patch.applied").count() == 1, "the patch was not applied once: {}", output(2)?);
    let answer =
        of("agent.message").next_back().and_then(|data| data["text"].as_str()).context("there is no answer")?;
    for output in [&before, &after] {
        let chunk = output.strip_prefix("Chunk ID: ").and_then(|rest| rest.lines().next()).context("no chunk ID")?;
        ensure!(answer.contains(&format!("【{chunk}†")), "the answer does not cite {chunk}");
    }
    let checked = of("citations.checked").next_back().context("the citations were not checked")?;
    let hold = checked["holding"] == 3 && checked["failing"].as_array().is_some_and(Vec::is_empty);
    ensure!(hold, "not all three citations hold: {checked}");
    let took = |end: &&Value| Duration::from_millis(end["duration_ms"].as_u64().unwrap_or_default());
    Ok(ends.iter().map(took).collect())
}

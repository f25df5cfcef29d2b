//! The second task of a person and those after it, as `carrel serve` prepares and collects them: what its own log says of
//! each step, with a model that answers at once. Everything in it is the product; nothing of it is played here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Repository, World};
use jiff::Timestamp;
use serde_json::Value;

/// How long the first task may take: it clones, checks out and keeps the files.
const FIRST: Duration = Duration::from_secs(20 * 60);
/// How often it is asked how far that is.
const POLL: Duration = Duration::from_millis(200);

/// What the agent does: ten files are changed, whatever the repository.
const CHANGE: &str = "for i in 0 1 2 3 4 5 6 7 8 9; do mkdir -p d$i; echo changed > d$i/f$i; done";

/// The steps of each task, one time a round.
#[derive(Default)]
pub(crate) struct Steps {
    /// From the request to a repository that is fetched, its commit known.
    pub(crate) fetched: Vec<Duration>,
    /// From there until it is settled what the sandbox is made of.
    pub(crate) settled: Vec<Duration>,
    /// From there until the sandbox stands on the kept files.
    pub(crate) launched: Vec<Duration>,
    /// From there until the agent begins.
    pub(crate) checked_out: Vec<Duration>,
    /// All of these.
    pub(crate) prepared: Vec<Duration>,
    /// From the agent's end until its patch is kept.
    pub(crate) collected: Vec<Duration>,
}

/// Has one task prepare the environment, and so many find it prepared.
pub(crate) async fn measure(path: &Path, rounds: u32) -> Result<Steps> {
    let program = program()?;
    let script = Script::new([Reply::command(CHANGE), Reply::message("Done.")]);
    let world = World::new(&program.to_string_lossy(), script).await;
    let repository = Repository::at(path);
    let first = world.create(&repository, "Change ten files").await;
    until_ready(&world, &first).await?;
    let mut steps = Steps::default();
    for _ in 0..rounds {
        let id = world.create(&repository, "Change ten files").await;
        until_ready(&world, &id).await?;
        steps.add(&world.events(&id).await)?;
    }
    Ok(steps)
}

impl Steps {
    fn add(&mut self, events: &[Value]) -> Result<()> {
        let at = |kind: &str, text: &str| {
            let event = events.iter().find(|event| event["type"] == kind && said(event).starts_with(text));
            let event = event.with_context(|| format!("no event `{kind} {text}`"))?;
            let at: Timestamp = event["at"].as_str().context("an event has no time")?.parse()?;
            Ok::<_, anyhow::Error>(at)
        };
        let since = |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
        let asked = at("turn.created", "")?;
        let fetched = at("attempt.progress", "fetched")?;
        let settled = at("snapshot.looked_up", "reusing")?;
        let launched = at("attempt.progress", "launched")?;
        let begun = at("attempt.state", "running")?;
        self.fetched.push(since(asked, fetched));
        self.settled.push(since(fetched, settled));
        self.launched.push(since(settled, launched));
        self.checked_out.push(since(launched, begun));
        self.prepared.push(since(asked, begun));
        self.collected.push(since(at("attempt.state", "collecting")?, at("patch.collected", "")?));
        Ok(())
    }
}

/// What an event says: the state it leads to, or its message.
fn said(event: &Value) -> &str {
    let data = &event["data"];
    ["state", "message", "reason"].iter().find_map(|name| data[name].as_str()).unwrap_or_default()
}

async fn until_ready(world: &World, id: &str) -> Result<()> {
    let ready = async {
        loop {
            let events = world.events(id).await;
            let state = |name: &str| events.iter().any(|event| event["type"] == "attempt.state" && said(event) == name);
            if state("ready") {
                return Ok(());
            }
            if state("failed") {
                bail!("a task failed; the last that was told: {:#}", events.last().unwrap_or(&Value::Null));
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(FIRST, ready).await.context("a task did not end")?
}

/// The service beside this program.
pub(crate) fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("carrel");
    if !program.is_file() {
        bail!("there is no `carrel` beside this program; build it with `cargo build --profile up -p carrel`");
    }
    Ok(program)
}

//! The plug is pulled again and again, on whatever there is: a real service on SQLite, or three workers on a real
//! PostgreSQL, under load, while processes are killed or stopped, the database crashes or cuts its connections, and, in a
//! long run, the disk is full and the clock jumps. People go on meanwhile: they delegate, stop tasks, and go on with them.
//!
//! At the end every task has ended, each command ran exactly once (a file in the sandbox counts them, and is in the patch),
//! each patch is that of an undisturbed run, each publication exists once, no log has a gap, and nothing is left over.

mod blows;
mod check;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, Repository, World};
use serde_json::Value;

use self::blows::{Chance, Clocks, SmallDisk};
use super::figures::Used;
use super::warm;

/// Tasks that are under way at the same time.
const LOAD: usize = 6;
/// How long all of it may take to come to rest once nobody disturbs it.
const REST: Duration = Duration::from_secs(300);
/// How often it is looked whether it has.
const POLL: Duration = Duration::from_millis(200);
/// The longest time between two blows, in milliseconds.
const BREATH_MS: u64 = 900;
/// From here on it is a long run, with blows that take their time.
const LONG_RUN: Duration = Duration::from_secs(120);
/// One of so many tasks is stopped by its person, and as many are gone on with.
const ONE_OF: u64 = 8;
const GONE_SECONDS: &str = "10";
/// What values of secrets are sealed under, the same for all workers.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

const FILES: &[(&str, &str)] =
    &[("answer", "41\n"), ("check.sh", "#!/bin/sh\n[ \"$(cat answer)\" = 42 ] && echo fine || exit 1\n")];
const PATCH: &str = "*** Begin Patch\n*** Update File: answer\n@@\n-41\n+42\n*** End Patch\n";
/// What a task is gone on with.
const MORE: &str = "Go on with the torture";

/// Tortures one service on SQLite, and three workers on PostgreSQL, for half of so many seconds each; the second also when the
/// first has come to harm.
#[expect(clippy::print_stdout, reason = "the report is what this command is for")]
pub(crate) fn run(seconds: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let each = Duration::from_secs(u64::from(seconds)) / 2;
    let mut harmed = Vec::new();
    for (name, workers, on_postgres) in [("one service on SQLite", 1, false), ("three workers on PostgreSQL", 3, true)]
    {
        let report = runtime.block_on(async {
            let mut place = Place::new(workers, on_postgres, each >= LONG_RUN).await?;
            let outcome = place.torture(each).await;
            outcome.with_context(|| format!("after {}", place.blows_in_words()))
        });
        match report {
            Ok(report) => println!("{name}\n{report}"),
            Err(error) => {
                println!("{name}\n{error:?}\n");
                harmed.push(name);
            }
        }
    }
    ensure!(harmed.is_empty(), "what must hold did not for {}", harmed.join(" and "));
    Ok(())
}

/// A task, and what its person does with it.
#[derive(Clone)]
struct Delegated {
    number: usize,
    id: String,
    /// It was stopped, or is to be.
    stopped: bool,
    /// It is gone on with once it has a result.
    goes_on: bool,
    /// So many turns it has.
    turns: usize,
}

/// Patches of a task that nothing happens to: after its first turn, and after its second.
struct Undisturbed {
    first: String,
    second: String,
}

/// Who is tortured, and what was done to them.
struct Place {
    // Ended before the disk is taken away from under the first.
    worlds: Vec<World>,
    postgres: Option<Postgres>,
    disk: Option<SmallDisk>,
    clocks: Option<Clocks>,
    repository: Repository,
    chance: Chance,
    blows: BTreeMap<&'static str, u32>,
    created: usize,
    /// Tasks under way.
    open: Vec<Delegated>,
    /// Tasks that have ended as they should.
    ready: Vec<Delegated>,
    /// Tasks that have ended with no change at all.
    unchanged: Vec<Delegated>,
    stopped: usize,
    /// Why tasks have failed.
    reasons: Vec<String>,
    is_long: bool,
    _artifacts: tempfile::TempDir,
}

impl Place {
    async fn new(workers: usize, on_postgres: bool, is_long: bool) -> Result<Self> {
        let program = warm::program()?;
        let postgres = on_postgres.then(Postgres::start);
        let url = postgres.as_ref().map(Postgres::url).unwrap_or_default();
        let artifacts = tempfile::tempdir()?;
        let shared = format!("file://{}", artifacts.path().join("shared").display());
        let clocks = if is_long { Clocks::new(artifacts.path(), workers)? } else { None };
        let mut worlds = Vec::new();
        for number in 0..workers {
            let mut variables = vec![
                ("CARREL_SECRETS_KEY", KEY.to_owned()),
                ("CARREL_WORKER_NAME", format!("worker-{number}")),
                ("CARREL_WORKER_GONE_SECONDS", GONE_SECONDS.to_owned()),
            ];
            if on_postgres {
                variables.extend([("DATABASE_URL", url.clone()), ("CARREL_ARTIFACTS", shared.clone())]);
            }
            variables.extend(clocks.iter().flat_map(|clocks| clocks.variables(number)));
            let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
            worlds.push(World::with(&program.to_string_lossy(), script(), &variables).await);
        }
        let disk = if is_long { SmallDisk::below(&mut worlds[0]).await? } else { None };
        let repository = worlds[0].repository("answers", FILES);
        Ok(Self {
            worlds,
            postgres,
            disk,
            clocks,
            repository,
            chance: Chance::new(),
            blows: BTreeMap::new(),
            created: 0,
            open: Vec::new(),
            ready: Vec::new(),
            unchanged: Vec::new(),
            stopped: 0,
            reasons: Vec::new(),
            is_long,
            _artifacts: artifacts,
        })
    }

    async fn torture(&mut self, time: Duration) -> Result<String> {
        let undisturbed = self.undisturbed().await?;
        let before = self.memory()?;
        let began = Instant::now();
        while began.elapsed() < time {
            self.fill().await;
            tokio::time::sleep(Duration::from_millis(self.chance.below(BREATH_MS))).await;
            self.strike().await?;
            self.look().await?;
        }
        let resting = Instant::now();
        while !self.open.is_empty() {
            if resting.elapsed() > REST {
                let open: Vec<&String> = self.open.iter().map(|task| &task.id).collect();
                bail!("{} tasks do not end: {open:?}", open.len());
            }
            tokio::time::sleep(POLL).await;
            self.look().await?;
        }
        let starved = self.check(&undisturbed).await?;
        self.check_publications().await?;
        self.check_leftovers().await?;
        self.report(before, began.elapsed(), starved)
    }

    async fn undisturbed(&mut self) -> Result<Undisturbed> {
        let world = &self.worlds[0];
        let id = world.create(&self.repository, "Torture, undisturbed").await;
        let mut diffs = Vec::new();
        for turn in 1..=2 {
            let task = world.ended(&id).await;
            if task["state"] != "ready" {
                bail!("even undisturbed it ends as {task:#}");
            }
            diffs.push(world.carrel(&["task", "diff", &id]).await.stdout);
            if turn == 1 {
                world.json(&["task", "follow-up", &id, MORE]).await;
            }
        }
        let [first, second] = diffs.try_into().map_err(|_| anyhow::anyhow!("there are two turns"))?;
        Ok(Undisturbed { first, second })
    }

    /// Delegates until there is enough to do.
    async fn fill(&mut self) {
        while self.open.len() < LOAD {
            let world = &self.worlds[self.chance.index(self.worlds.len())];
            self.created += 1;
            let id = world.create(&self.repository, &prompt(self.created)).await;
            self.open.push(Delegated::new(self.created, id, &mut self.chance));
        }
    }

    /// Takes note of what has ended, and has each result published; people say what they want.
    async fn look(&mut self) -> Result<()> {
        let mut still = Vec::new();
        for mut task in std::mem::take(&mut self.open) {
            let world = &self.worlds[0];
            let shown = world.carrel(&["--json", "task", "show", &task.id]).await;
            let value: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
            match value["state"].as_str() {
                Some("ready") if task.goes_on && task.turns == 1 => {
                    // When it is not heard it is said again.
                    let went_on = world.carrel(&["task", "follow-up", &task.id, MORE]).await;
                    task.turns += usize::from(went_on.code == 0);
                    still.push(task);
                }
                Some("ready") => {
                    let branch = format!("torture/{}", task.number);
                    let pushed = world.carrel(&["task", "push", &task.id, "--branch", &branch]).await;
                    match pushed.code {
                        0 => self.ready.push(task),
                        _ if is_unheard(&pushed.stderr) => still.push(task),
                        _ if pushed.stderr.contains("has changed nothing") => self.unchanged.push(task),
                        _ => bail!("task {} is not published: {}", task.number, pushed.stderr),
                    }
                }
                Some("cancelled") if task.stopped => self.stopped += 1,
                Some("cancelled") => bail!("task {} was stopped by nobody", task.number),
                Some("failed") => {
                    let turn = value["turns"].as_array().and_then(|turns| turns.last()).context("no turn")?;
                    let reason = turn.pointer("/attempts/0/failure/reason").and_then(Value::as_str);
                    let reason = reason.context("a task failed without a reason")?;
                    self.reasons.push(format!("{}: {reason}", task.id));
                }
                Some("running") if task.stopped => {
                    // It may have ended meanwhile, and nobody may be there to hear it.
                    let _heard = world.carrel(&["task", "cancel", &task.id]).await;
                    still.push(task);
                }
                // It works, or nobody answers just now.
                _ => still.push(task),
            }
        }
        self.open = still;
        Ok(())
    }

    fn memory(&self) -> Result<f64> {
        let used = self.worlds.iter().map(|world| Used::by(world.service_pid()).map(|used| used.share_mib));
        used.sum()
    }

    fn blows_in_words(&self) -> String {
        let blows: Vec<String> = self.blows.iter().map(|(blow, count)| format!("{count} {blow}")).collect();
        blows.join(", ")
    }

    fn report(&self, before: f64, took: Duration, starved: usize) -> Result<String> {
        let went_on = self.ready.iter().filter(|task| task.goes_on).count();
        let mut left_out = String::new();
        if starved > 0 {
            write!(left_out, "; commands of {starved} tasks found no space, were told, and their model did not care")?;
        }
        if self.is_long && self.disk.is_none() {
            left_out.push_str("; no full disk: that needs root and a loop device");
        }
        if self.is_long && self.clocks.is_none() {
            left_out.push_str("; no jumping clocks: that needs libfaketime");
        }
        Ok(format!(
            "  {} in {:.0} s; {} tasks: {} ready ({went_on} of them with a second turn), {} stopped by their person, {} \
             failed for want of disk; every command ran once, every patch is that of an undisturbed run, every publication \
             exists once, no log has a gap, nothing is left over; memory {before:.0} -> {:.0} MiB{left_out}\n",
            self.blows_in_words(),
            took.as_secs_f64(),
            self.created,
            self.ready.len(),
            self.stopped,
            self.reasons.len(),
            self.memory()?,
        ))
    }
}

impl Delegated {
    fn new(number: usize, id: String, chance: &mut Chance) -> Self {
        let fate = chance.below(ONE_OF);
        Self { number, id, stopped: fate == 0, goes_on: fate == 1, turns: 1 }
    }
}

fn prompt(number: usize) -> String {
    format!("Torture, number {number}.")
}

/// Whether nobody was there, or nobody could just now.
fn is_unheard(said: &str) -> bool {
    ["could not be reached", "database", "disk", "503", "no answer"].iter().any(|words| said.contains(words))
}

/// What every agent does. Commands take a while, so that they are in the middle of it when something happens.
fn script() -> Script {
    let first = [
        Reply::command("echo one >> count; sleep 0.3"),
        Reply::command("sleep 0.5; echo two >> count"),
        Reply::custom("apply_patch", PATCH),
        Reply::command("echo three >> count; sleep 0.1; ./check.sh"),
        Reply::message("**Summary**\n\nMended.\n\n**Testing**\n\n- ✅ `./check.sh`"),
    ];
    let more = [
        Reply::command("echo four >> count; sleep 0.3; ./check.sh"),
        Reply::message("**Summary**\n\nChecked.\n\n**Testing**\n\n- ✅ `./check.sh`"),
    ];
    Script::new(first).when(MORE, more)
}

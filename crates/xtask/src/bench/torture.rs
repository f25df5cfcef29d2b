//! The plug is pulled again and again, on whatever there is: a real service on SQLite, or three workers on a real
//! PostgreSQL, under load, while processes are killed or stopped and the database crashes or cuts its connections.
//!
//! At the end every task has ended, each command ran exactly once (a file in the sandbox counts them, and is in the patch),
//! each patch is that of an undisturbed run, each publication exists once, no log has a gap, and nothing is left over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, Repository, World};
use serde_json::Value;

use super::figures::Used;
use super::warm;

/// Tasks that are under way at the same time.
const LOAD: usize = 6;
/// How long all of it may take to come to rest once nobody disturbs it.
const REST: Duration = Duration::from_secs(300);
/// How often it is looked whether it has.
const POLL: Duration = Duration::from_millis(200);
/// The longest time between two blows, in milliseconds.
const BREATH_MS: u64 = 1500;
/// How long a worker is stopped at most, in milliseconds: well below its lease.
const STOPPED_MS: u64 = 6000;
/// In a long run, one is stopped past its lease, and past the time after which the others take it for gone.
const LONG_RUN: Duration = Duration::from_secs(120);
const STOPPED_LONG: Duration = Duration::from_secs(45);
const GONE_SECONDS: &str = "10";
/// What values of secrets are sealed under, the same for all workers.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

const FILES: &[(&str, &str)] =
    &[("answer", "41\n"), ("check.sh", "#!/bin/sh\n[ \"$(cat answer)\" = 42 ] && echo fine || exit 1\n")];
const PATCH: &str = "*** Begin Patch\n*** Update File: answer\n@@\n-41\n+42\n*** End Patch\n";

/// Tortures one service on SQLite, and three workers on PostgreSQL, for half of so many seconds each.
#[expect(clippy::print_stdout, reason = "the report is what this command is for")]
pub(crate) fn run(seconds: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let each = Duration::from_secs(u64::from(seconds)) / 2;
    for (name, workers, on_postgres) in [("one service on SQLite", 1, false), ("three workers on PostgreSQL", 3, true)]
    {
        let report = runtime.block_on(async {
            let mut place = Place::new(workers, on_postgres).await?;
            place.torture(each).await
        });
        println!("{name}\n{}", report.with_context(|| name.to_owned())?);
    }
    Ok(())
}

/// Who is tortured, and what was done to them.
struct Place {
    worlds: Vec<World>,
    postgres: Option<Postgres>,
    repository: Repository,
    chance: Chance,
    blows: BTreeMap<&'static str, u32>,
    created: usize,
    /// Tasks under way: their numbers and ids.
    open: Vec<(usize, String)>,
    /// Tasks that have ended with a result, and those that have ended with a reason.
    ready: Vec<(usize, String)>,
    reasons: Vec<String>,
    _artifacts: tempfile::TempDir,
}

impl Place {
    async fn new(workers: usize, on_postgres: bool) -> Result<Self> {
        let program = warm::program()?;
        let postgres = on_postgres.then(Postgres::start);
        let url = postgres.as_ref().map(Postgres::url).unwrap_or_default();
        let artifacts = tempfile::tempdir()?;
        let shared = format!("file://{}", artifacts.path().display());
        let mut worlds = Vec::new();
        for number in 0..workers {
            let name = format!("worker-{number}");
            let mut variables = vec![
                ("CARREL_SECRETS_KEY", KEY),
                ("CARREL_WORKER_NAME", name.as_str()),
                ("CARREL_WORKER_GONE_SECONDS", GONE_SECONDS),
            ];
            if on_postgres {
                variables.extend([("DATABASE_URL", url.as_str()), ("CARREL_ARTIFACTS", shared.as_str())]);
            }
            worlds.push(World::with(&program.to_string_lossy(), script(), &variables).await);
        }
        let repository = worlds[0].repository("answers", FILES);
        Ok(Self {
            worlds,
            postgres,
            repository,
            chance: Chance::new(),
            blows: BTreeMap::new(),
            created: 0,
            open: Vec::new(),
            ready: Vec::new(),
            reasons: Vec::new(),
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
            self.strike(time >= LONG_RUN).await;
            self.look().await?;
        }
        let resting = Instant::now();
        while !self.open.is_empty() {
            if resting.elapsed() > REST {
                bail!("{} tasks do not end: {:?}", self.open.len(), self.open);
            }
            tokio::time::sleep(POLL).await;
            self.look().await?;
        }
        self.check(&undisturbed).await?;
        self.check_publications().await?;
        self.check_leftovers().await?;
        self.report(before, began.elapsed())
    }

    /// The patch of a task that nothing happens to.
    async fn undisturbed(&mut self) -> Result<String> {
        let id = self.worlds[0].create(&self.repository, "Torture, undisturbed").await;
        let task = self.worlds[0].ended(&id).await;
        if task["state"] != "ready" {
            bail!("even undisturbed it ends as {task:#}");
        }
        Ok(self.worlds[0].carrel(&["task", "diff", &id]).await.stdout)
    }

    /// Delegates until there is enough to do.
    async fn fill(&mut self) {
        while self.open.len() < LOAD {
            let world = self.chance.below(self.worlds.len() as u64);
            let world = &self.worlds[usize::try_from(world).expect("a small number")];
            self.created += 1;
            let id = world.create(&self.repository, &format!("Torture, number {}", self.created)).await;
            self.open.push((self.created, id));
        }
    }

    async fn strike(&mut self, may_last: bool) {
        let who = usize::try_from(self.chance.below(self.worlds.len() as u64)).expect("a small number");
        let blow = match (self.chance.below(10), &mut self.postgres) {
            (0, Some(postgres)) => {
                postgres.crash();
                tokio::time::sleep(Duration::from_millis(self.chance.below(BREATH_MS))).await;
                postgres.up();
                "crashes of the database"
            }
            (1 | 2, Some(postgres)) => {
                let all = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()";
                // A database that is just recovering has no connections to cut.
                let _cut = postgres.query(all);
                "times all connections cut"
            }
            (3, Some(_)) if may_last && self.chance.below(4) == 0 => {
                let pid = self.worlds[who].service_pid().to_string();
                signal(&pid, "STOP");
                tokio::time::sleep(STOPPED_LONG).await;
                signal(&pid, "CONT");
                "workers stopped past their lease"
            }
            (3, _) => {
                let pid = self.worlds[who].service_pid().to_string();
                signal(&pid, "STOP");
                tokio::time::sleep(Duration::from_millis(self.chance.below(STOPPED_MS))).await;
                signal(&pid, "CONT");
                "workers stopped for a while"
            }
            _ => {
                self.worlds[who].kill().await;
                if self.chance.below(4) == 0 {
                    tokio::time::sleep(Duration::from_millis(self.chance.below(BREATH_MS))).await;
                }
                self.worlds[who].start().await;
                "kills"
            }
        };
        *self.blows.entry(blow).or_default() += 1;
    }

    /// Takes note of what has ended, and has each result published.
    async fn look(&mut self) -> Result<()> {
        let world = &self.worlds[0];
        let mut still = Vec::new();
        for (number, id) in std::mem::take(&mut self.open) {
            let shown = world.carrel(&["--json", "task", "show", &id]).await;
            let task: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
            match task["state"].as_str() {
                Some("ready") => {
                    let branch = format!("torture/{number}");
                    let pushed = world.carrel(&["task", "push", &id, "--branch", &branch]).await;
                    if pushed.code != 0 {
                        bail!("task {number} is not published: {}", pushed.stderr);
                    }
                    self.ready.push((number, id));
                }
                Some("failed") => {
                    let reason = task.pointer("/turns/0/attempts/0/failure/reason").and_then(Value::as_str);
                    self.reasons.push(reason.context("a task failed without a reason")?.to_owned());
                }
                // It works, or nobody answers just now.
                _ => still.push((number, id)),
            }
        }
        self.open = still;
        Ok(())
    }

    async fn check(&self, undisturbed: &str) -> Result<()> {
        let world = &self.worlds[0];
        for (number, id) in &self.ready {
            let diff = world.carrel(&["task", "diff", id]).await.stdout;
            if diff != undisturbed {
                bail!("the patch of task {number} ({id}) is another than that of an undisturbed run:\n{diff}");
            }
            let events = world.events(id).await;
            let numbers: Vec<i64> = events.iter().filter_map(|event| event["seq"].as_i64()).collect();
            if numbers != (1..).take(events.len()).collect::<Vec<i64>>() {
                bail!("the log of task {number} ({id}) has a gap: {numbers:?}");
            }
        }
        if !self.reasons.is_empty() {
            bail!(
                "{} tasks failed, and nothing that was done to them is a reason: {:?}",
                self.reasons.len(),
                self.reasons
            );
        }
        Ok(())
    }

    async fn check_publications(&self) -> Result<()> {
        let resting = Instant::now();
        for (number, _) in &self.ready {
            let range = format!("main..torture/{number}");
            loop {
                let listed = self.repository.try_git(&["rev-list", "--count", &range]);
                let commits = String::from_utf8_lossy(&listed.stdout);
                match (listed.status.success(), commits.trim()) {
                    (true, "1") => break,
                    (true, other) => bail!("the branch of task {number} has {other} commits"),
                    (false, _) if resting.elapsed() < REST => tokio::time::sleep(POLL).await,
                    (false, _) => bail!("task {number} was never published"),
                }
            }
        }
        Ok(())
    }

    /// Sandboxes, mounts and processes must be gone when nobody needs them any more.
    async fn check_leftovers(&self) -> Result<()> {
        let resting = Instant::now();
        loop {
            let left = self.leftovers()?;
            if left.is_empty() {
                return Ok(());
            }
            if resting.elapsed() > REST {
                bail!("this is left over:\n{left}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn leftovers(&self) -> Result<String> {
        let mut left = String::new();
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        for world in &self.worlds {
            let sandboxes = world.data().join("sandboxes");
            for runner in runners(&sandboxes) {
                writeln!(left, "a sandbox in {}", runner.display())?;
            }
            let folder = world.data().display().to_string();
            for mount in mounts.lines().filter(|mount| mount.contains(&folder)) {
                writeln!(left, "a mount: {mount}")?;
            }
        }
        Ok(left)
    }

    fn memory(&self) -> Result<f64> {
        let used = self.worlds.iter().map(|world| Used::by(world.service_pid()).map(|used| used.share_mib));
        used.sum()
    }

    fn report(&self, before: f64, took: Duration) -> Result<String> {
        let blows: Vec<String> = self.blows.iter().map(|(blow, count)| format!("{count} {blow}")).collect();
        Ok(format!(
            "  {} in {:.0} s; {} tasks, all of them ready; every command ran once, every patch is that of an undisturbed \
             run, every publication exists once, no log has a gap, nothing is left over; memory {before:.0} -> {:.0} MiB\n",
            blows.join(", "),
            took.as_secs_f64(),
            self.ready.len(),
            self.memory()?,
        ))
    }
}

/// What every agent does. Commands take a while, so that they are in the middle of it when something happens.
fn script() -> Script {
    Script::new([
        Reply::command("echo one >> count; sleep 0.3"),
        Reply::command("sleep 0.5; echo two >> count"),
        Reply::custom("apply_patch", PATCH),
        Reply::command("echo three >> count; sleep 0.1; ./check.sh"),
        Reply::message("**Summary**\n\nMended.\n\n**Testing**\n\n- ✅ `./check.sh`"),
    ])
}

fn runners(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("runner.json").exists()).collect()
}

fn signal(pid: &str, name: &str) {
    // It may be gone by itself; that is found out by whoever needs it next.
    let _sent = std::process::Command::new("kill").args([&format!("-{name}"), pid]).status();
}

/// Numbers that nobody foresees.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos());
        Self(u64::try_from(seed & u128::from(u64::MAX)).expect("it was cut to fit") | 1)
    }

    /// A number below the limit, by Marsaglia's xorshift64.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

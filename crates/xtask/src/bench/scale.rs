//! An installation that has been worked with for years, on both databases: a real task, told and kept by the product, is
//! multiplied by SQL, as many times as there is to be; then a real service is asked what people and workers ask, at a
//! hundredth of the size, at a tenth, and at all of it. What does not grow with the size stays the same from row to row.

mod fill;
mod queue;
mod watchers;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, Repository, World};
use serde_json::Value;

use self::fill::Database;
use super::figures::percentile_ms;
use super::warm;

/// How often each request is made.
const ROUNDS: usize = 200;
/// Tasks on a page.
const PAGE: usize = 30;
/// How many pages are read one after the other.
const PAGES: usize = 100;
/// What values of secrets are sealed under, the same for all processes.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// People who watch: as many as look at a task, and far more than that.
const WATCHERS: [usize; 2] = [100, 5000];
/// What is said all the time while they watch.
const PROMPT: &str = "Speak slowly";
/// Commands of the task that is multiplied: about a hundred events, as a task of middle size has.
const COMMANDS: usize = 22;

/// Measures with so many tasks at the end. Where the disk has no room for the logs of all of them, one in so many has its own.
#[expect(clippy::print_stdout, reason = "the figures are what this command is for")]
pub(crate) fn run(tasks: u32, more: &[String]) -> Result<()> {
    let logs_of_one_in = match more {
        [] => 1,
        [option, number] if option == "--logs-of-one-in" => {
            number.parse().context("a log for one in how many tasks?")?
        }
        _ => bail!("`scale` takes --logs-of-one-in N, and not `{}`", more.join(" ")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for on_postgres in [false, true] {
        println!("{}", if on_postgres { "PostgreSQL" } else { "SQLite" });
        runtime.block_on(async {
            let mut place = Place::new(on_postgres).await?;
            for part in [100, 10, 1] {
                println!("  {}", place.measure((tasks / part).max(1), logs_of_one_in).await?);
            }
            println!("  {}", place.watch().await?);
            Ok::<_, anyhow::Error>(())
        })?;
    }
    Ok(())
}

/// A service, and its database.
struct Place {
    worlds: Vec<World>,
    database: Database,
    repository: Repository,
    /// The task that was multiplied.
    task: String,
    events_each: usize,
    tasks: u32,
}

impl Place {
    async fn new(on_postgres: bool) -> Result<Self> {
        let postgres = on_postgres.then(Postgres::start_durable);
        let mut worlds = vec![world(postgres.as_ref(), 0).await?];
        let repository = worlds[0].repository("project", &[("README.md", "A project.\n")]);
        let task = worlds[0].create(&repository, "Make a good deal of noise").await;
        let ended = worlds[0].ended(&task).await;
        ensure!(ended["state"] == "ready", "the task that is to be multiplied ended as {ended:#}");
        let events_each = worlds[0].events(&task).await.len();
        let database = match postgres {
            Some(postgres) => {
                worlds.push(world(Some(&postgres), 1).await?);
                Database::Postgres(postgres)
            }
            None => Database::Sqlite(worlds[0].data().join("carrel.sqlite")),
        };
        Ok(Self { worlds, database, repository, task, events_each, tasks: 1 })
    }

    /// Grows to so many tasks, and says how long everything takes then.
    async fn measure(&mut self, tasks: u32, logs_of_one_in: u32) -> Result<String> {
        let began = Instant::now();
        for world in &mut self.worlds {
            world.kill().await;
        }
        self.database.grow(&self.task, self.tasks..tasks, logs_of_one_in)?;
        self.tasks = tasks;
        let filled = began.elapsed();
        let queue = queue::measure(&self.worlds[0].data(), &self.database, KEY).await?;
        let starting = Instant::now();
        for world in &mut self.worlds {
            world.start().await;
        }
        let started = starting.elapsed() / u32::try_from(self.worlds.len())?;
        let asked = self.ask().await?;
        Ok(format!(
            "{tasks} tasks, {} events, {:.1} GiB (filled in {:.0} s)\n    start {:.0} ms; {asked}\n    {queue}",
            u64::from(tasks.div_ceil(logs_of_one_in)) * self.events_each as u64,
            self.database.size_bytes()? as f64 / f64::from(1 << 30),
            filled.as_secs_f64(),
            started.as_secs_f64() * 1000.0,
        ))
    }

    /// What people's browsers ask for.
    async fn ask(&self) -> Result<String> {
        let client = Client::of(&self.worlds[0])?;
        let mut first_page = Vec::new();
        for _ in 0..ROUNDS {
            first_page.push(client.timed(&format!("tasks?limit={PAGE}")).await?.0);
        }
        let (mut pages, mut next) = (Vec::new(), format!("tasks?limit={PAGE}"));
        while pages.len() < PAGES {
            let (took, page) = client.timed(&next).await?;
            pages.push(took);
            let Some(cursor) = page["next"].as_str() else { break };
            next = format!("tasks?limit={PAGE}&before={cursor}");
        }
        let last_pages = &pages[pages.len().saturating_sub(10)..];
        let mut events = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..ROUNDS {
            events.push(client.timed(&format!("tasks/{}/events?limit=1000", self.task)).await?.0);
            streams.push(client.first_event(&self.task).await?);
        }
        let shown = |times: &[Duration]| format!("{:.1} / {:.1}", percentile_ms(times, 50), percentile_ms(times, 99));
        Ok(format!(
            "ms at p50 / p99: GET /tasks {}, page {} by its cursor {}, a log of {} events {}, a stream's first event {}",
            shown(&first_page),
            pages.len(),
            shown(last_pages),
            self.events_each,
            shown(&events),
            shown(&streams),
        ))
    }

    async fn watch(&self) -> Result<String> {
        let task = self.worlds[0].create(&self.repository, PROMPT).await;
        let mut report = Vec::new();
        for count in WATCHERS {
            for (number, world) in self.worlds.iter().enumerate() {
                let whose = if number == 0 { "the process that works" } else { "another process" };
                let heard = watchers::measure(world, &task, count).await?;
                report.push(format!("{count} watchers of {whose}: {heard}"));
            }
        }
        Ok(report.join("\n  "))
    }
}

async fn world(postgres: Option<&Postgres>, number: usize) -> Result<World> {
    let program = warm::program()?;
    let url = postgres.map(Postgres::url).unwrap_or_default();
    let name = format!("worker-{number}");
    let mut variables = vec![("CARREL_SECRETS_KEY", KEY), ("CARREL_WORKER_NAME", &name)];
    if postgres.is_some() {
        variables.push(("DATABASE_URL", &url));
    }
    if number > 0 {
        // What the first has on its machine is not here, and nothing of it is needed.
        variables.push(("CARREL_MAX_JOBS", "1"));
    }
    Ok(World::with(&program.to_string_lossy(), script(), &variables).await)
}

fn script() -> Script {
    let noise = (0..COMMANDS).map(|number| Reply::command(format!("echo {number}; ls -la /etc | head -n 20")));
    let speak =
        serde_json::json!({ "cmd": "for i in $(seq 120); do echo $i; sleep 0.2; done", "yield_time_ms": 30_000 });
    let slowly = (0..40).map(|_| Reply::call("exec_command", speak.clone()));
    let slowly = slowly.chain([Reply::message("**Summary**\n\nSpoken.\n\n**Testing**\n\n- none")]);
    Script::new(noise.chain([Reply::message("**Summary**\n\nNoise.\n\n**Testing**\n\n- none")])).when(PROMPT, slowly)
}

/// Whoever asks a service over HTTP, on one connection.
struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    fn of(world: &World) -> Result<Self> {
        let http = reqwest::Client::builder().build()?;
        Ok(Self { http, base: format!("{}/api/v1/", world.url()), token: world.token() })
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// How long an answer takes, and what it is.
    async fn timed(&self, path: &str) -> Result<(Duration, Value)> {
        let began = Instant::now();
        let bytes = self.get(path).send().await?.error_for_status()?.bytes().await?;
        Ok((began.elapsed(), serde_json::from_slice(&bytes)?))
    }

    /// The log of a task, as a stream.
    async fn stream(&self, task: &str, after: i64) -> Result<reqwest::Response> {
        let asked = self.get(&format!("tasks/{task}/events?after={after}")).header("accept", "text/event-stream");
        Ok(asked.send().await?.error_for_status()?)
    }

    async fn first_event(&self, task: &str) -> Result<Duration> {
        let began = Instant::now();
        let mut stream = self.stream(task, 0).await?;
        stream.chunk().await?.context("the stream ended at once")?;
        Ok(began.elapsed())
    }
}

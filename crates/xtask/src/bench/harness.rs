//! The whole product beside the stock Codex CLI, both asked by the same scripted model to run `true`, again and again:
//! how long from the end of a response until the next request, and what the process that does it takes.
//!
//! Everything the product does is in it: the database, the events, the sandbox. Codex CLI runs without its sandbox, which
//! is its faster way. It is installed by `cargo xtask test`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrel_testkit::World;
use carrel_testkit::model::{Exchange, Reply, Script, ScriptedModel};
use tokio::process::Command;
use url::Url;

use super::figures::{Used, percentile_ms};
use super::warm;

/// How many turns are compared at the beginning and at the end of a run.
const EDGE: usize = 20;
/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a process is asked what it has used; its peak is kept by the kernel.
const SAMPLE: Duration = Duration::from_millis(10);
/// Where the package is, below the checkout's `target`.
const CODEX: &str = "oracles/codex/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex";

/// Measures runs of so many turns and prints a table.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
pub(crate) fn run(counts: &[u32]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let codex = codex()?;
    let mut text = format!(
        "{:<12} {:>6} {:>10} {:>8} {:>9} {:>9} {:>11} {:>9} {:>10}\n",
        "", "turns", "median ms", "p95 ms", "first 20", "last 20", "ms to first", "cpu s", "peak MiB"
    );
    for turns in counts {
        let ours = runtime.block_on(product(*turns)).context("the product")?;
        let theirs = runtime.block_on(codex_cli(&codex, *turns)).context("Codex CLI")?;
        ours.describe("carrel", *turns, &mut text)?;
        theirs.describe("codex", *turns, &mut text)?;
        let ratio = percentile_ms(&theirs.gaps, 50) / percentile_ms(&ours.gaps, 50);
        writeln!(text, "{:<12} {turns:>6} {ratio:>10.1} times as fast", "ratio")?;
    }
    println!("{text}");
    Ok(())
}

/// What one run took.
struct Measured {
    /// From the end of an answer to the arrival of the next request, turn by turn.
    gaps: Vec<Duration>,
    /// From the beginning to the first request.
    to_first: Duration,
    used: Used,
}

impl Measured {
    fn new(requests: &[Exchange], turns: u32, to_first: Duration, used: Used) -> Result<Self> {
        let expected = usize::try_from(turns)? + 1;
        if requests.len() != expected {
            bail!("{} requests were made and not {expected}", requests.len());
        }
        let gaps = requests.windows(2).map(|pair| {
            let answered = pair[0].answered_at.context("an answer was cut off")?;
            Ok(pair[1].received_at.saturating_duration_since(answered))
        });
        Ok(Self { gaps: gaps.collect::<Result<_>>()?, to_first, used })
    }

    fn describe(&self, name: &str, turns: u32, text: &mut String) -> Result<()> {
        let edge = EDGE.min(self.gaps.len());
        writeln!(
            text,
            "{name:<12} {turns:>6} {:>10.2} {:>8.2} {:>9.2} {:>9.2} {:>11.0} {:>9.2} {:>10.1}",
            percentile_ms(&self.gaps, 50),
            percentile_ms(&self.gaps, 95),
            percentile_ms(&self.gaps[..edge], 50),
            percentile_ms(&self.gaps[self.gaps.len() - edge..], 50),
            self.to_first.as_secs_f64() * 1000.0,
            self.used.cpu_seconds,
            self.used.peak_mib,
        )?;
        Ok(())
    }
}

/// Every command is another one, so that nobody is taken for an agent that runs in a circle.
fn script(turns: u32) -> Script {
    let commands = (0..turns).map(|turn| Reply::command(format!("true {turn}")));
    Script::new(commands.chain([Reply::message("Done.")]))
}

/// The second task of a service: the first makes the environment.
async fn product(turns: u32) -> Result<Measured> {
    let program = warm::program()?;
    let steps = [Reply::message("Ready.")];
    let steps_allowed = (turns + 2).to_string();
    let script = script(turns).when("Get ready", steps);
    let world = World::with(&program.to_string_lossy(), script, &[("CARREL_MAX_STEPS", &steps_allowed)]).await;
    let repository = world.repository("project", &[("README.md", "A project.\n")]);
    world.run(&repository, "Get ready").await;
    let service = world.service_pid();
    let before = Used::by(service)?;
    let earlier = world.model().requests().len();

    let began = Instant::now();
    let id = world.create(&repository, "Do nothing, often.").await;
    let first = world.model().request(earlier).await.received_at;
    let task = tokio::time::timeout(PATIENCE, world.ended(&id)).await.context("the task does not end")?;
    let used = Used::by(service)?;

    let state = task.pointer("/turns/0/attempts/0/state").and_then(|state| state.as_str()).unwrap_or_default();
    if state != "ready" {
        bail!("the task ended as `{state}`: {task:#}");
    }
    let used = Used { cpu_seconds: used.cpu_seconds - before.cpu_seconds, ..used };
    Measured::new(&world.model().requests()[earlier..], turns, first.saturating_duration_since(began), used)
}

/// One run of `codex exec`.
async fn codex_cli(program: &Path, turns: u32) -> Result<Measured> {
    let model = ScriptedModel::start(script(turns)).await?;
    // It does not put its helpers below /tmp.
    let place = tempfile::tempdir_in(program.parent().context("a program is in a folder")?)?;
    let work = place.path().join("work");
    fs::create_dir_all(&work)?;
    fs::write(place.path().join("config.toml"), config(&model.url()))?;
    let mut command = Command::new(program);
    command.args(["exec", "--skip-git-repo-check", "--cd"]).arg(&work).arg("Do nothing, often.");
    // Its commands run in a login shell, as ours: neither is to read what this machine's user has it do first.
    command.env("HOME", place.path());
    command.env("CODEX_HOME", place.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());

    let began = Instant::now();
    let mut child = command.kill_on_drop(true).spawn().context("Codex CLI cannot be started")?;
    let pid = child.id().context("it has just been started")?;
    let mut used = Used::default();
    let watched = async {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                () = tokio::time::sleep(SAMPLE) => used = Used::by(pid).unwrap_or(used),
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, watched).await.context("it does not end")??;
    let requests = model.requests();
    let first = requests.first().with_context(|| format!("it asked the model nothing ({status})"))?.received_at;
    Measured::new(&requests, turns, first.saturating_duration_since(began), used)
}

/// The model as its provider, and nothing that would try the network.
fn config(url: &Url) -> String {
    format!(
        "model = \"gpt-5-codex\"\nmodel_provider = \"scripted\"\napproval_policy = \"never\"\n\
         sandbox_mode = \"danger-full-access\"\n[analytics]\nenabled = false\n[features]\nplugins = false\n\
         [model_providers.scripted]\nname = \"scripted\"\nbase_url = \"{url}\"\nwire_api = \"responses\"\n"
    )
}

/// The program itself, without its starter in JavaScript.
fn codex() -> Result<PathBuf> {
    let target = std::env::current_exe()?.ancestors().nth(2).context("this program is below `target`")?.to_owned();
    let program = target.join(CODEX);
    if !program.is_file() {
        bail!("there is no Codex CLI at `{}`; `cargo xtask test` installs it", program.display());
    }
    Ok(program)
}

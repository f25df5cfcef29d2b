//! How long it takes until an agent can work on a repository of so many files: on a kept layer, beside copying a checkout
//! and cloning, and as the whole service does it. The same on a repository of one file tells what of it depends on the size.
//!
//! Build `carrel` and `carrel-runner` into the same profile first; the programs beside this one are the ones measured.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrel_domain::SandboxId;
use carrel_sandbox::{
    Command, Launcher, LayerName, Limits, LocalOptions, ReadOnlyMount, Sandbox, SandboxSpec, Sandboxes,
};
use uuid::Uuid;

use super::figures::percentile_ms;
use super::warm;

/// How often the start on a layer is measured; copies and clones are measured once, they take seconds.
const ROUNDS: u32 = 20;

/// Where the objects of the repository are shown.
const OBJECTS: &str = "/run/carrel/objects";

/// Files in one folder of the repository.
const FILES_A_FOLDER: u32 = 100;

const CHECK_OUT: &str = "set -eu; mkdir -p /workspace/r; cd /workspace/r; if [ ! -e .git ]; then git init -q .; \
    echo /run/carrel/objects > .git/objects/info/alternates; fi; git reset -q --hard \"$1\"";
const MOVE: &str = "set -eu; cd /workspace/r; git read-tree --reset -u HEAD \"$1\"; git update-ref HEAD \"$1\"";
const REFRESH: &str = "cd /workspace/r; git update-index -q --really-refresh";
const STATUS: &str = "cd /workspace/r; git status --porcelain";
/// Measures a repository of so many files and prints a table.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
pub(crate) fn run(files: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(measure(files))?);
    Ok(())
}

/// What a start on a kept layer takes.
#[derive(Default)]
struct Warm {
    launch: Vec<Duration>,
    /// To the commit after the one that the layer was kept at.
    moved: Vec<Duration>,
    /// To a commit of which nothing is known, as every file is looked at.
    check_out: Vec<Duration>,
    first_status: Vec<Duration>,
}

async fn measure(files: u32) -> Result<String> {
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sandboxes = Sandboxes::open(LocalOptions {
        folder: place.path().join("sandboxes"),
        private_paths: Vec::new(),
        launcher: Launcher::beside_tests()?,
        limits: Limits::default(),
    })
    .await?;
    let big = repository(&place.path().join("big"), files)?;
    let empty = repository(&place.path().join("empty"), 1)?;
    let [on_big, on_empty] = [on_layer(&sandboxes, &big, "big").await?, on_layer(&sandboxes, &empty, "empty").await?];
    // The service clones what is committed last.
    let [big_steps, empty_steps] = [warm::measure(&big.path, ROUNDS).await?, warm::measure(&empty.path, ROUNDS).await?];

    let copy = place.path().join("copy");
    let copied = timed(Program::new("cp").arg("-a").arg(&big.path).arg(&copy))?;
    let status = timed(Program::new("git").args(["status", "--porcelain"]).current_dir(&big.path))?;
    let clone = place.path().join("clone");
    let cloned = timed(Program::new("git").args(["clone", "-q", "--shared"]).arg(&big.path).arg(&clone))?;
    let mut table = Table::new(files);
    table.layers(&on_big, &on_empty, copied, cloned, status);
    table.service(&big_steps, &empty_steps);
    Ok(table.text)
}

async fn on_layer(sandboxes: &Sandboxes, repository: &Repository, name: &str) -> Result<Warm> {
    let layer: LayerName = name.parse()?;
    let spec = |layers: Vec<LayerName>| SandboxSpec {
        mounts: vec![ReadOnlyMount { source: repository.path.join(".git/objects"), target: OBJECTS.to_owned() }],
        layers,
        ..SandboxSpec::new(SandboxId::from_uuid(Uuid::now_v7()))
    };
    let builder = sandboxes.launch(spec(Vec::new())).await?;
    bash(&builder, CHECK_OUT, &repository.commit).await?;
    bash(&builder, REFRESH, "").await?;
    sandboxes.keep(builder.id(), &layer).await?;
    let mut warm = Warm::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let sandbox = sandboxes.launch(spec(vec![layer.clone()])).await?;
        warm.launch.push(began.elapsed());
        warm.first_status.push(bash(&sandbox, STATUS, "").await?);
        sandboxes.destroy(sandbox.id()).await?;
        for (script, times) in [(MOVE, &mut warm.moved), (CHECK_OUT, &mut warm.check_out)] {
            let sandbox = sandboxes.launch(spec(vec![layer.clone()])).await?;
            times.push(bash(&sandbox, script, &repository.next).await?);
            sandboxes.destroy(sandbox.id()).await?;
        }
    }
    Ok(warm)
}

/// Runs a script with one argument in a sandbox; how long it took.
async fn bash(sandbox: &Sandbox, script: &str, argument: &str) -> Result<Duration> {
    let id = Uuid::now_v7().to_string();
    let began = Instant::now();
    let finished = sandbox.run(Command::new(id, ["bash", "-c", script, "bench", argument]).directory("/")).await?;
    if !finished.status.is_success() {
        bail!("`{script}` failed in the sandbox: {}", String::from_utf8_lossy(&finished.output));
    }
    Ok(began.elapsed())
}

/// A repository with two commits.
struct Repository {
    path: PathBuf,
    commit: String,
    /// Ten files of it are others.
    next: String,
}

/// Makes a repository of so many files of about 4 KiB each.
fn repository(path: &Path, files: u32) -> Result<Repository> {
    for folder in 0..files.div_ceil(FILES_A_FOLDER) {
        let within = path.join(format!("d{folder}"));
        fs::create_dir_all(&within)?;
        for file in 0..files.min(FILES_A_FOLDER) {
            fs::write(within.join(format!("f{file}")), format!("{folder} {file}\n").repeat(500))?;
        }
    }
    let git = |arguments: &[&str]| timed(Program::new("git").args(arguments).current_dir(path));
    git(&["init", "-q"])?;
    let commit = || {
        git(&["add", "-A"])?;
        let by = ["-c", "gc.auto=0", "-c", "user.name=bench", "-c", "user.email=bench@localhost"];
        git(&[&by[..], &["commit", "-q", "-m", "files"]].concat())?;
        let output = Program::new("git").args(["rev-parse", "HEAD"]).current_dir(path).output()?;
        Ok::<_, anyhow::Error>(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let first = commit()?;
    for number in 0..10 {
        let within = path.join(format!("d{number}"));
        fs::create_dir_all(&within)?;
        fs::write(within.join("next"), "next\n")?;
    }
    let next = commit()?;
    // As a mirror has them, which comes by fetching.
    git(&["repack", "-a", "-d", "-q"])?;
    Ok(Repository { path: path.to_owned(), commit: first, next })
}

fn timed(program: &mut Program) -> Result<Duration> {
    let began = Instant::now();
    let status = program.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("{program:?} failed");
    }
    Ok(began.elapsed())
}

/// The figures, each beside the one it is to be compared with.
struct Table {
    text: String,
}

impl Table {
    fn new(files: u32) -> Self {
        let what = format!("{files} files, ms");
        Self { text: format!("{what:<52} {:>9} {:>9} {:>9} {:>9} {:>7}\n", "median", "p95", "empty", "p95", "ratio") }
    }

    /// On a kept layer; the empty repository beside it.
    fn layers(&mut self, big: &Warm, empty: &Warm, copied: Duration, cloned: Duration, status: Duration) {
        self.line("sandbox launched on the kept files", &big.launch, &empty.launch);
        self.line("  and moved to the commit after theirs", &big.moved, &empty.moved);
        self.line("  or every file looked at, to be sure", &big.check_out, &empty.check_out);
        self.line("copying a checkout (cp -a), beside the launch", &[copied], &big.launch);
        self.line("cloning (git clone --shared), beside the launch", &[cloned], &big.launch);
        self.line("first git status, beside that of a plain checkout", &big.first_status, &[status]);
    }

    /// By the service's own log.
    fn service(&mut self, big: &warm::Steps, empty: &warm::Steps) {
        let start = |steps: &warm::Steps| steps.launched.iter().zip(&steps.checked_out).map(|(a, b)| *a + *b).collect();
        let (on_big, on_empty): (Vec<Duration>, Vec<Duration>) = (start(big), start(empty));
        self.line("service: launched and checked out", &on_big, &on_empty);
        self.line("  before: fetched, with the request", &big.fetched, &empty.fetched);
        self.line("  before: settled and found prepared", &big.settled, &empty.settled);
        self.line("  of it the launch", &big.launched, &empty.launched);
        self.line("  of it the check-out", &big.checked_out, &empty.checked_out);
        self.line("service: from the request until the agent begins", &big.prepared, &empty.prepared);
        self.line("service: ten changes collected", &big.collected, &empty.collected);
    }

    fn line(&mut self, name: &str, times: &[Duration], base: &[Duration]) {
        let [(median, p95), (base, base_p95)] =
            [times, base].map(|times| (percentile_ms(times, 50), percentile_ms(times, 95)));
        let ratio = median / base;
        // Writing to a string cannot fail.
        let _written =
            writeln!(self.text, "{name:<52} {median:>9.2} {p95:>9.2} {base:>9.2} {base_p95:>9.2} {ratio:>7.2}");
    }
}

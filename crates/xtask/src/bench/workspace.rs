//! How long it takes until an agent can work on a repository of so many files: on a kept layer, beside copying a checkout
//! and cloning. The same on a repository of one file tells what of it depends on the size.
//!
//! Build `carrel-runner` into the same profile first; the launcher beside this program is the one measured.

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

/// How often the start on a layer is measured; copies and clones are measured once, they take seconds.
const ROUNDS: u32 = 20;

/// Where the objects of the repository are shown.
const OBJECTS: &str = "/run/carrel/objects";

/// Files in one folder of the repository.
const FILES_A_FOLDER: u32 = 100;

const CHECK_OUT: &str = "set -eu; mkdir -p /workspace/r; cd /workspace/r; if [ ! -e .git ]; then git init -q .; \
    echo /run/carrel/objects > .git/objects/info/alternates; fi; git reset -q --hard \"$1\"";
const REFRESH: &str = "cd /workspace/r; git update-index -q --really-refresh";
const STATUS: &str = "cd /workspace/r; git status --porcelain";
const CHANGE: &str = "cd /workspace/r; for i in 0 1 2 3 4 5 6 7 8 9; do echo changed > d$i/f$i; done";
const COLLECT: &str = "cd /workspace/r; git add --all; git diff --cached --binary HEAD";

/// Measures a repository of so many files and prints a table.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
pub(crate) fn run(files: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(measure(files))?);
    Ok(())
}

/// What a start on a kept layer takes.
#[derive(Default)]
struct Warm {
    launch: Vec<Duration>,
    check_out: Vec<Duration>,
    first_status: Vec<Duration>,
    collect: Vec<Duration>,
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
    let small = repository(&place.path().join("small"), 10 * FILES_A_FOLDER)?;
    let big_warm = warm(&sandboxes, &big, "big").await?;
    let small_warm = warm(&sandboxes, &small, "small").await?;

    let copy = place.path().join("copy");
    let copied = timed(Program::new("cp").arg("-a").arg(&big.path).arg(&copy))?;
    let status = timed(Program::new("git").args(["status", "--porcelain"]).current_dir(&big.path))?;
    let clone = place.path().join("clone");
    let cloned = timed(Program::new("git").args(["clone", "-q", "--shared"]).arg(&big.path).arg(&clone))?;
    Ok(table(files, &big_warm, &small_warm, copied, cloned, status))
}

async fn warm(sandboxes: &Sandboxes, repository: &Repository, name: &str) -> Result<Warm> {
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
        warm.check_out.push(bash(&sandbox, CHECK_OUT, &repository.commit).await?);
        warm.first_status.push(bash(&sandbox, STATUS, "").await?);
        bash(&sandbox, CHANGE, "").await?;
        warm.collect.push(bash(&sandbox, COLLECT, "").await?);
        sandboxes.destroy(sandbox.id()).await?;
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

/// A repository with one commit.
struct Repository {
    path: PathBuf,
    commit: String,
}

/// Makes a repository of so many files of about 4 KiB each.
fn repository(path: &Path, files: u32) -> Result<Repository> {
    for folder in 0..files.div_ceil(FILES_A_FOLDER) {
        let within = path.join(format!("d{folder}"));
        fs::create_dir_all(&within)?;
        for file in 0..FILES_A_FOLDER {
            fs::write(within.join(format!("f{file}")), format!("{folder} {file}\n").repeat(500))?;
        }
    }
    let git = |arguments: &[&str]| timed(Program::new("git").args(arguments).current_dir(path));
    git(&["init", "-q"])?;
    git(&["add", "-A"])?;
    git(&[
        "-c",
        "gc.auto=0",
        "-c",
        "user.name=bench",
        "-c",
        "user.email=bench@localhost",
        "commit",
        "-q",
        "-m",
        "files",
    ])?;
    let output = Program::new("git").args(["rev-parse", "HEAD"]).current_dir(path).output()?;
    Ok(Repository { path: path.to_owned(), commit: String::from_utf8(output.stdout)?.trim().to_owned() })
}

fn timed(program: &mut Program) -> Result<Duration> {
    let began = Instant::now();
    let status = program.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("{program:?} failed");
    }
    Ok(began.elapsed())
}

fn table(files: u32, big: &Warm, small: &Warm, copied: Duration, cloned: Duration, status: Duration) -> String {
    let mut text = format!("{:<52} {:>12} {:>12} {:>7}\n", format!("{files} files, ms"), "median", "p95", "ratio");
    let mut line = |name: &str, times: &[Duration], base: &[Duration]| {
        let (median, p95) = (percentile_ms(times, 50), percentile_ms(times, 95));
        let ratio = median / percentile_ms(base, 50);
        // Writing to a string cannot fail.
        let _written = writeln!(text, "{name:<52} {median:>12.2} {p95:>12.2} {ratio:>7.2}");
    };
    let sum = |warm: &Warm| warm.launch.iter().zip(&warm.check_out).map(|(a, b)| *a + *b).collect::<Vec<_>>();
    let (big_start, small_start) = (sum(big), sum(small));
    line("a small repository: launched and checked out", &small_start, &small_start);
    line("this one: launched and checked out", &big_start, &small_start);
    line("  of it the launch", &big.launch, &small.launch);
    line("copying a checkout (cp -a)", &[copied], &big_start);
    line("cloning (git clone --shared)", &[cloned], &big_start);
    line("git status in a plain checkout", &[status], &[status]);
    line("first git status in the sandbox", &big.first_status, &[status]);
    line("add --all and diff after ten changes", &big.collect, &small.collect);
    text
}

/// The time below which this share of all rounds stayed, in milliseconds.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.len().checked_sub(1).map_or(f64::NAN, |last| times[last * percent / 100].as_secs_f64() * 1000.0)
}

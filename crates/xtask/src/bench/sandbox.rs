//! How long sandboxes take, beside `bwrap`, `crun` and `nsenter` in the same run.
//!
//! Each round does everything once, in turn, so that a busy neighbour slows all alike: trust the ratios. Build
//! `carrel-runner` into the same profile first; the launcher beside this program is the one measured. `crun` refuses
//! machines with both kinds of cgroups: there, run this in a mount namespace with the second kind unmounted.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use carrel_domain::SandboxId;
use carrel_sandbox::{Command, Launcher, Limits, LocalOptions, SandboxSpec, Sandboxes};
use serde_json::json;
use uuid::Uuid;

/// Rounds that are run and not counted: caches fill, the launcher's memory is touched.
const WARM_UP: u32 = 3;

/// Measures so many rounds and prints a table.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
pub(crate) fn run(iterations: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = runtime.block_on(measure(iterations))?;
    println!("{table}");
    Ok(())
}

/// One line of the table.
struct Series {
    name: &'static str,
    times: Vec<Duration>,
    /// Why there are no times: the program is not installed, or refuses this machine.
    absent: Option<String>,
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self { name, times: Vec::new(), absent: None }
    }

    fn push(&mut self, time: Result<Duration, String>) {
        match time {
            Ok(time) => self.times.push(time),
            Err(reason) => self.absent = Some(reason),
        }
    }

    /// The time below which this share of all rounds stayed, in milliseconds.
    fn percentile_ms(&self, percent: usize) -> Option<f64> {
        let mut times = self.times.clone();
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        Some(times[last * percent / 100].as_secs_f64() * 1000.0)
    }
}

async fn measure(iterations: u32) -> Result<String> {
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sandboxes = Sandboxes::open(LocalOptions {
        folder: place.path().join("sandboxes"),
        private_paths: Vec::new(),
        launcher: Launcher::beside_tests()?,
        limits: Limits::default(),
    })
    .await?;
    let bundle = place.path().join("bundle");
    write_bundle(&bundle)?;
    let running = sandboxes.launch(SandboxSpec::new(new_id())).await?;
    let record = fs::read(place.path().join("sandboxes").join(running.id().to_string()).join("runner.json"))?;
    let record: serde_json::Value = serde_json::from_slice(&record)?;
    let target = record["pid"].to_string();

    let mut rows = [
        "sandbox: launch to the first command's start",
        "sandbox: launch until `true` is over",
        "sandbox: destroy, on the caller's path",
        "sandbox: all of it",
        "bwrap, all namespaces, read-only bind",
        "crun run, minimal bundle",
        "a command in a running sandbox",
        "nsenter -a, into the same",
    ]
    .map(Series::new);
    for round in 0..iterations + WARM_UP {
        let [started, over, destroyed] = launch_run_destroy(&sandboxes).await?;
        let began = Instant::now();
        running.run(Command::new(format!("true-{round}"), ["true"]).directory("/")).await?;
        let command = began.elapsed();
        let times = [
            Ok(started),
            Ok(over),
            Ok(destroyed),
            Ok(over + destroyed),
            time("bwrap", &["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"], None)?,
            time("crun", &["--cgroup-manager=disabled", "run", "carrel-bench"], Some(&bundle))?,
            Ok(command),
            time("nsenter", &["-a", "--preserve-credentials", "-t", &target, "true"], None)?,
        ];
        if round >= WARM_UP {
            for (row, time) in rows.iter_mut().zip(times) {
                row.push(time);
            }
        }
    }
    sandboxes.destroy(running.id()).await?;
    Ok(table(&rows))
}

/// When the first command had started, when it was over, and how long the destruction took.
async fn launch_run_destroy(sandboxes: &Sandboxes) -> Result<[Duration; 3]> {
    let began = Instant::now();
    let sandbox = sandboxes.launch(SandboxSpec::new(new_id())).await?;
    let mut process = sandbox.exec(Command::new("true", ["true"]).directory("/")).await?;
    let started = began.elapsed();
    while process.next().await.is_some() {}
    let over = began.elapsed();
    let began = Instant::now();
    sandboxes.destroy(sandbox.id()).await?;
    Ok([started, over, began.elapsed()])
}

/// How long a program takes from its start to its end, or why that cannot be known.
fn time(program: &str, arguments: &[&str], folder: Option<&Path>) -> Result<Result<Duration, String>> {
    let mut command = Program::new(program);
    command.args(arguments).current_dir(folder.unwrap_or(Path::new("/"))).stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let output = match command.stderr(Stdio::piped()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Err("not installed".to_owned())),
        Err(error) => return Err(error).with_context(|| format!("cannot start `{program}`")),
    };
    let took = began.elapsed();
    let refusal = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if output.status.success() { Ok(took) } else { Err(refusal) })
}

/// A bundle with the host's programs in it, all namespaces, and `true` to run.
fn write_bundle(folder: &Path) -> Result<()> {
    for mount_point in ["proc", "dev", "usr", "bin", "lib", "lib64"] {
        fs::create_dir_all(folder.join("rootfs").join(mount_point))?;
    }
    let bind = |path: &str| json!({"destination": path, "source": path, "type": "bind", "options": ["bind", "ro"]});
    let mut mounts = vec![json!({"destination": "/proc", "type": "proc", "source": "proc"})];
    mounts.extend(["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).exists()).map(bind));
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.0",
        "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/usr/bin/true"], "cwd": "/"},
        "root": {"path": "rootfs", "readonly": true},
        "mounts": mounts,
        "linux": {"namespaces": namespaces},
    });
    fs::write(folder.join("config.json"), config.to_string()).context("cannot write the bundle")
}

fn table(rows: &[Series]) -> String {
    let base = rows.iter().find(|row| row.name.ends_with("all of it")).and_then(|row| row.percentile_ms(50));
    let command = rows.iter().find(|row| row.name.starts_with("a command")).and_then(|row| row.percentile_ms(50));
    let mut text = format!("{:<46} {:>10} {:>10} {:>7}\n", "", "median ms", "p95 ms", "ratio");
    for row in rows {
        let base = if row.name.starts_with("a command") || row.name.starts_with("nsenter") { command } else { base };
        // Writing to a string cannot fail.
        let _written = match (row.percentile_ms(50), row.percentile_ms(95), base) {
            (Some(median), Some(p95), Some(base)) => {
                writeln!(text, "{:<46} {median:>10.2} {p95:>10.2} {:>7.2}", row.name, median / base)
            }
            _ => writeln!(text, "{:<46} {}", row.name, row.absent.as_deref().unwrap_or("not measured")),
        };
    }
    text
}

fn new_id() -> SandboxId {
    SandboxId::from_uuid(Uuid::now_v7())
}

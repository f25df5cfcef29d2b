//! Many sandboxes at once: how long they take to launch, what one that idles costs in memory, runner included.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use carrel_domain::SandboxId;
use carrel_sandbox::{Command, Launcher, Limits, LocalOptions, SandboxSpec, Sandboxes};
use uuid::Uuid;

/// Launches so many, lets each run a command, and prints what they take.
#[expect(clippy::print_stdout, reason = "the figures are what this command is for")]
pub(crate) fn run(count: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(measure(count))?);
    Ok(())
}

async fn measure(count: u32) -> Result<String> {
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = place.path().join("sandboxes");
    let sandboxes = Sandboxes::open(LocalOptions {
        folder: folder.clone(),
        private_paths: Vec::new(),
        launcher: Launcher::beside_tests()?,
        limits: Limits::default(),
    })
    .await?;
    let before = available_kib()?;
    let began = Instant::now();
    let mut running = Vec::new();
    for _ in 0..count {
        running.push(sandboxes.launch(SandboxSpec::new(SandboxId::from_uuid(Uuid::now_v7()))).await?);
    }
    let launched = began.elapsed();
    for sandbox in &running {
        sandbox.run(Command::new("true", ["true"]).directory("/")).await?;
    }
    let commanded = began.elapsed();
    let after = available_kib()?;
    let mut proportional_kib = 0;
    for sandbox in &running {
        let record = fs::read(folder.join(sandbox.id().to_string()).join("runner.json"))?;
        let record: serde_json::Value = serde_json::from_slice(&record)?;
        proportional_kib += proportional(&fs::read_to_string(format!("/proc/{}/smaps_rollup", record["pid"]))?);
    }
    let began = Instant::now();
    for sandbox in &running {
        sandboxes.destroy(sandbox.id()).await?;
    }
    let destroyed = began.elapsed();
    let each = f64::from(count);
    Ok(format!(
        "{count} sandboxes: launched in {:.0} ms ({:.2} ms each), a command in each after {:.0} ms, destroyed in {:.0} ms\n\
         an idle one: {:.0} KiB of its runner (proportional), {:.0} KiB less memory available on the machine",
        launched.as_secs_f64() * 1000.0,
        launched.as_secs_f64() * 1000.0 / each,
        commanded.as_secs_f64() * 1000.0,
        destroyed.as_secs_f64() * 1000.0,
        proportional_kib as f64 / each,
        (before as f64 - after as f64) / each,
    ))
}

/// `Pss` of a `smaps_rollup`.
fn proportional(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("Pss:")).map_or(0, kib)
}

/// What the kernel says could still be used.
fn available_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).map(kib).context("/proc/meminfo tells no memory")
}

fn kib(text: &str) -> u64 {
    text.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

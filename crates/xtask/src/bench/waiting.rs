//! Many attempts that wait for a slow model at once, in one service: what each takes of its memory, and whether all of
//! them come to their end when the model answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrel_testkit::World;
use carrel_testkit::model::{Reply, Script};

use super::figures::{Used, percentile_ms};
use super::warm;

/// How long the model thinks, for each attempt that there is: all must be waiting before the first is answered.
const THINKING_EACH: Duration = Duration::from_millis(250);
/// How long all of it may take, beside the thinking.
const PATIENCE: Duration = Duration::from_secs(600);
/// What of an attempt must not be more than this, by the project's own goal.
const GOAL_MIB: f64 = 1.0;

/// Measures so many attempts and prints what was found.
#[expect(clippy::print_stdout, reason = "the figures are what this command is for")]
pub(crate) fn run(count: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(measure(count))?);
    Ok(())
}

async fn measure(count: u32) -> Result<String> {
    let thinking = THINKING_EACH * count + Duration::from_secs(20);
    let mut slow = Reply::message("Done.");
    slow.delay_ms = u64::try_from(thinking.as_millis())?;
    let script = Script::new([slow]).when("Get ready", [Reply::message("Ready.")]);
    let jobs = (count + 1).to_string();
    let program = warm::program()?;
    let world = World::with(&program.to_string_lossy(), script, &[("CARREL_MAX_JOBS", &jobs)]).await;
    let repository = world.repository("project", &[("README.md", "A project.\n")]);
    world.run(&repository, "Get ready").await;
    let (service, earlier) = (world.service_pid(), world.model().requests().len());
    let before = Used::by(service)?;

    let began = Instant::now();
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(world.create(&repository, &format!("Wait, number {number}")).await);
    }
    let last = earlier + usize::try_from(count)? - 1;
    let all = tokio::time::timeout(PATIENCE, world.model().request(last)).await;
    all.with_context(|| format!("only {} of {count} ask the model", world.model().requests().len() - earlier))?;
    let waiting_after = began.elapsed();
    let during = Used::by(service)?;
    if world.model().requests()[earlier..].iter().any(|request| request.answered_at.is_some()) {
        bail!("the first was answered before the last had asked: this machine is too slow for this benchmark");
    }

    // Nobody watches while they wait: who does has less patience than this model.
    tokio::time::sleep(thinking.saturating_sub(began.elapsed())).await;
    let mut ends = Vec::new();
    for id in &ids {
        let task = tokio::time::timeout(thinking + PATIENCE, world.ended(id)).await.context("a task does not end")?;
        let state = task.pointer("/turns/0/attempts/0/state").and_then(|state| state.as_str()).unwrap_or_default();
        if state != "ready" {
            bail!("a task ended as `{state}`: {task:#}");
        }
        ends.push(began.elapsed());
    }
    let each = (during.share_mib - before.share_mib) / f64::from(count);
    let verdict = if each <= GOAL_MIB { "held" } else { "not held" };
    Ok(format!(
        "{count} attempts wait for the model after {:.1} s ({:.0} ms each); the service takes {:.1} MiB, {each:.3} MiB for \
         each attempt (goal {GOAL_MIB} MiB: {verdict}), and {:.1} s of processor time since the first\n\
         all ended; the last {:.1} s after the model had thought for {:.0} s",
        waiting_after.as_secs_f64(),
        waiting_after.as_secs_f64() * 1000.0 / f64::from(count),
        during.share_mib,
        during.cpu_seconds - before.cpu_seconds,
        (percentile_ms(&ends, 100) / 1000.0 - thinking.as_secs_f64()).max(0.0),
        thinking.as_secs_f64(),
    ))
}

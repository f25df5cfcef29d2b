//! How long the agent takes from the end of a model's answer to its next request, when the answer asks for a command
//! that does nothing: recording, starting a shell in the sandbox, its result, and the request itself.
//!
//! The model is a server of ours on the loopback that answers at once, so all of the time is ours. Long runs must be
//! as fast at their end as at their beginning. Build `carrel-runner` into the same profile first.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use carrel_agent::{
    AgentContext, AgentLimits, AgentTask, Entry, Journal, ModelClient, ModelEndpoint, run as run_agent,
};
use carrel_domain::task::Mode;
use carrel_domain::{Redactor, SandboxId};
use carrel_sandbox::{Command, Launcher, Limits, LocalOptions, Sandbox, SandboxSpec, Sandboxes};
use carrel_testkit::model::{Reply, Script, ScriptedModel};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many turns are compared at the beginning and at the end of a run.
const EDGE: usize = 20;

/// Measures a run of so many turns, with and without a login shell, and prints a table.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
pub(crate) fn run(turns: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut text = format!(
        "{:<34} {:>10} {:>8} {:>11} {:>11} {:>13} {:>12}\n",
        "response's end to next request", "median ms", "p95 ms", "first 20", "last 20", "command alone", "bytes sent"
    );
    for (name, login) in [("`true` in a login shell (default)", true), ("`true` in a plain shell", false)] {
        let measured = runtime.block_on(measure(turns, login))?;
        let edge = EDGE.min(measured.gaps.len());
        let (first, last) = (&measured.gaps[..edge], &measured.gaps[measured.gaps.len() - edge..]);
        writeln!(
            text,
            "{name:<34} {:>10.2} {:>8.2} {:>11.2} {:>11.2} {:>13.2} {:>12}",
            percentile_ms(&measured.gaps, 50),
            percentile_ms(&measured.gaps, 95),
            percentile_ms(first, 50),
            percentile_ms(last, 50),
            percentile_ms(&measured.alone, 50),
            measured.bytes_sent,
        )?;
    }
    println!("{text}");
    Ok(())
}

/// What one run took.
struct Measured {
    /// From the end of an answer to the arrival of the next request, turn by turn.
    gaps: Vec<Duration>,
    /// The same command through the sandbox without an agent.
    alone: Vec<Duration>,
    /// The length of all requests together.
    bytes_sent: usize,
}

async fn measure(turns: u32, login: bool) -> Result<Measured> {
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sandboxes = Sandboxes::open(LocalOptions {
        folder: place.path().join("sandboxes"),
        private_paths: Vec::new(),
        launcher: Launcher::beside_tests()?,
        limits: Limits::default(),
    })
    .await?;
    let sandbox = sandboxes.launch(SandboxSpec::new(SandboxId::from_uuid(Uuid::now_v7()))).await?;
    // Each command is another one, so that the agent is not taken for one that runs in a circle.
    let command = |turn| Reply::call("exec_command", json!({ "cmd": format!("true {turn}"), "login": login }));
    let model = ScriptedModel::start(Script::new((0..turns).map(command).chain([Reply::message("Done.")]))).await?;
    let outcome = ask(&model, &sandbox, turns).await;
    let alone = run_alone(&sandbox, turns, login).await;
    sandboxes.destroy(sandbox.id()).await?;
    outcome?;

    let requests = model.requests();
    let gaps = requests.windows(2).map(|pair| {
        let answered = pair[0].answered_at.context("an answer was cut off")?;
        Ok(pair[1].received_at.saturating_duration_since(answered))
    });
    Ok(Measured {
        gaps: gaps.collect::<Result<_>>()?,
        alone: alone?,
        bytes_sent: requests.iter().map(|request| request.body.len()).sum(),
    })
}

async fn ask(model: &ScriptedModel, sandbox: &Sandbox, turns: u32) -> Result<()> {
    let (journal, entries) = Journal::channel();
    tokio::spawn(store_at_once(entries));
    let context = AgentContext {
        endpoint: &ModelEndpoint::new("gpt-5-bench", model.url(), None),
        client: &ModelClient::new()?,
        sandbox,
        journal: &journal,
        redactor: &Redactor::default(),
        cancel: CancellationToken::new(),
    };
    let task = AgentTask {
        prompt: "Do nothing, often.".to_owned(),
        mode: Mode::Code,
        workspace: "/workspace".to_owned(),
        base: "0".repeat(40).parse()?,
        network: carrel_domain::NetworkPolicy::default(),
        branch: None,
        history: Vec::new(),
        resumed: Vec::new(),
        sandbox_kept_running: false,
        shown: std::collections::BTreeMap::new(),
        cache_key: "bench".to_owned(),
        limits: AgentLimits { steps: turns + 1, ..AgentLimits::default() },
    };
    run_agent(task, &context).await?;
    Ok(())
}

async fn run_alone(sandbox: &Sandbox, turns: u32, login: bool) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for turn in 0..turns {
        let began = Instant::now();
        sandbox
            .run(Command::new(format!("alone-{turn}"), ["/bin/bash", if login { "-lc" } else { "-c" }, "true"]))
            .await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// A store that costs nothing: what a database costs is measured with the database.
async fn store_at_once(mut entries: mpsc::Receiver<Entry>) {
    while let Some(entry) = entries.recv().await {
        if let Entry::Store { stored, .. } = entry {
            // Live output is not waited for.
            let _gone = stored.send(());
        }
    }
}

fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

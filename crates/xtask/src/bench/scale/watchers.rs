//! Many people who watch one task while it speaks: how late each hears of an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use carrel_testkit::World;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::Client;
use crate::figures::{Used, percentile_ms};

/// How long each listens once all do.
const LISTENING: Duration = Duration::from_secs(10);
/// How many connect at the same time.
const AT_ONCE: usize = 100;
/// What an event may take to whoever watches, at the 99th percentile.
const GOAL_MS: f64 = 200.0;

/// Has so many watch a task of this service, and says what they heard.
pub(super) async fn measure(world: &World, task: &str, count: usize) -> Result<String> {
    let client = Arc::new(Client::of(world)?);
    let last = last_event(&client, task).await?;
    let before = Used::by(world.service_pid())?;
    let (connected, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(AT_ONCE)));
    let (all_there, waiting) = tokio::sync::watch::channel(None::<Instant>);
    let mut watching = Vec::new();
    for _ in 0..count {
        let (client, connected, gate, waiting) = (client.clone(), connected.clone(), gate.clone(), waiting.clone());
        let task = task.to_owned();
        watching.push(tokio::spawn(async move {
            let permit = gate.acquire().await?;
            let stream = client.stream(&task, last).await?;
            drop(permit);
            connected.fetch_add(1, Ordering::Relaxed);
            listen(stream, waiting).await
        }));
    }
    while connected.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(ended) = watching.iter().position(tokio::task::JoinHandle::is_finished) {
            watching.swap_remove(ended).await??;
        }
    }
    // What was said while they came is heard by now.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = Used::by(world.service_pid())?.cpu_seconds;
    all_there.send(Some(Instant::now() + LISTENING))?;
    let mut late = Vec::new();
    for one in watching {
        late.extend(one.await??);
    }
    let after = Used::by(world.service_pid())?;
    let p99 = percentile_ms(&late, 99);
    Ok(format!(
        "{} events heard in {} s, {:.0} / {p99:.0} ms after they were told (goal {GOAL_MS} ms at p99: {}), {:.0} KiB of memory \
         and {:.2} ms of processor a second each",
        late.len(),
        LISTENING.as_secs(),
        percentile_ms(&late, 50),
        if p99 <= GOAL_MS { "held" } else { "not held" },
        (after.share_mib - before.share_mib) * 1024.0 / count as f64,
        (after.cpu_seconds - cpu) * 1000.0 / LISTENING.as_secs_f64() / count as f64,
    ))
}

async fn last_event(client: &Client, task: &str) -> Result<i64> {
    // It speaks as soon as its command runs.
    loop {
        let (_, page) = client.timed(&format!("tasks/{task}/events?limit=1000")).await?;
        let events = page["items"].as_array().cloned().unwrap_or_default();
        if let Some(output) = events.iter().rfind(|event| event["type"] == "command.output") {
            return output["seq"].as_i64().context("an event has a number");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads until the time is over; gives how late each event of that time was.
async fn listen(
    mut stream: reqwest::Response,
    mut until: tokio::sync::watch::Receiver<Option<Instant>>,
) -> Result<Vec<Duration>> {
    let (mut text, mut late) = (Vec::new(), Vec::new());
    let end = loop {
        tokio::select! {
            chunk = stream.chunk() => drop(chunk?.context("the stream ended")?),
            changed = until.changed() => {
                changed?;
                if let Some(end) = *until.borrow() { break end; }
            }
        }
    };
    let listening = async {
        while let Some(chunk) = stream.chunk().await? {
            let now = Timestamp::now();
            text.extend_from_slice(&chunk);
            while let Some(line) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=line).collect();
                let Some(data) = line.strip_prefix(b"data: ") else { continue };
                // A line whose beginning came before the time is none.
                let Ok(event) = serde_json::from_slice::<Value>(data) else { continue };
                let at: Timestamp = event["at"].as_str().context("an event has a time")?.parse()?;
                late.push(Duration::try_from(now.duration_since(at)).unwrap_or_default());
            }
        }
        anyhow::bail!("the stream ended")
    };
    match tokio::time::timeout_at(end.into(), listening).await {
        Ok(ended) => ended,
        Err(_) => Ok(late),
    }
}

//! The limits of a sandbox while the agent works in it: what it runs into becomes an event, once for each time.

use std::future::Future;
use std::time::Duration;

use carrel_domain::{EventBody, ResourceLimits};
use carrel_sandbox::{LimitCounters, Sandbox};

use super::raise::Raise;
use super::{Halt, Site};

/// How often it is looked what the sandbox ran into.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How much of its time a sandbox must have been held back, within one look, to be told.
const THROTTLED_US: u64 = 1_500_000;

/// Does the work and tells of every limit that the sandbox runs into meanwhile.
pub(crate) async fn during<T>(
    site: &Site<'_>,
    sandbox: &Sandbox,
    limits: &ResourceLimits,
    work: impl Future<Output = T>,
) -> Result<T, Halt> {
    let sandboxes = &site.control.inner.sandboxes;
    let mut before = sandboxes.limit_hits(sandbox.id()).await.unwrap_or_default();
    let mut told_of_cpu = false;
    tokio::pin!(work);
    loop {
        let done = tokio::select! {
            outcome = &mut work => Some(outcome),
            () = tokio::time::sleep(LOOK_EVERY) => None,
        };
        // A sandbox that is gone has nothing to tell; the agent finds out by itself.
        if let Ok(now) = sandboxes.limit_hits(sandbox.id()).await {
            let raise = Raise { environment: site.environment, limits };
            let news = news(limits, &before, &now, &mut told_of_cpu);
            site.tell_all(news.into_iter().map(|body| raise.told(body)).collect()).await?;
            before = now;
        }
        if let Some(outcome) = done {
            return Ok(outcome);
        }
    }
}

/// What is new since the last look, for people.
fn news(
    limits: &ResourceLimits,
    before: &LimitCounters,
    now: &LimitCounters,
    told_of_cpu: &mut bool,
) -> Vec<EventBody> {
    let mut bodies = Vec::new();
    let mut hit = |limit: &str, message: String| bodies.push(EventBody::LimitHit { limit: limit.to_owned(), message });
    if now.oom_kills > before.oom_kills {
        let limit = limits.memory_bytes.map_or_else(String::new, |bytes| format!(" of {}", size(bytes)));
        hit(
            "memory",
            format!(
                "the sandbox ran out of its memory{limit}; {} processes were ended",
                now.oom_kills - before.oom_kills
            ),
        );
    }
    if now.processes_refused > before.processes_refused {
        hit(
            "processes",
            format!("the sandbox has all the {} processes it may have; no more were made", limits.processes),
        );
    }
    if now.disk_exceeded && !before.disk_exceeded {
        let limit = limits.disk_bytes.map_or_else(|| "what the machine has left".to_owned(), size);
        hit("disk", format!("the sandbox wrote more than {limit}; its commands were ended"));
    }
    let throttled = now.cpu_throttled_us.saturating_sub(before.cpu_throttled_us);
    if throttled > THROTTLED_US && !*told_of_cpu {
        *told_of_cpu = true;
        hit("cpu", "the sandbox uses all the processor time it may have, and waits for more".to_owned());
    }
    bodies
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{bytes} bytes"),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let limits = ResourceLimits::default();
        let before = LimitCounters { oom_kills: 1, ..LimitCounters::default() };
        let now = LimitCounters { oom_kills: 3, disk_exceeded: true, ..before };

        let told = news(&limits, &before, &now, &mut false);

        let [EventBody::LimitHit { limit: first, message }, EventBody::LimitHit { limit: second, .. }] =
            told.as_slice()
        else {
            panic!("{told:?}");
        };
        assert_eq!((first.as_str(), second.as_str()), ("memory", "disk"));
        assert!(message.contains("4 GiB") && message.contains("2 processes"), "{message}");
        assert_eq!(news(&limits, &now, &now, &mut false), []);
    }
}

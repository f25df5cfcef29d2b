//! Whether this process can work: what `/readyz` says. The words name no path, no address and no error of others; those are
//! in the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::Control;

/// A worker looks into its queues every second; it may wait for the database a while.
const LOOKS_WITHIN: Duration = Duration::from_secs(30);

/// How long the database, and the folder of sandboxes, may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One thing that must be in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What: `database`, `worker` or `sandboxes`.
    pub name: &'static str,
    /// What is wrong with it, if something is.
    pub problem: Option<&'static str>,
}

/// When the worker was last heard of.
#[derive(Default)]
pub(crate) struct Pulse(Mutex<Beats>);

#[derive(Default, Clone, Copy)]
struct Beats {
    looked: Option<Instant>,
    written: Option<Instant>,
    /// What the machine's clock said then.
    written_at: Option<Timestamp>,
    /// Since when it has been written again and again, without a gap.
    steady_since: Option<Instant>,
}

/// How far a clock may be off what has passed before it is taken for set anew.
const JUMP: Duration = Duration::from_secs(5);

impl Pulse {
    /// The worker has looked into a queue.
    pub(crate) fn looked(&self) {
        self.change(|beats| beats.looked = Some(Instant::now()));
    }

    /// The worker has written into the database that it is there, at this time by the machine's clock.
    pub(crate) fn written(&self, at: Timestamp) {
        self.change(|beats| {
            let now = Instant::now();
            beats.steady_since.get_or_insert(now);
            (beats.written, beats.written_at) = (Some(now), Some(at));
        });
    }

    /// The worker could not write that it is there.
    pub(crate) fn missed(&self) {
        self.change(|beats| beats.steady_since = None);
    }

    /// Whether the worker has been heard of for so long without a gap, and neither it nor its clock has stood still or been
    /// set since: only then can it tell who is gone.
    pub(crate) fn is_steady(&self, for_so_long: Duration, now: Timestamp) -> bool {
        let beats = self.beats();
        let (Some(since), Some(written), Some(at)) = (beats.steady_since, beats.written, beats.written_at) else {
            return false;
        };
        let by_clock = now.duration_since(at).as_secs_f64();
        let is_even = (by_clock - written.elapsed().as_secs_f64()).abs() < JUMP.as_secs_f64();
        since.elapsed() >= for_so_long && written.elapsed() < for_so_long && is_even
    }

    fn change(&self, change: impl FnOnce(&mut Beats)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    fn beats(&self) -> Beats {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Control {
    /// Looks whether everything is in order. A process that does no work is not asked for a worker and for sandboxes.
    pub async fn checks(&self) -> Vec<Check> {
        let beats = self.pulse.beats();
        let mut checks = vec![Check { name: "database", problem: self.database_problem(beats).await }];
        if let Some(looked) = beats.looked {
            let stands_still = looked.elapsed() > LOOKS_WITHIN;
            let problem = stands_still.then_some("the worker has not looked for work for a while");
            checks.push(Check { name: "worker", problem });
        }
        if !self.inner.role.works() {
            return checks;
        }
        let listed = tokio::time::timeout(PATIENCE, self.inner.sandboxes.list()).await;
        let problem = match listed {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => {
                tracing::error!(%error, "not ready: sandboxes cannot be listed");
                Some("sandboxes cannot be listed; `carrel doctor` says more")
            }
            Err(_) => Some("the folder of sandboxes does not answer"),
        };
        checks.push(Check { name: "sandboxes", problem });
        checks
    }

    async fn database_problem(&self, beats: Beats) -> Option<&'static str> {
        match tokio::time::timeout(PATIENCE, self.inner.store.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "not ready: the database refuses");
                return Some("the database refuses; the service's log says why");
            }
            Err(_) => return Some("the database does not answer"),
        }
        let unwritten = beats.written.is_some_and(|written| written.elapsed() > self.inner.limits.gone_after);
        unwritten.then_some("the database could not be written to for a while")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_heard_of_all_the_time_can_tell_who_is_gone() {
        let (pulse, at) = (Pulse::default(), Timestamp::from_second(1_800_000_000).expect("a time"));
        let hour = Duration::from_secs(3600);
        assert!(!pulse.is_steady(Duration::ZERO, at), "it was never heard of");

        pulse.written(at);

        assert!(!pulse.is_steady(hour, at), "it was not heard of for so long");
        pulse.change(|beats| beats.steady_since = Instant::now().checked_sub(hour));
        assert!(pulse.is_steady(hour, at));
        assert!(!pulse.is_steady(hour, at + Duration::from_secs(60)), "its clock was set");
        pulse.missed();
        pulse.written(at);
        assert!(!pulse.is_steady(hour, at), "there was a gap");
    }

    #[test]
    fn a_pulse_that_was_never_felt_is_no_worker() {
        let pulse = Pulse::default();
        assert!(pulse.beats().looked.is_none() && pulse.beats().written.is_none());

        pulse.looked();

        assert!(pulse.beats().looked.is_some_and(|at| at.elapsed() < LOOKS_WITHIN));
        assert!(pulse.beats().written.is_none());
    }
}

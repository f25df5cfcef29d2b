//! Keeping sandboxes within their share of the disk, where the file system itself cannot.
//!
//! One task watches all sandboxes. What the disk has lost since a sandbox was last measured is the most that it can
//! have written: so it is measured again only once that could have brought it over its limit, or after a while. When
//! it is over, its commands are ended; its runner and its files stay. The same befalls the sandbox that grew most when
//! the machine's disk is nearly full, whatever its own limit.

mod deleted;
mod measure;
mod processes;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use carrel_domain::SandboxId;

pub(crate) use measure::measure;
pub(crate) use watch::{Disks, Watcher, free_and_floor, measure_sandbox};

/// How often the disk is looked at while there are sandboxes; that look is one system call.
const TICK: Duration = Duration::from_millis(250);
/// A walk is followed by this many times its own length without one, so that walks never cost more of a processor.
const REST: u32 = 19;
/// After this long a sandbox is measured in any case, because others may have freed what it wrote ...
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// ... or after this many times the length of its last walk.
const AT_LEAST_EVERY_WALKS: u32 = 200;
/// Over how long growth is compared when the disk is nearly full.
const GROWTH_OVER: Duration = Duration::from_secs(60);
/// How far apart the measures are that are compared.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);
/// A sandbox that was stopped is stopped again when it has grown by this much: until then it may clean up.
const SLACK_BYTES: u64 = 16 << 20;
/// Growth below this does not fill a disk.
const NOTABLE_BYTES: u64 = 16 << 20;
/// How long after all were measured for a full disk they are measured again.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(3);

/// What is known of one sandbox's use of the disk.
#[derive(Debug)]
struct Watched {
    limit_bytes: Option<u64>,
    /// Free bytes of the disk when it was first seen.
    free_first: u64,
    /// When it was last measured, how long that took, what was found, and what was free then.
    last: Option<Look>,
    /// What was found lately, oldest first.
    samples: VecDeque<Sample>,
    /// What it took when its commands were ended last.
    stopped_at: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    took: Duration,
    bytes: u64,
    /// What its processes had written.
    written: u64,
    free: u64,
}

/// What a measure found, to compare later ones with.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    bytes: u64,
    written: u64,
    free: u64,
}

impl From<Look> for Sample {
    fn from(Look { at, bytes, written, free, .. }: Look) -> Self {
        Self { at, bytes, written, free }
    }
}

impl Watched {
    fn new(limit_bytes: Option<u64>, free: u64) -> Self {
        Self { limit_bytes, free_first: free, last: None, samples: VecDeque::new(), stopped_at: None }
    }

    /// The most it can take now, given what is free.
    fn possible_bytes(&self, free: u64) -> u64 {
        self.last.map_or(u64::MAX, |last| last.bytes.saturating_add(last.free.saturating_sub(free)))
    }

    /// Whether it should be measured.
    fn is_due(&self, now: Instant, free: u64) -> bool {
        let (Some(limit), Some(last)) = (self.limit_bytes, self.last) else { return self.last.is_none() };
        let rested = now.duration_since(last.at);
        let tolerated = limit.max(self.stopped_at.map_or(0, |stopped| stopped + SLACK_BYTES));
        self.possible_bytes(free) > tolerated || rested >= AT_LEAST_EVERY.max(last.took * AT_LEAST_EVERY_WALKS)
    }

    /// Takes a measure. What could not be measured whole is charged with all that the disk has lost.
    fn measured(&mut self, look: Look, is_whole: bool) {
        let lost = self.free_first.saturating_sub(look.free);
        let bytes = if is_whole { look.bytes } else { look.bytes.max(lost) };
        let look = Look { bytes, ..look };
        self.last = Some(look);
        let age = |sample: Option<&Sample>| sample.map(|sample| look.at.duration_since(sample.at));
        // One that is old enough stays, to compare with.
        while age(self.samples.get(1)).is_some_and(|age| age >= GROWTH_OVER) {
            self.samples.pop_front();
        }
        if age(self.samples.back()).is_none_or(|age| age >= BETWEEN_SAMPLES) {
            self.samples.push_back(look.into());
        }
    }

    /// How much it has grown lately.
    fn growth_bytes(&self) -> u64 {
        let least = self.samples.iter().map(|sample| sample.bytes).min();
        self.last.map_or(0, |last| last.bytes.saturating_sub(least.unwrap_or(0)))
    }

    /// How much its processes have written lately, as far as the disk has lost as much meanwhile.
    fn written_bytes(&self) -> u64 {
        let least = self.samples.iter().map(|sample| sample.written).min();
        let most_free = self.samples.iter().map(|sample| sample.free).max();
        self.last.map_or(0, |last| {
            let written = last.written.saturating_sub(least.unwrap_or(0));
            written.min(most_free.unwrap_or(0).saturating_sub(last.free))
        })
    }

    /// Whether it takes more than it may.
    fn is_over(&self) -> bool {
        matches!((self.limit_bytes, self.last), (Some(limit), Some(last)) if last.bytes > limit)
    }

    /// Whether its commands are to be ended: it is over, and not only still over from the last time.
    fn must_stop(&self) -> bool {
        let bytes = self.last.map_or(0, |last| last.bytes);
        self.is_over() && self.stopped_at.is_none_or(|stopped| bytes > stopped + SLACK_BYTES)
    }
}

/// The sandbox that fills the disk: the one that grew most, if any did. Otherwise what was written may be where nobody
/// finds it, and it is the one whose processes wrote most while the disk was filled.
fn culprit(watched: &HashMap<SandboxId, Watched>) -> Option<SandboxId> {
    let most = |bytes: fn(&Watched) -> u64| {
        let all = watched.iter().map(|(id, watched)| (bytes(watched), *id));
        all.max().filter(|(bytes, _)| *bytes >= NOTABLE_BYTES).map(|(_, id)| id)
    };
    most(Watched::growth_bytes).or_else(|| most(Watched::written_bytes))
}

/// What must stay free when nobody says: 1 GiB, on small disks a fiftieth.
fn default_floor(size_bytes: u64) -> u64 {
    (size_bytes / 50).min(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn look(at: Instant, bytes: u64, free: u64) -> Look {
        Look { at, took: Duration::from_millis(10), bytes, written: 0, free }
    }

    #[test]
    fn a_sandbox_is_measured_only_when_it_can_have_crossed_its_limit() {
        let start = Instant::now();
        let mut watched = Watched::new(Some(100 * MIB), 1000 * MIB);
        assert!(watched.is_due(start, 1000 * MIB), "it was never measured");

        watched.measured(look(start, 20 * MIB, 1000 * MIB), true);

        let soon = start + Duration::from_secs(1);
        assert!(!watched.is_due(soon, 1000 * MIB));
        assert!(!watched.is_due(soon, 920 * MIB), "the disk lost 80 MiB");
        assert!(watched.is_due(soon, 919 * MIB), "the disk lost 81 MiB");
        assert!(watched.is_due(start + AT_LEAST_EVERY, 1000 * MIB));
    }

    #[test]
    fn a_stopped_sandbox_may_clean_up_and_is_stopped_again_when_it_grows() {
        let start = Instant::now();
        let mut watched = Watched::new(Some(100 * MIB), 1000 * MIB);
        watched.measured(look(start, 120 * MIB, 880 * MIB), true);
        assert!(watched.must_stop());

        watched.stopped_at = Some(120 * MIB);

        watched.measured(look(start, 130 * MIB, 870 * MIB), true);
        assert!(watched.is_over() && !watched.must_stop());
        watched.measured(look(start, 137 * MIB, 863 * MIB), true);
        assert!(watched.must_stop());
        watched.measured(look(start, 90 * MIB, 910 * MIB), true);
        assert!(!watched.is_over() && !watched.must_stop());
    }

    #[test]
    fn what_cannot_be_measured_whole_is_charged_with_what_the_disk_lost() {
        let start = Instant::now();
        let mut watched = Watched::new(Some(100 * MIB), 1000 * MIB);

        watched.measured(look(start, MIB, 700 * MIB), false);

        assert!(watched.must_stop());
    }

    #[test]
    fn the_one_that_grew_most_is_the_culprit_and_not_the_largest() {
        let start = Instant::now();
        let sandbox = || SandboxId::from_uuid(uuid::Uuid::now_v7());
        let (large, growing, still) = (sandbox(), sandbox(), sandbox());
        let mut all = HashMap::new();
        for (id, before, after) in [(large, 900, 905), (growing, 10, 200), (still, 5, 5)] {
            let mut watched = Watched::new(None, 1000 * MIB);
            watched.measured(look(start, before * MIB, 1000 * MIB), true);
            watched.measured(look(start, after * MIB, 1000 * MIB), true);
            all.insert(id, watched);
        }

        assert_eq!(culprit(&all), Some(growing));
        all.remove(&growing);
        assert_eq!(culprit(&all), None, "nobody wrote enough to fill a disk");
    }

    #[test]
    fn where_nobody_grew_the_one_that_wrote_while_the_disk_filled_is_the_culprit() {
        let start = Instant::now();
        let (hiding, rewriting) =
            (SandboxId::from_uuid(uuid::Uuid::now_v7()), SandboxId::from_uuid(uuid::Uuid::now_v7()));
        let all = |free_after: u64| {
            let watch = |written: u64| {
                let mut watched = Watched::new(None, 1000 * MIB);
                watched.measured(look(start, MIB, 1000 * MIB), true);
                watched.measured(Look { written, ..look(start, MIB, free_after) }, true);
                watched
            };
            HashMap::from([(hiding, watch(500 * MIB)), (rewriting, watch(90 * MIB))])
        };

        assert_eq!(culprit(&all(500 * MIB)), Some(hiding));
        assert_eq!(culprit(&all(995 * MIB)), None, "what was written took no room");
    }
}

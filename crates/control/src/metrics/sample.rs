//! Figures that are looked up when they are asked for.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use carrel_store::Queue;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels;
use crate::Control;

/// How long the database may take to say what waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// Clock ticks a second, and bytes a page, as Linux has them wherever Carrel runs.
const TICKS_A_SECOND: f64 = 100.0;
const PAGE_BYTES: i64 = 4096;

#[derive(Default)]
pub(super) struct Sampled {
    queue: Family<QueueJobs, Gauge>,
    oldest: Family<labels::Queue, Gauge<f64, AtomicU64>>,
    sandboxes: Gauge,
    connections: Family<Connections, Gauge>,
    database_up: Gauge,
    memory: Gauge,
    open_files: Gauge,
    cpu: Counter<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueJobs {
    queue: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Connections {
    state: &'static str,
}

impl Sampled {
    pub(super) fn register(&self, registry: &mut Registry) {
        let ours = registry.sub_registry_with_prefix("carrel");
        let help = "Jobs in the queue of the whole installation: `due` ones wait for a worker, `claimed` ones have one, \
                    `resting` ones are tried again later. Counted up to 10000 a queue";
        ours.register("queue_jobs", help, self.queue.clone());
        let help = "How long the job that has waited for longest has been due";
        ours.register_with_unit("queue_oldest", help, Unit::Seconds, self.oldest.clone());
        ours.register("sandboxes", "Sandboxes that live on this machine", self.sandboxes.clone());
        ours.register("database_connections", "Connections to the database", self.connections.clone());
        ours.register("database_up", "Whether the database has answered just now", self.database_up.clone());
        let process = registry.sub_registry_with_prefix("process");
        process.register_with_unit("resident_memory", "Memory in use", Unit::Bytes, self.memory.clone());
        process.register("open_fds", "Open file descriptors", self.open_files.clone());
        process.register_with_unit("cpu", "Processor time used", Unit::Seconds, self.cpu.clone());
    }

    /// Looks everything up. What cannot be had keeps its last value, and `database_up` says so.
    pub(super) async fn take(&self, control: &Control) {
        let up = tokio::time::timeout(PATIENCE, self.queues(control)).await.unwrap_or(false);
        self.database_up.set(i64::from(up));
        let pool = control.store().connections();
        self.connections.get_or_create(&Connections { state: "idle" }).set(i64::from(pool.idle));
        self.connections.get_or_create(&Connections { state: "in_use" }).set(i64::from(pool.in_use));
        if control.inner.role.works()
            && let Ok(there) = control.inner.sandboxes.list().await
        {
            self.sandboxes.set(whole(there.len()));
        }
        self.process();
    }

    async fn queues(&self, control: &Control) -> bool {
        for queue in [Queue::Attempts, Queue::Publications] {
            let waiting = match control.store().queue_depth(queue).await {
                Ok(waiting) => waiting,
                Err(error) => {
                    tracing::warn!(%error, "cannot count what waits");
                    return false;
                }
            };
            let name = labels::Queue::of(queue).queue;
            for (state, jobs) in [("due", waiting.due), ("claimed", waiting.claimed), ("resting", waiting.resting)] {
                self.queue.get_or_create(&QueueJobs { queue: name, state }).set(i64::from(jobs));
            }
            self.oldest.get_or_create(&labels::Queue::of(queue)).set(waiting.oldest.as_secs_f64());
        }
        true
    }

    fn process(&self) {
        let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        if let Some(pages) = text("statm").split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()) {
            self.memory.set(pages.saturating_mul(PAGE_BYTES));
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(whole(open.count()));
        }
        // The program's name, in parentheses, may hold anything; user and system time are the 12th and 13th field behind it.
        let stat = text("stat");
        let behind = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
        let ticks: f64 = behind.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        self.cpu.inner().store((ticks / TICKS_A_SECOND).to_bits(), Ordering::Relaxed);
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

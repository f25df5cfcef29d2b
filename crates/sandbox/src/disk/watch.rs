//! The task that watches the disk, and what others hear of it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use carrel_domain::SandboxId;
use nix::sys::statvfs::statvfs;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::measure::{Measure, measure};
use super::processes::processes_of;
use super::{BETWEEN_SEARCHES, Look, REST, Sample, TICK, Watched, culprit, default_floor};
use crate::keeper::{Keepers, Work};
use crate::limits::{self, LimitCounters};

/// What the rest of the backend tells the watcher, and hears from it.
#[derive(Debug)]
pub(crate) struct Disks {
    // Unbounded, so that a launch never waits: there is one word for each launch and each end.
    news: mpsc::UnboundedSender<News>,
    seen: Seen,
}

/// What each sandbox was last seen to take.
type Seen = Arc<Mutex<HashMap<SandboxId, LimitCounters>>>;

#[derive(Debug)]
enum News {
    Launched { id: SandboxId, limit_bytes: Option<u64> },
    Ended(SandboxId),
}

impl Disks {
    /// The two ends. The watcher is to be run as a task; it ends when this is dropped.
    pub(crate) fn new(folder: PathBuf, floor_bytes: Option<u64>, keepers: Keepers) -> (Self, Watcher) {
        let (news, inbox) = mpsc::unbounded_channel();
        let seen = Seen::default();
        let watcher = Watcher {
            folder,
            floor_bytes,
            keepers,
            inbox,
            seen: Arc::clone(&seen),
            watched: HashMap::new(),
            rest_until: Instant::now(),
            search_after: Instant::now(),
        };
        (Self { news, seen }, watcher)
    }

    /// A sandbox is there. One that was watched before begins anew.
    pub(crate) fn launched(&self, id: SandboxId, limit_bytes: Option<u64>) {
        // Without a watcher the runtime is ending, and all sandboxes are let be.
        let _ending = self.news.send(News::Launched { id, limit_bytes });
    }

    /// A sandbox is gone.
    pub(crate) fn ended(&self, id: SandboxId) {
        let _ending = self.news.send(News::Ended(id));
    }

    /// Adds what is known of a sandbox's use of the disk.
    pub(crate) fn add_to(&self, id: SandboxId, counters: LimitCounters) -> LimitCounters {
        let seen = lock(&self.seen).get(&id).copied().unwrap_or_default();
        let LimitCounters { disk_bytes, disk_exceeded, disk_was_full, .. } = seen;
        LimitCounters { disk_bytes, disk_exceeded, disk_was_full, ..counters }
    }
}

fn lock(seen: &Seen) -> MutexGuard<'_, HashMap<SandboxId, LimitCounters>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task's state.
pub(crate) struct Watcher {
    folder: PathBuf,
    floor_bytes: Option<u64>,
    keepers: Keepers,
    inbox: mpsc::UnboundedReceiver<News>,
    seen: Seen,
    watched: HashMap<SandboxId, Watched>,
    /// No walk before this, so that walks cost no more than their share.
    rest_until: Instant,
    /// No search for who fills the disk before this.
    search_after: Instant,
}

impl Watcher {
    /// Watches until the other end is dropped; `stop` ends the commands of a sandbox.
    pub(crate) async fn run<F: Future<Output = ()>>(mut self, stop: impl Fn(SandboxId) -> F) {
        let mut next_look = tokio::time::Instant::now();
        loop {
            let news = if self.watched.is_empty() {
                self.inbox.recv().await
            } else {
                match tokio::time::timeout_at(next_look, self.inbox.recv()).await {
                    Ok(news) => news,
                    Err(_time_to_look) => {
                        self.look(&stop).await;
                        next_look = tokio::time::Instant::now() + TICK;
                        continue;
                    }
                }
            };
            let Some(news) = news else { return };
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Launched { id, limit_bytes } => {
                let free = space(&self.folder).map_or(0, |space| space.free);
                self.watched.insert(id, Watched::new(limit_bytes, free));
                lock(&self.seen).remove(&id);
            }
            News::Ended(id) => {
                self.watched.remove(&id);
                lock(&self.seen).remove(&id);
            }
        }
    }

    async fn look<F: Future<Output = ()>>(&mut self, stop: &impl Fn(SandboxId) -> F) {
        let Ok((free, floor)) = free_and_floor(&self.folder, self.floor_bytes) else { return };
        let now = Instant::now();
        if free < floor && now >= self.search_after {
            self.search(free, stop).await;
            return;
        }
        if now < self.rest_until {
            return;
        }
        let due = self.watched.iter().filter(|(_, watched)| watched.is_due(now, free));
        // The one that can be furthest beyond its limit first.
        let excess =
            |watched: &Watched| watched.possible_bytes(free).saturating_sub(watched.limit_bytes.unwrap_or(u64::MAX));
        let Some(id) = due.max_by_key(|(_, watched)| excess(watched)).map(|(id, _)| *id) else { return };
        let took = self.measure(id).await;
        self.rest_until = Instant::now() + took * REST;
        let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.must_stop()) else { return };
        watched.stopped_at = watched.last.map(|last| last.bytes);
        tracing::warn!(
            sandbox = %id, bytes = watched.stopped_at, limit_bytes = watched.limit_bytes,
            "a sandbox takes more of the disk than it may: its commands are ended"
        );
        stop(id).await;
    }

    /// Finds and stops the sandbox that fills the disk.
    async fn search<F: Future<Output = ()>>(&mut self, free_bytes: u64, stop: &impl Fn(SandboxId) -> F) {
        let ids: Vec<SandboxId> = self.watched.keys().copied().collect();
        let mut took = Duration::ZERO;
        for id in ids {
            took += self.measure(id).await;
        }
        self.search_after = Instant::now() + BETWEEN_SEARCHES.max(took * REST);
        let Some(id) = culprit(&self.watched) else {
            tracing::warn!(
                free_bytes, folder = %self.folder.display(),
                "the disk of sandboxes is nearly full, and none of them wrote much lately: free some space"
            );
            return;
        };
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.stopped_at = watched.last.map(|last| last.bytes);
            // Compared from here on: it is not stopped again for what it wrote before.
            watched.samples = watched.last.map(Sample::from).into_iter().collect();
        }
        lock(&self.seen).entry(id).or_default().disk_was_full = true;
        tracing::warn!(sandbox = %id, free_bytes, "the disk is nearly full: the commands of the sandbox that wrote most are ended");
        stop(id).await;
    }

    /// Measures a sandbox and notes the result; how long that took.
    async fn measure(&mut self, id: SandboxId) -> Duration {
        let (at, folder, keepers) = (Instant::now(), self.folder.join(id.to_string()), self.keepers.clone());
        let measured = spawn_blocking(move || measure_sandbox(&folder, &keepers)).await;
        let took = at.elapsed();
        let measured = measured.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        let Some(watched) = self.watched.get_mut(&id) else { return took };
        match measured {
            Ok((measure, disk)) => {
                watched.measured(
                    Look { at, took, bytes: measure.bytes, written: measure.written_bytes, free: disk.free },
                    measure.is_whole,
                );
                let bytes = watched.last.map(|last| last.bytes);
                let mut seen = lock(&self.seen);
                let seen = seen.entry(id).or_default();
                (seen.disk_bytes, seen.disk_exceeded) = (bytes, watched.is_over());
            }
            // Its end is being told, or comes with the next look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.watched.remove(&id);
            }
            Err(error) => {
                tracing::warn!(sandbox = %id, %error, "cannot measure what a sandbox takes of the disk");
                watched.measured(Look { at, took, bytes: 0, written: 0, free: watched.free_first }, true);
            }
        }
        took
    }
}

/// What is free on the disk of a folder, and what must stay so.
pub(crate) fn free_and_floor(folder: &Path, floor_bytes: Option<u64>) -> io::Result<(u64, u64)> {
    space(folder).map(|space| (space.free, floor_bytes.unwrap_or_else(|| default_floor(space.size))))
}

/// What the sandbox in `folder` takes, and its disk as it was before that was looked at.
pub(crate) fn measure_sandbox(folder: &Path, keepers: &Keepers) -> io::Result<(Measure, Space)> {
    let disk = space(folder)?;
    let processes = processes_of(folder, &limits::record(folder)?.unwrap_or_default().groups);
    let mut found = measure(folder, &processes)?;
    if found.is_denied && keepers.are_there() {
        // A measure has its own limit of time.
        found = keepers.ask(&Work::Measure { folder: folder.to_path_buf(), processes }, &AtomicBool::new(false))?;
    }
    // What nobody may look at may be anything.
    found.is_whole &= !found.is_denied;
    Ok((found, disk))
}

/// The file system of a folder, in bytes.
pub(crate) struct Space {
    pub(crate) size: u64,
    /// What an ordinary user may still write.
    pub(crate) free: u64,
}

fn space(folder: &Path) -> io::Result<Space> {
    let found = statvfs(folder)?;
    let block_bytes = found.fragment_size() as u64;
    let (size, free) = (found.blocks() as u64 * block_bytes, found.blocks_available() as u64 * block_bytes);
    Ok(Space { size, free })
}

//! The ends of the logs that somebody follows. Each is read once for all who follow it in this process, so that one more
//! of them costs what is told to it, and no look into the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use carrel_domain::{Event, OrganizationId, TaskId};
use tokio::sync::{Notify, broadcast};

use crate::{Change, Store, StoreError};

/// Events read at a time.
const BATCH: u32 = 200;
/// How many batches a follower may be behind before it has to read for itself.
const BACKLOG: usize = 64;
/// A log is looked into so often whatever was heard of it, and so soon after its last follower has gone it is left alone.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Tails(Arc<Mutex<HashMap<TaskId, Weak<End>>>>);

/// The end of one log.
struct End {
    grown: Arc<Notify>,
    told: broadcast::Sender<Arc<[Event]>>,
}

/// What is added to a task's log, from some moment on.
pub struct Tail {
    told: broadcast::Receiver<Arc<[Event]>>,
    // It is read as long as somebody has it.
    _end: Arc<End>,
}

/// What a follower hears.
#[derive(Debug, Clone)]
pub enum Told {
    /// Events in their order, at least one. Those that came before the follower did may be among them.
    Events(Arc<[Event]>),
    /// The follower was too slow: some went by.
    Missed,
}

impl Tail {
    /// What is told next. Waits as long as nothing is.
    pub async fn next(&mut self) -> Told {
        match self.told.recv().await {
            Ok(events) => Told::Events(events),
            Err(broadcast::error::RecvError::Lagged(_)) => Told::Missed,
            // It is ours as well, so it is never closed.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Store {
    /// Follows a task's log: every event that is stored from now on is told. What was stored before is read with
    /// [`Store::events`].
    ///
    /// # Errors
    /// When the organization has no such task, or the database refuses.
    pub async fn follow(&self, organization: OrganizationId, task: TaskId) -> Result<Tail, StoreError> {
        let last_seq = self.last_seq(organization, task).await?;
        let (end, is_new) = self.tails().end_of(task);
        let told = end.told.subscribe();
        if is_new {
            let tails = self.tails().clone();
            tokio::spawn(read(self.clone(), tails, (organization, task), last_seq, Arc::downgrade(&end)));
        }
        Ok(Tail { told, _end: end })
    }
}

impl Tails {
    /// Whoever follows a log hears soon that it has grown.
    pub(crate) fn ring(&self, change: Change) {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let grown: Vec<Arc<End>> = match change {
            Change::Log { task, .. } => ends.get(&task).and_then(Weak::upgrade).into_iter().collect(),
            Change::Anything => ends.values().filter_map(Weak::upgrade).collect(),
            Change::Job | Change::CancelRequested(_) | Change::MessageSent(_) => Vec::new(),
        };
        grown.iter().for_each(|end| end.grown.notify_one());
    }

    /// The end of a log, and whether nobody reads it yet.
    fn end_of(&self, task: TaskId) -> (Arc<End>, bool) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = ends.get(&task).and_then(Weak::upgrade) {
            return (end, false);
        }
        let end = Arc::new(End { grown: Arc::default(), told: broadcast::Sender::new(BACKLOG) });
        ends.insert(task, Arc::downgrade(&end));
        (end, true)
    }

    fn forget(&self, task: TaskId, end: &Weak<End>) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may read it already.
        if ends.get(&task).is_some_and(|kept| kept.ptr_eq(end)) {
            ends.remove(&task);
        }
    }
}

/// Reads the end of a log for as long as somebody has it.
async fn read(
    store: Store,
    tails: Tails,
    (organization, task): (OrganizationId, TaskId),
    mut after: i64,
    end: Weak<End>,
) {
    while let Some(grown) = end.upgrade().map(|end| Arc::clone(&end.grown)) {
        let events = store.events(organization, task, after, BATCH).await;
        match events.as_deref().map(<[Event]>::last) {
            Ok(Some(last)) => {
                after = last.seq;
                let events: Arc<[Event]> = events.into_iter().flatten().collect();
                // Whoever comes now reads what was stored before.
                let _followers = end.upgrade().map(|end| end.told.send(events));
            }
            // A database that does not answer is asked again.
            Ok(None) | Err(_) => {
                let _quiet = tokio::time::timeout(LOOK_EVERY, grown.notified()).await;
            }
        }
    }
    tails.forget(task, &end);
}

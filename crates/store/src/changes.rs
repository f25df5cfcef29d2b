//! Tells listeners that something was stored, in this process and, on PostgreSQL, in all that share the database. It is a
//! bell, not a message: a listener reads the database, and one that was away too long is told to read everything again.

use std::time::Duration;

use carrel_domain::{AttemptId, OrganizationId, TaskId};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::tails::Tails;

/// How many changes a listener may be behind before it has to read everything again.
const BACKLOG: usize = 4096;

/// Where processes share a database, a listener is told so often to look whatever it has heard: a process may die between
/// its last change and telling the others.
const REMINDER: Duration = Duration::from_secs(15);

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A task's log has grown.
    Log {
        /// Whose.
        organization: OrganizationId,
        /// Which task.
        task: TaskId,
        /// Its last event.
        last_seq: i64,
    },
    /// There is a new job.
    Job,
    /// Somebody wants an attempt stopped.
    CancelRequested(AttemptId),
    /// Somebody has said something to an attempt.
    MessageSent(AttemptId),
    /// The listener was too slow, or others could not be heard for a while: anything may have happened.
    Anything,
}

#[derive(Clone)]
pub(crate) struct Bell {
    here: broadcast::Sender<Change>,
    tails: Tails,
    /// Towards the other processes.
    elsewhere: Option<mpsc::UnboundedSender<Change>>,
}

impl Bell {
    /// A bell that is heard in this process.
    pub(crate) fn new() -> Self {
        Self { here: broadcast::Sender::new(BACKLOG), tails: Tails::default(), elsewhere: None }
    }

    /// The same bell, heard by whoever takes what comes out of the channel, too.
    pub(crate) fn heard_elsewhere(self) -> (Self, mpsc::UnboundedReceiver<Change>) {
        let (elsewhere, changes) = mpsc::unbounded_channel();
        (Self { elsewhere: Some(elsewhere), ..self }, changes)
    }

    pub(crate) fn ring(&self, change: Change) {
        self.ring_here(change);
        if let Some(elsewhere) = &self.elsewhere {
            // Whoever carries it on ends with the store.
            let _carried = elsewhere.send(change);
        }
    }

    pub(crate) fn ring_here(&self, change: Change) {
        self.tails.ring(change);
        // Nobody listening is fine.
        let _listeners = self.here.send(change);
    }

    /// The ends of logs that are followed in this process.
    pub(crate) const fn tails(&self) -> &Tails {
        &self.tails
    }

    pub(crate) fn listen(&self) -> Changes {
        let reminder = self.elsewhere.is_some().then(next_reminder);
        Changes { changes: self.here.subscribe(), reminder }
    }
}

/// A listener.
pub struct Changes {
    changes: broadcast::Receiver<Change>,
    reminder: Option<Instant>,
}

impl Changes {
    /// The next change. Waits for ever when the store is gone.
    pub async fn next(&mut self) -> Change {
        let heard = match self.reminder {
            None => self.changes.recv().await,
            Some(at) => match tokio::time::timeout_at(at, self.changes.recv()).await {
                Ok(heard) => heard,
                Err(_) => {
                    self.reminder = Some(next_reminder());
                    return Change::Anything;
                }
            },
        };
        match heard {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => Change::Anything,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Those that are there already, without waiting.
    pub fn all_so_far(&mut self) -> Vec<Change> {
        let mut all = Vec::new();
        loop {
            match self.changes.try_recv() {
                Ok(change) => all.push(change),
                Err(broadcast::error::TryRecvError::Lagged(_)) => all.push(Change::Anything),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => return all,
            }
        }
    }
}

fn next_reminder() -> Instant {
    // Not all at once: a process may have thousands of listeners.
    let chance = uuid::Uuid::new_v4().as_bytes()[0];
    Instant::now() + REMINDER + REMINDER.mul_f64(f64::from(chance) / 1024.0)
}

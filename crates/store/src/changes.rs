//! Tells listeners in this process that something was stored. It is a bell, not a message: a listener reads the
//! database, and one that was away too long is told to read everything again.

use carrel_domain::{AttemptId, OrganizationId, TaskId};
use tokio::sync::broadcast;

/// How many changes a listener may be behind before it has to read everything again.
const BACKLOG: usize = 4096;

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// The listener was too slow: anything may have happened.
    Anything,
}

pub(crate) struct Bell(broadcast::Sender<Change>);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn ring(&self, change: Change) {
        // Nobody listening is fine.
        let _listeners = self.0.send(change);
    }

    pub(crate) fn listen(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

/// A listener.
pub struct Changes(broadcast::Receiver<Change>);

impl Changes {
    /// The next change. Waits for ever when the store is gone.
    pub async fn next(&mut self) -> Change {
        match self.0.recv().await {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => Change::Anything,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

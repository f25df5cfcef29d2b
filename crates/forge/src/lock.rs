//! One fetch per mirror at a time: among the tasks of this process, and among processes that share the data folder.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use carrel_domain::RepositoryId;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::error::ForgeError;

/// How often another process's lock is looked at again.
const POLL: Duration = Duration::from_millis(25);

/// The locks of this process.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    tasks: Mutex<HashMap<RepositoryId, Arc<tokio::sync::Mutex<()>>>>,
}

/// Holds a mirror; lets go when dropped, also by the death of the process.
pub(crate) struct Held {
    _file: File,
    _task: OwnedMutexGuard<()>,
}

impl Locks {
    /// Waits for the mirror, at most for `patience`.
    pub(crate) async fn hold(&self, id: RepositoryId, file: &Path, patience: Duration) -> Result<Held, ForgeError> {
        let until = Instant::now() + patience;
        let timed_out = || ForgeError::TimedOut { what: "fetch (waiting for another fetch)", after: patience };
        let task = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tasks.entry(id).or_default())
        };
        let task = tokio::time::timeout_at(until, task.lock_owned()).await.map_err(|_| timed_out())?;
        let shown = file.display();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(file)
            .map_err(ForgeError::io(format!("open the lock file `{shown}`")))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Held { _file: file, _task: task }),
                Err(TryLockError::WouldBlock) if Instant::now() < until => tokio::time::sleep(POLL).await,
                Err(TryLockError::WouldBlock) => return Err(timed_out()),
                Err(TryLockError::Error(error)) => return Err(ForgeError::io(format!("lock `{shown}`"))(error)),
            }
        }
    }
}

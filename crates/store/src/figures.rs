//! Figures of the installation for those who watch it. Nothing here reads more of a table than a fixed number of rows.

use std::time::Duration;

use crate::database::{StoreError, time};
use crate::{Queue, Store};

/// Jobs of a queue that are counted at most.
const MOST_JOBS: u32 = 10_000;

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Jobs that wait for a worker.
    pub due: u32,
    /// Jobs that a worker has.
    pub claimed: u32,
    /// Jobs that are to be tried again later.
    pub resting: u32,
    /// How long the job that has waited for longest has been due.
    pub oldest: Duration,
}

/// The connections of this process to its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those at work.
    pub in_use: u32,
    /// Those that wait for work.
    pub idle: u32,
}

impl Store {
    /// What is in a queue. From 10,000 jobs on it is told of some 10,000 of them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn queue_depth(&self, queue: Queue) -> Result<QueueDepth, StoreError> {
        let now = self.shared_now();
        let is_free = "(lease_until is null or lease_until <= $2)";
        let sql = format!(
            "select cast(coalesce(sum(case when {is_free} and run_at <= $2 then 1 else 0 end), 0) as bigint) as due,
                 cast(coalesce(sum(case when {is_free} then 0 else 1 end), 0) as bigint) as claimed,
                 cast(coalesce(sum(case when {is_free} and run_at > $2 then 1 else 0 end), 0) as bigint) as resting,
                 min(case when {is_free} and run_at <= $2 then run_at end) as oldest
             from (select run_at, lease_until from job where kind = $1 limit {MOST_JOBS}) few"
        );
        let row = self.database.one(&sql, [queue.kind().into(), time(now)]).await?;
        let Some(row) = row else { return Ok(QueueDepth::default()) };
        let oldest = row.maybe_time("oldest")?.map(|since| now.duration_since(since));
        Ok(QueueDepth {
            due: row.number("due")?,
            claimed: row.number("claimed")?,
            resting: row.number("resting")?,
            oldest: oldest.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default(),
        })
    }

    /// The connections to the database.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.database.connections()
    }
}

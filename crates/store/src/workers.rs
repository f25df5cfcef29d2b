//! Who works on this database: every process says again and again that it is there.

use std::sync::atomic::Ordering;

use carrel_domain::{AttemptId, OrganizationId, WorkerId};
use jiff::{SignedDuration, Timestamp};

use crate::Store;
use crate::database::{Row, Scope, StoreError, Transaction, time};

/// A worker as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The same whenever it is started with the same data folder.
    pub id: WorkerId,
    /// What people know its machine by.
    pub name: String,
    /// How many attempts it works on at once.
    pub capacity: u32,
    /// When it was started last.
    pub started_at: Timestamp,
    /// When it last said that it is there.
    pub seen_at: Timestamp,
}

impl Store {
    /// Which worker writes through this store.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.shared.worker
    }

    /// Says that this worker has been started.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn announce_worker(&self, name: &str, capacity: u32) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                "insert into worker (id, name, capacity, started_at, seen_at) values ($1, $2, $3, $4, $4)
                 on conflict (id) do update set name = excluded.name, capacity = excluded.capacity,
                     started_at = excluded.started_at, seen_at = excluded.seen_at",
                [self.shared.worker.as_uuid().into(), name.into(), i64::from(capacity).into(), time(self.shared_now())],
            )
            .await?;
        transaction.commit().await
    }

    /// Says that this worker is still there. To be repeated well within the time after which it is taken for gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn worker_is_there(&self) -> Result<(), StoreError> {
        self.compare_clocks().await?;
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                "update worker set seen_at = $2 where id = $1",
                [self.shared.worker.as_uuid().into(), time(self.shared_now())],
            )
            .await?;
        transaction.commit().await
    }

    /// All workers there ever were, those seen last first, a hundred at most.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn workers(&self) -> Result<Vec<Worker>, StoreError> {
        let sql = "select id, name, capacity, started_at, seen_at from worker order by seen_at desc, id limit 100";
        self.database.all(sql, []).await?.iter().map(worker).collect()
    }

    /// Who has the sandbox and the files of an attempt, if somebody has.
    ///
    /// # Errors
    /// When this organization has no such attempt, or the database refuses.
    pub async fn worker_of(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
    ) -> Result<Option<WorkerId>, StoreError> {
        let row = self
            .database
            .one(
                "select worker_id from attempt where id = $1 and organization_id = $2",
                [attempt.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        row.ok_or(StoreError::NotFound { noun: "attempt" })?.maybe_id("worker_id", WorkerId::from_uuid)
    }

    /// The worker of this id, if it ever was there.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn find_worker(&self, id: WorkerId) -> Result<Option<Worker>, StoreError> {
        let sql = "select id, name, capacity, started_at, seen_at from worker where id = $1";
        self.database.one(sql, [id.as_uuid().into()]).await?.as_ref().map(worker).transpose()
    }

    /// Takes note of how far this machine's clock is from the database's.
    pub(crate) async fn compare_clocks(&self) -> Result<(), StoreError> {
        if let Some(theirs) = self.database.clock().await? {
            let ahead = theirs.as_millisecond().saturating_sub(self.now().as_millisecond());
            self.shared.clock_lag_ms.store(ahead, Ordering::Release);
        }
        Ok(())
    }

    /// The time that leases and signs of life are measured by: this machine's own, or that of the database where several
    /// machines share one, as far as it is known.
    pub(crate) fn shared_now(&self) -> Timestamp {
        let lag = SignedDuration::from_millis(self.shared.clock_lag_ms.load(Ordering::Acquire));
        self.now().checked_add(lag).unwrap_or(Timestamp::MAX)
    }
}

/// Makes an attempt this worker's: what it prepares from now on is here.
pub(crate) async fn settle(store: &Store, transaction: &Transaction, attempt: AttemptId) -> Result<(), StoreError> {
    transaction
        .run(
            "update attempt set worker_id = $2 where id = $1",
            [attempt.as_uuid().into(), store.shared.worker.as_uuid().into()],
        )
        .await
        .map(drop)
}

fn worker(row: &Row) -> Result<Worker, StoreError> {
    Ok(Worker {
        id: row.id("id", WorkerId::from_uuid)?,
        name: row.get("name")?,
        capacity: row.number("capacity")?,
        started_at: row.time("started_at")?,
        seen_at: row.time("seen_at")?,
    })
}

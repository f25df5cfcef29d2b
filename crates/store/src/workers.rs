//! Who works on this database: every process says again and again that it is there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use carrel_domain::{AttemptId, OrganizationId, WorkerId};
use jiff::Timestamp;

use crate::database::{Row, Scope, StoreError, Transaction, time};
use crate::{Principal, Store};

/// No job is put off for longer than this; one that seems to be was put off by a clock that was ahead.
const FAR: Duration = Duration::from_secs(10 * 60);

/// What a process does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    #[default]
    All,
    /// It answers people and programs, and leaves the work to others.
    Api,
    /// It works, and answers only those who watch it.
    Worker,
}

impl Role {
    /// Every role.
    pub const EVERY: [Self; 3] = [Self::All, Self::Api, Self::Worker];

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }

    /// The role of this name, if there is one.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|role| role.word() == word)
    }

    /// Whether it claims jobs and makes sandboxes.
    #[must_use]
    pub const fn works(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    /// Whether it serves the API.
    #[must_use]
    pub const fn answers(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }
}

/// What a process says of itself when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence<'a> {
    /// What people know its machine by.
    pub name: &'a str,
    /// What it does.
    pub role: Role,
    /// How many attempts it works on at once.
    pub capacity: u32,
    /// Its version.
    pub version: &'a str,
}

/// A worker as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The same whenever it is started with the same data folder.
    pub id: WorkerId,
    /// What people know its machine by.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// The version of its program; empty when it is from before that was told.
    pub version: String,
    /// How many attempts it works on at once.
    pub capacity: u32,
    /// Attempts that are its own now: it works on them, or they wait for it to come back.
    pub running: u32,
    /// When it was started last.
    pub started_at: Timestamp,
    /// When it last said that it is there.
    pub seen_at: Timestamp,
    /// It was stopped, and is expected to be back by then.
    pub returns_by: Option<Timestamp>,
}

/// How a worker stands with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    /// It was heard of lately.
    Here,
    /// It was stopped, and is expected back.
    Away,
    /// It was not heard of for too long: others make its attempts again.
    Gone,
}

impl Worker {
    /// How it stands at a time, when one is gone that was silent for so long.
    #[must_use]
    pub fn attendance(&self, now: Timestamp, gone_after: Duration) -> Attendance {
        let is_silent = now.checked_sub(gone_after).is_ok_and(|before| self.seen_at <= before);
        match self.returns_by {
            Some(by) if by > now => Attendance::Away,
            // It was not heard of since it was stopped.
            Some(_) => Attendance::Gone,
            None if is_silent => Attendance::Gone,
            None => Attendance::Here,
        }
    }
}

/// What is read of a worker.
pub(crate) const COLUMNS: &str = "w.id, w.name, w.role, w.version, w.capacity, w.started_at, w.seen_at, w.returns_by,
    (select count(*) from job j where j.kind = 'attempt' and j.worker_id = w.id and j.begun_at is not null) as running";

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
    pub async fn announce_worker(&self, presence: Presence<'_>) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                "insert into worker (id, name, capacity, role, version, started_at, seen_at)
                 values ($1, $2, $3, $5, $6, $4, $4)
                 on conflict (id) do update set name = excluded.name, capacity = excluded.capacity, role = excluded.role,
                     version = excluded.version, started_at = excluded.started_at, seen_at = excluded.seen_at,
                     returns_by = null",
                [
                    self.shared.worker.as_uuid().into(),
                    presence.name.into(),
                    i64::from(presence.capacity).into(),
                    time(self.shared_now()),
                    presence.role.word().into(),
                    presence.version.into(),
                ],
            )
            .await?;
        transaction.commit().await
    }

    /// Says that this worker is still there. To be repeated well within the time after which it is taken for gone. Nothing
    /// waits on for a time that a clock which was ahead had named.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn worker_is_there(&self) -> Result<(), StoreError> {
        // All of it on one of the connections that nobody else's work takes up.
        let transaction = self.write(Scope::OneStatement).await?;
        self.compare_clocks_in(&transaction).await?;
        let now = self.shared_now();
        transaction
            .run("update worker set seen_at = $2 where id = $1", [self.shared.worker.as_uuid().into(), time(now)])
            .await?;
        // Jobs that a clock which was ahead has put off.
        let far = now.checked_add(FAR).unwrap_or(Timestamp::MAX);
        transaction.run("update job set run_at = $1 where run_at > $2", [time(now), time(far)]).await?;
        transaction.commit().await
    }

    /// Says that this worker is being stopped, and for how long others are to wait for it: until then it is not gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn worker_leaves(&self, returns_within: Duration) -> Result<(), StoreError> {
        let now = self.shared_now();
        let returns_by = now.checked_add(returns_within).unwrap_or(Timestamp::MAX);
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                "update worker set seen_at = $2, returns_by = $3 where id = $1",
                [self.shared.worker.as_uuid().into(), time(now), time(returns_by)],
            )
            .await?;
        transaction.commit().await
    }

    /// The workers, for somebody who looks after the installation.
    ///
    /// # Errors
    /// [`StoreError::OwnersOnly`] when the person is no owner of the organization.
    pub async fn workers_for(&self, by: Principal) -> Result<Vec<Worker>, StoreError> {
        let sql = "select role from member where organization_id = $1 and account_id = $2";
        let row = self.database.one(sql, [by.organization.as_uuid().into(), by.user.as_uuid().into()]).await?;
        if row.map(|row| row.get::<String>("role")).transpose()?.as_deref() != Some("owner") {
            return Err(StoreError::OwnersOnly { what: "look at the workers" });
        }
        self.workers().await
    }

    /// All workers there ever were, those seen last first, a hundred at most.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn workers(&self) -> Result<Vec<Worker>, StoreError> {
        let sql = format!("select {COLUMNS} from worker w order by w.seen_at desc, w.id limit 100");
        self.database.all(&sql, []).await?.iter().map(worker).collect()
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
        let sql = format!("select {COLUMNS} from worker w where w.id = $1");
        self.database.one(&sql, [id.as_uuid().into()]).await?.as_ref().map(worker).transpose()
    }

    /// Takes note of the time that all workers go by: the database's where they share one, else this machine's, which never
    /// goes back while the process lives.
    pub(crate) async fn compare_clocks(&self) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        self.compare_clocks_in(&transaction).await?;
        transaction.commit().await
    }

    async fn compare_clocks_in(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let theirs = transaction.clock().await?;
        let since = |time: Timestamp| time.as_millisecond().saturating_sub(self.passed_ms());
        match theirs {
            Some(theirs) => self.shared.shared_clock_ms.store(since(theirs), Ordering::Release),
            None => drop(self.shared.shared_clock_ms.fetch_max(since(self.now()), Ordering::AcqRel)),
        }
        Ok(())
    }

    /// The time that leases, waits and signs of life are measured by. It goes on steadily, whatever this machine's clock is set
    /// to: what has passed since it was last compared is measured, not read off the clock.
    #[must_use]
    pub fn shared_now(&self) -> Timestamp {
        let since = self.shared.shared_clock_ms.load(Ordering::Acquire);
        Timestamp::from_millisecond(since.saturating_add(self.passed_ms())).unwrap_or(Timestamp::MAX)
    }

    fn passed_ms(&self) -> i64 {
        i64::try_from(self.shared.clock.passed().as_millis()).unwrap_or(i64::MAX)
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

pub(crate) fn worker(row: &Row) -> Result<Worker, StoreError> {
    Ok(Worker {
        id: row.id("id", WorkerId::from_uuid)?,
        name: row.get("name")?,
        // A role of a newer version does more than this one knows of.
        role: Role::of(&row.get::<String>("role")?).unwrap_or_default(),
        version: row.get("version")?,
        capacity: row.number("capacity")?,
        running: row.number("running")?,
        started_at: row.time("started_at")?,
        seen_at: row.time("seen_at")?,
        returns_by: row.maybe_time("returns_by")?,
    })
}

//! The queue: work that is to be done, claimed under a lease. A job carries the id of what it is about and nothing
//! else; whoever claims it reads how things stand and goes on from there, so every job may run twice.

use std::time::Duration;

use carrel_domain::{AttemptId, JobId, OrganizationId, PublicationId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::database::{Row, StoreError, Transaction, time, unreadable};
use crate::{Change, Store, fresh};

/// What a job is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// An attempt is to be driven to its end.
    Attempt(AttemptId),
    /// A publication is to be driven to its end.
    Publication(PublicationId),
}

/// Jobs of one kind, claimed apart from the others, so that neither waits for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Attempts to be driven.
    Attempts,
    /// Publications to be driven.
    Publications,
}

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which one.
    pub id: JobId,
    /// Whose.
    pub organization: OrganizationId,
    /// What it is about.
    pub kind: JobKind,
    /// How often it was claimed, this time included.
    pub tries: i64,
}

/// The right to work on a job, until its time is over.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Names the worker, uniquely among all that ever were.
    pub owner: String,
    /// How long a claim lasts unless it is renewed.
    pub duration: Duration,
}

impl Queue {
    const fn kind(self) -> &'static str {
        match self {
            Self::Attempts => "attempt",
            Self::Publications => "publication",
        }
    }
}

impl JobKind {
    const fn columns(self) -> (&'static str, Uuid) {
        match self {
            Self::Attempt(id) => ("attempt", id.as_uuid()),
            Self::Publication(id) => ("publication", id.as_uuid()),
        }
    }
}

impl Store {
    /// Claims the job of this queue that has been due for longest and is nobody's, if there is one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn claim_job(&self, queue: Queue, lease: &Lease) -> Result<Option<Job>, StoreError> {
        let now = self.now();
        let transaction = self.database.write().await?;
        let row = transaction
            .one(
                "update job set lease_owner = $1, lease_until = $2, tries = tries + 1
                 where id = (select id from job where kind = $4 and run_at <= $3 and (lease_until is null or lease_until <= $3)
                             order by run_at, id limit 1)
                 returning id, organization_id, kind, subject_id, tries",
                [lease.owner.as_str().into(), time(until(now, lease)), time(now), queue.kind().into()],
            )
            .await?;
        transaction.commit().await?;
        row.as_ref().map(job).transpose()
    }

    /// Keeps a claim for another lease's time. `false` when it was lost to somebody else.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn renew_job(&self, job: JobId, lease: &Lease) -> Result<bool, StoreError> {
        let transaction = self.database.write().await?;
        let renewed = transaction
            .run(
                "update job set lease_until = $3 where id = $1 and lease_owner = $2",
                [job.as_uuid().into(), lease.owner.as_str().into(), time(until(self.now(), lease))],
            )
            .await?;
        transaction.commit().await?;
        Ok(renewed == 1)
    }

    /// Takes a job that is done out of the queue.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish_job(&self, job: JobId, lease: &Lease) -> Result<(), StoreError> {
        let transaction = self.database.write().await?;
        transaction
            .run(
                "delete from job where id = $1 and lease_owner = $2",
                [job.as_uuid().into(), lease.owner.as_str().into()],
            )
            .await?;
        transaction.commit().await
    }

    /// Gives a job back, to be claimed again no sooner than `run_at`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn postpone_job(&self, job: JobId, lease: &Lease, run_at: Timestamp) -> Result<(), StoreError> {
        let transaction = self.database.write().await?;
        transaction
            .run(
                "update job set lease_owner = null, lease_until = null, run_at = $3 where id = $1 and lease_owner = $2",
                [job.as_uuid().into(), lease.owner.as_str().into(), time(run_at)],
            )
            .await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Job);
        Ok(())
    }

    /// Gives a job back as if it had not been claimed: its worker has to go, and nothing is wrong with the job.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn hand_back_job(&self, job: JobId, lease: &Lease) -> Result<(), StoreError> {
        let transaction = self.database.write().await?;
        transaction
            .run(
                "update job set lease_owner = null, lease_until = null, tries = tries - 1
                 where id = $1 and lease_owner = $2",
                [job.as_uuid().into(), lease.owner.as_str().into()],
            )
            .await?;
        transaction.commit().await
    }

    /// Gives back every job that workers of a process that is gone had claimed. One process alone may use a SQLite
    /// folder, so at its start all claims are such.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn release_all_jobs(&self) -> Result<u64, StoreError> {
        let transaction = self.database.write().await?;
        let released = transaction
            .run("update job set lease_owner = null, lease_until = null where lease_owner is not null", [])
            .await?;
        transaction.commit().await?;
        Ok(released)
    }
}

/// Puts a job into the queue, inside the transaction that makes it necessary. One that is there already is made as new:
/// whoever still holds it has lost it, and cannot take it out any more.
pub(crate) async fn enqueue(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    kind: JobKind,
) -> Result<(), StoreError> {
    let (kind, subject) = kind.columns();
    transaction
        .run(
            "insert into job (id, organization_id, kind, subject_id, run_at, tries, created_at)
             values ($1, $2, $3, $4, $5, 0, $5) on conflict (kind, subject_id)
             do update set run_at = excluded.run_at, tries = 0, lease_owner = null, lease_until = null",
            [fresh().into(), organization.as_uuid().into(), kind.into(), subject.into(), time(store.now())],
        )
        .await
        .map(drop)
}

fn until(now: Timestamp, lease: &Lease) -> Timestamp {
    now.checked_add(lease.duration).unwrap_or(Timestamp::MAX)
}

fn job(row: &Row) -> Result<Job, StoreError> {
    let subject: Uuid = row.get("subject_id")?;
    let kind = match row.get::<String>("kind")?.as_str() {
        "attempt" => JobKind::Attempt(AttemptId::from_uuid(subject)),
        "publication" => JobKind::Publication(PublicationId::from_uuid(subject)),
        other => return Err(unreadable(&format!("job kind `{other}`"))),
    };
    Ok(Job {
        id: row.id("id", JobId::from_uuid)?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        kind,
        tries: row.get("tries")?,
    })
}

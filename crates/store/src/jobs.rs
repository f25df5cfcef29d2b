//! The queue: work that is to be done, claimed under a lease. A job carries the id of what it is about and nothing
//! else; whoever claims it reads how things stand and goes on from there, so every job may run twice.

use std::time::Duration;

use carrel_domain::{AttemptId, JobId, OrganizationId, PublicationId, WorkerId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::database::{Row, Scope, StoreError, Transaction, time, unreadable};
use crate::{Change, Store, fresh, shares};

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
    /// How often it was claimed since what it is about last got on, this time included.
    pub tries: i64,
    /// Of an attempt: the worker that has its sandbox and its files, if one has.
    pub home: Option<WorkerId>,
}

/// Who should take a job that is given back: whoever has the attempt's files. A publication is best left where its commit may
/// have been made.
const HOME: &str =
    "(case when kind = 'attempt' then (select a.worker_id from attempt a where a.id = subject_id) else worker_id end)";

/// What a worker has when it has claimed a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// Its [`Lease::owner`] from then on.
    pub owner: String,
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
    pub(crate) const fn kind(self) -> &'static str {
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
    /// Claims the job of this queue that is next and is nobody's, if there is one: of publications the one that has been due
    /// for longest, of attempts that of whoever has the fewest running (`shares.rs`). Those that another worker should
    /// take are left to it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn claim_job(&self, queue: Queue, lease: &Lease) -> Result<Option<Job>, StoreError> {
        self.claim(queue, lease, Timestamp::MIN).await
    }

    /// The same, and those of workers that were not heard of for so long. Only for a worker that has itself been heard of
    /// all that time: after an outage of the database everybody seems to be gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn claim_job_of_anybody(
        &self,
        queue: Queue,
        lease: &Lease,
        gone_after: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let gone_before = self.shared_now().checked_sub(gone_after).unwrap_or(Timestamp::MIN);
        self.claim(queue, lease, gone_before).await
    }

    async fn claim(&self, queue: Queue, lease: &Lease, gone_before: Timestamp) -> Result<Option<Job>, StoreError> {
        if shares::are_shared_out(queue) {
            return self.claim_attempt(lease, gone_before).await?.as_ref().map(job).transpose();
        }
        let now = self.shared_now();
        let transaction = self.write(Scope::OneStatement).await?;
        let skip_locked = self.database.skip_locked();
        let row = transaction
            .one(
                &format!(
                    "update job set lease_owner = $1, lease_until = $2, tries = tries + 1, worker_id = $5
                     where id = (select j.id from job j where j.kind = $4 and j.run_at <= $3
                                 and (j.lease_until is null or j.lease_until <= $3)
                                 and (j.worker_id is null or j.worker_id = $5 or not exists
                                     (select 1 from worker w where w.id = j.worker_id and w.role <> 'api'
                                      and (w.seen_at > $6 or w.returns_by > $3)))
                                 order by j.run_at, j.id limit 1 {skip_locked})
                     returning id, organization_id, kind, subject_id, tries,
                         (select a.worker_id from attempt a where a.id = subject_id) as home"
                ),
                [
                    lease.owner.as_str().into(),
                    time(until(now, lease)),
                    time(now),
                    queue.kind().into(),
                    self.worker().as_uuid().into(),
                    time(gone_before),
                ],
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
        let transaction = self.write(Scope::OneStatement).await?;
        let renewed = transaction
            .run(
                "update job set lease_until = $3 where id = $1 and lease_owner = $2",
                [job.as_uuid().into(), lease.owner.as_str().into(), time(until(self.shared_now(), lease))],
            )
            .await?;
        transaction.commit().await?;
        Ok(renewed == 1)
    }

    /// How often a job was claimed since what it is about last got on.
    ///
    /// # Errors
    /// When it is no longer in the queue, or the database refuses.
    pub async fn job_tries(&self, job: JobId) -> Result<i64, StoreError> {
        let row = self.database.one("select tries from job where id = $1", [job.as_uuid().into()]).await?;
        row.ok_or(StoreError::NotFound { noun: "job" })?.get("tries")
    }

    /// Takes a job that is done out of the queue.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish_job(&self, job: JobId, lease: &Lease) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                "delete from job where id = $1 and lease_owner = $2",
                [job.as_uuid().into(), lease.owner.as_str().into()],
            )
            .await?;
        transaction.commit().await
    }

    /// Gives a job back, to be claimed again after a rest, by anybody who can go on with it. `reason` is told to whoever asks what
    /// its task waits for.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn postpone_job(
        &self,
        job: JobId,
        lease: &Lease,
        rest: Duration,
        reason: &str,
    ) -> Result<(), StoreError> {
        let run_at = self.shared_now().checked_add(rest).unwrap_or(Timestamp::MAX);
        let reason = self.shared.redactor.redact(reason);
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                &format!(
                    "update job set lease_owner = null, lease_until = null, run_at = $3, rests_for = $4, worker_id = {HOME}
                     where id = $1 and lease_owner = $2"
                ),
                [job.as_uuid().into(), lease.owner.as_str().into(), time(run_at), reason.as_ref().into()],
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
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                &format!(
                    "update job set lease_owner = null, lease_until = null, tries = tries - 1, worker_id = {HOME}
                     where id = $1 and lease_owner = $2"
                ),
                [job.as_uuid().into(), lease.owner.as_str().into()],
            )
            .await?;
        transaction.commit().await
    }

    /// Gives back every job that this worker had claimed before it was started anew: there is one of it at a time.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn release_own_jobs(&self) -> Result<u64, StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        let released = transaction
            .run(
                "update job set lease_owner = null, lease_until = null
                 where lease_owner is not null and (worker_id = $1 or worker_id is null)",
                [self.worker().as_uuid().into()],
            )
            .await?;
        transaction.commit().await?;
        Ok(released)
    }
}

/// An attempt got on, so it is not stuck: claims of its job count anew from this one.
pub(crate) async fn got_on(transaction: &Transaction, attempt: AttemptId) -> Result<(), StoreError> {
    transaction
        .run(
            "update job set tries = 1 where kind = 'attempt' and subject_id = $1 and tries > 1",
            [attempt.as_uuid().into()],
        )
        .await
        .map(drop)
}

/// Refuses a transaction whose claim is lost. Nobody else can claim the job until it has ended.
pub(crate) async fn require(transaction: &Transaction, claim: &Claim) -> Result<(), StoreError> {
    let held = transaction
        .run(
            "update job set lease_owner = lease_owner where id = $1 and lease_owner = $2",
            [claim.job.as_uuid().into(), claim.owner.as_str().into()],
        )
        .await?;
    if held == 1 { Ok(()) } else { Err(StoreError::ClaimLost) }
}

/// Puts a job into the queue, inside the transaction that makes it necessary, best for the worker that has the files of the
/// attempt it is `near` to. One that is there already is made as new:
/// whoever still holds it has lost it, and cannot take it out any more.
pub(crate) async fn enqueue(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    kind: JobKind,
    near: Option<AttemptId>,
) -> Result<(), StoreError> {
    // Who asked for it, and with which priority.
    let asked = match kind {
        JobKind::Attempt(_) => {
            "select u.created_by, k.priority from attempt a join turn u on u.id = a.turn_id join task k on k.id = a.task_id
             where a.id = $4"
        }
        JobKind::Publication(_) => {
            "select p.created_by, k.priority from publication p join task k on k.id = p.task_id where p.id = $4"
        }
    };
    let is_publication = matches!(kind, JobKind::Publication(_));
    let (kind, subject) = kind.columns();
    if is_publication {
        // One that is asked for again may be possible where it was not.
        let sql = "delete from job_passed_on where job_id in (select id from job where kind = $1 and subject_id = $2)";
        transaction.run(sql, [kind.into(), subject.into()]).await?;
    }
    transaction
        .run(
            // Without a condition SQLite takes what follows for one of a join.
            &format!(
                "insert into job (id, organization_id, account_id, kind, subject_id, run_at, rank_at, tries, created_at,
                     worker_id)
                 select $1, $2, asked.created_by, $3, $4, $5, $5 - asked.priority * {}, 0, $5,
                     (select worker_id from attempt where id = $6)
                 from ({asked}) asked where 1 = 1
                 on conflict (kind, subject_id) do update set run_at = excluded.run_at, tries = 0, lease_owner = null,
                     lease_until = null",
                shares::STEP_MS
            ),
            [
                fresh().into(),
                organization.as_uuid().into(),
                kind.into(),
                subject.into(),
                time(store.shared_now()),
                near.map(AttemptId::as_uuid).into(),
            ],
        )
        .await
        .map(drop)
}

pub(crate) fn until(now: Timestamp, lease: &Lease) -> Timestamp {
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
        home: row.maybe_id("home", WorkerId::from_uuid)?,
    })
}

//! Where repositories are that are named by a path: on the machine of a worker, and perhaps not on another's. A worker that
//! has not what a job needs passes the job on, to one that has it, or else to one that nobody has asked; each is asked once.

use std::time::Duration;

use carrel_domain::{OrganizationId, RepositoryLocation, Task, WorkerId};
use jiff::Timestamp;

use crate::database::{Scope, StoreError, Transaction, time};
use crate::workers::{COLUMNS, worker};
use crate::{Claim, Store, Worker};

/// Workers that are at it, or expected back: `$1` what was not heard of since is gone, `$2` the time.
const ALIVE: &str = "w.role <> 'api' and (w.seen_at > $1 or w.returns_by > $2)";

/// What became of a job that was passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// It is left to this worker.
    To(Worker),
    /// There is nobody left who could have what it needs.
    Nobody {
        /// The names of those that have not.
        asked: Vec<String>,
        /// Who had it, and was not heard of for too long.
        had: Option<Worker>,
    },
}

impl Store {
    /// Takes note that this worker's machine has a repository that is named by a path, unless it is known of another that is
    /// there. Where no other process can work there is nothing to note.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repository_is_here(
        &self,
        organization: OrganizationId,
        location: &RepositoryLocation,
        gone_after: Duration,
    ) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let (now, gone_before) = self.now_and_gone(gone_after);
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                &format!(
                    "update repository set worker_id = $5 where organization_id = $3 and location = $4
                     and (worker_id is null or worker_id <> $5)
                     and not exists (select 1 from worker w where w.id = repository.worker_id and {ALIVE})"
                ),
                [
                    time(gone_before),
                    time(now),
                    organization.as_uuid().into(),
                    location.to_string().into(),
                    self.worker().as_uuid().into(),
                ],
            )
            .await?;
        transaction.commit().await
    }

    /// Passes the job that this store is used [`under`](Store::under) on, for a repository of its task that is not on this
    /// worker's machine: to a worker that has it, or else one that was not asked yet. It is to be given back then.
    ///
    /// # Errors
    /// When the claim is lost, or the database refuses.
    pub async fn pass_on(&self, task: &Task, gone_after: Duration) -> Result<Passed, StoreError> {
        let claim = self.claim.as_ref().ok_or(StoreError::ClaimLost)?;
        let (now, gone_before) = self.now_and_gone(gone_after);
        let transaction = self.write(Scope::Task(task.organization, task.id)).await?;
        let had = self.decline(&transaction, claim, task).await?;
        let row = transaction
            .one(
                &format!(
                    "select {COLUMNS} from worker w where {ALIVE}
                     and not exists (select 1 from job_passed_on p where p.job_id = $3 and p.worker_id = w.id)
                     order by case when w.id = $4 then 0 when w.returns_by is null then 1 else 2 end, w.seen_at desc, w.id
                     limit 1"
                ),
                [
                    time(gone_before),
                    time(now),
                    claim.job.as_uuid().into(),
                    had.map(WorkerId::as_uuid).into(),
                ],
            )
            .await?;
        let passed = match row.as_ref().map(worker).transpose()? {
            Some(next) => {
                leave_to(&transaction, claim, next.id).await?;
                Passed::To(next)
            }
            None => Passed::Nobody { asked: asked(&transaction, claim).await?, had: None },
        };
        transaction.commit().await?;
        match (passed, had) {
            (Passed::Nobody { asked, .. }, Some(had)) => {
                Ok(Passed::Nobody { asked, had: self.find_worker(had).await? })
            }
            (passed, _) => Ok(passed),
        }
    }

    /// Writes down that this worker has not what a job needs. Gives who has, as far as is known.
    async fn decline(
        &self,
        transaction: &Transaction,
        claim: &Claim,
        task: &Task,
    ) -> Result<Option<WorkerId>, StoreError> {
        let own = self.worker().as_uuid();
        transaction
            .run(
                "insert into job_passed_on (job_id, worker_id) values ($1, $2) on conflict (job_id, worker_id) do nothing",
                [claim.job.as_uuid().into(), own.into()],
            )
            .await?;
        let of_task = [task.repository_id.as_uuid().into(), task.organization.as_uuid().into()];
        let [repository, organization] = of_task.clone();
        transaction
            .run(
                "update repository set worker_id = null where id = $1 and organization_id = $2 and worker_id = $3",
                [repository, organization, own.into()],
            )
            .await?;
        let row =
            transaction.one("select worker_id from repository where id = $1 and organization_id = $2", of_task).await?;
        row.ok_or(StoreError::NotFound { noun: "repository" })?.maybe_id("worker_id", WorkerId::from_uuid)
    }

    /// The time, and when those were heard of last that are gone.
    fn now_and_gone(&self, gone_after: Duration) -> (Timestamp, Timestamp) {
        let now = self.shared_now();
        (now, now.checked_sub(gone_after).unwrap_or(Timestamp::MIN))
    }
}

/// Makes a job, and the attempt it is about, another worker's.
async fn leave_to(transaction: &Transaction, claim: &Claim, next: WorkerId) -> Result<(), StoreError> {
    let values = || [claim.job.as_uuid().into(), next.as_uuid().into()];
    transaction.run("update job set worker_id = $2 where id = $1", values()).await?;
    transaction
        .run(
            "update attempt set worker_id = $2
             where id = (select j.subject_id from job j where j.id = $1 and j.kind = 'attempt')",
            values(),
        )
        .await
        .map(drop)
}

/// The names of the workers that have passed a job on.
async fn asked(transaction: &Transaction, claim: &Claim) -> Result<Vec<String>, StoreError> {
    let sql =
        "select w.name from job_passed_on p join worker w on w.id = p.worker_id where p.job_id = $1 order by w.name";
    let rows = transaction.all(sql, [claim.job.as_uuid().into()]).await?;
    rows.iter().map(|row| row.get("name")).collect()
}

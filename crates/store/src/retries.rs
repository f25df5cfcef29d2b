//! Attempts that are made again: a new one in the same turn, with its job and its first event.

use carrel_domain::{
    Attempt, AttemptId, AttemptLimits, AttemptState, EventBody, NewEvent, OrganizationId, Retry, Usage,
};

use crate::database::{Scope, StoreError, Transaction};
use crate::{Change, JobKind, Store, attempts, environments, events, fresh, jobs, messages};

/// How many attempts a turn may have, all retries counted.
const MAX_IN_TURN: u32 = 24;

/// How an attempt is to be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRetry {
    /// Whether it goes on from the conversation and the files of the one before.
    pub resumes: bool,
    /// Whether it takes the environment as it is now, instead of the version the one before was pinned to.
    pub latest_environment: bool,
    /// What it may use; where nothing is said, as much as the one before.
    pub limits: AttemptLimits,
}

impl Store {
    /// Makes an attempt that has ended without a result again, pinned to the same commit, model and, unless asked
    /// otherwise, version of the environment. What it was not told is told to the new one.
    ///
    /// # Errors
    /// [`StoreError::NotRetried`] when it has a result or has not ended, was made again already, is of an earlier turn, or
    /// when there are too many; nothing is stored then. When this organization has no such attempt.
    pub async fn retry_attempt(
        &self,
        organization: OrganizationId,
        id: AttemptId,
        new: NewRetry,
    ) -> Result<Attempt, StoreError> {
        let location = {
            let attempt = self.attempt(organization, id).await?;
            self.task(organization, attempt.task).await?.task.repository
        };
        let transaction = self.write(Scope::Organization(organization)).await?;
        let before = attempts::find(&transaction, organization, id).await?;
        let number = next_number(&transaction, &before).await?;
        let version = if new.latest_environment {
            let latest = environments::for_next_turn(&transaction, organization, before.environment, &location).await?;
            latest.version
        } else {
            before.environment_version
        };
        let attempt = Attempt {
            id: AttemptId::from_uuid(fresh()),
            number,
            retry: Some(Retry { of: id, resumes: new.resumes }),
            state: AttemptState::Queued,
            version: 1,
            environment_version: version,
            limits: new.limits.over(before.limits),
            usage: Usage::default(),
            cancel_requested_by: None,
            created_at: self.now(),
            started_at: None,
            ended_at: None,
            ..before.clone()
        };
        attempts::insert(&transaction, &attempt).await?;
        messages::pass_on(&transaction, &before, attempt.id).await?;
        jobs::enqueue(self, &transaction, organization, JobKind::Attempt(attempt.id), Some(id)).await?;
        let body = EventBody::AttemptRetried { retry_of: id, resumes: new.resumes };
        let event = NewEvent { attempt: Some(attempt.id), body };
        let last_seq = events::append(self, &transaction, organization, attempt.task, &[event]).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Log { organization, task: attempt.task, last_seq });
        self.shared.changes.ring(Change::Job);
        Ok(attempt)
    }
}

/// The number of the attempt that makes this one again, if it may be.
async fn next_number(transaction: &Transaction, before: &Attempt) -> Result<u32, StoreError> {
    let refused = |reason: String| Err(StoreError::NotRetried { reason });
    if !before.state.can_be_retried() {
        let way_out = match before.state {
            AttemptState::Ready(_) => "follow up on it with `carrel task follow-up`",
            _ => "wait until it has ended, or stop it first",
        };
        return refused(format!("the attempt is {}; {way_out}", before.state.word()));
    }
    let row = transaction
        .one(
            "select max(a.number) as most,
                 (select max(number) from turn where task_id = $2) as last_turn,
                 (select number from turn where id = $1) as own_turn,
                 (select max(number) from attempt where retry_of = $3) as retried_as
             from attempt a where a.turn_id = $1 and a.organization_id = $4",
            [
                before.turn.as_uuid().into(),
                before.task.as_uuid().into(),
                before.id.as_uuid().into(),
                before.organization.as_uuid().into(),
            ],
        )
        .await?;
    let row = row.ok_or(StoreError::NotFound { noun: "attempt" })?;
    if let Some(number) = row.get::<Option<i64>>("retried_as")? {
        return refused(format!("the attempt was made again already, as attempt {number}; retry that one"));
    }
    if row.get::<i64>("last_turn")? != row.get::<i64>("own_turn")? {
        return refused("the task has gone on since; follow up on it with `carrel task follow-up`".to_owned());
    }
    let most = row.number("most")?;
    if most >= MAX_IN_TURN {
        return refused(format!("the turn has {most} attempts, which is the most; follow up on the task instead"));
    }
    Ok(most + 1)
}

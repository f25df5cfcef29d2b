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
        let attempt = again(self, &before, number, version, new);
        attempts::insert(&transaction, &attempt).await?;
        let last_seq = announce(self, &transaction, &before, &attempt).await?;
        transaction.commit().await?;
        self.ring_for(&attempt, last_seq);
        Ok(attempt)
    }

    /// Ends an attempt and makes it again from its beginning, in one step: nobody sees its task without the one that stands
    /// for it. Where it may not be made again it only ends.
    ///
    /// # Errors
    /// As [`Store::advance_attempt`].
    pub async fn end_and_retry(
        &self,
        attempt: &Attempt,
        end: AttemptState,
        also: Vec<EventBody>,
    ) -> Result<Attempt, StoreError> {
        let new = NewRetry { resumes: false, latest_environment: false, limits: AttemptLimits::NONE };
        let transaction = self.write(Scope::Organization(attempt.organization)).await?;
        let number = match next_number(&transaction, &Attempt { state: end.clone(), ..attempt.clone() }).await {
            Ok(number) => Some(number),
            Err(StoreError::NotRetried { .. }) => None,
            Err(error) => return Err(error),
        };
        let new = number.map(|number| again(self, attempt, number, attempt.environment_version, new));
        if let Some(new) = &new {
            // Before the end of the other: its version of the environment is still in use then.
            attempts::insert(&transaction, new).await?;
        }
        let (ended, mut last_seq) = attempts::move_on(self, &transaction, attempt, end, also).await?;
        if let Some(new) = &new {
            last_seq = announce(self, &transaction, &ended, new).await?;
        }
        transaction.commit().await?;
        self.ring_for(&ended, last_seq);
        Ok(ended)
    }

    fn ring_for(&self, attempt: &Attempt, last_seq: i64) {
        let Attempt { organization, task, .. } = *attempt;
        self.shared.changes.ring(Change::Log { organization, task, last_seq });
        self.shared.changes.ring(Change::Job);
    }
}

/// The attempt that stands for another one.
fn again(store: &Store, before: &Attempt, number: u32, environment_version: i64, new: NewRetry) -> Attempt {
    Attempt {
        id: AttemptId::from_uuid(fresh()),
        number,
        retry: Some(Retry { of: before.id, resumes: new.resumes }),
        state: AttemptState::Queued,
        version: 1,
        environment_version,
        limits: new.limits.over(before.limits),
        usage: Usage::default(),
        cancel_requested_by: None,
        created_at: store.now(),
        started_at: None,
        ended_at: None,
        ..before.clone()
    }
}

/// Gives it what the one before was not told, and its job, and says so.
async fn announce(
    store: &Store,
    transaction: &Transaction,
    before: &Attempt,
    again: &Attempt,
) -> Result<i64, StoreError> {
    messages::pass_on(transaction, before, again.id).await?;
    jobs::enqueue(store, transaction, again.organization, JobKind::Attempt(again.id), Some(before.id)).await?;
    let resumes = again.retry.is_some_and(|retry| retry.resumes);
    let body = EventBody::AttemptRetried { retry_of: before.id, resumes };
    let event = NewEvent { attempt: Some(again.id), body };
    events::append(store, transaction, again.organization, again.task, &[event]).await
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

//! Attempts: read, moved from state to state by compare-and-set, and asked to stop.

use carrel_domain::{
    Attempt, AttemptId, AttemptState, CancelledBy, CommitOid, EnvironmentId, EventBody, NewEvent, OrganizationId,
    Retry, TaskId, TurnId,
};

use crate::database::{Row, Scope, StoreError, Transaction, json, maybe_time, time};
use crate::{Change, Store, environments, events, jobs, messages, workers};

pub(crate) const COLUMNS: &str = "a.id, a.organization_id, a.task_id, a.turn_id, a.number, a.state, a.version,
    a.environment_id, a.environment_version, a.model, a.effort, a.agent, a.limits, a.retry_of, a.resumes, a.base_commit, a.token_usage, a.cancel_requested_by,
    a.created_at, a.started_at, a.ended_at";

impl Store {
    /// An attempt as it stands.
    ///
    /// # Errors
    /// When this organization has no such attempt, or the database refuses.
    pub async fn attempt(&self, organization: OrganizationId, id: AttemptId) -> Result<Attempt, StoreError> {
        let row = self
            .database
            .one(
                &format!("select {COLUMNS} from attempt a where a.id = $1 and a.organization_id = $2"),
                [id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        attempt(&row.ok_or(StoreError::NotFound { noun: "attempt" })?)
    }

    /// Moves an attempt into its next state, with the event that tells of it and any others that belong to it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer as `attempt` says, or when its agent is said to be done while a
    /// message waits for it; [`StoreError::Impossible`] when the diagram has no such arrow. Nothing was changed then.
    pub async fn advance_attempt(
        &self,
        attempt: &Attempt,
        next: AttemptState,
        also: Vec<EventBody>,
    ) -> Result<Attempt, StoreError> {
        // With its last attempt an older version of an environment goes, which somebody else could be about to use.
        let scope = match next.has_ended() {
            true => Scope::Organization(attempt.organization),
            false => Scope::Task(attempt.organization, attempt.task),
        };
        let transaction = self.write(scope).await?;
        let (moved, last_seq) = move_on(self, &transaction, attempt, next, also).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Log { organization: attempt.organization, task: attempt.task, last_seq });
        Ok(moved)
    }

    /// Pins the commit an attempt starts from: the one given, or the one that an attempt of the same turn has pinned
    /// first, so that attempts side by side can be compared.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer as `attempt` says.
    pub async fn pin_base(&self, attempt: &Attempt, base: CommitOid) -> Result<CommitOid, StoreError> {
        let transaction = self.write(Scope::Task(attempt.organization, attempt.task)).await?;
        let sibling = transaction
            .one(
                "select base_commit from attempt
                 where turn_id = $1 and organization_id = $2 and base_commit is not null limit 1",
                [attempt.turn.as_uuid().into(), attempt.organization.as_uuid().into()],
            )
            .await?;
        let base = match sibling {
            Some(row) => row.parsed("base_commit")?,
            None => base,
        };
        let moved = Attempt { base: Some(base.clone()), version: attempt.version + 1, ..attempt.clone() };
        update(&transaction, attempt.version, &moved).await?;
        transaction.commit().await?;
        Ok(base)
    }

    /// Writes down that an attempt is to be stopped. One that still waits in the queue is stopped with that; whoever
    /// drives another makes it true; one that has ended stays as it is.
    ///
    /// # Errors
    /// When this organization has no such attempt, or the database refuses.
    pub async fn request_cancel(
        &self,
        organization: OrganizationId,
        id: AttemptId,
        by: CancelledBy,
    ) -> Result<Attempt, StoreError> {
        // One that has not begun ends with it.
        let transaction = self.write(Scope::Organization(organization)).await?;
        transaction
            .run(
                "update attempt set cancel_requested_by = $3
                 where id = $1 and organization_id = $2 and ended_at is null and cancel_requested_by is null",
                [id.as_uuid().into(), organization.as_uuid().into(), json(&by)],
            )
            .await?;
        let found = find(&transaction, organization, id).await?;
        let next = AttemptState::Cancelled { by: found.cancel_requested_by.unwrap_or(by) };
        let stopped = if found.state == AttemptState::Queued {
            let (moved, last_seq) = move_on(self, &transaction, &found, next, Vec::new()).await?;
            // Unless a worker has just begun with it, nobody needs to.
            transaction
                .run(
                    "delete from job where kind = 'attempt' and subject_id = $1 and begun_at is null",
                    [id.as_uuid().into()],
                )
                .await?;
            Some((moved, last_seq))
        } else {
            None
        };
        // Whoever rests would hear of it only when it is tried again.
        transaction
            .run(
                "update job set run_at = $2 where kind = 'attempt' and subject_id = $1 and run_at > $2",
                [id.as_uuid().into(), time(self.shared_now())],
            )
            .await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::CancelRequested(id));
        self.shared.changes.ring(Change::Job);
        let Some((moved, last_seq)) = stopped else { return Ok(found) };
        self.shared.changes.ring(Change::Log { organization, task: moved.task, last_seq });
        Ok(moved)
    }

    /// What a transaction writes about that changes an attempt.
    pub(crate) async fn scope_of(&self, organization: OrganizationId, id: AttemptId) -> Result<Scope, StoreError> {
        let row = self
            .database
            .one(
                "select task_id from attempt where id = $1 and organization_id = $2",
                [id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        let row = row.ok_or(StoreError::NotFound { noun: "attempt" })?;
        Ok(Scope::Task(organization, row.id("task_id", TaskId::from_uuid)?))
    }

    /// Attempts that have a sandbox with this worker, or may have one: everything that it took out of the queue, until its
    /// job is done. The files of one that has ended may not have been kept yet.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempts_under_way(&self) -> Result<Vec<Attempt>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from attempt a
             where (a.worker_id = $1 or a.worker_id is null) and a.started_at is not null and a.ended_at is null
             union all
             select {COLUMNS} from job j join attempt a on a.id = j.subject_id
             where j.kind = 'attempt' and (a.worker_id = $1 or a.worker_id is null) and a.started_at is not null
                 and a.ended_at is not null"
        );
        self.database.all(&sql, [self.worker().as_uuid().into()]).await?.iter().map(attempt).collect()
    }

    /// Takes an attempt over that another worker had begun to prepare.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn take_over(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let transaction = self.write(Scope::Task(attempt.organization, attempt.task)).await?;
        workers::settle(self, &transaction, attempt.id).await?;
        transaction.commit().await
    }
}

/// Moves an attempt into its next state inside a transaction, with its events; gives the log's last sequence number, too.
pub(crate) async fn move_on(
    store: &Store,
    transaction: &Transaction,
    attempt: &Attempt,
    next: AttemptState,
    also: Vec<EventBody>,
) -> Result<(Attempt, i64), StoreError> {
    let now = store.now();
    let next = attempt.state.clone().advance(next)?;
    let moved = Attempt {
        started_at: attempt
            .started_at
            .or((!matches!(attempt.state, AttemptState::Queued) || !next.has_ended()).then_some(now)),
        ended_at: next.has_ended().then_some(now),
        version: attempt.version + 1,
        state: next,
        ..attempt.clone()
    };
    update(transaction, attempt.version, &moved).await?;
    if moved.state == AttemptState::Preparing {
        workers::settle(store, transaction, moved.id).await?;
    }
    let unheard = messages::unheard(transaction, &moved).await?;
    jobs::got_on(transaction, attempt.id).await?;
    if moved.state.has_ended() {
        // It may have been the last to hold an older version of its environment, with that version's secrets.
        environments::purge_values(transaction, attempt.organization, attempt.environment).await?;
    }
    let bodies = also.into_iter().chain(unheard).chain([EventBody::AttemptState(moved.state.clone())]);
    let events: Vec<NewEvent> = bodies.map(|body| NewEvent { attempt: Some(attempt.id), body }).collect();
    let last_seq = events::append(store, transaction, attempt.organization, attempt.task, &events).await?;
    Ok((moved, last_seq))
}

/// Compare-and-set of the whole row on its version. `cancel_requested_by` and the usage are not part of it: a wish
/// to stop is never lost to a worker's change, nor a worker's change to it.
async fn update(transaction: &Transaction, version: i64, moved: &Attempt) -> Result<(), StoreError> {
    let changed = transaction
        .run(
            "update attempt set state = $4, version = $5, base_commit = $6, started_at = $7,
                 ended_at = $8, standing = $9, additions = $10, deletions = $11
             where id = $1 and organization_id = $2 and version = $3",
            [
                moved.id.as_uuid().into(),
                moved.organization.as_uuid().into(),
                version.into(),
                json(&moved.state),
                moved.version.into(),
                moved.base.as_ref().map(ToString::to_string).into(),
                maybe_time(moved.started_at),
                maybe_time(moved.ended_at),
                json(&moved.state.standing()),
                lines(moved.state.patch().map(|patch| patch.additions)),
                lines(moved.state.patch().map(|patch| patch.deletions)),
            ],
        )
        .await?;
    if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { noun: "attempt" }) }
}

/// A number of lines; more than the column holds is shown as the most it holds.
fn lines(count: Option<u64>) -> sea_orm::Value {
    count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)).into()
}

/// An attempt as it stands, inside a transaction.
pub(crate) async fn find(
    transaction: &Transaction,
    organization: OrganizationId,
    id: AttemptId,
) -> Result<Attempt, StoreError> {
    let row = transaction
        .one(
            &format!("select {COLUMNS} from attempt a where a.id = $1 and a.organization_id = $2"),
            [id.as_uuid().into(), organization.as_uuid().into()],
        )
        .await?;
    attempt(&row.ok_or(StoreError::NotFound { noun: "attempt" })?)
}

pub(crate) async fn insert(transaction: &Transaction, attempt: &Attempt) -> Result<(), StoreError> {
    transaction
        .run(
            "insert into attempt (id, organization_id, task_id, turn_id, number, state, version, environment_id,
                 environment_version, model, base_commit, token_usage, created_at, standing, effort, retry_of, resumes, limits, agent)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            [
                attempt.id.as_uuid().into(),
                attempt.organization.as_uuid().into(),
                attempt.task.as_uuid().into(),
                attempt.turn.as_uuid().into(),
                i64::from(attempt.number).into(),
                json(&attempt.state),
                attempt.version.into(),
                attempt.environment.as_uuid().into(),
                attempt.environment_version.into(),
                attempt.model.as_str().into(),
                attempt.base.as_ref().map(ToString::to_string).into(),
                json(&attempt.usage),
                time(attempt.created_at),
                json(&attempt.state.standing()),
                attempt.effort.clone().into(),
                attempt.retry.map(|retry| retry.of.as_uuid()).into(),
                attempt.retry.map(|retry| i64::from(retry.resumes)).into(),
                json(&attempt.limits),
                attempt.agent.clone().into(),
            ],
        )
        .await
        .map(drop)
}

pub(crate) fn attempt(row: &Row) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        id: row.id("id", AttemptId::from_uuid)?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        task: row.id("task_id", TaskId::from_uuid)?,
        turn: row.id("turn_id", TurnId::from_uuid)?,
        number: row.number("number")?,
        retry: retry(row)?,
        state: row.json("state")?,
        version: row.get("version")?,
        environment: row.id("environment_id", EnvironmentId::from_uuid)?,
        environment_version: row.get("environment_version")?,
        model: row.get("model")?,
        effort: row.get("effort")?,
        agent: row.get("agent")?,
        base: row
            .get::<Option<String>>("base_commit")?
            .map(|oid| oid.parse().map_err(|_| crate::database::unreadable("base_commit")))
            .transpose()?,
        limits: row.maybe_json("limits")?.unwrap_or_default(),
        usage: row.json("token_usage")?,
        cancel_requested_by: row.maybe_json("cancel_requested_by")?,
        created_at: row.time("created_at")?,
        started_at: row.maybe_time("started_at")?,
        ended_at: row.maybe_time("ended_at")?,
    })
}

fn retry(row: &Row) -> Result<Option<Retry>, StoreError> {
    let Some(of) = row.maybe_id("retry_of", AttemptId::from_uuid)? else { return Ok(None) };
    let resumes = row.get::<Option<i64>>("resumes")?.is_some_and(|resumes| resumes != 0);
    Ok(Some(Retry { of, resumes }))
}

//! Tasks and their turns: made in one transaction with their attempts, jobs and first events; read as threads and lists.

use std::collections::HashMap;

use carrel_domain::{
    Attachment, Attempt, AttemptId, AttemptLimits, AttemptState, Environment, EnvironmentId, EventBody, Mode, NewEvent,
    NewTask, NewTurn, OrganizationId, Priority, Publication, RepositoryId, Standing, Task, TaskId, TaskState, Turn,
    TurnId, Usage, UserId,
};
use sea_orm::Value;

use crate::database::{Row, Scope, StoreError, Transaction, json, time, unreadable};
use crate::repositories::ensure_repository;
use crate::{Change, JobKind, Store, attachments, attempts, environments, events, fresh, jobs};

const COLUMNS: &str =
    "t.id, t.organization_id, t.repository_id, r.location, t.environment_id, t.revision, t.local_changes, t.title,
    t.created_by, t.created_at, t.updated_at, t.last_seq, t.priority";

/// A task with everything under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskThread {
    /// The task.
    pub task: Task,
    /// Its turns, oldest first.
    pub turns: Vec<TurnThread>,
    /// Its publications, oldest first.
    pub publications: Vec<Publication>,
    /// The environments its attempts are pinned to.
    pub environments: Vec<Environment>,
}

/// A turn with its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnThread {
    /// The turn.
    pub turn: Turn,
    /// Its attempts, by number.
    pub attempts: Vec<Attempt>,
    /// What was given with it, under the names it has in sandboxes.
    pub attachments: Vec<Attachment>,
}

/// A task as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskListing {
    /// The task.
    pub task: Task,
    /// The mode of its last turn.
    pub mode: Mode,
    /// The last turn's attempts, by number, without those that were made again.
    pub attempts: Vec<AttemptListing>,
}

/// An attempt as a list shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptListing {
    /// Where it stands.
    pub standing: Standing,
    /// Lines its patch adds, if it has one.
    pub additions: Option<u64>,
    /// Lines its patch removes, if it has one.
    pub deletions: Option<u64>,
}

impl TaskThread {
    /// Where the task stands. Attempts that were made again count no more.
    #[must_use]
    pub fn state(&self) -> TaskState {
        let last = self.turns.last().map(|turn| turn.attempts.as_slice()).unwrap_or_default();
        let counts = |one: &&Attempt| !last.iter().any(|other| other.retry.is_some_and(|retry| retry.of == one.id));
        TaskState::of(last.iter().filter(counts).map(|attempt| attempt.state.standing()))
    }

    /// One of its attempts, with its turn.
    #[must_use]
    pub fn attempt(&self, id: AttemptId) -> Option<(&Turn, &Attempt)> {
        let all =
            self.turns.iter().flat_map(|thread| thread.attempts.iter().map(move |attempt| (&thread.turn, attempt)));
        all.into_iter().find(|(_, attempt)| attempt.id == id)
    }
}

impl Store {
    /// Makes a task with its first turn, attempts and jobs, in one transaction.
    ///
    /// # Errors
    /// When the database refuses; then there is no task.
    pub async fn create_task(&self, new: &NewTask, model: &str) -> Result<TaskId, StoreError> {
        let id = TaskId::from_uuid(fresh());
        let transaction = self.write(Scope::Task(new.organization, id)).await?;
        let repository = ensure_repository(self, &transaction, new.organization, &new.repository).await?;
        let (name, location) = (new.environment.as_ref(), &new.repository);
        let environment = environments::for_new_task(&transaction, new.organization, name, location).await?;
        transaction
            .run(
                "insert into task (id, organization_id, repository_id, environment_id, revision, title, created_by,
                     created_at, updated_at, last_seq, local_changes, priority)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $8, 0, $9, $10)",
                [
                    id.as_uuid().into(),
                    new.organization.as_uuid().into(),
                    repository.as_uuid().into(),
                    environment.id.as_uuid().into(),
                    json(&new.revision),
                    new.turn.prompt.title().into(),
                    new.created_by.as_uuid().into(),
                    time(self.now()),
                    new.local_changes.as_ref().map_or_else(|| None::<String>.into(), json),
                    new.priority.number().into(),
                ],
            )
            .await?;
        let place = Place { organization: new.organization, task: id, number: 1, created_by: new.created_by };
        let last_seq = insert_turn(self, &transaction, place, &new.turn, &environment, model).await?;
        transaction.commit().await?;
        self.ring(new.organization, id, last_seq);
        Ok(id)
    }

    /// Adds a turn to a task, with its attempts and jobs. The turn must come after exactly `after` others, none of which
    /// is worked on.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else has added a turn in the meantime.
    pub async fn add_turn(
        &self,
        task: &Task,
        after: u32,
        new: &NewTurn,
        created_by: UserId,
        model: &str,
    ) -> Result<(), StoreError> {
        let transaction = self.write(Scope::Task(task.organization, task.id)).await?;
        let row = transaction
            .one(
                "select count(*) as turns, (select count(*) from attempt where task_id = $1 and organization_id = $2
                     and ended_at is null) as working from turn where task_id = $1 and organization_id = $2",
                [task.id.as_uuid().into(), task.organization.as_uuid().into()],
            )
            .await?;
        let row = row.ok_or(StoreError::NotFound { noun: "task" })?;
        let turns = row.number("turns")?;
        // A retry may have been asked for since the task was looked at.
        if turns != after || row.number("working")? > 0 {
            return Err(StoreError::Conflict { noun: "task" });
        }
        let (id, location) = (task.environment, &task.repository);
        let environment = environments::for_next_turn(&transaction, task.organization, id, location).await?;
        let place = Place { organization: task.organization, task: task.id, number: turns + 1, created_by };
        let last_seq = insert_turn(self, &transaction, place, new, &environment, model).await?;
        transaction.commit().await?;
        self.ring(task.organization, task.id, last_seq);
        Ok(())
    }

    /// A task with its turns, attempts and publications.
    ///
    /// # Errors
    /// When this organization has no such task, or the database refuses.
    pub async fn task(&self, organization: OrganizationId, id: TaskId) -> Result<TaskThread, StoreError> {
        let scope = || [Value::from(id.as_uuid()), organization.as_uuid().into()];
        let row = self
            .database
            .one(
                &format!(
                    "select {COLUMNS} from task t join repository r on r.id = t.repository_id
                     where t.id = $1 and t.organization_id = $2"
                ),
                scope(),
            )
            .await?;
        let task = task(&row.ok_or(StoreError::NotFound { noun: "task" })?)?;
        let turns = self
            .database
            .all("select * from turn where task_id = $1 and organization_id = $2 order by number", scope())
            .await?;
        let attempts = self
            .database
            .all(
                &format!(
                    "select {} from attempt a where a.task_id = $1 and a.organization_id = $2 order by a.number",
                    attempts::COLUMNS
                ),
                scope(),
            )
            .await?;
        let mut by_turn: HashMap<TurnId, Vec<Attempt>> = HashMap::new();
        for row in &attempts {
            let attempt = attempts::attempt(row)?;
            by_turn.entry(attempt.turn).or_default().push(attempt);
        }
        let mut given: HashMap<TurnId, Vec<Attachment>> = HashMap::new();
        for placed in self.task_attachments(organization, id).await? {
            given.entry(placed.turn).or_default().push(placed.attachment);
        }
        let turns = turns.iter().map(|row| {
            let turn = turn(row)?;
            let attachments = given.remove(&turn.id).unwrap_or_default();
            let attempts = by_turn.remove(&turn.id).unwrap_or_default();
            Ok(TurnThread { turn, attempts, attachments })
        });
        let turns = turns.collect::<Result<Vec<_>, StoreError>>()?;
        let publications = self.publications_of(organization, id).await?;
        let environments = self.environments_of(organization, &turns).await?;
        Ok(TaskThread { task, turns, publications, environments })
    }

    /// The number of the last event in a task's log.
    ///
    /// # Errors
    /// When the organization has no such task, or the database refuses.
    pub async fn last_seq(&self, organization: OrganizationId, id: TaskId) -> Result<i64, StoreError> {
        let row = self
            .database
            .one(
                "select last_seq from task where id = $1 and organization_id = $2",
                [id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        row.ok_or(StoreError::NotFound { noun: "task" })?.get("last_seq")
    }

    /// A page of an organization's tasks, newest first, older than `before` if that is given.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tasks(
        &self,
        organization: OrganizationId,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskListing>, StoreError> {
        let before = before.map_or(uuid::Uuid::max(), TaskId::as_uuid);
        let rows = self
            .database
            .all(
                &format!(
                    "select {COLUMNS} from task t join repository r on r.id = t.repository_id
                     where t.organization_id = $1 and t.id < $2 order by t.id desc limit $3"
                ),
                [organization.as_uuid().into(), before.into(), i64::from(limit).into()],
            )
            .await?;
        let tasks = rows.iter().map(task).collect::<Result<Vec<_>, _>>()?;
        let mut last_turns = self.last_turns(organization, &tasks).await?;
        let listings = tasks.into_iter().map(|task| {
            let (mode, attempts) = last_turns.remove(&task.id).ok_or_else(|| unreadable("a task without turns"))?;
            Ok(TaskListing { task, mode, attempts })
        });
        listings.collect()
    }

    async fn last_turns(
        &self,
        organization: OrganizationId,
        tasks: &[Task],
    ) -> Result<HashMap<TaskId, (Mode, Vec<AttemptListing>)>, StoreError> {
        let mut found: HashMap<TaskId, (Mode, Vec<AttemptListing>)> = HashMap::new();
        if tasks.is_empty() {
            return Ok(found);
        }
        let places: Vec<String> = (2..tasks.len() + 2).map(|place| format!("${place}")).collect();
        let sql = format!(
            "select a.task_id, a.standing, a.additions, a.deletions, u.mode from attempt a join turn u on u.id = a.turn_id
             where a.organization_id = $1 and a.task_id in ({})
               and u.number = (select max(number) from turn where task_id = a.task_id)
               and not exists (select 1 from attempt b where b.retry_of = a.id)
             order by a.number",
            places.join(", ")
        );
        let mut values: Vec<Value> = vec![organization.as_uuid().into()];
        values.extend(tasks.iter().map(|task| Value::from(task.id.as_uuid())));
        for row in self.database.all(&sql, values).await? {
            let mode = mode(&row)?;
            let lines = |column| Ok::<_, StoreError>(row.get::<Option<i64>>(column)?.map(i64::unsigned_abs));
            let (_, attempts) = found.entry(row.id("task_id", TaskId::from_uuid)?).or_insert((mode, Vec::new()));
            attempts.push(AttemptListing {
                standing: row.json("standing")?,
                additions: lines("additions")?,
                deletions: lines("deletions")?,
            });
        }
        Ok(found)
    }

    async fn environments_of(
        &self,
        organization: OrganizationId,
        turns: &[TurnThread],
    ) -> Result<Vec<Environment>, StoreError> {
        let mut found: Vec<Environment> = Vec::new();
        for attempt in turns.iter().flat_map(|turn| &turn.attempts) {
            let pinned = (attempt.environment, attempt.environment_version);
            if !found.iter().any(|known| (known.id, known.version) == pinned) {
                found.push(self.environment_version(organization, pinned.0, pinned.1).await?);
            }
        }
        Ok(found)
    }

    fn ring(&self, organization: OrganizationId, task: TaskId, last_seq: i64) {
        self.shared.changes.ring(Change::Log { organization, task, last_seq });
        self.shared.changes.ring(Change::Job);
    }
}

/// Where a new turn goes.
#[derive(Clone, Copy)]
struct Place {
    organization: OrganizationId,
    task: TaskId,
    number: u32,
    created_by: UserId,
}

async fn insert_turn(
    store: &Store,
    transaction: &Transaction,
    place: Place,
    new: &NewTurn,
    environment: &Environment,
    model: &str,
) -> Result<i64, StoreError> {
    let id = TurnId::from_uuid(fresh());
    transaction
        .run(
            "insert into turn (id, organization_id, task_id, number, prompt, mode, from_attempt_id, created_by,
                 created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [
                id.as_uuid().into(),
                place.organization.as_uuid().into(),
                place.task.as_uuid().into(),
                i64::from(place.number).into(),
                new.prompt.as_str().into(),
                new.mode.word().into(),
                new.from_attempt.map(AttemptId::as_uuid).into(),
                place.created_by.as_uuid().into(),
                time(store.now()),
            ],
        )
        .await?;
    attachments::take(transaction, (place.organization, place.task, id), &new.attachments).await?;
    for number in 1..=new.attempts.get() {
        let attempt = queued(store, place, (id, number), environment, (model, new.effort.as_deref()));
        let attempt = Attempt { limits: new.limits, agent: new.agent.clone(), ..attempt };
        attempts::insert(transaction, &attempt).await?;
        jobs::enqueue(store, transaction, place.organization, JobKind::Attempt(attempt.id), new.from_attempt).await?;
    }
    let body = EventBody::TurnCreated {
        turn_id: id,
        number: place.number,
        prompt: new.prompt.as_str().to_owned(),
        mode: new.mode,
    };
    events::append(store, transaction, place.organization, place.task, &[NewEvent { attempt: None, body }]).await
}

fn queued(
    store: &Store,
    place: Place,
    (turn, number): (TurnId, u32),
    environment: &Environment,
    (model, effort): (&str, Option<&str>),
) -> Attempt {
    Attempt {
        id: AttemptId::from_uuid(fresh()),
        organization: place.organization,
        task: place.task,
        turn,
        number,
        retry: None,
        state: AttemptState::Queued,
        version: 1,
        environment: environment.id,
        environment_version: environment.version,
        model: model.to_owned(),
        effort: effort.map(str::to_owned),
        agent: None,
        base: None,
        limits: AttemptLimits::NONE,
        usage: Usage::default(),
        cancel_requested_by: None,
        created_at: store.now(),
        started_at: None,
        ended_at: None,
    }
}

fn task(row: &Row) -> Result<Task, StoreError> {
    Ok(Task {
        id: row.id("id", TaskId::from_uuid)?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        repository_id: row.id("repository_id", RepositoryId::from_uuid)?,
        repository: row.parsed("location")?,
        environment: row.id("environment_id", EnvironmentId::from_uuid)?,
        revision: row.json("revision")?,
        local_changes: row.maybe_json("local_changes")?,
        priority: Priority::of(row.get("priority")?),
        title: row.get("title")?,
        created_by: row.id("created_by", UserId::from_uuid)?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        last_seq: row.get("last_seq")?,
    })
}

fn turn(row: &Row) -> Result<Turn, StoreError> {
    Ok(Turn {
        id: row.id("id", TurnId::from_uuid)?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        task: row.id("task_id", TaskId::from_uuid)?,
        number: row.number("number")?,
        prompt: row.get("prompt")?,
        mode: mode(row)?,
        from_attempt: row.maybe_id("from_attempt_id", AttemptId::from_uuid)?,
        created_by: row.id("created_by", UserId::from_uuid)?,
        created_at: row.time("created_at")?,
    })
}

fn mode(row: &Row) -> Result<Mode, StoreError> {
    match row.get::<String>("mode")?.as_str() {
        "ask" => Ok(Mode::Ask),
        "code" => Ok(Mode::Code),
        other => Err(unreadable(&format!("mode `{other}`"))),
    }
}

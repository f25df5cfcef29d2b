//! What tasks of a list wait for: read from the queue and from the last event of each, never written down.

use std::collections::HashMap;
use std::time::Duration;

use carrel_domain::wait::MANY;
use carrel_domain::{BudgetOwner, OrganizationId, Standing, TaskId, TaskState, UserId, Wait};
use jiff::{SignedDuration, Timestamp};
use sea_orm::Value;

use crate::database::{Row, StoreError, json, time};
use crate::shares::RUNNING;
use crate::{Store, TaskListing, TaskThread};

/// A worker that has said nothing for so long is not just between two signs of life.
const SILENT: SignedDuration = SignedDuration::from_secs(30);

/// A task whose wait is asked for.
struct Asked {
    task: TaskId,
    state: TaskState,
    /// Whether one of its attempts has not begun.
    has_queued: bool,
}

impl Asked {
    fn of(task: TaskId, attempts: impl Iterator<Item = Standing> + Clone) -> Self {
        let has_queued = attempts.clone().any(|standing| standing == Standing::Queued);
        Self { task, state: TaskState::of(attempts), has_queued }
    }
}

impl Store {
    /// What these tasks wait for, in words; those that work, or have ended, are left out. A worker that has said nothing for
    /// `gone_after` is taken for gone by the others.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn waits(
        &self,
        organization: OrganizationId,
        listings: &[TaskListing],
        gone_after: Duration,
    ) -> Result<HashMap<TaskId, String>, StoreError> {
        let asked = |one: &TaskListing| Asked::of(one.task.id, one.attempts.iter().map(|attempt| attempt.standing));
        self.waits_of(organization, &listings.iter().map(asked).collect::<Vec<_>>(), gone_after).await
    }

    /// What a task waits for, in words, as with [`Store::waits`]. Nothing, when it works or has ended.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn wait(&self, thread: &TaskThread, gone_after: Duration) -> Result<Option<String>, StoreError> {
        let id = thread.task.id;
        let mut latest = thread.turns.last().into_iter().flat_map(|turn| &turn.attempts);
        let has_queued = latest.any(|attempt| attempt.state.standing() == Standing::Queued);
        let asked = Asked { task: id, state: thread.state(), has_queued };
        Ok(self.waits_of(thread.task.organization, &[asked], gone_after).await?.remove(&id))
    }

    async fn waits_of(
        &self,
        organization: OrganizationId,
        tasks: &[Asked],
        gone_after: Duration,
    ) -> Result<HashMap<TaskId, String>, StoreError> {
        let those = |wanted: &dyn Fn(&Asked) -> bool| -> Vec<TaskId> {
            tasks.iter().filter(|asked| wanted(asked)).map(|asked| asked.task).collect()
        };
        let is_running = |asked: &Asked| asked.state == TaskState::Running;
        let now = self.now();
        let mut words = HashMap::new();
        // Of a task that works, an attempt that cannot begin is told of only where nothing else is waited for.
        for (task, wait) in self.waits_for_worker(organization, &those(&|asked| asked.has_queued)).await? {
            let is_one_of_several = tasks.iter().any(|asked| asked.task == task && is_running(asked));
            let wait = wait.words(now, gone_after);
            words.insert(task, if is_one_of_several { format!("one of its attempts: {wait}") } else { wait });
        }
        let mut waits = self.rests(organization, &those(&|asked| asked.has_queued || is_running(asked))).await?;
        waits.extend(self.waits_for_model(organization, &those(&is_running)).await?);
        waits.extend(self.waits_for_home(organization, &those(&is_running)).await?);
        words.extend(waits.into_iter().map(|(task, wait)| (task, wait.words(now, gone_after))));
        Ok(words)
    }

    /// Of each task the attempt that is the nearest.
    async fn waits_for_worker(
        &self,
        organization: OrganizationId,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, Wait>, StoreError> {
        let ahead = |home: &str| {
            format!(
                "(select count(*) from (select 1 from job o where o.kind = 'attempt' and o.begun_at is null
                 and o.organization_id = j.organization_id and o.account_id = j.account_id and o.worker_id {home}
                 and (o.rank_at, o.id) < (j.rank_at, j.id) limit {MANY}) as nearer)"
            )
        };
        let (anywhere, there) = (ahead("is null"), ahead("= j.worker_id"));
        let sql = format!(
            "with {RUNNING}
             select a.task_id, j.account_id, n.name as organization_name, u.name as person_name, {anywhere} + {there} as ahead,
                 w.name as home_name, w.seen_at as home_seen_at, w.returns_by as home_returns_by,
                 coalesce(p.attempts, 0) as of_person, coalesce(bp.attempts, $3) as most_of_person,
                 coalesce(o.attempts, 0) as of_organization, coalesce(bo.attempts, $4) as most_of_organization
             from attempt a join job j on j.kind = 'attempt' and j.subject_id = a.id
             join organization n on n.id = j.organization_id join account u on u.id = j.account_id
             left join worker w on w.id = j.worker_id
             left join running_all o on o.organization_id = j.organization_id
             left join running p on p.organization_id = j.organization_id and p.account_id = j.account_id
             left join budget bo on bo.organization_id = j.organization_id and bo.owner_id = j.organization_id
             left join budget bp on bp.organization_id = j.organization_id and bp.owner_id = j.account_id
             where a.organization_id = $1 and a.standing = $2 and j.begun_at is null and a.task_id in ({})
             order by j.rank_at desc, j.id desc",
            places(tasks, 5)
        );
        let [person, whole] = self.at_once.values();
        let first: [Value; 4] = [organization.as_uuid().into(), json(&Standing::Queued), person, whole];
        let now = self.shared_now();
        self.waits_in(&sql, first, tasks, |row| wait_of_job(row, organization, now).map(Some)).await
    }

    /// Of tasks that were begun: those whose attempts nobody works on until the worker is back that has their files, or is
    /// taken for gone.
    async fn waits_for_home(
        &self,
        organization: OrganizationId,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, Wait>, StoreError> {
        let sql = format!(
            "select a.task_id, w.name as home_name, w.seen_at as home_seen_at, w.returns_by as home_returns_by
             from attempt a join job j on j.kind = 'attempt' and j.subject_id = a.id join worker w on w.id = j.worker_id
             where a.organization_id = $1 and j.begun_at is not null and (j.lease_until is null or j.lease_until <= $2)
             and a.task_id in ({})",
            places(tasks, 3)
        );
        let now = self.shared_now();
        self.waits_in(&sql, [organization.as_uuid().into(), time(now)], tasks, |row| wait_for_home(row, now)).await
    }

    /// Of tasks that were begun: those whose attempts rest, for something around them does not work.
    async fn rests(&self, organization: OrganizationId, tasks: &[TaskId]) -> Result<HashMap<TaskId, Wait>, StoreError> {
        let sql = format!(
            "select a.task_id, j.run_at, j.rests_for from attempt a join job j on j.kind = 'attempt' and j.subject_id = a.id
             where a.organization_id = $1 and j.begun_at is not null and j.lease_owner is null and j.run_at > $2
             and j.rests_for is not null and a.task_id in ({}) order by j.run_at desc",
            places(tasks, 3)
        );
        // Jobs are due by the clock that all workers share; people are told by this one's.
        let (now, shared_now) = (self.now(), self.shared_now());
        let rest = |row: &Row| {
            let left = row.time("run_at")?.duration_since(shared_now);
            let until = now.checked_add(left).unwrap_or(Timestamp::MAX);
            Ok(Some(Wait::Rest { reason: row.get("rests_for")?, until }))
        };
        self.waits_in(&sql, [organization.as_uuid().into(), time(shared_now)], tasks, rest).await
    }

    async fn waits_for_model(
        &self,
        organization: OrganizationId,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, Wait>, StoreError> {
        let sql = format!(
            "select e.task_id, e.at, e.body from task t join event e on e.task_id = t.id and e.seq = t.last_seq
             where t.organization_id = $1 and e.kind = 'model.retrying' and t.id in ({})",
            places(tasks, 2)
        );
        let since = |row: &Row| Ok(Wait::since(&row.json("body")?, row.time("at")?));
        self.waits_in(&sql, [organization.as_uuid().into()], tasks, since).await
    }

    /// What a query's rows, each of a `task_id`, say of these tasks; of several of one task the last. The tasks come
    /// behind the `first` values.
    async fn waits_in<const N: usize>(
        &self,
        sql: &str,
        first: [Value; N],
        tasks: &[TaskId],
        wait: impl Fn(&Row) -> Result<Option<Wait>, StoreError>,
    ) -> Result<HashMap<TaskId, Wait>, StoreError> {
        let mut waits = HashMap::new();
        if tasks.is_empty() {
            return Ok(waits);
        }
        let values: Vec<Value> = first.into_iter().chain(tasks.iter().map(|task| task.as_uuid().into())).collect();
        for row in self.database.all(sql, values).await? {
            if let Some(wait) = wait(&row)? {
                waits.insert(row.id("task_id", TaskId::from_uuid)?, wait);
            }
        }
        Ok(waits)
    }
}

fn wait_of_job(row: &Row, organization: OrganizationId, now: Timestamp) -> Result<Wait, StoreError> {
    let place = |owner, name, running: &str, most: &str| {
        let (running, most) = (row.number(running)?, row.get::<i64>(most)?);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Ok::<_, StoreError>((running >= most).then_some(Wait::Place { owner, name, running, most }))
    };
    let person = BudgetOwner::Person(row.id("account_id", UserId::from_uuid)?);
    if let Some(wait) = place(person, row.get("person_name")?, "of_person", "most_of_person")? {
        return Ok(wait);
    }
    let (whole, name) = (BudgetOwner::Organization(organization), row.get("organization_name")?);
    if let Some(wait) = place(whole, name, "of_organization", "most_of_organization")? {
        return Ok(wait);
    }
    if let Some(wait) = wait_for_home(row, now)? {
        return Ok(wait);
    }
    Ok(Wait::Worker { before: row.number("ahead")?.min(MANY) })
}

/// Whether a job's own worker is away, or says nothing.
fn wait_for_home(row: &Row, now: Timestamp) -> Result<Option<Wait>, StoreError> {
    let (Some(name), Some(seen_at)) = (row.get("home_name")?, row.maybe_time("home_seen_at")?) else { return Ok(None) };
    let returns_by = row.maybe_time("home_returns_by")?;
    let is_absent = returns_by.is_some() || now.duration_since(seen_at) >= SILENT;
    Ok(is_absent.then_some(Wait::Home { name, seen_at, returns_by }))
}

/// `$4, $5, …`: a place for each task.
fn places(tasks: &[TaskId], first: usize) -> String {
    (first..first + tasks.len()).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

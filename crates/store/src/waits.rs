//! What tasks of a list wait for: read from the queue and from the last event of each, never written down.

use std::collections::HashMap;

use carrel_domain::wait::MANY;
use carrel_domain::{EventBody, OrganizationId, Standing, TaskId, TaskState, Wait};
use sea_orm::Value;

use crate::database::{StoreError, json, time};
use crate::{Store, TaskListing};

impl Store {
    /// What these tasks wait for, in words; those that work, or have ended, are left out.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn waits(
        &self,
        organization: OrganizationId,
        listings: &[TaskListing],
    ) -> Result<HashMap<TaskId, String>, StoreError> {
        let in_state = |wanted| {
            let state = |one: &TaskListing| TaskState::of(one.attempts.iter().map(|attempt| attempt.standing));
            listings.iter().filter(|one| state(one) == wanted).map(|one| one.task.id).collect::<Vec<_>>()
        };
        let mut waits = self.waits_for_worker(organization, &in_state(TaskState::Queued)).await?;
        waits.extend(self.waits_for_model(organization, &in_state(TaskState::Running)).await?);
        let now = self.now();
        Ok(waits.into_iter().map(|(task, wait)| (task, wait.words(now))).collect())
    }

    async fn waits_for_worker(
        &self,
        organization: OrganizationId,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, Wait>, StoreError> {
        if tasks.is_empty() {
            return Ok(HashMap::new());
        }
        // The order in which workers take jobs.
        let sql = format!(
            "select a.task_id, min((select count(*) from (select 1 from job o where o.kind = 'attempt'
                 and (o.lease_until is null or o.lease_until <= $2)
                 and (o.run_at < j.run_at or (o.run_at = j.run_at and o.id < j.id)) limit {MANY}) as nearer)) as ahead
             from job j join attempt a on a.id = j.subject_id
             where j.kind = 'attempt' and a.organization_id = $1 and a.standing = $3 and a.task_id in ({})
             group by a.task_id",
            places(tasks, 4)
        );
        let first: [Value; 3] = [organization.as_uuid().into(), time(self.shared_now()), json(&Standing::Queued)];
        let mut waits = HashMap::new();
        for row in self.database.all(&sql, values(first, tasks)).await? {
            let before = row.number("ahead")?;
            waits.insert(row.id("task_id", TaskId::from_uuid)?, Wait::Worker { before });
        }
        Ok(waits)
    }

    async fn waits_for_model(
        &self,
        organization: OrganizationId,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, Wait>, StoreError> {
        if tasks.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "select e.task_id, e.at, e.body from task t join event e on e.task_id = t.id and e.seq = t.last_seq
             where t.organization_id = $1 and e.kind = 'model.retrying' and t.id in ({})",
            places(tasks, 2)
        );
        let mut waits = HashMap::new();
        for row in self.database.all(&sql, values([organization.as_uuid().into()], tasks)).await? {
            let body: EventBody = row.json("body")?;
            if let Some(wait) = Wait::since(&body, row.time("at")?) {
                waits.insert(row.id("task_id", TaskId::from_uuid)?, wait);
            }
        }
        Ok(waits)
    }
}

/// `$4, $5, …`: a place for each task.
fn places(tasks: &[TaskId], first: usize) -> String {
    (first..first + tasks.len()).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

fn values<const N: usize>(first: [Value; N], tasks: &[TaskId]) -> Vec<Value> {
    first.into_iter().chain(tasks.iter().map(|task| task.as_uuid().into())).collect()
}

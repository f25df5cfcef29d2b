//! The event log: appended to inside the transaction of what the events tell, and read from any point.

use std::collections::BTreeMap;

use carrel_domain::comparison::{Counter, Tally};
use carrel_domain::patch::StartedPatch;
use carrel_domain::{Attempt, AttemptId, Budget, CommitOid, Event, EventBody, NewEvent, OrganizationId, TaskId, Usage};
use sea_orm::Value;

use crate::budgets::{self, Counted};
use crate::database::{Row, Scope, StoreError, Transaction, time};
use crate::{Change, Store, artifacts, jobs, messages};

/// Columns of one row, and so the parameters one event takes.
const COLUMNS: usize = 7;

/// Events per statement: well below the 32,766 parameters SQLite takes.
const ROWS_PER_STATEMENT: usize = 500;

impl Store {
    /// The commit that an attempt has put its task's local changes on, and the one they became, if it was the one to do so.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn local_changes_applied(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
    ) -> Result<Option<(CommitOid, CommitOid)>, StoreError> {
        let row = self
            .database
            .one(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where attempt_id = $1 and kind = 'local_changes.applied' and organization_id = $2 order by seq limit 1",
                [attempt.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        match event(&row)?.body {
            EventBody::LocalChangesApplied { base, commit, .. } => Ok(Some((base, commit))),
            _ => Ok(None),
        }
    }

    /// Appends events to a task's log.
    ///
    /// # Errors
    /// When the task is not this organization's, or the database refuses.
    pub async fn append(
        &self,
        organization: OrganizationId,
        task: TaskId,
        events: Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        let transaction = self.write(Scope::Task(organization, task)).await?;
        let last_seq = append(self, &transaction, organization, task, &events).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Log { organization, task, last_seq });
        Ok(())
    }

    /// Appends events to the log of an attempt's task together with files that the attempt leaves, by their names: all of
    /// it or nothing. The files are listed by [`Store::attachments`]. A message that is told to have been delivered is
    /// written down as such with that. Gives the budgets that what they have cost was counted against, as they stand now:
    /// none when they have cost nothing.
    ///
    /// # Errors
    /// When a file cannot be written, the task is not this organization's, or the database refuses.
    pub async fn append_with_files(
        &self,
        attempt: &Attempt,
        events: Vec<NewEvent>,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<Vec<Budget>, StoreError> {
        let written = artifacts::write_all(self, files).await?;
        let transaction = self.write(Scope::Task(attempt.organization, attempt.task)).await?;
        for file in &written {
            artifacts::insert(self, &transaction, attempt, file).await?;
        }
        for event in &events {
            if let EventBody::MessageDelivered { message_id } = event.body {
                messages::deliver(self, &transaction, attempt, message_id).await?;
            }
        }
        // Whoever takes the attempt up goes on behind it. One that ends a worker after each step has its time limit.
        let is_step =
            |body: &EventBody| matches!(body, EventBody::ConversationItem { .. } | EventBody::ContextCompacted { .. });
        if events.iter().any(|event| is_step(&event.body)) {
            jobs::got_on(&transaction, attempt.id).await?;
        }
        let (organization, task) = (attempt.organization, attempt.task);
        let (last_seq, budgets) = append_and_count(self, &transaction, organization, task, &events).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Log { organization, task, last_seq });
        Ok(budgets)
    }

    /// All that the log has of the output of an attempt's command; `None` when it knows none of that id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn command_output(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
        command_id: &str,
    ) -> Result<Option<String>, StoreError> {
        let marks = self.command_marks(organization, attempt).await?;
        let started = marks.iter().rposition(
            |mark| matches!(&mark.body, EventBody::CommandStarted { command_id: id, .. } if id == command_id),
        );
        let Some(started) = started else { return Ok(None) };
        let ended = marks[started..]
            .iter()
            .find(|mark| matches!(&mark.body, EventBody::CommandEnded { command_id: id, .. } if id == command_id));
        let (from, to) = (marks[started].seq, ended.map_or(i64::MAX, |mark| mark.seq));
        // Narrowed by the text of the rows, so that the output of other commands is not read; decided by their meaning.
        let named = format!("%\"command_id\":\"{command_id}\"%");
        let rows = self
            .database
            .all(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where attempt_id = $1 and kind = 'command.output' and seq between $2 and $3 and organization_id = $4
                 and body like $5 order by seq",
                [attempt.as_uuid().into(), from.into(), to.into(), organization.as_uuid().into(), named.into()],
            )
            .await?;
        let mut output = String::new();
        for row in &rows {
            if let EventBody::CommandOutput { command_id: id, text } = event(row)?.body
                && id == command_id
            {
                output.push_str(&text);
            }
        }
        Ok(Some(output))
    }

    /// The beginnings and ends of an attempt's commands, oldest first.
    async fn command_marks(&self, organization: OrganizationId, attempt: AttemptId) -> Result<Vec<Event>, StoreError> {
        let rows = self
            .database
            .all(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where attempt_id = $1 and kind in ('command.started', 'command.ended') and organization_id = $2
                 order by seq",
                [attempt.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        rows.iter().map(event).collect()
    }

    /// At most `limit` events of a task's log behind `after`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn events(
        &self,
        organization: OrganizationId,
        task: TaskId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let rows = self
            .database
            .all(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where task_id = $1 and organization_id = $2 and seq > $3 order by seq limit $4",
                [task.as_uuid().into(), organization.as_uuid().into(), after.into(), i64::from(limit).into()],
            )
            .await?;
        rows.iter().map(event).collect()
    }

    /// All items that an attempt's conversation ever had, oldest first, with the marks of where it was compacted.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn conversation(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
    ) -> Result<Vec<serde_json::Value>, StoreError> {
        let rows = self
            .database
            .all(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where attempt_id = $1 and kind in ('conversation.item', 'context.compacted') and organization_id = $2
                 order by seq",
                [attempt.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.extend(event(row)?.body.into_items());
        }
        Ok(items)
    }

    /// How many items an attempt's conversation had when its sandbox was last launched anew: 0 if it never was.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn items_cut_off(&self, organization: OrganizationId, attempt: AttemptId) -> Result<usize, StoreError> {
        let (attempt, organization) = (attempt.as_uuid(), organization.as_uuid());
        let sql = "select coalesce(max(seq), 0) as seq from event
                   where attempt_id = $1 and kind = 'sandbox.relaunched' and organization_id = $2";
        let relaunched = self
            .database
            .one(sql, [attempt.into(), organization.into()])
            .await?
            .map_or(Ok(0), |row| row.get::<i64>("seq"))?;
        if relaunched == 0 {
            return Ok(0);
        }
        let sql = "select organization_id, task_id, seq, attempt_id, at, body from event
                   where attempt_id = $1 and kind in ('conversation.item', 'context.compacted') and organization_id = $2
                   and seq < $3";
        let rows = self.database.all(sql, [attempt.into(), organization.into(), relaunched.into()]).await?;
        rows.iter().try_fold(0, |count, row| Ok(count + event(row)?.body.into_items().len()))
    }

    /// The patch that an attempt's agent has begun to write last, if it has.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn started_patch(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
    ) -> Result<Option<StartedPatch>, StoreError> {
        let row = self
            .database
            .one(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where attempt_id = $1 and kind = 'patch.started' and organization_id = $2
                 order by seq desc limit 1",
                [attempt.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        Ok(row.as_ref().map(event).transpose()?.and_then(|event| match event.body {
            EventBody::PatchStarted(started) => Some(started),
            _ => None,
        }))
    }

    /// The commands of an attempt that were told of. Of those that may still be listened to, because their end was not told
    /// or they were called by the model's last answer, each with the bytes of output that were told; of others with none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn shown_output(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let marks = self.command_marks(organization, attempt).await?;
        let answered = self
            .database
            .one(
                "select max(seq) as seq from event
                 where attempt_id = $1 and kind = 'model.responded' and organization_id = $2",
                [attempt.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        let answered: i64 = answered.map_or(Ok(None), |row| row.get::<Option<i64>>("seq"))?.unwrap_or_default();
        // Without all the output of those that are over: of a long attempt that is most of its log.
        let mut begun: BTreeMap<&str, i64> = BTreeMap::new();
        let mut shown = BTreeMap::new();
        for mark in &marks {
            match &mark.body {
                EventBody::CommandStarted { command_id, .. } => {
                    begun.insert(command_id, mark.seq);
                    shown.insert(command_id.clone(), 0);
                }
                EventBody::CommandEnded { command_id, .. }
                    if begun.get(command_id.as_str()).is_some_and(|seq| *seq < answered) =>
                {
                    begun.remove(command_id.as_str());
                }
                _ => {}
            }
        }
        let Some(from) = begun.values().min() else { return Ok(shown) };
        let rows = self
            .database
            .all(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where attempt_id = $1 and kind = 'command.output' and seq >= $2 and organization_id = $3
                 order by seq",
                [attempt.as_uuid().into(), (*from).into(), organization.as_uuid().into()],
            )
            .await?;
        for row in &rows {
            if let EventBody::CommandOutput { command_id, text } = event(row)?.body
                && begun.contains_key(command_id.as_str())
            {
                *shown.entry(command_id).or_insert(0) += text.len() as u64;
            }
        }
        Ok(shown)
    }

    /// What an attempt's requests to the model have cost so far, by its log.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn spent(&self, attempt: &Attempt) -> Result<Usage, StoreError> {
        let rows = self
            .database
            .all(
                "select organization_id, task_id, seq, attempt_id, at, body from event
                 where attempt_id = $1 and kind = 'model.responded' and organization_id = $2",
                [attempt.id.as_uuid().into(), attempt.organization.as_uuid().into()],
            )
            .await?;
        let mut sum = Usage::default();
        for row in &rows {
            if let Some(cost) = event(row)?.body.cost() {
                sum += cost;
            }
        }
        Ok(sum)
    }

    /// What an attempt has done so far, counted from its log.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tally(&self, attempt: &Attempt) -> Result<Tally, StoreError> {
        let mut counter = Counter::default();
        let mut after = 0_i64;
        loop {
            let rows = self
                .database
                .all(
                    &format!(
                        "select organization_id, task_id, seq, attempt_id, at, body from event
                         where attempt_id = $1 and organization_id = $2 and seq > $3 and kind in ('{}')
                         order by seq limit 1000",
                        Counter::KINDS.join("', '")
                    ),
                    [attempt.id.as_uuid().into(), attempt.organization.as_uuid().into(), after.into()],
                )
                .await?;
            for row in &rows {
                let event = event(row)?;
                after = event.seq;
                counter.saw(&event.body);
            }
            if rows.len() < 1000 {
                return Ok(counter.finish());
            }
        }
    }
}

/// Appends events inside a transaction and gives the log's new last sequence number. What they say that models' answers
/// have cost is counted with that.
pub(crate) async fn append(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    task: TaskId,
    events: &[NewEvent],
) -> Result<i64, StoreError> {
    Ok(append_and_count(store, transaction, organization, task, events).await?.0)
}

/// The same, with the budgets that were counted against.
async fn append_and_count(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    task: TaskId,
    events: &[NewEvent],
) -> Result<(i64, Vec<Budget>), StoreError> {
    let Counted { warnings, budgets } = budgets::count(store, transaction, organization, events).await?;
    let told;
    let events = if warnings.is_empty() {
        events
    } else {
        told = [events, &warnings].concat();
        &told
    };
    let now = time(store.now());
    let count = i64::try_from(events.len()).expect("a batch of events fits into memory");
    let row = transaction
        .one(
            "update task set last_seq = last_seq + $3, updated_at = $4 where id = $1 and organization_id = $2
             returning last_seq",
            [task.as_uuid().into(), organization.as_uuid().into(), count.into(), now.clone()],
        )
        .await?;
    let last_seq: i64 = row.ok_or(StoreError::NotFound { noun: "task" })?.get("last_seq")?;
    let mut seq = last_seq - count;
    for chunk in events.chunks(ROWS_PER_STATEMENT) {
        let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * COLUMNS);
        for event in chunk {
            seq += 1;
            values.extend([
                task.as_uuid().into(),
                seq.into(),
                organization.as_uuid().into(),
                event.attempt.map(AttemptId::as_uuid).into(),
                now.clone(),
                event.body.kind().into(),
                redacted(store, &event.body).into(),
            ]);
        }
        let sql = format!(
            "insert into event (task_id, seq, organization_id, attempt_id, at, kind, body) values {}",
            placeholders(chunk.len(), COLUMNS)
        );
        transaction.run(&sql, values).await?;
    }
    Ok((last_seq, budgets))
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let columns: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", columns.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

fn redacted(store: &Store, body: &EventBody) -> String {
    let value = serde_json::to_value(body).expect("events are plain data with string keys");
    store.shared.redactor.redact_json(value).to_string()
}

fn event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        task: row.id("task_id", TaskId::from_uuid)?,
        seq: row.get("seq")?,
        at: row.time("at")?,
        attempt: row.maybe_id("attempt_id", AttemptId::from_uuid)?,
        body: row.json("body")?,
    })
}

#[cfg(test)]
mod tests {
    use super::placeholders;

    #[test]
    fn placeholders_are_counted_through_all_rows() {
        assert_eq!(placeholders(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}

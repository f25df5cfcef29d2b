//! Diffs that the prompt of a turn names or holds: kept once, with the event that tells of it, for all attempts of the turn.

use carrel_domain::attachment::FOLDER;
use carrel_domain::{AttachmentId, Attempt, EventBody, NewEvent, OrganizationId, TurnId};

use crate::artifacts::{Written, write_one};
use crate::database::{Row, Scope, StoreError, Transaction, time};
use crate::{Change, Store, attachments, events, fresh};

/// A diff of a prompt that was had, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDiff {
    /// Its place among those of the prompt, counted from 0.
    pub position: u32,
    /// Its address, or `the prompt`.
    pub source: String,
    /// Its bytes, among the turn's attachments; `None` when it could not be had.
    pub attachment: Option<AttachmentId>,
    /// Why it could not be had.
    pub problem: Option<String>,
}

/// A diff that is to be kept.
#[derive(Debug, Clone)]
pub struct NewDiff {
    /// Its place among those of the prompt, counted from 0.
    pub position: u32,
    /// Its address, or `the prompt`.
    pub source: String,
    /// The name its file is to have, and its bytes; or why it could not be had.
    pub content: Result<(String, Vec<u8>), String>,
}

impl Store {
    /// The diffs of a turn's prompt that were seen to.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prompt_diffs(&self, organization: OrganizationId, turn: TurnId) -> Result<Vec<KeptDiff>, StoreError> {
        let rows = self
            .database
            .all(
                "select position, source, attachment_id, problem from prompt_diff
                 where turn_id = $1 and organization_id = $2 order by position",
                [turn.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        rows.iter().map(kept).collect()
    }

    /// Keeps a diff of the prompt of an attempt's turn, makes it an attachment of the turn, and tells of it: all of it or
    /// nothing. When another attempt of the turn was there before, nothing is changed.
    ///
    /// # Errors
    /// When the file cannot be written, or the database refuses.
    pub async fn keep_prompt_diff(&self, attempt: &Attempt, new: NewDiff) -> Result<(), StoreError> {
        let NewDiff { position, source, content } = new;
        let (organization, task, turn) = (attempt.organization, attempt.task, attempt.turn);
        let (written, problem) = match content {
            Ok((name, bytes)) => (Some((name.clone(), write_one(self, name, bytes).await?)), None),
            Err(problem) => (None, Some(problem)),
        };
        let transaction = self.write(Scope::Task(organization, task)).await?;
        let place = || [turn.as_uuid().into(), i64::from(position).into()];
        let there =
            transaction.one("select 1 as there from prompt_diff where turn_id = $1 and position = $2", place()).await?;
        if there.is_some() {
            return Ok(());
        }
        let mut told =
            EventBody::DiffProvided { source: source.clone(), path: None, size_bytes: 0, problem: problem.clone() };
        let mut attachment = None;
        if let Some((name, written)) = written {
            let (id, name) = self.attach_diff(&transaction, attempt, (&name, position), &written).await?;
            let size_bytes = written.artifact.size_bytes;
            told = EventBody::DiffProvided {
                source: source.clone(),
                path: Some(format!("{FOLDER}/{name}")),
                size_bytes,
                problem: None,
            };
            attachment = Some(id);
        }
        transaction
            .run(
                "insert into prompt_diff (turn_id, position, organization_id, source, attachment_id, problem)
                 values ($1, $2, $3, $4, $5, $6)",
                [
                    turn.as_uuid().into(),
                    i64::from(position).into(),
                    organization.as_uuid().into(),
                    source.into(),
                    attachment.map(AttachmentId::as_uuid).into(),
                    problem.into(),
                ],
            )
            .await?;
        let event = NewEvent { attempt: Some(attempt.id), body: told };
        let last_seq = events::append(self, &transaction, organization, task, &[event]).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Log { organization, task, last_seq });
        Ok(())
    }

    /// Makes the file of a diff an attachment of the attempt's turn, and gives its id and the name it has there.
    async fn attach_diff(
        &self,
        transaction: &Transaction,
        attempt: &Attempt,
        (name, position): (&str, u32),
        written: &Written,
    ) -> Result<(AttachmentId, String), StoreError> {
        let id = AttachmentId::from_uuid(fresh());
        let (organization, turn) = (attempt.organization, attempt.turn);
        written.settle(self).await?;
        transaction
            .run(
                "insert into attachment (id, organization_id, name, sha256, size_bytes, media_type, created_by, created_at)
                 select $1, organization_id, $2, $3, $4, null, created_by, $5 from turn
                 where id = $6 and organization_id = $7",
                [
                    id.as_uuid().into(),
                    name.into(),
                    written.artifact.sha256.as_str().into(),
                    i64::try_from(written.artifact.size_bytes).unwrap_or(i64::MAX).into(),
                    time(self.now()),
                    turn.as_uuid().into(),
                    organization.as_uuid().into(),
                ],
            )
            .await?;
        // Behind those that a person gave with the prompt.
        let position = 1000 + i64::from(position);
        let name = attachments::take_one(transaction, (organization, attempt.task, turn), id, position).await?;
        Ok((id, name))
    }
}

fn kept(row: &Row) -> Result<KeptDiff, StoreError> {
    Ok(KeptDiff {
        position: row.number("position")?,
        source: row.get("source")?,
        attachment: row.maybe_id("attachment_id", AttachmentId::from_uuid)?,
        problem: row.get("problem")?,
    })
}

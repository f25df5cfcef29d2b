//! Files that people give with a prompt: kept by their hash among the artifacts, and collected when no turn took them
//! within a day.

use std::time::Duration;

use carrel_domain::attachment::{MAX_WAITING, MAX_WAITING_BYTES, free_name};
use carrel_domain::{Attachment, AttachmentId, OrganizationId, TaskId, TurnId, UserId};

use crate::artifacts::write_one;
use crate::database::{Row, Scope, StoreError, Transaction, time};
use crate::{Artifact, Store, fresh};

const COLUMNS: &str = "f.id, f.name, f.sha256, f.size_bytes, f.media_type, f.created_at";

/// How long an attachment that no turn has taken is kept.
const UNUSED_FOR: Duration = Duration::from_hours(24);

/// How many are collected at once.
const BATCH: i64 = 100;

/// Those that no turn has taken since a time.
const UNUSED: &str = "select f.id, f.sha256 from attachment f where f.taken_at is null and f.created_at < $1
     and not exists (select 1 from turn_attachment p where p.attachment_id = f.id) order by f.created_at limit $2";

/// How many of one person's no turn has taken.
const WAITING: &str =
    "select count(*) as files, cast(coalesce(sum(f.size_bytes), 0) as bigint) as bytes from attachment f
     where f.taken_at is null and f.created_by = $1";

/// An attachment of a turn, with its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The attachment, under the name it has in the sandboxes of its task.
    pub attachment: Attachment,
    /// The turn it came with.
    pub turn: TurnId,
    /// Its bytes.
    pub artifact: Artifact,
}

impl Store {
    /// Keeps a file that a person gave. Its name is safe already; its type is that of an image, or none.
    ///
    /// # Errors
    /// [`StoreError::TooManyAttachments`] when too many of theirs wait for a turn. When the file cannot be written, a full
    /// disk among the reasons, or the database refuses.
    pub async fn add_attachment(
        &self,
        organization: OrganizationId,
        by: UserId,
        (name, media_type): (&str, Option<&str>),
        bytes: Vec<u8>,
    ) -> Result<Attachment, StoreError> {
        self.collect_attachments().await?;
        // Before the bytes are written, and again beside those who do the same.
        may_add(self.database.one(WAITING, [by.as_uuid().into()]).await?, bytes.len())?;
        let size_bytes = bytes.len();
        let written = write_one(self, name.to_owned(), bytes).await?;
        let attachment = Attachment {
            id: AttachmentId::from_uuid(fresh()),
            name: name.to_owned(),
            size_bytes: written.artifact.size_bytes,
            media_type: media_type.map(str::to_owned),
            created_at: self.now(),
        };
        let transaction = self.write(Scope::Organization(organization)).await?;
        written.settle(self).await?;
        may_add(transaction.one(WAITING, [by.as_uuid().into()]).await?, size_bytes)?;
        transaction
            .run(
                "insert into attachment (id, organization_id, name, sha256, size_bytes, media_type, created_by,
                     created_at) values ($1, $2, $3, $4, $5, $6, $7, $8)",
                [
                    attachment.id.as_uuid().into(),
                    organization.as_uuid().into(),
                    name.into(),
                    written.artifact.sha256.as_str().into(),
                    i64::try_from(attachment.size_bytes).unwrap_or(i64::MAX).into(),
                    attachment.media_type.clone().into(),
                    by.as_uuid().into(),
                    time(attachment.created_at),
                ],
            )
            .await?;
        transaction.commit().await?;
        Ok(attachment)
    }

    /// An attachment and its file.
    ///
    /// # Errors
    /// When this organization has no such attachment, or the database refuses.
    pub async fn attachment_file(
        &self,
        organization: OrganizationId,
        id: AttachmentId,
    ) -> Result<(Attachment, Artifact), StoreError> {
        let row = self
            .database
            .one(
                &format!("select {COLUMNS} from attachment f where f.id = $1 and f.organization_id = $2"),
                [id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        let row = row.ok_or(StoreError::NotFound { noun: "attachment" })?;
        let attachment = attachment(&row)?;
        let artifact = Artifact { sha256: row.get("sha256")?, size_bytes: attachment.size_bytes };
        Ok((attachment, artifact))
    }

    /// All attachments of a task's turns, in the order they were given.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn task_attachments(
        &self,
        organization: OrganizationId,
        task: TaskId,
    ) -> Result<Vec<Placed>, StoreError> {
        let rows = self
            .database
            .all(
                "select f.id, p.name, f.sha256, f.size_bytes, f.media_type, f.created_at, p.turn_id
                 from turn_attachment p join attachment f on f.id = p.attachment_id join turn t on t.id = p.turn_id
                 where p.task_id = $1 and p.organization_id = $2 order by t.number, p.position",
                [task.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        let placed = rows.iter().map(|row| {
            let attachment = attachment(row)?;
            let artifact = Artifact { sha256: row.get("sha256")?, size_bytes: attachment.size_bytes };
            Ok(Placed { attachment, turn: row.id("turn_id", TurnId::from_uuid)?, artifact })
        });
        placed.collect()
    }

    /// Removes attachments that no turn has taken within a day, and their bytes where nothing else has the same.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn collect_attachments(&self) -> Result<(), StoreError> {
        let before = self.now().checked_sub(UNUSED_FOR).unwrap_or(jiff::Timestamp::MIN);
        // Most often there is none: that is seen without keeping anybody waiting.
        if self.database.one(UNUSED, [time(before), 1_i64.into()]).await?.is_none() {
            return Ok(());
        }
        let transaction = self.write(Scope::Installation).await?;
        let rows = transaction.all(UNUSED, [time(before), BATCH.into()]).await?;
        let mut left: Vec<String> = Vec::new();
        for row in &rows {
            transaction.run("delete from attachment where id = $1", [row.get::<uuid::Uuid>("id")?.into()]).await?;
            left.push(row.get("sha256")?);
        }
        transaction.commit().await?;
        for sha256 in left {
            // Whoever uploads next, or the round over all artifacts, tries again.
            if let Err(error) = self.collect_artifact(&sha256).await {
                tracing::warn!(%error, sha256, "bytes that nobody needs could not be removed");
                break;
            }
        }
        Ok(())
    }
}

/// Gives a turn its attachments, under names that no other of its task has.
pub(crate) async fn take(
    transaction: &Transaction,
    (organization, task, turn): (OrganizationId, TaskId, TurnId),
    wanted: &[AttachmentId],
) -> Result<(), StoreError> {
    for (position, id) in wanted.iter().enumerate() {
        take_one(transaction, (organization, task, turn), *id, i64::try_from(position).unwrap_or(i64::MAX)).await?;
    }
    Ok(())
}

/// Gives a turn one attachment, and gives the name it has there.
pub(crate) async fn take_one(
    transaction: &Transaction,
    (organization, task, turn): (OrganizationId, TaskId, TurnId),
    id: AttachmentId,
    position: i64,
) -> Result<String, StoreError> {
    let rows = transaction.all("select name from turn_attachment where task_id = $1", [task.as_uuid().into()]).await?;
    let taken = rows.iter().map(|row| row.get("name")).collect::<Result<Vec<String>, _>>()?;
    let row = transaction
        .one(
            "select name from attachment where id = $1 and organization_id = $2",
            [id.as_uuid().into(), organization.as_uuid().into()],
        )
        .await?;
    let given: String = row.ok_or(StoreError::UnknownAttachment { id })?.get("name")?;
    transaction
        .run(
            "update attachment set taken_at = (select t.created_at from turn t where t.id = $2)
             where id = $1 and taken_at is null",
            [id.as_uuid().into(), turn.as_uuid().into()],
        )
        .await?;
    let name = free_name(&given, |name| taken.iter().any(|other| other == name));
    transaction
        .run(
            "insert into turn_attachment (turn_id, attachment_id, organization_id, task_id, position, name)
             values ($1, $2, $3, $4, $5, $6)",
            [
                turn.as_uuid().into(),
                id.as_uuid().into(),
                organization.as_uuid().into(),
                task.as_uuid().into(),
                position.into(),
                name.as_str().into(),
            ],
        )
        .await?;
    Ok(name)
}

/// Whether one more of so many bytes may be given beside those that wait.
fn may_add(waiting: Option<Row>, size_bytes: usize) -> Result<(), StoreError> {
    let Some(row) = waiting else { return Ok(()) };
    let (files, bytes): (u32, u64) = (row.number("files")?, row.get::<i64>("bytes")?.unsigned_abs());
    if files >= MAX_WAITING || bytes.saturating_add(size_bytes as u64) > MAX_WAITING_BYTES {
        return Err(StoreError::TooManyAttachments { files, bytes });
    }
    Ok(())
}

fn attachment(row: &Row) -> Result<Attachment, StoreError> {
    Ok(Attachment {
        id: row.id("id", AttachmentId::from_uuid)?,
        name: row.get("name")?,
        size_bytes: row.get::<i64>("size_bytes")?.unsigned_abs(),
        media_type: row.get("media_type")?,
        created_at: row.time("created_at")?,
    })
}

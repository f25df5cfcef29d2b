//! Publications: asked for, and moved from state to state by compare-and-set.

use carrel_domain::{
    AttemptId, BranchName, EventBody, NewEvent, OrganizationId, Publication, PublicationId, PublicationState, TaskId,
    UserId,
};

use crate::database::{Row, Scope, StoreError, Transaction, json, time};
use crate::{Change, JobKind, Store, events, fresh, jobs};

/// A publication that is to be.
#[derive(Debug, Clone)]
pub struct NewPublication {
    /// Whose.
    pub organization: OrganizationId,
    /// Its task.
    pub task: TaskId,
    /// The attempt whose patch it is.
    pub attempt: AttemptId,
    /// The branch it goes to.
    pub branch: BranchName,
    /// The commit's message.
    pub message: String,
    /// Who asks.
    pub created_by: UserId,
}

impl Store {
    /// Asks for a publication: its row, its job and its first event, in one transaction. One of the same patch to the
    /// same branch that has not ended, or has worked, is given back as it is; one that has failed is tried again.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn request_publication(&self, new: &NewPublication) -> Result<Publication, StoreError> {
        let transaction = self.write(Scope::Task(new.organization, new.task)).await?;
        let publication = match same(&transaction, new).await? {
            Some(known) if !matches!(known.state, PublicationState::Failed { .. }) => return Ok(known),
            Some(failed) => {
                let again = Publication {
                    state: PublicationState::Requested,
                    version: failed.version + 1,
                    message: new.message.clone(),
                    ..failed.clone()
                };
                update(&transaction, failed.version, &again).await?;
                again
            }
            None => insert(self, &transaction, new).await?,
        };
        jobs::enqueue(self, &transaction, new.organization, JobKind::Publication(publication.id), Some(new.attempt))
            .await?;
        let last_seq = events::append(self, &transaction, new.organization, new.task, &[told(&publication)]).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Log { organization: new.organization, task: new.task, last_seq });
        self.shared.changes.ring(Change::Job);
        Ok(publication)
    }

    /// A publication as it stands.
    ///
    /// # Errors
    /// When this organization has no such publication, or the database refuses.
    pub async fn publication(
        &self,
        organization: OrganizationId,
        id: PublicationId,
    ) -> Result<Publication, StoreError> {
        let row = self
            .database
            .one(
                "select * from publication where id = $1 and organization_id = $2",
                [id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        publication(&row.ok_or(StoreError::NotFound { noun: "publication" })?)
    }

    /// Moves a publication into its next state, with the event that tells of it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer as `publication` says; [`StoreError::Impossible`] when the diagram has no
    /// such arrow.
    pub async fn advance_publication(
        &self,
        publication: &Publication,
        next: PublicationState,
    ) -> Result<Publication, StoreError> {
        let next = publication.state.clone().advance(next)?;
        let moved = Publication { state: next, version: publication.version + 1, ..publication.clone() };
        let (organization, task) = (moved.organization, moved.task);
        // Before anybody outside hears of it.
        let transaction = self.write(Scope::Task(organization, task)).await?.that_lasts();
        update(&transaction, publication.version, &moved).await?;
        let last_seq = events::append(self, &transaction, organization, task, &[told(&moved)]).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::Log { organization, task, last_seq });
        Ok(moved)
    }

    pub(crate) async fn publications_of(
        &self,
        organization: OrganizationId,
        task: TaskId,
    ) -> Result<Vec<Publication>, StoreError> {
        let rows = self
            .database
            .all(
                "select * from publication where task_id = $1 and organization_id = $2 order by id",
                [task.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        rows.iter().map(publication).collect()
    }
}

async fn same(transaction: &Transaction, new: &NewPublication) -> Result<Option<Publication>, StoreError> {
    let row = transaction
        .one(
            "select * from publication where organization_id = $1 and task_id = $4 and attempt_id = $2 and branch = $3
             order by id desc limit 1",
            [
                new.organization.as_uuid().into(),
                new.attempt.as_uuid().into(),
                new.branch.as_str().into(),
                new.task.as_uuid().into(),
            ],
        )
        .await?;
    row.as_ref().map(publication).transpose()
}

async fn insert(store: &Store, transaction: &Transaction, new: &NewPublication) -> Result<Publication, StoreError> {
    let publication = Publication {
        id: PublicationId::from_uuid(fresh()),
        organization: new.organization,
        task: new.task,
        attempt: new.attempt,
        branch: new.branch.clone(),
        message: new.message.clone(),
        state: PublicationState::Requested,
        version: 1,
        created_by: new.created_by,
        created_at: store.now(),
    };
    transaction
        .run(
            "insert into publication (id, organization_id, task_id, attempt_id, branch, message, state, version,
                 created_by, created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            [
                publication.id.as_uuid().into(),
                publication.organization.as_uuid().into(),
                publication.task.as_uuid().into(),
                publication.attempt.as_uuid().into(),
                publication.branch.as_str().into(),
                publication.message.as_str().into(),
                json(&publication.state),
                publication.version.into(),
                publication.created_by.as_uuid().into(),
                time(publication.created_at),
            ],
        )
        .await?;
    Ok(publication)
}

async fn update(transaction: &Transaction, version: i64, moved: &Publication) -> Result<(), StoreError> {
    let changed = transaction
        .run(
            "update publication set state = $4, version = $5, message = $6
             where id = $1 and organization_id = $2 and version = $3",
            [
                moved.id.as_uuid().into(),
                moved.organization.as_uuid().into(),
                version.into(),
                json(&moved.state),
                moved.version.into(),
                moved.message.as_str().into(),
            ],
        )
        .await?;
    if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { noun: "publication" }) }
}

fn told(publication: &Publication) -> NewEvent {
    let body = EventBody::PublicationState {
        publication_id: publication.id,
        branch: publication.branch.to_string(),
        state: publication.state.clone(),
    };
    NewEvent { attempt: Some(publication.attempt), body }
}

fn publication(row: &Row) -> Result<Publication, StoreError> {
    Ok(Publication {
        id: row.id("id", PublicationId::from_uuid)?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        task: row.id("task_id", TaskId::from_uuid)?,
        attempt: row.id("attempt_id", AttemptId::from_uuid)?,
        branch: row.parsed("branch")?,
        message: row.get("message")?,
        state: row.json("state")?,
        version: row.get("version")?,
        created_by: row.id("created_by", UserId::from_uuid)?,
        created_at: row.time("created_at")?,
    })
}

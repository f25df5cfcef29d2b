//! Artifacts: what attempts leave that is too big for a row, as objects named by their content. The bytes are put before the
//! row that names them is written; what no row names is collected, see [`collection`].

mod collection;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use carrel_domain::{Attempt, AttemptId, OrganizationId};
use jiff::Timestamp;

use crate::database::{Scope, StoreError, Transaction, time};
use crate::{Store, fresh};

pub(crate) use collection::Collection;

/// What stands before the names of files that an agent attached, so that none is taken for the patch.
const ATTACHED: &str = "attached/";

/// More files than an attempt can have attached.
const MAX_LISTED: i64 = 1000;

/// The longest that a transaction waits for whoever keeps the bytes.
const SETTLE: Duration = Duration::from_secs(10);

/// A kept file, whose bytes [`Store::artifact_path`] and its neighbours give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// How long it is.
    pub size_bytes: u64,
}

/// A file that an attempt's agent attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// The file.
    pub artifact: Artifact,
    /// When it was first attached.
    pub created_at: Timestamp,
}

/// A file whose bytes are kept, and that has no row yet.
pub(crate) struct Written {
    name: String,
    pub(crate) artifact: Artifact,
    bytes: Bytes,
    was_there: bool,
}

impl Store {
    /// Tries whether artifacts can be kept, by keeping a small one that nobody refers to.
    ///
    /// # Errors
    /// When they cannot.
    pub async fn try_artifacts(&self) -> Result<(), StoreError> {
        self.shared.objects.try_out().await
    }

    /// Keeps bytes as an attempt's artifact of this name. The same name again replaces it.
    ///
    /// # Errors
    /// When the file cannot be written, a full disk among the reasons, or the database refuses.
    pub async fn keep_artifact(&self, attempt: &Attempt, name: &str, bytes: Vec<u8>) -> Result<Artifact, StoreError> {
        let written = write_one(self, name.to_owned(), bytes).await?;
        let transaction = self.write(Scope::Task(attempt.organization, attempt.task)).await?;
        insert(self, &transaction, attempt, &written).await?;
        transaction.commit().await?;
        Ok(written.artifact)
    }

    /// The files that an attempt's agent attached, by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attachments(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
    ) -> Result<Vec<Attached>, StoreError> {
        let rows = self
            .database
            .all(
                "select name, sha256, size_bytes, created_at from artifact
                 where organization_id = $1 and attempt_id = $2 and name like $3 order by name limit $4",
                [
                    organization.as_uuid().into(),
                    attempt.as_uuid().into(),
                    format!("{ATTACHED}%").into(),
                    MAX_LISTED.into(),
                ],
            )
            .await?;
        let attached = rows.iter().map(|row| {
            let (name, sha256) = (row.get::<String>("name")?, row.get::<String>("sha256")?);
            let size_bytes = row.get::<i64>("size_bytes")?.unsigned_abs();
            let artifact = Artifact { sha256, size_bytes };
            let name = name.strip_prefix(ATTACHED).unwrap_or(&name).to_owned();
            Ok(Attached { name, artifact, created_at: row.time("created_at")? })
        });
        attached.collect()
    }

    /// The file that an attempt's agent attached under this name.
    ///
    /// # Errors
    /// When this organization has none, or the database refuses.
    pub async fn attachment(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
        name: &str,
    ) -> Result<Artifact, StoreError> {
        self.artifact(organization, attempt, &format!("{ATTACHED}{name}")).await
    }

    /// An attempt's artifact of this name.
    ///
    /// # Errors
    /// When this organization has none, or the database refuses.
    pub async fn artifact(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
        name: &str,
    ) -> Result<Artifact, StoreError> {
        let row = self
            .database
            .one(
                "select sha256, size_bytes from artifact where organization_id = $1 and attempt_id = $2 and name = $3",
                [organization.as_uuid().into(), attempt.as_uuid().into(), name.into()],
            )
            .await?;
        let row = row.ok_or(StoreError::NotFound { noun: "artifact" })?;
        let size_bytes = row.get::<i64>("size_bytes")?.unsigned_abs();
        Ok(Artifact { sha256: row.get("sha256")?, size_bytes })
    }

    /// A file on this machine with the bytes of an artifact. To be opened within minutes: it may be a copy.
    ///
    /// # Errors
    /// When they cannot be had, or are not what was kept.
    pub async fn artifact_path(&self, artifact: &Artifact) -> Result<PathBuf, StoreError> {
        self.shared.objects.file(&artifact.sha256, artifact.size_bytes).await
    }

    /// The bytes of an artifact.
    ///
    /// # Errors
    /// When they cannot be had, or are not what was kept.
    pub async fn artifact_bytes(&self, artifact: &Artifact) -> Result<Vec<u8>, StoreError> {
        Ok(tokio::fs::read(self.artifact_path(artifact).await?).await?)
    }

    /// The first bytes of an artifact, at most so many, as they are kept: good enough to tell a picture by.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn artifact_beginning(&self, artifact: &Artifact, bytes: u64) -> Result<Bytes, StoreError> {
        self.shared.objects.beginning(&artifact.sha256, bytes.min(artifact.size_bytes)).await
    }
}

impl Written {
    /// To be called in the transaction that writes the row: what had been there for a while may have been collected just
    /// before the transaction began, and nobody collects while it lasts.
    pub(crate) async fn settle(&self, store: &Store) -> Result<(), StoreError> {
        if !self.was_there {
            return Ok(());
        }
        let put_back = store.shared.objects.put_back_if_gone(&self.artifact.sha256, &self.bytes);
        tokio::time::timeout(SETTLE, put_back).await.unwrap_or_else(|_| {
            let problem = format!("does not answer within {} s", SETTLE.as_secs());
            Err(StoreError::Artifacts { place: store.shared.objects.words(), problem })
        })
    }
}

/// Puts the files that an agent attached into their places.
pub(crate) async fn write_all(store: &Store, files: Vec<(String, Vec<u8>)>) -> Result<Vec<Written>, StoreError> {
    let mut written = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        written.push(write_one(store, format!("{ATTACHED}{name}"), bytes).await?);
    }
    Ok(written)
}

pub(crate) async fn write_one(store: &Store, name: String, bytes: Vec<u8>) -> Result<Written, StoreError> {
    let bytes = Bytes::from(bytes);
    let put = store.shared.objects.put(&bytes).await?;
    let artifact = Artifact { sha256: put.sha256, size_bytes: bytes.len() as u64 };
    Ok(Written { name, artifact, bytes, was_there: put.was_there })
}

/// Makes a file an attempt's, or puts it in the place of the one of that name.
pub(crate) async fn insert(
    store: &Store,
    transaction: &Transaction,
    attempt: &Attempt,
    written: &Written,
) -> Result<(), StoreError> {
    written.settle(store).await?;
    let size = i64::try_from(written.artifact.size_bytes).expect("a file in memory is shorter than i64::MAX");
    transaction
        .run(
            "insert into artifact (id, organization_id, attempt_id, name, sha256, size_bytes, created_at)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (attempt_id, name) do update set sha256 = excluded.sha256, size_bytes = excluded.size_bytes",
            [
                fresh().into(),
                attempt.organization.as_uuid().into(),
                attempt.id.as_uuid().into(),
                written.name.as_str().into(),
                written.artifact.sha256.as_str().into(),
                size.into(),
                time(store.now()),
            ],
        )
        .await?;
    Ok(())
}

//! Artifacts: what attempts leave that is too big for a row, as files named by their content.

use std::io::Write;
use std::path::{Path, PathBuf};

use carrel_domain::{Attempt, AttemptId, OrganizationId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::database::{Scope, StoreError, Transaction, make_private_folder, time};
use crate::{Store, fresh};

/// What stands before the names of files that an agent attached, so that none is taken for the patch.
const ATTACHED: &str = "attached/";

/// More files than an attempt can have attached.
const MAX_LISTED: i64 = 1000;

/// A kept file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where it lies.
    pub path: PathBuf,
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

/// A file that lies in its place, and has no row yet.
pub(crate) struct Written {
    name: String,
    pub(crate) sha256: String,
    pub(crate) artifact: Artifact,
}

impl Store {
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
            let artifact = Artifact { path: place(&self.shared.artifacts, &sha256), size_bytes };
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
        Ok(Artifact { path: place(&self.shared.artifacts, &row.get::<String>("sha256")?), size_bytes })
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
    let folder = store.shared.artifacts.clone();
    let written = tokio::task::spawn_blocking(move || write(&folder, &bytes)).await;
    let (sha256, artifact) = written.map_err(|error| StoreError::File(std::io::Error::other(error)))??;
    Ok(Written { name, sha256, artifact })
}

/// Makes a file an attempt's, or puts it in the place of the one of that name.
pub(crate) async fn insert(
    store: &Store,
    transaction: &Transaction,
    attempt: &Attempt,
    written: &Written,
) -> Result<(), StoreError> {
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
                written.sha256.as_str().into(),
                size.into(),
                time(store.now()),
            ],
        )
        .await?;
    Ok(())
}

/// Removes what was half written when a process died.
pub(crate) fn sweep(folder: &Path) -> Result<(), StoreError> {
    for shelf in std::fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_dir()) {
        for file in std::fs::read_dir(shelf.path())?.flatten().filter(|entry| entry.path().extension().is_some()) {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// Writes bytes under the name of their hash: first beside, then renamed, so that a name always has the whole content.
fn write(folder: &Path, bytes: &[u8]) -> Result<(String, Artifact), StoreError> {
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = place(folder, &sha256);
    let artifact = Artifact { path: path.clone(), size_bytes: bytes.len() as u64 };
    // What is collected for want of use was not touched for a while: see `attachments`.
    if std::fs::File::options().write(true).open(&path).is_ok_and(|file| touch(&file).is_ok()) {
        return Ok((sha256, artifact));
    }
    if let Some(parent) = path.parent() {
        make_private_folder(parent)?;
    }
    let beside = path.with_extension(fresh().to_string());
    let outcome = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)
    });
    if outcome.is_err() {
        // The half-written file is of no use to anybody; that it cannot be removed changes nothing about the failure.
        let _removed = std::fs::remove_file(&beside);
    }
    outcome?;
    Ok((sha256, artifact))
}

/// Makes a file look as if it was written just now.
fn touch(file: &std::fs::File) -> std::io::Result<()> {
    file.set_modified(std::time::SystemTime::now())
}

pub(crate) fn place(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(&sha256[..2.min(sha256.len())]).join(sha256)
}

//! A whole installation as one file: to move it to another machine or to another kind of database, and to keep a copy.
//! The same file is made of SQLite and of PostgreSQL, and fills either.
//!
//! It is a tar archive of these entries in this order, each name ending with the SHA-256 of the content ([`archive`]):
//!
//! ```text
//! carrel/header-HASH.json           the format's version, the schema's changes, the tables with their columns and types
//! files/NAME-HASH                   files of the data folder that were asked for, such as the keys of the secrets
//! artifacts/HASH                    the bytes of every file that a row names, by hash
//! tables/NAME-00000001-HASH.jsonl   rows: a JSON array of the columns' values a line, by primary key, some MiB a part
//! carrel/end-HASH.json              how many rows and artifacts there are, what was missing, and a hash over all headers
//! ```
//!
//! Values are uuids, whole numbers, text and null. Values of secrets stay sealed. What only one machine has is not in it:
//! sandboxes, layers, mirrors, images, who has a job at the moment.

mod archive;
mod export;
mod import;
mod tables;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use carrel_domain::Secret;
use serde::{Deserialize, Serialize};

use crate::database::{StoreError, Whole, give_way, is_held_up, make_private_folder};
use crate::migrations::Migrations;
use crate::objects::Objects;
use crate::{ArtifactPlace, KeyId};

use tables::Table;

pub use export::export;
pub use import::import;

/// The only version of the format there is.
const FORMAT: u32 = 1;

/// The most artifacts whose loss is written down. An installation that lacks more is not worth a copy.
const MOST_MISSING: usize = 10_000;

/// Where the state of an installation is kept.
#[derive(Debug, Clone)]
pub struct StatePlace {
    /// The data folder.
    pub folder: PathBuf,
    /// The URL of a PostgreSQL database. `None`: SQLite, in the folder.
    pub postgres: Option<Secret>,
    /// Where artifacts are kept.
    pub artifacts: ArtifactPlace,
}

/// How far the schema of a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The changes that were made, oldest first.
    pub made: Vec<String>,
    /// Those that this version makes and that are missing, oldest first.
    pub missing: Vec<String>,
}

/// A small file that goes along.
#[derive(Debug, Clone)]
pub struct MovedFile {
    /// Its name in the data folder.
    pub name: String,
    /// What is in it.
    pub content: Secret,
}

/// What was written, or taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
    /// How many artifacts there are.
    pub artifacts: u64,
    /// How long they are together.
    pub artifact_bytes: u64,
    /// The SHA-256 of artifacts that are named, and whose bytes were lost before.
    pub missing: Vec<String>,
    /// The keys that values of secrets are sealed under.
    pub sealed_under: Vec<KeyId>,
    /// The files that went along.
    pub files: Vec<String>,
}

/// Why an installation was not moved. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database was to keep all of it, and its answer did not come: it may have.
    #[error(
        "whether the database has taken the archive is not known: {0}; try again: it says that it is not empty if it has, and \
         then all of it is there"
    )]
    Unsettled(StoreError),
    /// There is nothing to write.
    #[error("there is no installation in {place} yet")]
    Nothing {
        /// Where.
        place: String,
    },
    /// The schema is older than this program.
    #[error("the database is behind this version; bring it forward with `carrel migrate`")]
    Behind,
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Output(io::Error),
    /// The archive cannot be read.
    #[error("cannot read the archive: {0}")]
    Input(io::Error),
    /// The archive is not what was written.
    #[error("the archive cannot be used: {place} {problem}; nothing was changed")]
    Archive {
        /// Where in it.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// The archive has what this version does not know.
    #[error("the archive is from a newer version of Carrel, {program}; take that version, or a newer one")]
    NewerArchive {
        /// Which.
        program: String,
    },
    /// There is something already.
    #[error("the database is not empty: its table `{table}` has rows; an archive needs a database of its own")]
    NotEmpty {
        /// A table with rows.
        table: String,
    },
    /// The empty database is further than the archive.
    #[error(
        "the archive is older than the schema of this database, which is empty, but was brought forward; take a database \
         without any tables, and it is brought forward behind the import"
    )]
    TooFar,
    /// So many artifacts are gone that something else must be wrong.
    #[error(
        "more than {MOST_MISSING} artifacts are not in {place}; is it the right place? `CARREL_ARTIFACTS` names it"
    )]
    TooManyMissing {
        /// Where they should be.
        place: String,
    },
    /// A file that goes along cannot be kept.
    #[error("{0}")]
    File(String),
}

/// The first entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    carrel_export: u32,
    program: String,
    /// The names of the schema's changes.
    schema: Vec<String>,
    tables: Vec<Table>,
}

/// What a header of any version says.
#[derive(Debug, Deserialize)]
struct AnyHeader {
    carrel_export: u32,
    program: String,
}

/// The last entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    rows: BTreeMap<String, u64>,
    artifacts: u64,
    artifact_bytes: u64,
    missing: Vec<String>,
    /// The SHA-256 of all headers of the archive before this one's, 512 bytes each.
    headers_sha256: String,
}

/// How far the schema of an installation is; `None` when there is no database yet. Nothing is changed.
///
/// # Errors
/// When the database is from a newer version, or refuses.
pub async fn schema(place: &StatePlace) -> Result<Option<Schema>, StoreError> {
    let Some(whole) = place.look().await? else { return Ok(None) };
    let made = whole.changes_made().await?;
    let missing = Migrations::names().into_iter().filter(|name| !made.contains(name)).collect();
    Ok(Some(Schema { made, missing }))
}

/// Brings the schema of an installation forward, or makes it, and gives the changes that were made. A service may be at work
/// on it: no change takes away what the version before needs.
///
/// # Errors
/// When the database is from a newer version, or refuses.
pub async fn migrate(place: &StatePlace) -> Result<Vec<String>, StoreError> {
    let mut said = false;
    loop {
        match migrate_once(place).await {
            Err(error) if is_held_up(&error) => give_way(&mut said).await,
            settled => return settled,
        }
    }
}

async fn migrate_once(place: &StatePlace) -> Result<Vec<String>, StoreError> {
    let whole = place.fill().await?;
    let before = whole.changes_made().await?;
    whole.bring_forward(None).await?;
    let after = whole.changes_made().await?;
    whole.commit().await?;
    Ok(after.into_iter().filter(|name| !before.contains(name)).collect())
}

impl StatePlace {
    /// Writes a small object where artifacts are kept, as the service does. `folder` is used for copies of those of a bucket.
    ///
    /// # Errors
    /// When nothing can be kept there.
    pub async fn try_artifacts(&self, folder: PathBuf) -> Result<(), StoreError> {
        make_private_folder(&folder)?;
        Objects::open(self.artifacts.clone(), folder)?.try_out().await
    }

    async fn look(&self) -> Result<Option<Whole>, StoreError> {
        Whole::look(&self.file(), self.postgres.as_ref()).await
    }

    async fn fill(&self) -> Result<Whole, StoreError> {
        make_private_folder(&self.folder)?;
        Whole::fill(&self.file(), self.postgres.as_ref()).await
    }

    fn objects(&self) -> Result<Objects, StoreError> {
        make_private_folder(&self.folder)?;
        Objects::open(self.artifacts.clone(), self.folder.join("artifacts"))
    }

    fn file(&self) -> PathBuf {
        self.folder.join("carrel.sqlite")
    }

    fn words(&self) -> String {
        if self.postgres.is_some() { "the database".to_owned() } else { self.folder.display().to_string() }
    }
}

/// Every artifact that is named, once, by hash.
fn named_artifacts(tables: &[Table], is_postgres: bool) -> String {
    let naming = tables.iter().filter(|table| matches!(table.name.as_str(), "artifact" | "attachment"));
    let each: Vec<String> = naming.map(|table| format!("select sha256, size_bytes from {}", table.name)).collect();
    let order = if is_postgres { "sha256 collate \"C\"" } else { "sha256" };
    format!(
        "select sha256, max(size_bytes) as size_bytes from ({}) named group by sha256 order by {order}",
        each.join(" union all ")
    )
}

/// The keys that values of secrets are sealed under.
async fn sealed_under(whole: &Whole) -> Result<Vec<KeyId>, StoreError> {
    let rows = whole.transaction.all("select distinct sealed_under from secret", []).await?;
    let ids = rows.iter().map(|row| Ok(KeyId::from_stored(row.get("sealed_under")?)));
    let mut ids = ids.collect::<Result<Vec<KeyId>, StoreError>>()?;
    ids.sort();
    Ok(ids)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! The connection, transactions, and the way of values in and out of rows.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use carrel_domain::{AttachmentId, EnvironmentName, RepositoryLocation, VariableName};
use jiff::Timestamp;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, TryGetable, Value,
};
use sea_orm_migration::MigratorTrait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::migrations::Migrations;

/// Connections that read at the same time.
const READERS: u32 = 8;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row in this organization.
    #[error("there is no such {noun}")]
    NotFound {
        /// What was looked for.
        noun: &'static str,
    },
    /// Somebody else changed the row in the meantime: read it again and decide again.
    #[error("the {noun} was changed by somebody else in the meantime")]
    Conflict {
        /// What was changed.
        noun: &'static str,
    },
    /// A row that does not say what its type needs.
    #[error("the database holds something this version does not understand ({what}); was it written by a newer one?")]
    Unreadable {
        /// Which value.
        what: String,
    },
    /// There is no environment of this name.
    #[error("no environment `{name}`; create one with `carrel environment create {name}`")]
    UnknownEnvironment {
        /// The name.
        name: EnvironmentName,
    },
    /// The name is taken.
    #[error(
        "there is an environment `{name}` already; change it with `carrel environment edit {name}`, or choose another name"
    )]
    EnvironmentExists {
        /// The name.
        name: EnvironmentName,
    },
    /// There are as many as there may be.
    #[error("there are {most} environments, and no more can be made; delete one that is not used")]
    TooManyEnvironments {
        /// How many there may be.
        most: u32,
    },
    /// The environment is not for this repository.
    #[error("{}", not_covered(.name.as_ref(), .repository))]
    NotCovered {
        /// The environment that was chosen, if one was.
        name: Option<EnvironmentName>,
        /// The repository.
        repository: RepositoryLocation,
    },
    /// A task's environment was deleted since.
    #[error("the task's environment `{name}` was deleted; create a new task in another environment")]
    EnvironmentDeleted {
        /// What it was called.
        name: EnvironmentName,
    },
    /// There is no such attachment.
    #[error(
        "there is no attachment {id}; it was never uploaded, or it was collected for not having been used for a day"
    )]
    UnknownAttachment {
        /// Which one.
        id: AttachmentId,
    },
    /// An attempt hears nothing any more.
    #[error(
        "the attempt is {state} and hears nothing any more; say it once the task has ended, with `carrel task follow-up`"
    )]
    TooLate {
        /// Where it stands.
        state: &'static str,
    },
    /// An attempt's agent has not taken up what it was told.
    #[error("{most} messages wait for the attempt already; wait until its agent has taken them up, or stop it")]
    TooManyMessages {
        /// How many may wait.
        most: u32,
    },
    /// An attempt cannot be made again.
    #[error("{reason}")]
    NotRetried {
        /// Why, and the way out.
        reason: String,
    },
    /// Attempts run in the environment.
    #[error(
        "attempts are under way in the environment `{name}` ({attempts}); wait until they have ended, or stop them"
    )]
    EnvironmentInUse {
        /// What it is called.
        name: EnvironmentName,
        /// How many there are.
        attempts: u32,
    },
    /// The default environment stays.
    #[error("the environment `default` cannot be deleted; `carrel environment edit default` changes it")]
    DefaultEnvironment,
    /// A secret's value is no longer kept.
    #[error("the value of the secret `{name}` is no longer kept: its environment was changed or deleted; try again")]
    SecretGone {
        /// The secret.
        name: VariableName,
    },
    /// A secret's value cannot be sealed or opened.
    #[error(
        "the value of the secret `{name}` cannot be used: {reason}; put the key back into the file of keys and start the \
         service again, or give the secret a new value with `carrel environment edit`"
    )]
    SecretClosed {
        /// The secret.
        name: VariableName,
        /// Why.
        reason: String,
    },
    /// The folder cannot be used.
    #[error("cannot use {path}: {source}")]
    Folder {
        /// The path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no room left. Nothing was changed.
    #[error("the disk of the data folder is full; free some space there")]
    DiskFull,
    /// A file of ours cannot be read or written.
    #[error("cannot keep a file: {0}")]
    File(std::io::Error),
    /// The database refused.
    #[error("the database refused: {0}")]
    Database(DbErr),
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::File(error),
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        // SQLITE_FULL has this text of its own; the driver keeps the code to itself.
        if error.to_string().contains("database or disk is full") { Self::DiskFull } else { Self::Database(error) }
    }
}

#[derive(Clone)]
pub(crate) struct Database {
    file: Arc<Path>,
    readers: DatabaseConnection,
    /// SQLite has one writer. Waiting here is fair and wakes at once; its own busy handler sleeps for up to 100 ms.
    writer: Arc<Mutex<Writer>>,
}

/// The one connection that writes.
struct Writer {
    connection: DatabaseConnection,
    /// Whether a statement or a commit has failed on it. SQLite may have rolled back by itself then (on a full disk it
    /// does), and the driver counts a transaction that is no more: the connection is not used again.
    is_doubtful: Arc<AtomicBool>,
}

/// A transaction that writes. It is rolled back when it is dropped.
pub(crate) struct Transaction {
    inner: DatabaseTransaction,
    is_doubtful: Arc<AtomicBool>,
    _turn: OwnedMutexGuard<Writer>,
}

pub(crate) type Values = Vec<Value>;

impl Database {
    pub(crate) async fn open(file: &Path) -> Result<Self, StoreError> {
        let writer = Writer::connect(file).await?;
        Migrations::up(&writer.connection, None).await?;
        let readers = connect(file, READERS).await?;
        for suffix in ["", "-wal", "-shm"] {
            let mut path = file.as_os_str().to_owned();
            path.push(suffix);
            match fs::set_permissions(Path::new(&path), fs::Permissions::from_mode(0o600)) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(source.into()),
                _ => {}
            }
        }
        Ok(Self { file: file.into(), readers, writer: Arc::new(Mutex::new(writer)) })
    }

    /// Begins a transaction that will write.
    pub(crate) async fn write(&self) -> Result<Transaction, StoreError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        if writer.is_doubtful.load(Ordering::Acquire) {
            let doubtful = std::mem::replace(&mut *writer, Writer::connect(&self.file).await?);
            doubtful.connection.close().await?;
        }
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let is_doubtful = Arc::clone(&writer.is_doubtful);
        let inner = noted(&is_doubtful, writer.connection.begin_with_options(options).await)?;
        Ok(Transaction { inner, is_doubtful, _turn: writer })
    }

    pub(crate) async fn one(&self, sql: &str, values: impl Into<Values>) -> Result<Option<Row>, StoreError> {
        one(&self.readers, sql, values.into()).await
    }

    pub(crate) async fn all(&self, sql: &str, values: impl Into<Values>) -> Result<Vec<Row>, StoreError> {
        all(&self.readers, sql, values.into()).await
    }
}

impl Writer {
    async fn connect(file: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: connect(file, 1).await?, is_doubtful: Arc::default() })
    }
}

impl Transaction {
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        noted(&self.is_doubtful, self.inner.commit().await)
    }

    /// Runs a statement and says how many rows it changed.
    pub(crate) async fn run(&self, sql: &str, values: impl Into<Values>) -> Result<u64, StoreError> {
        let statement = Statement::from_sql_and_values(self.inner.get_database_backend(), sql, values.into());
        Ok(noted(&self.is_doubtful, self.inner.execute_raw(statement).await)?.rows_affected())
    }

    pub(crate) async fn one(&self, sql: &str, values: impl Into<Values>) -> Result<Option<Row>, StoreError> {
        one(&self.inner, sql, values.into()).await.inspect_err(|_| self.is_doubtful.store(true, Ordering::Release))
    }

    pub(crate) async fn all(&self, sql: &str, values: impl Into<Values>) -> Result<Vec<Row>, StoreError> {
        all(&self.inner, sql, values.into()).await.inspect_err(|_| self.is_doubtful.store(true, Ordering::Release))
    }
}

fn not_covered(name: Option<&EnvironmentName>, repository: &RepositoryLocation) -> String {
    match name {
        Some(name) => format!(
            "the environment `{name}` does not cover `{repository}`; add it with `carrel environment edit {name} \
             --repository {repository}`, or choose another environment"
        ),
        None => format!(
            "no environment covers `{repository}`; create one with `carrel environment create NAME --repository \
             {repository}`, and choose it"
        ),
    }
}

/// Takes note of a failure: its connection is doubtful from then on.
fn noted<T>(is_doubtful: &AtomicBool, outcome: Result<T, DbErr>) -> Result<T, StoreError> {
    outcome.map_err(|error| {
        is_doubtful.store(true, Ordering::Release);
        error.into()
    })
}

async fn connect(file: &Path, connections: u32) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new("sqlite://carrel.sqlite?mode=rwc");
    options.max_connections(connections).sqlx_logging(false).acquire_timeout(Duration::from_secs(30));
    // The path is given here, for in a URL some of its characters would mean something.
    let path = file.to_owned();
    options.map_sqlx_sqlite_opts(move |options| {
        options
            .filename(&path)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30))
            .pragma("journal_mode", "wal")
            // In WAL mode this loses nothing when the process dies; a power cut may take the last moments.
            .pragma("synchronous", "normal")
    });
    Ok(sea_orm::Database::connect(options).await?)
}

async fn one(connection: &impl ConnectionTrait, sql: &str, values: Values) -> Result<Option<Row>, StoreError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_one_raw(statement).await?.map(Row))
}

async fn all(connection: &impl ConnectionTrait, sql: &str, values: Values) -> Result<Vec<Row>, StoreError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_all_raw(statement).await?.into_iter().map(Row).collect())
}

/// A row of an answer, read column by column.
pub(crate) struct Row(QueryResult);

impl Row {
    pub(crate) fn get<T: TryGetable>(&self, column: &str) -> Result<T, StoreError> {
        Ok(self.0.try_get("", column)?)
    }

    pub(crate) fn id<T>(&self, column: &str, wrap: impl Fn(uuid::Uuid) -> T) -> Result<T, StoreError> {
        Ok(wrap(self.get(column)?))
    }

    pub(crate) fn maybe_id<T>(&self, column: &str, wrap: impl Fn(uuid::Uuid) -> T) -> Result<Option<T>, StoreError> {
        Ok(self.get::<Option<uuid::Uuid>>(column)?.map(wrap))
    }

    pub(crate) fn number(&self, column: &str) -> Result<u32, StoreError> {
        u32::try_from(self.get::<i64>(column)?).map_err(|_| unreadable(column))
    }

    pub(crate) fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.get(column)?).map_err(|_| unreadable(column))
    }

    pub(crate) fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some(milliseconds) = self.get::<Option<i64>>(column)? else { return Ok(None) };
        Timestamp::from_millisecond(milliseconds).map(Some).map_err(|_| unreadable(column))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|error| unreadable(&format!("{column}: {error}")))
    }

    pub(crate) fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let Some(text) = self.get::<Option<String>>(column)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| unreadable(&format!("{column}: {error}")))
    }

    pub(crate) fn parsed<T: std::str::FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.get::<String>(column)?.parse().map_err(|_| unreadable(column))
    }
}

pub(crate) fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { what: what.to_owned() }
}

/// A value as JSON text. Only plain data is stored this way, which always has a JSON form.
pub(crate) fn json(value: &impl Serialize) -> Value {
    serde_json::to_string(value).expect("stored values are plain data with string keys").into()
}

pub(crate) fn time(at: Timestamp) -> Value {
    at.as_millisecond().into()
}

pub(crate) fn maybe_time(at: Option<Timestamp>) -> Value {
    at.map(|at| at.as_millisecond()).into()
}

/// Makes a folder that only its owner can enter, or takes that right away from others when it is there.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), StoreError> {
    let outcome = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    outcome.map_err(|source| StoreError::Folder { path: path.display().to_string(), source })
}

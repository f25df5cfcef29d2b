//! The connection and its transactions, on SQLite and on PostgreSQL.

mod carry;
mod postgres;
mod reach;
mod row;
mod sqlite;
mod whole;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use carrel_domain::{OrganizationId, Secret, TaskId};
use jiff::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, Statement, Value};
use tokio::task::JoinSet;

use self::postgres::Patience;
pub(crate) use self::postgres::{give_way, is_held_up};
pub(crate) use self::row::{Row, json, maybe_time, time, unreadable};
pub(crate) use self::whole::Whole;
use crate::changes::Bell;
pub(crate) use crate::error::StoreError;
use crate::figures::Connections;

#[derive(Clone)]
pub(crate) struct Database {
    readers: DatabaseConnection,
    writer: Writer,
    /// What carries changes between processes, as long as somebody has this.
    _carriers: Option<Arc<JoinSet<()>>>,
}

#[derive(Clone)]
enum Writer {
    Sqlite(sqlite::Writer),
    Postgres(postgres::Connections),
}

/// What a transaction writes about. Two that write about the same never run at once, so that what one has read still is so
/// when it writes. SQLite has one writer anyway; PostgreSQL is asked for a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// One task with everything below it. Those of other tasks go on.
    Task(OrganizationId, TaskId),
    /// Anything of an organization.
    Organization(OrganizationId),
    /// Anything at all.
    Installation,
    /// Who of those that wait is next. Claims wait for each other, and for nobody else.
    Queue,
    /// One statement, which needs nobody's word for anything.
    OneStatement,
}

/// A transaction that writes. It is rolled back when it is dropped.
pub(crate) struct Transaction {
    inner: DatabaseTransaction,
    turn: Option<sqlite::Turn>,
    /// Whether it outlasts a power cut once it is committed. On PostgreSQL all do.
    lasts: bool,
}

pub(crate) type Values = Vec<Value>;

impl Database {
    pub(crate) async fn open(file: &Path) -> Result<Self, StoreError> {
        let (readers, writer) = sqlite::open(file).await?;
        Ok(Self { readers, writer: Writer::Sqlite(writer), _carriers: None })
    }

    /// Connects to PostgreSQL. Gives the bell that is heard by all processes on the same database, too.
    pub(crate) async fn connect(url: &Secret, bell: Bell) -> Result<(Self, Bell), StoreError> {
        let connections = postgres::open(url).await?;
        let connection = connections.main.clone();
        let (bell, changes) = bell.heard_elsewhere();
        let carriers = Some(Arc::new(carry::begin(&connection, bell.clone(), changes).await?));
        let database = Self { readers: connection.clone(), writer: Writer::Postgres(connections), _carriers: carriers };
        Ok((database, bell))
    }

    /// Whether other processes may use it at the same time.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.writer, Writer::Postgres(_))
    }

    /// The connections that read, and on PostgreSQL write as well.
    pub(crate) fn connections(&self) -> Connections {
        let (all, idle) = match self.writer {
            Writer::Sqlite(_) => {
                let pool = self.readers.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            }
            Writer::Postgres(_) => {
                let pool = self.readers.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            }
        };
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        Connections { in_use: all.saturating_sub(idle), idle }
    }

    /// Begins a transaction that will write.
    pub(crate) async fn write(&self, scope: Scope) -> Result<Transaction, StoreError> {
        match &self.writer {
            Writer::Sqlite(writer) => {
                let (inner, turn) = writer.begin().await?;
                Ok(Transaction { inner, turn: Some(turn), lasts: false })
            }
            Writer::Postgres(connections) => {
                Ok(Transaction { inner: postgres::begin(connections, scope).await?, turn: None, lasts: true })
            }
        }
    }

    /// What makes a `select` take a row for its transaction alone, passing over those that somebody else has.
    pub(crate) const fn skip_locked(&self) -> &'static str {
        match self.writer {
            // Nobody else writes.
            Writer::Sqlite(_) => "",
            Writer::Postgres(_) => "for update skip locked",
        }
    }

    pub(crate) async fn one(&self, sql: &str, values: impl Into<Values>) -> Result<Option<Row>, StoreError> {
        let (values, patience) = (values.into(), Patience::new());
        loop {
            match one(&self.readers, sql, values.clone()).await {
                Err(error) if patience.outlasts(&error).await => {}
                settled => return Ok(settled?),
            }
        }
    }

    pub(crate) async fn all(&self, sql: &str, values: impl Into<Values>) -> Result<Vec<Row>, StoreError> {
        let (values, patience) = (values.into(), Patience::new());
        loop {
            match all(&self.readers, sql, values.clone()).await {
                Err(error) if patience.outlasts(&error).await => {}
                settled => return Ok(settled?),
            }
        }
    }
}

impl Transaction {
    /// What time it is by the database's clock, where it has one of its own.
    pub(crate) async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        if self.turn.is_some() {
            return Ok(None);
        }
        let sql = "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as now";
        self.one(sql, []).await?.map(|row| row.time("now")).transpose()
    }

    /// The same, which a power cut does not take once it is committed, nor anything that was committed before.
    pub(crate) fn that_lasts(self) -> Self {
        Self { lasts: true, ..self }
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let Self { inner, turn, lasts } = self;
        noted(turn.as_ref(), inner.commit().await)?;
        match turn {
            Some(turn) if lasts => turn.last().await,
            _ => Ok(()),
        }
    }

    /// Runs a statement and says how many rows it changed.
    pub(crate) async fn run(&self, sql: &str, values: impl Into<Values>) -> Result<u64, StoreError> {
        let ran = self.inner.execute_raw(statement(&self.inner, sql, values.into())).await;
        Ok(noted(self.turn.as_ref(), ran)?.rows_affected())
    }

    pub(crate) async fn one(&self, sql: &str, values: impl Into<Values>) -> Result<Option<Row>, StoreError> {
        noted(self.turn.as_ref(), one(&self.inner, sql, values.into()).await)
    }

    pub(crate) async fn all(&self, sql: &str, values: impl Into<Values>) -> Result<Vec<Row>, StoreError> {
        noted(self.turn.as_ref(), all(&self.inner, sql, values.into()).await)
    }
}

/// Takes note of a failure.
fn noted<T>(turn: Option<&sqlite::Turn>, outcome: Result<T, DbErr>) -> Result<T, StoreError> {
    outcome.map_err(|error| {
        if let Some(turn) = turn {
            turn.doubt.note();
        }
        error.into()
    })
}

fn statement(connection: &impl ConnectionTrait, sql: &str, values: Values) -> Statement {
    Statement::from_sql_and_values(connection.get_database_backend(), sql, values)
}

async fn one(connection: &impl ConnectionTrait, sql: &str, values: Values) -> Result<Option<Row>, DbErr> {
    Ok(connection.query_one_raw(statement(connection, sql, values)).await?.map(Row))
}

async fn all(connection: &impl ConnectionTrait, sql: &str, values: Values) -> Result<Vec<Row>, DbErr> {
    Ok(connection.query_all_raw(statement(connection, sql, values)).await?.into_iter().map(Row).collect())
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

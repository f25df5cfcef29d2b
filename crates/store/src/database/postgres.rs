//! PostgreSQL: many processes on one database.

use std::time::Duration;

use carrel_domain::Secret;
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, IsolationLevel,
    RuntimeErr, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tokio::time::Instant;
use uuid::Uuid;

use super::reach::{reach, takes_writes};
use super::{Scope, statement};
use crate::StoreError;
use crate::migrations::Migrations;

/// Connections of one process, to read and to write.
const CONNECTIONS: u32 = 16;

/// Those of them that single statements have for themselves.
const FEW: u32 = 4;

/// How long a statement waits for a connection: a database that restarts or fails over is back by then, or it is down.
const ACQUIRE: Duration = Duration::from_secs(20);

/// A change of the schema waits for whoever reads a table, such as a backup, and everybody else behind it: not for long. It
/// gives way then, for a moment.
const GIVE_WAY_AFTER: &str = "set local lock_timeout = '1s'";
const GIVE_WAY_FOR: Duration = Duration::from_secs(2);

/// How long to wait before a cut connection is made anew.
const REST: Duration = Duration::from_millis(50);

/// Names our lock among those that others take in the same database: "carrel" in ASCII.
const MIGRATING: i64 = 0x0063_6172_7265_6c00;

/// The same, for what is written about the whole installation.
const INSTALLATION: i64 = MIGRATING + 1;

/// The same, for who is next in the queue.
const QUEUE: i64 = MIGRATING + 2;

// Whoever has a lock of something small shares those of what it is in.
const LOCK: &str = "select pg_advisory_xact_lock($1)";
const LOCK_ORGANIZATION: &str = "select pg_advisory_xact_lock_shared($1), pg_advisory_xact_lock($2)";
const LOCK_TASK: &str = "select pg_advisory_xact_lock_shared($1), pg_advisory_xact_lock_shared($2), \
                         pg_advisory_xact_lock($3)";

/// What is set in every session, so that nobody holds a lock for long who has stopped in the middle, or whose machine is gone.
const SESSION: [(&str, &str); 6] = [
    ("idle_in_transaction_session_timeout", "15s"),
    ("lock_timeout", "20s"),
    ("statement_timeout", "60s"),
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// What is set where all of a database is read or written: it takes as long as whoever is at the other end.
const UNHURRIED: &str = "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0";

/// The connections of a process.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) main: DatabaseConnection,
    /// For single statements: leases and signs of life must get through whatever else waits.
    single: DatabaseConnection,
}

/// Connects, and migrates as needed.
pub(super) async fn open(url: &Secret) -> Result<Connections, StoreError> {
    reach(url, ACQUIRE, true).await?;
    let mut options = options(url, CONNECTIONS);
    // One that leads to a standby, while the database fails over, is not kept: it is made anew until it leads to whoever takes
    // writes.
    options.map_sqlx_postgres_pool_opts(|pool| pool.after_connect(|connection, _| Box::pin(takes_writes(connection))));
    let mut few = options.clone();
    few.max_connections(FEW);
    let main = sea_orm::Database::connect(options).await?;
    migrate(&main).await?;
    Ok(Connections { main, single: sea_orm::Database::connect(few).await? })
}

fn options(url: &Secret, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.expose());
    options
        .max_connections(connections)
        .sqlx_logging(false)
        .acquire_timeout(ACQUIRE)
        .connect_timeout(ACQUIRE)
        // What is done on a connection that was cut is done again on another: no need to ask it first.
        .test_before_acquire(false)
        .map_sqlx_postgres_opts(|options| options.application_name("carrel").options(SESSION));
    options
}

/// Brings the schema up to date, one process at a time.
async fn migrate(connection: &DatabaseConnection) -> Result<(), StoreError> {
    let mut said = false;
    loop {
        match migrate_once(connection).await {
            Err(error) if is_held_up(&error) => give_way(&mut said).await,
            settled => return settled,
        }
    }
}

/// Whether somebody else had what was wanted, and for too long.
pub(crate) fn is_held_up(error: &StoreError) -> bool {
    // "lock_not_available": PostgreSQL, appendix A.
    matches!(error, StoreError::Database(error) if code(error).as_deref() == Some("55P03"))
}

/// Lets others have their turn, who wait behind a change of the schema that waits for somebody else.
pub(crate) async fn give_way(said: &mut bool) {
    if !*said {
        tracing::warn!(
            "a backup, or something else that reads for long, holds up a change of the schema; it is tried again"
        );
        *said = true;
    }
    tokio::time::sleep(GIVE_WAY_FOR).await;
}

async fn migrate_once(connection: &DatabaseConnection) -> Result<(), StoreError> {
    let transaction = begin_alone(connection).await?;
    // Within the transaction that holds the lock: whoever comes second finds all of it done.
    Migrations::applied(&transaction).await?;
    Migrations::up(&transaction, None).await?;
    transaction.commit().await?;
    Ok(())
}

/// Begins a transaction beside which nobody changes the schema.
async fn begin_alone(connection: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let transaction = connection.begin().await?;
    // Others may be at it, and it may take long.
    transaction.execute_unprepared(UNHURRIED).await?;
    transaction.execute_unprepared("set local lock_timeout = 0").await?;
    lock(&transaction, LOCK, [MIGRATING]).await?;
    transaction.execute_unprepared(GIVE_WAY_AFTER).await?;
    Ok(transaction)
}

/// A transaction that sees everything as it is at its first question.
pub(super) async fn look(url: &Secret) -> Result<(DatabaseConnection, DatabaseTransaction), StoreError> {
    reach(url, Duration::ZERO, false).await?;
    let connection = sea_orm::Database::connect(options(url, 1)).await?;
    let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
    let transaction = connection.begin_with_config(Some(isolation), Some(access)).await?;
    transaction.execute_unprepared(UNHURRIED).await?;
    Ok((connection, transaction))
}

/// A transaction beside which nobody writes about anything.
pub(super) async fn fill(url: &Secret) -> Result<(DatabaseConnection, DatabaseTransaction), StoreError> {
    reach(url, ACQUIRE, true).await?;
    let connection = sea_orm::Database::connect(options(url, 1)).await?;
    let transaction = begin_alone(&connection).await?;
    lock(&transaction, LOCK, [INSTALLATION]).await?;
    Ok((connection, transaction))
}

/// With what changes nothing it is tried again as long as it fails for its connection: a database that was started anew, or
/// has failed over, leaves a pool full of connections that were cut.
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + ACQUIRE }
    }

    /// Whether to try again. If so, a moment has passed.
    pub(super) async fn outlasts(&self, error: &DbErr) -> bool {
        let is_worth_it = is_cut(error) && Instant::now() < self.until;
        if is_worth_it {
            tokio::time::sleep(REST).await;
        }
        is_worth_it
    }
}

/// Whether it is the connection that failed, and not what was asked.
fn is_cut(error: &DbErr) -> bool {
    let is_broken =
        |error: &sqlx::Error| matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_));
    // "operator intervention", such as a shutdown, and "connection exception": PostgreSQL, appendix A.
    let is_meant = |code: String| code.starts_with("57P") || code.starts_with("08");
    driver(error).is_some_and(is_broken) || code(error).is_some_and(is_meant)
}

/// What the server calls an error, if it was the server's.
fn code(error: &DbErr) -> Option<String> {
    match driver(error)? {
        sqlx::Error::Database(error) => error.code().map(Into::into),
        _ => None,
    }
}

fn driver(error: &DbErr) -> Option<&sqlx::Error> {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else { return None };
    let RuntimeErr::SqlxError(error) = inner else { return None };
    Some(error)
}

/// Begins a transaction, and waits until nobody else writes about the same.
pub(super) async fn begin(connections: &Connections, scope: Scope) -> Result<DatabaseTransaction, StoreError> {
    let connection = match scope {
        Scope::OneStatement => &connections.single,
        Scope::Task(..) | Scope::Organization(_) | Scope::Installation | Scope::Queue => &connections.main,
    };
    let patience = Patience::new();
    loop {
        match begin_locked(connection, scope).await {
            Err(error) if patience.outlasts(&error).await => {}
            settled => return Ok(settled?),
        }
    }
}

async fn begin_locked(connection: &DatabaseConnection, scope: Scope) -> Result<DatabaseTransaction, DbErr> {
    let transaction = connection.begin().await?;
    match scope {
        Scope::Task(organization, task) => {
            let keys = [INSTALLATION, key(organization.as_uuid()), key(task.as_uuid())];
            lock(&transaction, LOCK_TASK, keys).await?;
        }
        Scope::Organization(organization) => {
            lock(&transaction, LOCK_ORGANIZATION, [INSTALLATION, key(organization.as_uuid())]).await?;
        }
        Scope::Installation => lock(&transaction, LOCK, [INSTALLATION]).await?,
        Scope::Queue => lock(&transaction, LOCK, [QUEUE]).await?,
        Scope::OneStatement => {}
    }
    Ok(transaction)
}

async fn lock<const N: usize>(transaction: &DatabaseTransaction, sql: &str, keys: [i64; N]) -> Result<(), DbErr> {
    let values = keys.into_iter().map(Into::into).collect();
    transaction.execute_raw(statement(transaction, sql, values)).await?;
    Ok(())
}

/// The half of an id that chance has made.
fn key(id: Uuid) -> i64 {
    let (_, chance) = id.as_u64_pair();
    chance.cast_signed()
}

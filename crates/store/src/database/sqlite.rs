//! SQLite: one file, many readers, one writer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::{
    ConnectOptions, DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::StoreError;
use crate::migrations::Migrations;

/// Connections that read at the same time.
const READERS: u32 = 8;

/// The connection that writes. SQLite has one writer. Waiting here is fair and wakes at once; its own busy handler sleeps
/// for up to 100 ms.
#[derive(Clone)]
pub(super) struct Writer {
    file: Arc<Path>,
    desk: Arc<Mutex<Desk>>,
    disk: Arc<Disk>,
}

struct Desk {
    connection: DatabaseConnection,
    doubt: Doubt,
}

/// Whether a statement or a commit has failed on the connection. SQLite may have rolled back by itself then (on a full disk
/// it does), and the driver counts a transaction that is no more: the connection is not used again.
#[derive(Clone, Default)]
pub(super) struct Doubt(Arc<AtomicBool>);

/// The right to write, until it is dropped.
pub(super) struct Turn {
    pub(super) doubt: Doubt,
    desk: OwnedMutexGuard<Desk>,
    disk: Arc<Disk>,
}

/// What of the file's log has reached the disk, where a power cut does not take it. A commit only writes; those that are to
/// last wait for the disk behind it, many at once for one answer, while others write.
struct Disk {
    log: PathBuf,
    /// How many commits that are to last were made.
    made: AtomicU64,
    /// How many of them are on the disk. Whoever holds this asks it.
    lasting: Mutex<u64>,
}

impl Doubt {
    fn is_there(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Takes note of a failure: its connection is doubtful from then on.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Opens a file, making or migrating it as needed: what reads from it, and what writes.
pub(super) async fn open(file: &Path) -> Result<(DatabaseConnection, Writer), StoreError> {
    let desk = Desk::at(file).await?;
    // One that this version does not know is not brought forward, but refused.
    Migrations::applied(&desk.connection).await?;
    Migrations::up(&desk.connection, None).await?;
    let readers = connect(file, READERS).await?;
    make_private(file)?;
    // That there is a log at all is known to the folder.
    if let Some(folder) = file.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    let disk = Disk { log: with_suffix(file, "-wal"), made: AtomicU64::new(0), lasting: Mutex::new(0) };
    Ok((readers, Writer { file: file.into(), desk: Arc::new(Mutex::new(desk)), disk: Arc::new(disk) }))
}

/// A transaction that sees a file, which is there, as it is at its first question.
pub(super) async fn look(file: &Path) -> Result<(DatabaseConnection, DatabaseTransaction), StoreError> {
    let connection = connect(file, 1).await?;
    let transaction = connection.begin().await?;
    Ok((connection, transaction))
}

/// A transaction beside which nobody writes to a file. It is made when it is not there.
pub(super) async fn fill(file: &Path) -> Result<(DatabaseConnection, DatabaseTransaction), StoreError> {
    let connection = connect(file, 1).await?;
    let transaction = connection.begin_with_options(immediate()).await?;
    make_private(file)?;
    Ok((connection, transaction))
}

fn make_private(file: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        match fs::set_permissions(with_suffix(file, suffix), fs::Permissions::from_mode(0o600)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(source.into()),
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}

impl Writer {
    /// Waits for the right to write, and begins.
    pub(super) async fn begin(&self) -> Result<(DatabaseTransaction, Turn), StoreError> {
        let mut desk = Arc::clone(&self.desk).lock_owned().await;
        if desk.doubt.is_there() {
            let doubtful = std::mem::replace(&mut *desk, Desk::at(&self.file).await?);
            doubtful.connection.close().await?;
        }
        let doubt = desk.doubt.clone();
        let begun: Result<_, DbErr> = desk.connection.begin_with_options(immediate()).await;
        let transaction = begun.inspect_err(|_| doubt.note())?;
        Ok((transaction, Turn { doubt, desk, disk: Arc::clone(&self.disk) }))
    }
}

impl Turn {
    /// Lets others write, and waits until what was committed is on the disk.
    pub(super) async fn last(self) -> Result<(), StoreError> {
        let Self { desk, disk, .. } = self;
        let number = disk.made.fetch_add(1, Ordering::AcqRel) + 1;
        drop(desk);
        let mut lasting = disk.lasting.lock().await;
        if *lasting >= number {
            return Ok(());
        }
        let covered = disk.made.load(Ordering::Acquire);
        let log = disk.log.clone();
        let asked = tokio::task::spawn_blocking(move || match fs::File::open(log) {
            Ok(log) => log.sync_data(),
            // It was put into the file, which SQLite waits for.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        });
        asked.await.map_err(std::io::Error::other)??;
        *lasting = covered;
        Ok(())
    }
}

impl Desk {
    async fn at(file: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: connect(file, 1).await?, doubt: Doubt::default() })
    }
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
            // In WAL mode this loses nothing when the process dies. What a power cut must not take, either, waits for the disk
            // after its commit.
            .pragma("synchronous", "normal")
    });
    Ok(sea_orm::Database::connect(options).await?)
}

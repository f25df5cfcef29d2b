//! State at rest: the rows behind every noun of the vocabulary, the event log, the job queue with its leases, and
//! artifacts as files or in a bucket.
//!
//! All SQL of the project is here, next to the function that runs it, in a dialect that SQLite and PostgreSQL share.
//! Every query names the organization, but for those of the job queue, which serve all of them. Whatever is written
//! to the event log passes the [`Redactor`](carrel_domain::Redactor) first.

mod artifacts;
mod attachments;
mod attempts;
mod budgets;
mod changes;
mod database;
mod environments;
mod error;
mod events;
mod figures;
mod jobs;
mod messages;
mod migrations;
mod objects;
mod people;
mod places;
mod prompt_diffs;
mod publications;
mod recipes;
mod repositories;
mod retries;
mod seal;
mod secrets;
mod shares;
mod snapshots;
mod tails;
mod tasks;
mod transfer;
mod waits;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use carrel_domain::{Redactor, Secret, SharedClock, WorkerId};

pub use artifacts::{Artifact, Attached};
pub use attachments::Placed;
pub use changes::{Change, Changes};
pub use environments::{EnvironmentContent, NewEnvironment};
pub use error::StoreError;
pub use figures::{Connections, QueueDepth};
pub use jobs::{Claim, Job, JobKind, Lease, Queue};
pub use objects::{ArtifactPlace, Bucket, InvalidPlace};
pub use people::{Owner, Principal};
pub use places::Passed;
pub use prompt_diffs::{KeptDiff, NewDiff};
pub use publications::NewPublication;
pub use repositories::Repository;
pub use retries::NewRetry;
pub use seal::{InvalidKeys, KeyId, SealingKeys};
pub use secrets::{ClosedSecret, KeptSecret, NewSecret};
pub use shares::AtOnce;
pub use snapshots::{NewSnapshot, Snapshot};
pub use tails::{Tail, Told};
pub use tasks::{AttemptListing, TaskListing, TaskThread, TurnThread};
pub use transfer::{Moved, MovedFile, Schema, StatePlace, TransferError, export, import, migrate, schema};
pub use workers::{Attendance, Presence, Role, Worker};

use database::{Database, Scope, Transaction};
use objects::Objects;

/// Where the state is kept, and what the store needs from outside.
pub struct StoreOptions {
    /// The folder of the artifacts, or of copies of them, and without `postgres` of the database; made when it is not there,
    /// for its owner only.
    pub folder: PathBuf,
    /// The URL of a PostgreSQL database, `postgres://user:password@host/name`, that any number of processes may share.
    /// `None`: SQLite, in the folder.
    pub postgres: Option<Secret>,
    /// Where artifacts are kept.
    pub artifacts: ArtifactPlace,
    /// Which worker this is. Jobs that only it can go on with wait for it.
    pub worker: WorkerId,
    /// The time.
    pub clock: SharedClock,
    /// What must never be written to the event log. It learns every value of a secret that is kept here.
    pub redactor: Redactor,
    /// What values of secrets are sealed under.
    pub keys: SealingKeys,
}

/// The state of an installation. Clones share one pool of connections.
#[derive(Clone)]
pub struct Store {
    database: Database,
    shared: Arc<Shared>,
    /// The claim that whatever is written through this handle depends on.
    claim: Option<Claim>,
    /// What people and organizations may have at once.
    at_once: AtOnce,
}

struct Shared {
    worker: WorkerId,
    /// The time that all workers go by, less what has passed of this process's own: [`Store::shared_now`].
    shared_clock_ms: AtomicI64,
    clock: SharedClock,
    redactor: Redactor,
    keys: SealingKeys,
    changes: changes::Bell,
    objects: Objects,
    collection: artifacts::Collection,
}

impl Store {
    /// Opens the state in a folder, making or migrating it as needed. Gives, too, the values of secrets that do not open:
    /// everything else works without them.
    ///
    /// # Errors
    /// When the folder cannot be used, or the database is not ours or from a newer version.
    pub async fn open(options: StoreOptions) -> Result<(Self, Vec<ClosedSecret>), StoreError> {
        let StoreOptions { folder, postgres, artifacts, worker, clock, redactor, keys } = options;
        database::make_private_folder(&folder)?;
        let objects = Objects::open(artifacts, folder.join("artifacts"))?;
        let (database, changes) = match &postgres {
            Some(url) => Database::connect(url, changes::Bell::new()).await?,
            None => (Database::open(&folder.join("carrel.sqlite")).await?, changes::Bell::new()),
        };
        let store = Self {
            database,
            shared: Arc::new(Shared {
                worker,
                shared_clock_ms: AtomicI64::new(i64::MIN),
                clock,
                redactor,
                keys,
                changes,
                objects,
                collection: artifacts::Collection::default(),
            }),
            claim: None,
            at_once: AtOnce::default(),
        };
        store.compare_clocks().await?;
        let closed = store.take_custody().await?;
        store.collect_attachments().await?;
        Ok((store, closed))
    }

    /// Whether the database answers, and could be written to.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction.one("select 1 as one", []).await?;
        transaction.commit().await
    }

    /// Hears of every change from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.shared.changes.listen()
    }

    fn tails(&self) -> &tails::Tails {
        self.shared.changes.tails()
    }

    /// The same store in the hands of a worker: it writes nothing any more once the worker has lost its claim, because its
    /// lease ran out while the process or the machine stood still, and somebody else goes on with the job.
    #[must_use]
    pub fn under(&self, claim: Claim) -> Self {
        Self { claim: Some(claim), ..self.clone() }
    }

    /// Begins a transaction that will write. What people said, and how their tasks ended, outlasts a power cut once it is
    /// committed; what a worker does in between may be done again.
    async fn write(&self, scope: Scope) -> Result<Transaction, StoreError> {
        let transaction = self.database.write(scope).await?;
        if let Some(claim) = &self.claim {
            jobs::require(&transaction, claim).await?;
        }
        match scope {
            Scope::Organization(_) | Scope::Installation => Ok(transaction.that_lasts()),
            Scope::Task(..) if self.claim.is_none() => Ok(transaction.that_lasts()),
            Scope::Task(..) | Scope::Queue | Scope::OneStatement => Ok(transaction),
        }
    }

    /// Whether other processes may use the same database. If not, this one alone does.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    fn now(&self) -> jiff::Timestamp {
        self.shared.clock.now()
    }
}

/// A fresh id: UUID version 7, so that ids sort by age.
fn fresh() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

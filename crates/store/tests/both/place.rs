//! Where a test's state is: a folder of its own, and beside it a PostgreSQL server of its own or none.

use std::path::{Path, PathBuf};
use std::process::Command;

use carrel_domain::{Redactor, Secret, SharedClock, WorkerId};
use carrel_store::{ArtifactPlace, ClosedSecret, SealingKeys, StatePlace, Store, StoreError, StoreOptions};
use carrel_testkit::Postgres;

pub(crate) struct Place {
    folder: tempfile::TempDir,
    postgres: Option<Postgres>,
}

impl Place {
    /// The place of a test in a module of this name, which ends in the database's.
    pub(crate) fn of(module: &str) -> Self {
        let postgres = module.ends_with("_on_postgres").then(Postgres::start);
        Self { folder: tempfile::tempdir().expect("a folder"), postgres }
    }

    /// Opens the store that is here.
    pub(crate) async fn open(&self, clock: SharedClock, redactor: Redactor, keys: &str) -> (Store, Vec<ClosedSecret>) {
        self.open_as(WorkerId::from_uuid(uuid::Uuid::from_u128(1)), clock, redactor, keys).await
    }

    /// The same, for a worker of this id.
    pub(crate) async fn open_as(
        &self,
        worker: WorkerId,
        clock: SharedClock,
        redactor: Redactor,
        keys: &str,
    ) -> (Store, Vec<ClosedSecret>) {
        let opened = Store::open(self.options(worker, clock, redactor, keys)).await;
        opened.expect("a store")
    }

    /// Opens the store that is here, or learns why that cannot be.
    pub(crate) async fn try_open(&self, keys: &str) -> Result<(), StoreError> {
        struct Epoch;
        impl carrel_domain::Clock for Epoch {
            fn now(&self) -> jiff::Timestamp {
                jiff::Timestamp::UNIX_EPOCH
            }
        }
        let worker = WorkerId::from_uuid(uuid::Uuid::from_u128(1));
        let options = self.options(worker, std::sync::Arc::new(Epoch), Redactor::default(), keys);
        Store::open(options).await.map(drop)
    }

    fn options(&self, worker: WorkerId, clock: SharedClock, redactor: Redactor, keys: &str) -> StoreOptions {
        let StatePlace { folder, postgres, artifacts } = self.state();
        let keys = SealingKeys::parse(&Secret::new(keys)).expect("keys");
        StoreOptions { folder, postgres, artifacts, worker, clock, redactor, keys }
    }

    /// Where it is.
    pub(crate) fn state(&self) -> StatePlace {
        let postgres = self.postgres.as_ref().map(|server| Secret::new(server.url()));
        StatePlace { folder: self.data(), postgres, artifacts: ArtifactPlace::DataFolder }
    }

    /// The same, with keys that nobody needs again.
    pub(crate) async fn open_once(&self, clock: SharedClock, redactor: Redactor) -> Store {
        self.open(clock, redactor, SealingKeys::fresh().expect("chance").expose()).await.0
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Changes the database from outside. What only SQLite says so is said in PostgreSQL's words.
    pub(crate) fn sql(&self, sql: &str) {
        let Some(server) = &self.postgres else {
            let file = self.data().join("carrel.sqlite");
            let ran = Command::new("sqlite3")
                .args(["-cmd", ".timeout 30000"])
                .arg(&file)
                .arg(sql)
                .output()
                .expect("sqlite3 is installed");
            assert!(ran.status.success(), "{ran:?}");
            return;
        };
        let sql = sql.replace("x'", "uuid '").replace("randomblob(16)", "gen_random_uuid()");
        assert!(server.query(&sql).is_some(), "{sql}");
    }

    /// Every file that the state is in, with its bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        read_all(&self.data(), &mut files);
        if let Some(server) = &self.postgres {
            server.query("checkpoint").expect("a checkpoint");
            read_all(&server.cluster(), &mut files);
        }
        files
    }
}

fn read_all(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
        let kind = entry.file_type().expect("known");
        if kind.is_dir() {
            read_all(&entry.path(), files);
        } else if kind.is_file() {
            files.push((entry.path(), std::fs::read(entry.path()).expect("our own file")));
        }
    }
}

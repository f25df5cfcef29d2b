//! What is so on SQLite only: a file of one's own.

use std::path::Path;
use std::sync::Arc;

use carrel_domain::{Clock, EnvironmentSpec, Redactor};
use carrel_store::{SealingKeys, Store, StoreOptions};
use jiff::Timestamp;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }
}

async fn open(folder: &Path) -> Store {
    let options = StoreOptions {
        folder: folder.join("data"),
        postgres: None,
        artifacts: carrel_store::ArtifactPlace::DataFolder,
        worker: carrel_domain::WorkerId::from_uuid(uuid::Uuid::from_u128(1)),
        clock: Arc::new(Noon),
        redactor: Redactor::default(),
        keys: SealingKeys::parse(&SealingKeys::fresh().expect("chance")).expect("a key"),
    };
    let (store, _) = Store::open(options).await.expect("a store");
    store.ensure_owner().await.expect("an owner");
    store
}

#[tokio::test]
async fn the_database_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    open(place.path()).await;

    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;

    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("carrel.sqlite")), 0o600);
}

#[tokio::test]
async fn a_database_from_before_environments_keeps_its_own_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    let earlier = concat!(
        // The program would take what begins with `--` for an option.
        "\n",
        include_str!("../src/migrations/0001_first.sql"),
        "create table seaql_migrations (version varchar not null primary key, applied_at bigint not null);
         insert into seaql_migrations values ('0001_first', 1800000000);
         insert into organization values (x'0198c1de7a3b7c4e9d5f000000000001', 'My organization', 0);
         insert into account values (x'0198c1de7a3b7c4e9d5f000000000002', 'Owner', 0);
         insert into member values (x'0198c1de7a3b7c4e9d5f000000000001', x'0198c1de7a3b7c4e9d5f000000000002', 'owner');
         insert into environment values (x'0198c1de7a3b7c4e9d5f000000000003', x'0198c1de7a3b7c4e9d5f000000000001', 'default', 1);
         insert into environment_version values
             (x'0198c1de7a3b7c4e9d5f000000000003', 1, x'0198c1de7a3b7c4e9d5f000000000001', 'host', 0);"
    );
    let file = folder.path().join("data/carrel.sqlite");
    let made = std::process::Command::new("sqlite3").arg(&file).arg(earlier).output().expect("sqlite3 is installed");
    assert!(made.status.success(), "{made:?}");

    let store = open(folder.path()).await;

    let owner = store.ensure_owner().await.expect("the owner").principal;
    let all = store.environments(owner.organization).await.expect("the environments");
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].name.as_str(), &all[0].spec), ("default", &EnvironmentSpec::of_default()));
}

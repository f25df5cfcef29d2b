//! What it takes to find who is next does not grow with the queue: the statement that the store really makes reads about as
//! much of a queue of a hundred thousand jobs as of one of a thousand, on both databases.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::{Clock, Redactor, Secret, WorkerId};
use carrel_store::{ArtifactPlace, Lease, Presence, Queue, Role, SealingKeys, Store, StoreOptions};
use carrel_testkit::Postgres;
use jiff::Timestamp;

/// Who waits: so many people in so many organizations, and how much of theirs runs.
const PEOPLE: u32 = 50;
const ORGANIZATIONS: u32 = 5;
const RUNNING: u32 = 200;

const FEW: u32 = 1_000;
const MANY: u32 = 100_000;

/// Each person who waits is a few steps down an index of some three levels, for a few kinds of jobs; what runs is read once.
const MOST_PAGES: u64 = 2_500;
const MOST_STEPS: u64 = 60_000;

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

async fn open(folder: &Path, postgres: Option<&Postgres>) -> Store {
    let options = StoreOptions {
        folder: folder.to_owned(),
        postgres: postgres.map(|server| Secret::new(server.url())),
        artifacts: ArtifactPlace::DataFolder,
        worker: WorkerId::from_uuid(uuid::Uuid::from_u128(1)),
        clock: Arc::new(Now),
        redactor: Redactor::default(),
        keys: SealingKeys::parse(SealingKeys::fresh().as_ref().expect("chance")).expect("keys"),
    };
    Store::open(options).await.expect("a store").0
}

/// Claims a job on a PostgreSQL where so many wait; gives the statement, and its plan with what it read.
async fn claimed_on_postgres(waiting: u32) -> (String, String) {
    let (postgres, folder) = (Postgres::start(), tempfile::tempdir().expect("a folder"));
    drop(open(folder.path(), Some(&postgres)).await);
    let rows = |count: u32, begun: &str| {
        format!(
            "set session_replication_role = replica;
             insert into job (id, organization_id, account_id, kind, subject_id, run_at, rank_at, tries, created_at, begun_at,
                 worker_id, lease_owner, lease_until)
             select gen_random_uuid(), md5('o' || n % {ORGANIZATIONS})::uuid, md5('p' || n % {PEOPLE})::uuid, 'attempt',
                 gen_random_uuid(), n, n, 0, n, {begun} from generate_series(1, {count}) n;"
        )
    };
    let running = "1, md5('w' || n % 10)::uuid, 'somebody', 9000000000000000";
    let workers = "insert into worker (id, name, capacity, started_at, seen_at)
         select md5('w' || n)::uuid, 'another', 4, 1, 9000000000000000 from generate_series(1, 9) n;";
    let filled = [
        workers,
        &rows(waiting, "null::bigint, null::uuid, null, null::bigint"),
        &rows(RUNNING, running),
        "vacuum analyze;",
    ];
    for sql in filled {
        assert!(postgres.query(sql).is_some(), "{sql}");
    }
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_buffers = on",
        "random_page_cost = 1.1",
    ] {
        postgres.query(&format!("alter database postgres set {setting}")).expect("a setting");
    }
    let store = open(folder.path(), Some(&postgres)).await;
    let presence = Presence { name: "here", role: Role::Worker, capacity: 4, version: "1" };
    store.announce_worker(presence).await.expect("it is told");
    let lease = Lease { owner: "me".to_owned(), duration: Duration::from_secs(30) };
    let gone = Duration::from_secs(60);
    store.claim_job_of_anybody(Queue::Attempts, &lease, gone).await.expect("asked").expect("a job");
    drop(store);
    let log = postgres.logged();
    let entries = log.split("Query Text: ").filter(|entry| entry.contains("update job set lease_owner = $1"));
    let entry = entries.last().expect("the statement is in the log");
    let (statement, plan) = entry.split_once("\tUpdate on job").expect("its plan is, too");
    let plan = plan.split("LOG:").next().unwrap_or(plan);
    (statement.replace(['\t', '\n'], " "), plan.to_owned())
}

/// The pages that all of a plan has read.
fn pages(plan: &str) -> u64 {
    let all = plan.lines().find_map(|line| line.trim().strip_prefix("Buffers: shared ")).expect("they are counted");
    let counts = all.split([' ', '=']).filter_map(|word| word.parse::<u64>().ok());
    counts.sum()
}

/// The steps that SQLite takes for the statement, where so many wait.
async fn steps_on_sqlite(statement: &str, waiting: u32) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    // A copy: the store keeps its own to itself.
    let (own, file) = (folder.path().join("own"), folder.path().join("carrel.sqlite"));
    let store = open(&own, None).await;
    for name in ["carrel.sqlite", "carrel.sqlite-wal"] {
        std::fs::copy(own.join(name), folder.path().join(name)).expect("a copy");
    }
    drop(store);
    let rows = |count: u32, begun: &str| {
        format!(
            "insert into job (id, organization_id, account_id, kind, subject_id, run_at, rank_at, tries, created_at, begun_at,
                 worker_id, lease_owner, lease_until)
             with recursive s(n) as (select 1 union all select n + 1 from s where n < {count})
             select randomblob(16), cast(printf('o%015d', n % {ORGANIZATIONS}) as blob),
                 cast(printf('p%015d', n % {PEOPLE}) as blob), 'attempt', randomblob(16), n, n, 0, n, {begun} from s;"
        )
    };
    let running = "1, cast(printf('w%015d', n % 10) as blob), 'somebody', 9000000000000000";
    let workers = "insert into worker (id, name, capacity, started_at, seen_at)
         with recursive s(n) as (select 1 union all select n + 1 from s where n < 9)
         select cast(printf('w%015d', n) as blob), 'another', 4, 1, 9000000000000000 from s;";
    let mut statement = statement.to_owned();
    let me = format!("x'{:032x}'", 1);
    let most = i64::MAX.to_string();
    for (place, value) in [
        ("$8", &*most),
        ("$7", &*most),
        ("$6", "5"),
        ("$5", &*me),
        ("$4", "3000000"),
        ("$3", "3000000"),
        ("$2", "4000000"),
        ("$1", "'me'"),
    ] {
        statement = statement.replace(place, value);
    }
    let script = format!(
        "{workers}{}{}\n.stats vmstep\n{statement};\n",
        rows(waiting, "null, null, null, null"),
        rows(RUNNING, running)
    );
    let input = folder.path().join("script");
    std::fs::write(&input, script).expect("the folder is writable");
    let input = std::fs::File::open(&input).expect("it was just written");
    let ran = Command::new("sqlite3").arg(&file).stdin(input).output().expect("sqlite3 is installed");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.contains("attempt"), "a job was claimed: {said}");
    let steps = said.lines().find_map(|line| line.strip_prefix("VM-steps: ")).expect("they are counted");
    steps.trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_next_is_found_as_quickly_in_a_long_queue_as_in_a_short_one() {
    let (_, short) = claimed_on_postgres(FEW).await;
    let (statement, long) = claimed_on_postgres(MANY).await;
    let (steps, most_steps) = (steps_on_sqlite(&statement, FEW).await, steps_on_sqlite(&statement, MANY).await);

    let scans: Vec<&str> = long.lines().filter(|line| line.contains("Seq Scan on job")).collect();
    assert!(scans.is_empty(), "{long}");
    assert!(pages(&long) < MOST_PAGES.min(3 * pages(&short)), "{} and {}: {long}", pages(&short), pages(&long));
    assert!(most_steps < MOST_STEPS && most_steps < steps + steps / 2, "{steps} and {most_steps}");
}

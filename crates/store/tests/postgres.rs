//! What several processes on one PostgreSQL may rely on. A process is a store of its own here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{
    AttemptLimits, AttemptState, CancelledBy, Clock, EventBody, JobId, Mode, NewEvent, NewTask, NewTurn, Prompt,
    Redactor, Revision, Secret, TaskId, WorkerId,
};
use carrel_store::{Change, Changes, Lease, Principal, Queue, SealingKeys, Store, StoreOptions};
use carrel_testkit::Postgres;
use jiff::Timestamp;

/// How long something may take that happens at once, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct Fixture {
    postgres: Postgres,
    folder: tempfile::TempDir,
    key: Secret,
}

impl Fixture {
    fn new() -> Self {
        let key = SealingKeys::fresh().expect("chance");
        Self { postgres: Postgres::start(), folder: tempfile::tempdir().expect("a folder"), key }
    }

    /// One more process.
    async fn process(&self) -> Store {
        let options = StoreOptions {
            folder: self.folder.path().join("data"),
            postgres: Some(Secret::new(self.postgres.url())),
            artifacts: carrel_store::ArtifactPlace::DataFolder,
            worker: WorkerId::from_uuid(uuid::Uuid::now_v7()),
            clock: Arc::new(Now),
            redactor: Redactor::default(),
            keys: SealingKeys::parse(&self.key).expect("a key"),
        };
        Store::open(options).await.expect("a store").0
    }
}

async fn owner(store: &Store) -> Principal {
    store.ensure_owner().await.expect("an owner").principal
}

async fn task(store: &Store, owner: Principal, attempts: u32) -> TaskId {
    let new = NewTask {
        organization: owner.organization,
        created_by: owner.user,
        repository: "/srv/code/api".parse().expect("a path"),
        revision: Revision::DefaultBranch,
        environment: None,
        local_changes: None,
        priority: carrel_domain::Priority::Normal,
        turn: NewTurn {
            prompt: Prompt::parse("Fix it").expect("a prompt"),
            mode: Mode::Code,
            attempts: Attempts::new(attempts).expect("1 to 4"),
            attachments: Vec::new(),
            from_attempt: None,
            model: None,
            effort: None,
            agent: None,
            limits: AttemptLimits::NONE,
        },
    };
    store.create_task(&new, "gpt-test").await.expect("a task")
}

fn lease(owner: &str) -> Lease {
    Lease { owner: owner.to_owned(), duration: Duration::from_secs(60) }
}

fn said(text: &str) -> Vec<NewEvent> {
    vec![NewEvent { attempt: None, body: EventBody::AgentMessage { text: text.to_owned() } }]
}

async fn hears(changes: &mut Changes, is_it: impl Fn(Change) -> bool) {
    let heard = async { while !is_it(changes.next().await) {} };
    tokio::time::timeout(PATIENCE, heard).await.expect("it is heard");
}

#[tokio::test]
async fn processes_that_start_together_find_one_schema_and_one_owner() {
    let fixture = Fixture::new();

    let (one, two, three) = tokio::join!(fixture.process(), fixture.process(), fixture.process());

    let (first, second, third) = tokio::join!(owner(&one), owner(&two), owner(&three));
    assert_eq!((first, second), (second, third));
}

#[tokio::test]
async fn what_one_process_stores_the_others_hear() {
    let fixture = Fixture::new();
    let (writer, reader) = (fixture.process().await, fixture.process().await);
    let owner = owner(&writer).await;
    let mut changes = reader.changes();

    let id = task(&writer, owner, 1).await;

    hears(&mut changes, |change| change == Change::Job).await;
    writer.append(owner.organization, id, said("Working on it.")).await.expect("told");
    hears(&mut changes, |change| matches!(change, Change::Log { task, last_seq: 2, .. } if task == id)).await;
    let attempt = reader.task(owner.organization, id).await.expect("the task").turns[0].attempts[0].id;
    let by = CancelledBy::User(owner.user);
    writer.request_cancel(owner.organization, attempt, by).await.expect("stopped");
    hears(&mut changes, |change| change == Change::CancelRequested(attempt)).await;
}

#[tokio::test]
async fn a_job_is_claimed_once_however_many_processes_want_it() {
    let fixture = Fixture::new();
    let first = fixture.process().await;
    let owner = owner(&first).await;
    for _ in 0..15 {
        task(&first, owner, 4).await;
    }
    let mut claimers = tokio::task::JoinSet::new();

    for number in 0..4 {
        let store = fixture.process().await;
        claimers.spawn(async move {
            let mut claimed: Vec<JobId> = Vec::new();
            while let Some(job) = store.claim_job(Queue::Attempts, &lease(&number.to_string())).await.expect("asked") {
                claimed.push(job.id);
            }
            claimed
        });
    }

    let claimed: Vec<JobId> = claimers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 60);
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), 60, "each of them once");
}

#[tokio::test]
async fn a_log_that_many_write_to_has_no_gap() {
    let fixture = Fixture::new();
    let first = fixture.process().await;
    let owner = owner(&first).await;
    let id = task(&first, owner, 1).await;
    let mut writers = tokio::task::JoinSet::new();

    for number in 0..4 {
        let store = fixture.process().await;
        writers.spawn(async move {
            for line in 0..25 {
                store.append(owner.organization, id, said(&format!("{number}: {line}"))).await.expect("told");
            }
        });
    }
    writers.join_all().await;

    let events = first.events(owner.organization, id, 0, 1000).await.expect("events");
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=101).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_database_is_outlasted_and_listeners_look_again() {
    let mut fixture = Fixture::new();
    let store = fixture.process().await;
    let owner = owner(&store).await;
    let id = task(&store, owner, 1).await;
    let mut changes = store.changes();

    fixture.postgres.crash();
    let writer = store.clone();
    let stored = tokio::spawn(async move { writer.append(owner.organization, id, said("kept")).await });
    let reader = store.clone();
    let read = tokio::spawn(async move { reader.task(owner.organization, id).await });
    tokio::task::yield_now().await;
    fixture.postgres.up();

    stored.await.expect("no panic").expect("it waits for the database");
    assert_eq!(read.await.expect("no panic").expect("it waits for the database").task.id, id);
    hears(&mut changes, |change| change == Change::Anything).await;
    let events = store.events(owner.organization, id, 0, 100).await.expect("events");
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<i64>>(), [1, 2]);
}

#[tokio::test]
async fn what_a_worker_has_begun_is_left_to_it_until_it_is_gone() {
    let fixture = Fixture::new();
    let (mine, other) = (fixture.process().await, fixture.process().await);
    let owner = owner(&mine).await;
    let id = task(&mine, owner, 1).await;
    let presence = carrel_store::Presence { name: "mine", role: carrel_store::Role::All, capacity: 1, version: "1" };
    mine.announce_worker(presence).await.expect("announced");
    let job = mine.claim_job(Queue::Attempts, &lease("first")).await.expect("asked").expect("a job");
    assert_eq!(job.home, None, "nobody has begun");
    let attempt = mine.task(owner.organization, id).await.expect("the task").turns[0].attempts[0].clone();
    mine.advance_attempt(&attempt, AttemptState::Preparing, Vec::new()).await.expect("begun");
    mine.hand_back_job(job.id, &lease("first")).await.expect("handed back");

    let early = other.claim_job(Queue::Attempts, &lease("second")).await.expect("asked");
    fixture.postgres.query("update worker set seen_at = seen_at - 61000").expect("time passes");
    let gone_after = Duration::from_secs(60);
    let late = other.claim_job_of_anybody(Queue::Attempts, &lease("second"), gone_after).await.expect("asked");

    assert_eq!(early, None);
    let late = late.expect("its worker is gone");
    assert_eq!((late.id, late.home), (job.id, Some(mine.worker())));
    assert_eq!(other.find_worker(mine.worker()).await.expect("asked").expect("it is known").name, "mine");
}

#[tokio::test]
async fn a_worker_that_starts_again_gives_back_what_it_had_and_nothing_else() {
    let fixture = Fixture::new();
    let (mine, other) = (fixture.process().await, fixture.process().await);
    let owner = owner(&mine).await;
    task(&mine, owner, 2).await;
    mine.claim_job(Queue::Attempts, &lease("mine")).await.expect("asked").expect("a job");
    other.claim_job(Queue::Attempts, &lease("theirs")).await.expect("asked").expect("a job");

    let released = mine.release_own_jobs().await.expect("released");

    assert_eq!(released, 1);
    let again = mine.claim_job(Queue::Attempts, &lease("again")).await.expect("asked");
    assert!(again.is_some());
    assert_eq!(mine.claim_job(Queue::Attempts, &lease("more")).await.expect("asked"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_schema_that_a_backup_holds_up_holds_up_nobody_else() {
    let fixture = Fixture::new();
    let store = fixture.process().await;
    owner(&store).await;
    // As it was before the last change, which alters a table.
    for sql in [
        "drop table job_passed_on",
        "alter table repository drop column worker_id",
        "delete from seaql_migrations where version = '0014_places'",
    ] {
        fixture.postgres.query(sql).expect("the owner may");
    }
    let reader = sqlx::PgPool::connect(&fixture.postgres.url()).await.expect("connected");
    let mut backup = reader.begin().await.expect("begun");
    sqlx::query("select count(*) from repository").fetch_one(&mut *backup).await.expect("read");
    let place = carrel_store::StatePlace {
        folder: fixture.folder.path().join("data"),
        postgres: Some(Secret::new(fixture.postgres.url())),
        artifacts: carrel_store::ArtifactPlace::DataFolder,
    };
    let migrating = tokio::spawn(async move { carrel_store::migrate(&place).await });
    let waiting = "select count(*) from pg_locks where not granted and relation = 'repository'::regclass";
    while fixture.postgres.query(waiting).as_deref() != Some("1") {
        tokio::task::yield_now().await;
    }

    let read = fixture.postgres.query("set lock_timeout = '10s'; select count(*) from repository");

    assert_eq!(read.as_deref(), Some("0"), "it waits behind the change, and not for the backup");
    assert!(!migrating.is_finished());
    backup.rollback().await.expect("the backup ends");
    let made =
        tokio::time::timeout(PATIENCE, migrating).await.expect("in time").expect("it ended").expect("brought forward");
    assert_eq!(made, ["0014_places"]);
}

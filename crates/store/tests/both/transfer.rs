//! A whole installation as one file: moved from one kind of database to the other and back, and refused when it is not what
//! was written. In a module for one kind, `there` is the other one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::{
    Attempt, AttemptState, Clock, Environment, EnvironmentSpec, EventBody, Mode, NewEvent, NewTask, NewTurn, Prompt,
    Redactor, Revision, Secret, SecretKind, WorkerId,
};
use carrel_store::{
    EnvironmentContent, Lease, Moved, MovedFile, NewDiff, NewEnvironment, NewPublication, NewSecret, Presence,
    Principal, Queue, Role, SealingKeys, Store, StoreError, TransferError, export, import, migrate, schema,
};
use jiff::Timestamp;

use crate::archive::{Archive, Part};
use crate::place::Place;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The kind of database that this module is not for.
fn there() -> Place {
    Place::of(if module_path!().ends_with("_on_postgres") { "_on_sqlite" } else { "_on_postgres" })
}

fn here() -> Place {
    Place::of(module_path!())
}

async fn open(place: &Place, worker: u128) -> Store {
    let worker = WorkerId::from_uuid(uuid::Uuid::from_u128(worker));
    let (store, closed) = place.open_as(worker, Arc::new(Now), Redactor::default(), KEY).await;
    assert_eq!(closed, [], "every secret opens with the same key");
    store
}

/// An installation with something in each of its tables.
struct Full {
    place: Place,
    store: Store,
    owner: Principal,
    environment: Environment,
    attempt: Attempt,
}

impl Full {
    async fn new() -> Self {
        let place = here();
        let store = open(&place, 1).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        let later = Timestamp::from_second(1_900_000_000).expect("a time");
        store.keep_token(owner, "token-hash", "laptop", None).await.expect("a token");
        store.keep_owner_link(owner, "Link-b", later).await.expect("a link");
        store.keep_owner_link(owner, "link-a", later).await.expect("a link");
        store.redeem_owner_link("link-a", "session-hash", later).await.expect("redeemed");
        let environment = environment(&store, owner).await;
        let attempt = task(&store, owner).await;
        let full = Self { place, store, owner, environment, attempt };
        full.work().await;
        // What takes much else to come to be.
        for sql in [
            "insert into recipe (attempt_id, organization_id, body) select id, organization_id, '{}' from attempt",
            "insert into spending (organization_id, owner_id, month, tokens, cost_usd_micros)
             select id, id, 202611, 9007199254740993, -1 from organization",
            "insert into budget (organization_id, owner_id, tokens, changed_by, changed_at)
             select organization_id, account_id, 7, account_id, 8 from member",
            "insert into snapshot (id, organization_id, environment_id, repository_id, snapshot_key, parts, layer,
                 package_hosts, state, created_at, expires_at, last_used_at, worker_id)
             select e.id, e.organization_id, e.id, r.id, 'k', '{}', 'l', '[]', 'kept', 1, 2, 3, null
             from environment e, repository r",
            "insert into job_passed_on (job_id, worker_id) select j.id, w.id from job j, worker w",
        ] {
            full.place.sql(sql);
        }
        full
    }

    async fn work(&self) {
        let Self { store, owner, attempt, .. } = self;
        let presence = Presence { name: "old machine", role: Role::All, capacity: 4, version: "1" };
        store.announce_worker(presence).await.expect("told");
        let lease = Lease { owner: "old".to_owned(), duration: Duration::from_hours(1) };
        store.claim_job(Queue::Attempts, &lease).await.expect("asked").expect("a job");
        let mut running = attempt.clone();
        for next in [AttemptState::Preparing, AttemptState::SettingUp, AttemptState::Running] {
            running = store.advance_attempt(&running, next, Vec::new()).await.expect("a step");
        }
        let text = "said: \u{1f980} \"quoted\"\n\\ \u{2028}\u{1}".to_owned();
        let said = NewEvent { attempt: Some(attempt.id), body: EventBody::AgentMessage { text } };
        store
            .append_with_files(&running, vec![said], vec![("a.txt".to_owned(), b"result".to_vec())])
            .await
            .expect("kept");
        store.send_message(owner.organization, attempt.id, "faster", owner.user).await.expect("it is taken");
        let content = Ok(("one.patch".to_owned(), b"diff".to_vec()));
        let diff = NewDiff { position: 0, source: "the prompt".to_owned(), content };
        store.keep_prompt_diff(attempt, diff).await.expect("kept");
        let new = NewPublication {
            organization: owner.organization,
            task: attempt.task,
            attempt: attempt.id,
            branch: "fix".parse().expect("a branch"),
            message: "Fix it".to_owned(),
            created_by: owner.user,
        };
        store.request_publication(&new).await.expect("asked");
    }

    async fn archive(&self) -> Vec<u8> {
        write(&self.place, &[]).await.0
    }
}

async fn environment(store: &Store, owner: Principal) -> Environment {
    let name = "TOKEN".parse().expect("a name");
    let value = Secret::new("hunter2hunter2");
    let values = vec![NewSecret { name, kind: SecretKind::Setup, hosts: Vec::new(), value }];
    let content = EnvironmentContent { spec: EnvironmentSpec::default(), values };
    let (organization, created_by) = (owner.organization, owner.user);
    let name = "api".parse().expect("a name");
    store.create_environment(NewEnvironment { organization, created_by, name, content }).await.expect("made")
}

async fn task(store: &Store, owner: Principal) -> Attempt {
    let given = store.add_attachment(owner.organization, owner.user, ("in.txt", None), b"given".to_vec()).await;
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
            attempts: carrel_domain::task::Attempts::ONE,
            attachments: vec![given.expect("kept").id],
            from_attempt: None,
            model: None,
            effort: None,
            agent: None,
            limits: carrel_domain::AttemptLimits::NONE,
        },
    };
    let task = store.create_task(&new, "gpt-test").await.expect("a task");
    store.task(owner.organization, task).await.expect("the task").turns[0].attempts[0].clone()
}

async fn write(place: &Place, files: &[MovedFile]) -> (Vec<u8>, Moved) {
    let (moved, bytes) = export(&place.state(), files, Vec::new()).await.expect("it is written");
    (bytes, moved)
}

async fn read(place: &Place, bytes: &[u8]) -> Result<Moved, TransferError> {
    import(&place.state(), bytes, |_| Ok(())).await
}

fn artifacts(place: &Place) -> usize {
    fn files(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
    }
    files(&place.data().join("artifacts"))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_to_the_other_kind_of_database_and_back_bit_by_bit() {
    let full = Full::new().await;
    let (first, moved) = write(&full.place, &[]).await;
    let (other, back) = (there(), here());

    let came = read(&other, &first).await.expect("it is taken");
    let (second, _) = write(&other, &[]).await;
    read(&back, &second).await.expect("it is taken");
    let (third, _) = write(&back, &[]).await;

    let empty: Vec<_> = moved.rows.iter().filter(|(_, rows)| **rows == 0).map(|(table, _)| table).collect();
    assert_eq!(empty, Vec::<&String>::new(), "this test is to move something of every table");
    assert_eq!((&came.rows, came.artifacts, came.missing.len()), (&moved.rows, 3, 0));
    assert_eq!(came.sealed_under, moved.sealed_under);
    assert!(first == second && second == third, "{:?}", Archive::parse(&first).differences(&Archive::parse(&second)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_goes_on_where_it_came_to() {
    let full = Full::new().await;
    let Full { owner, environment, attempt, .. } = &full;
    let organization = owner.organization;
    let other = there();

    read(&other, &full.archive().await).await.expect("it is taken");

    let store = open(&other, 2).await;
    let events = |store: Store| async move { store.events(organization, attempt.task, 0, 1000).await.expect("a log") };
    assert_eq!(events(store.clone()).await, events(full.store.clone()).await);
    assert_eq!(store.token_holder("token-hash").await.expect("asked"), Some(*owner));
    let values = store.secret_values(organization, environment.id, &environment.spec.secrets).await.expect("they open");
    assert_eq!(values[0].1.expose(), "hunter2hunter2");
    let file = store.attachment(organization, attempt.id, "a.txt").await.expect("a row");
    assert_eq!(store.artifact_bytes(&file).await.expect("its bytes"), b"result");
    // Nobody has the job here, and whoever takes it learns whose the sandbox is.
    let lease = Lease { owner: "new".to_owned(), duration: Duration::from_secs(60) };
    let job = store.claim_job(Queue::Attempts, &lease).await.expect("asked").expect("a job");
    assert_eq!(job.home, Some(full.store.worker()));
    let next = store.append(organization, attempt.task, vec![said("and on")]).await;
    next.expect("the log goes on");
    assert_eq!(events(store).await.len(), events(full.store.clone()).await.len() + 1);
}

fn said(text: &str) -> NewEvent {
    NewEvent { attempt: None, body: EventBody::AgentMessage { text: text.to_owned() } }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_of_one_moment_while_others_write() {
    let full = Full::new().await;
    let (organization, task) = (full.owner.organization, full.attempt.task);
    let writer = full.store.clone();
    let (told, mut begun) = tokio::sync::watch::channel(0);
    let writing = tokio::spawn(async move {
        for number in 0.. {
            let stored = writer.append(organization, task, vec![said(&"x".repeat(2000)); 20]).await;
            if stored.is_err() || told.send(number).is_err() {
                return;
            }
        }
    });

    let mut archives = Vec::new();
    for _ in 0..3 {
        begun.changed().await.expect("it writes");
        archives.push(full.archive().await);
    }
    drop(begun);
    writing.await.expect("it ends");

    for archive in archives {
        let other = there();
        read(&other, &archive).await.expect("it is whole");
        let store = open(&other, 2).await;
        let thread = store.task(organization, task).await.expect("the task");
        let log = store.events(organization, task, 0, 1_000_000).await.expect("a log");
        let numbers: Vec<i64> = log.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, (1..=thread.task.last_seq).collect::<Vec<i64>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_not_what_was_written_is_refused_at_its_place_and_leaves_nothing() {
    let full = Full::new().await;
    let bytes = full.archive().await;
    let (whole, place) = (Archive::parse(&bytes), here());
    let at = |stem: &str| whole.parts.iter().position(|part| part.stem.starts_with(stem)).expect("a part");
    let changed = |change: &dyn Fn(&mut Vec<Part>)| {
        let mut archive = whole.clone();
        change(&mut archive.parts);
        archive.bytes()
    };
    let in_part = |stem: &str, from: &str, to: &str| {
        let position = at(stem);
        changed(&|parts| parts[position].replace(from, to))
    };
    let turn = at("tables/turn-");
    let again = Part::new("tables/turn-00000002-", ".jsonl", &whole.parts[turn].content);
    let unknown = Part::new("tables/pg_user-00000001-", ".jsonl", b"[1]\n");
    let cases = [
        ("byte 0", b"not an archive, but long enough for a block".repeat(20)),
        ("byte 0", changed(&|parts| parts.rotate_left(1))),
        ("carrel/header", in_part("carrel/header-", "\"account\"", "\"pg_user\"")),
        ("carrel/header", in_part("carrel/header-", "\"text\"", "\"bigint\"")),
        // What refers to rows that are not there yet, or not at all, is where it is noticed.
        ("tables/attempt-", changed(&|parts| drop(parts.remove(turn)))),
        ("tables/attempt-", changed(&|parts| parts.swap(turn, turn + 1))),
        ("tables/turn-", changed(&|parts| parts.insert(turn + 1, parts[turn].clone()))),
        ("tables/turn-", changed(&|parts| parts.insert(turn + 1, again.clone()))),
        ("tables/pg_user-", changed(&|parts| parts.insert(turn, unknown.clone()))),
        ("tables/task-", in_part("tables/task-", "[\"", "[\"x")),
        ("tables/task-", in_part("tables/task-", "]\n", ",null]\n")),
        ("tables/task-", in_part("tables/task-", "]\n", "]")),
        ("carrel/end-", changed(&|parts| drop(parts.remove(at("artifacts/"))))),
        ("carrel/end-", in_part("carrel/end-", "\"event\":", "\"event\":1")),
        ("carrel/end-", in_part("carrel/end-", "{\"rows\"", "{\"x\":1,\"rows\"")),
        ("the archive", changed(&|parts| drop(parts.pop()))),
        ("../", changed(&|parts| parts.insert(1, Part::new("../../etc/passwd-", "", b"x")))),
        ("files/../", changed(&|parts| parts.insert(1, Part::new("files/../secrets.key-", "", b"x")))),
        ("files/", changed(&|parts| parts.insert(turn, Part::new("files/secrets.key-", "", b"x")))),
    ];

    for (number, (said, archive)) in cases.iter().enumerate() {
        let refused = read(&place, archive).await.expect_err("it is not what was written");
        let told = refused.to_string();
        let is_told = matches!(refused, TransferError::Archive { .. }) && told.contains(said);
        assert!(is_told && told.ends_with("nothing was changed"), "{number}, {said}: {told}");
        assert_eq!(artifacts(&place), 0, "{number}, {said}");
    }
    for end in (0..bytes.len()).step_by(5000) {
        read(&place, &bytes[..end]).await.expect_err("it is cut");
    }
    read(&place, &bytes).await.expect("nothing is in the way of the whole one");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_along_and_are_kept_last_or_stop_it_all() {
    let full = Full::new().await;
    let file = MovedFile { name: "secrets.key".to_owned(), content: Secret::new(KEY) };
    let (bytes, moved) = write(&full.place, &[file]).await;
    let place = there();

    let refused = import(&place.state(), &bytes[..], |_| Err("there is another one".to_owned())).await;
    let mut came = Vec::new();
    let state = place.state();
    let taken = import(&state, &bytes[..], |files| {
        came.extend(files.iter().map(|file| (file.name.clone(), file.content.expose().to_owned())));
        Ok(())
    });
    let taken = taken.await.expect("it is taken");

    assert_eq!(refused.expect_err("refused").to_string(), "there is another one");
    assert_eq!(came, [("secrets.key".to_owned(), KEY.to_owned())]);
    assert_eq!(taken, moved);
    let keys = SealingKeys::parse(&Secret::new(KEY)).expect("a key");
    assert_eq!(keys.ids().collect::<Vec<_>>(), taken.sealed_under.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_database_is_filled_and_only_one_that_is_there_is_written_down() {
    let full = Full::new().await;
    let (bytes, empty) = (full.archive().await, here());
    let nothing = export(&empty.state(), &[], Vec::new()).await.expect_err("there is nothing");
    migrate(&empty.state()).await.expect("it is made");

    let again = read(&full.place, &bytes).await.expect_err("it is full");
    read(&empty, &bytes).await.expect("a schema alone is empty");
    let last = schema(&empty.state()).await.expect("asked").expect("there").made.pop().expect("a change");
    empty.sql(&format!("delete from seaql_migrations where version = '{last}'"));
    let behind = export(&empty.state(), &[], Vec::new()).await.expect_err("it is behind");

    assert!(matches!(behind, TransferError::Behind), "{behind}");
    assert!(matches!(nothing, TransferError::Nothing { .. }), "{nothing}");
    assert!(matches!(&again, TransferError::NotEmpty { table } if table == "organization"), "{again}");
    assert_eq!(full.archive().await, bytes, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_an_older_version_is_brought_forward() {
    let full = Full::new().await;
    let mut archive = Archive::parse(&full.archive().await);
    // As it was before attachments had `taken_at`, which the change that brought it fills.
    archive.take_back(9);
    let archive = archive.bytes();
    let (fresh, ahead) = (there(), there());
    migrate(&ahead.state()).await.expect("it is made");

    read(&fresh, &archive).await.expect("it is taken");
    let refused = read(&ahead, &archive).await.expect_err("it is further already");

    let state = schema(&fresh.state()).await.expect("asked").expect("there");
    assert_eq!(state.missing, Vec::<String>::new());
    let rows = Archive::parse(&write(&fresh, &[]).await.0).rows("attachment");
    assert!(!rows.is_empty() && rows.iter().all(|row| row[8] == row[7] && row[8].is_i64()), "{rows:?}");
    assert!(matches!(refused, TransferError::TooFar), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_refused_by_all_and_left_as_it_is() {
    let full = Full::new().await;
    let bytes = full.archive().await;
    let place = here();
    drop(open(&place, 2).await);
    let before = schema(&place.state()).await.expect("asked").expect("there");

    place.sql("insert into seaql_migrations (version, applied_at) values ('9999_future', 0)");

    let opened = place.try_open(KEY).await.expect_err("it is newer");
    let asked = schema(&place.state()).await.expect_err("it is newer");
    let brought = migrate(&place.state()).await.expect_err("it is newer");
    for error in [&opened, &asked, &brought] {
        assert!(matches!(error, StoreError::Newer { change } if change == "9999_future"), "{error}");
    }
    assert!(opened.to_string().contains("start that version again, or a newer one"), "{opened}");
    let written = export(&place.state(), &[], Vec::new()).await.expect_err("it is newer");
    let filled = read(&place, &bytes).await.expect_err("it is newer");
    assert!(written.to_string().contains("9999_future") && filled.to_string().contains("9999_future"));
    place.sql("delete from seaql_migrations where version = '9999_future'");
    assert_eq!(schema(&place.state()).await.expect("asked"), Some(before));
    let newer = Archive::parse(&bytes).with("carrel/header-", |part| part.replace("\"0001_first\"", "\"9999_future\""));
    let newer = read(&there(), &newer).await.expect_err("it is newer");
    assert!(matches!(newer, TransferError::NewerArchive { .. }), "{newer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_was_lost_before_is_told_and_stops_nothing() {
    let full = Full::new().await;
    let file = full.store.attachment(full.owner.organization, full.attempt.id, "a.txt").await.expect("a row");
    let path = full.store.artifact_path(&file).await.expect("its bytes");
    std::fs::remove_file(path).expect("our own file");
    let other = there();

    let (bytes, moved) = write(&full.place, &[]).await;
    let came = read(&other, &bytes).await.expect("it is taken");

    assert_eq!((moved.artifacts, &moved.missing), (2, &vec![file.sha256.clone()]));
    assert_eq!(came, moved);
    let lost = open(&other, 2).await.artifact_bytes(&file).await;
    assert!(matches!(lost, Err(StoreError::ArtifactLost { .. })), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_told_made_and_brought_forward_once() {
    let place = here();
    let before = schema(&place.state()).await.expect("asked");

    let made = migrate(&place.state()).await.expect("it is made");
    let again = migrate(&place.state()).await.expect("nothing is to be done");

    assert!(before.is_none_or(|schema| schema.made.is_empty() && schema.missing == made));
    assert!(made.len() > 9 && made[0] == "0001_first" && again.is_empty(), "{made:?}");
    let after = schema(&place.state()).await.expect("asked");
    assert_eq!(after.map(|schema| (schema.made, schema.missing)), Some((made, Vec::new())));
    assert_eq!(BTreeMap::from([(0, open(&place, 1).await.is_shared())]).len(), 1, "a store opens on it");
}

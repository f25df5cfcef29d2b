//! Environments, their sealed secrets and their snapshots, on a real database in a folder of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use carrel_domain::task::Attempts;
use carrel_domain::{
    AttemptState, CancelledBy, Clock, Environment, EnvironmentName, EnvironmentSpec, EventBody, Mode, NewEvent,
    NewTask, NewTurn, Prompt, Redactor, RepositoryId, Revision, Secret, SecretKind, SnapshotId, TaskId,
};
use carrel_store::{
    ClosedSecret, EnvironmentContent, NewEnvironment, NewSecret, NewSnapshot, Principal, SealingKeys, Store, StoreError,
};
use jiff::Timestamp;

use crate::place::Place;

const CANARY: &str = "hunter2-canary-77";

#[derive(Clone, Default)]
struct StandingClock(Arc<AtomicI64>);

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

struct Fixture {
    place: Place,
    key: Mutex<String>,
    clock: StandingClock,
    store: Store,
    redactor: Redactor,
    owner: Principal,
}

impl Fixture {
    async fn new() -> Self {
        let (place, clock, redactor) = (Place::of(module_path!()), StandingClock::default(), Redactor::default());
        let key = fresh_key();
        let (store, _) = place.open(Arc::new(clock.clone()), redactor.clone(), &key).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { place, key: Mutex::new(key), clock, store, redactor, owner }
    }

    /// The same data, opened with these keys and nothing remembered.
    async fn again(&mut self, keys: &str) -> Vec<ClosedSecret> {
        self.redactor = Redactor::default();
        let clock = Arc::new(self.clock.clone());
        let (store, closed) = self.place.open(clock, self.redactor.clone(), keys).await;
        self.store = store;
        closed
    }

    fn key(&self) -> String {
        self.key.lock().expect("nobody panicked").clone()
    }

    async fn create(&self, text: &str, values: Vec<NewSecret>) -> Environment {
        let new = NewEnvironment {
            organization: self.owner.organization,
            created_by: self.owner.user,
            name: name(text),
            content: EnvironmentContent { spec: EnvironmentSpec::default(), values },
        };
        self.store.create_environment(new).await.expect("an environment")
    }

    async fn edit(&self, current: &Environment, spec: EnvironmentSpec, values: Vec<NewSecret>) -> Environment {
        let content = EnvironmentContent { spec, values };
        self.store.edit_environment(current, content, self.owner.user).await.expect("the next version")
    }

    async fn task(&self, environment: Option<&str>) -> Result<TaskId, StoreError> {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: environment.map(name),
            local_changes: None,
            priority: carrel_domain::Priority::Normal,
            turn: turn(),
        };
        self.store.create_task(&new, "gpt-test").await
    }

    async fn stop(&self, task: TaskId) {
        let thread = self.store.task(self.owner.organization, task).await.expect("the task");
        for attempt in thread.turns.iter().flat_map(|turn| &turn.attempts) {
            let by = CancelledBy::User(self.owner.user);
            self.store.request_cancel(self.owner.organization, attempt.id, by).await.expect("stopped");
        }
    }

    async fn values(&self, environment: &Environment) -> Result<Vec<String>, StoreError> {
        let names = &environment.spec.secrets;
        let values = self.store.secret_values(self.owner.organization, environment.id, names).await?;
        Ok(values.into_iter().map(|(_, value)| value.expose().to_owned()).collect())
    }
}

fn fresh_key() -> String {
    SealingKeys::fresh().expect("chance").expose().to_owned()
}

fn name(text: &str) -> EnvironmentName {
    text.parse().expect("a name")
}

fn turn() -> NewTurn {
    NewTurn {
        prompt: Prompt::parse("Fix it").expect("a prompt"),
        mode: Mode::Code,
        attempts: Attempts::ONE,
        attachments: Vec::new(),
        from_attempt: None,
        model: None,
        effort: None,
        agent: None,
        limits: carrel_domain::AttemptLimits::NONE,
    }
}

fn secret(text: &str, value: &str) -> NewSecret {
    let name = text.parse().expect("a name");
    NewSecret { name, kind: SecretKind::Setup, hosts: Vec::new(), value: Secret::new(value) }
}

#[tokio::test]
async fn the_default_environment_of_every_installation_is_the_host_without_setup() {
    let fixture = Fixture::new().await;

    let all = fixture.store.environments(fixture.owner.organization).await.expect("the environments");

    assert_eq!(all.len(), 1);
    assert_eq!((all[0].name.as_str(), all[0].version), ("default", 1));
    assert_eq!(all[0].spec, EnvironmentSpec::of_default());
}

#[tokio::test]
async fn a_name_is_taken_until_its_environment_is_deleted() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let first = fixture.create("api", vec![secret("TOKEN", CANARY)]).await;
    let again = NewEnvironment {
        organization,
        created_by: fixture.owner.user,
        name: name("api"),
        content: EnvironmentContent { spec: EnvironmentSpec::default(), values: Vec::new() },
    };
    let taken = store.create_environment(again.clone()).await;
    assert!(matches!(taken, Err(StoreError::EnvironmentExists { .. })), "{taken:?}");

    store.delete_environment(organization, &name("api")).await.expect("deleted");
    let second = store.create_environment(again).await.expect("the name is free");

    assert_ne!(second.id, first.id);
    let gone = fixture.values(&first).await;
    assert!(matches!(gone, Err(StoreError::SecretGone { .. })), "{gone:?}");
    let pinned = store.environment_version(organization, first.id, 1).await.expect("what attempts ran with");
    assert_eq!(pinned, first, "it is shown as it was");
}

#[tokio::test]
async fn the_default_environment_and_one_in_use_cannot_be_deleted() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    fixture.create("api", Vec::new()).await;
    let task = fixture.task(Some("api")).await.expect("a task");

    let default = store.delete_environment(organization, &name("default")).await;
    let used = store.delete_environment(organization, &name("api")).await;

    assert!(matches!(default, Err(StoreError::DefaultEnvironment)), "{default:?}");
    assert!(matches!(used, Err(StoreError::EnvironmentInUse { attempts: 1, .. })), "{used:?}");
    fixture.stop(task).await;
    store.delete_environment(organization, &name("api")).await.expect("deleted");
    let thread = store.task(organization, task).await.expect("the task is shown still");
    assert_eq!(thread.environments[0].name.as_str(), "api");
    let next = store.add_turn(&thread.task, 1, &turn(), fixture.owner.user, "gpt-test").await;
    assert!(matches!(next, Err(StoreError::EnvironmentDeleted { .. })), "{next:?}");
}

#[tokio::test]
async fn an_attempt_keeps_the_version_it_was_pinned_to_and_a_follow_up_takes_the_current_one() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let first = fixture.create("api", vec![secret("TOKEN", "first-value")]).await;
    let task = fixture.task(Some("api")).await.expect("a task");

    let spec = EnvironmentSpec { snapshot_life_s: 60, ..first.spec.clone() };
    let second = fixture.edit(&first, spec, vec![secret("TOKEN", "second-value")]).await;

    let thread = store.task(organization, task).await.expect("the task");
    assert_eq!(thread.environments, std::slice::from_ref(&first));
    assert_eq!(fixture.values(&first).await.expect("an attempt under way means it"), ["first-value"]);
    assert_eq!(fixture.values(&second).await.expect("the current one"), ["second-value"]);
    fixture.stop(task).await;
    assert!(fixture.values(&first).await.is_err(), "with its last attempt the old value goes");
    assert_eq!(fixture.values(&second).await.expect("the current one"), ["second-value"]);
    store.add_turn(&thread.task, 1, &turn(), fixture.owner.user, "gpt-test").await.expect("a turn");
    let thread = store.task(organization, task).await.expect("the task");
    assert_eq!(thread.turns[1].attempts[0].environment_version, 2);
}

#[tokio::test]
async fn an_edit_keeps_values_it_does_not_name_and_never_gives_two_values_one_version() {
    let fixture = Fixture::new().await;
    let first = fixture.create("api", vec![secret("A", "value-a1"), secret("B", "value-b1")]).await;

    let second = fixture.edit(&first, first.spec.clone(), vec![secret("B", "value-b2")]).await;
    let mut without = second.spec.clone();
    without.secrets.retain(|secret| secret.name.as_str() != "B");
    let third = fixture.edit(&second, without.clone(), Vec::new()).await;
    let fourth = fixture.edit(&third, without, vec![secret("B", "value-b4")]).await;

    assert_eq!(fixture.values(&fourth).await.expect("both"), ["value-a1", "value-b4"]);
    let versions: Vec<i64> = fourth.spec.secrets.iter().map(|secret| secret.version).collect();
    assert_eq!(versions, [1, 4]);
    let kept = fixture.store.kept_secrets(fixture.owner.organization, first.id).await.expect("the rows");
    assert_eq!(kept.len(), 2, "older values are gone: {kept:?}");
    let same = fixture.edit(&fourth, fourth.spec.clone(), Vec::new()).await;
    assert_eq!(same, fourth, "what changes nothing makes no version");
}

#[tokio::test]
async fn an_edit_of_what_somebody_else_has_changed_is_refused() {
    let fixture = Fixture::new().await;
    let first = fixture.create("api", Vec::new()).await;
    let change = || EnvironmentContent {
        spec: EnvironmentSpec { snapshot_life_s: 60, ..EnvironmentSpec::default() },
        values: vec![secret("TOKEN", CANARY)],
    };
    fixture.store.edit_environment(&first, change(), fixture.owner.user).await.expect("the first edit");

    let second = fixture.store.edit_environment(&first, change(), fixture.owner.user).await;

    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
}

#[tokio::test]
async fn a_task_runs_only_in_an_environment_that_is_there_and_covers_its_repository() {
    let fixture = Fixture::new().await;
    let first = fixture.create("web", Vec::new()).await;
    let spec = EnvironmentSpec { repositories: vec!["/srv/code/web".parse().expect("a path")], ..first.spec.clone() };
    fixture.edit(&first, spec, Vec::new()).await;

    let unknown = fixture.task(Some("wbe")).await.expect_err("no such environment").to_string();
    let foreign = fixture.task(Some("web")).await.expect_err("not its repository").to_string();

    assert_eq!(unknown, "no environment `wbe`; create one with `carrel environment create wbe`");
    assert!(foreign.contains("`web` does not cover `/srv/code/api`"), "{foreign}");
    fixture.task(None).await.expect("the default environment covers everything");
}

#[tokio::test]
async fn no_value_is_readable_in_the_files_of_the_store_or_goes_into_an_event() {
    let fixture = Fixture::new().await;
    fixture.create("api", vec![secret("TOKEN", CANARY)]).await;
    let task = fixture.task(Some("api")).await.expect("a task");

    let told = NewEvent { attempt: None, body: EventBody::AgentMessage { text: format!("It is {CANARY}.") } };
    fixture.store.append(fixture.owner.organization, task, vec![told]).await.expect("told");

    let events = fixture.store.events(fixture.owner.organization, task, 0, 100).await.expect("events");
    assert!(format!("{events:?}").contains("It is [redacted]."), "{events:?}");
    let mut read = 0;
    for (file, bytes) in fixture.place.files() {
        assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "{}", file.display());
        read += bytes.len();
    }
    assert!(read > 10_000, "there is something to look at");
}

#[tokio::test]
async fn a_restart_with_a_new_first_key_seals_everything_anew_and_the_old_key_can_go() {
    let mut fixture = Fixture::new().await;
    let environment = fixture.create("api", vec![secret("TOKEN", CANARY)]).await;
    let (old, new) = (fixture.key(), fresh_key());

    let both = fixture.again(&format!("{new}\n{old}\n")).await;
    let alone = fixture.again(&new).await;

    assert_eq!((both, alone), (Vec::new(), Vec::new()));
    assert_eq!(fixture.values(&environment).await.expect("the new key opens it"), [CANARY]);
    assert!(fixture.redactor.finds_in(CANARY), "after a restart it is known what must not be told");
    let closed = fixture.again(&old).await;
    assert_eq!(closed.len(), 1, "{closed:?}");
}

#[tokio::test]
async fn without_the_key_everything_works_but_the_value_and_the_way_out_is_said() {
    let mut fixture = Fixture::new().await;
    let sealed = fixture.create("api", vec![secret("TOKEN", CANARY), secret("OTHER", "other-value")]).await;
    let id = SealingKeys::parse(&Secret::new(fixture.key())).expect("keys").sealing().to_string();

    let said = fixture.again(&fresh_key()).await;

    let is_said = |closed: &ClosedSecret| closed.environment == "api" && closed.problem.contains(&id);
    assert!(said.len() == 2 && said.iter().all(|closed| is_said(closed) && closed.missing_key.is_some()), "{said:?}");
    let error = fixture.values(&sealed).await.expect_err("it does not open").to_string();
    assert!(error.contains("`OTHER`") && error.contains(&id) && error.contains("environment edit"), "{error}");
    let given = fixture.edit(&sealed, sealed.spec.clone(), vec![secret("TOKEN", "n"), secret("OTHER", "o")]).await;
    assert_eq!(fixture.values(&given).await.expect("new values open"), ["o", "n"]);
}

#[tokio::test]
async fn a_row_moved_to_another_environment_does_not_open_there() {
    let mut fixture = Fixture::new().await;
    let mine = fixture.create("mine", vec![secret("TOKEN", CANARY)]).await;
    let theirs = fixture.create("theirs", vec![secret("TOKEN", "their-value")]).await;
    let sql = format!(
        "update secret set sealed = (select sealed from secret where environment_id = x'{}') where environment_id = x'{}'",
        mine.id.as_uuid().simple(),
        theirs.id.as_uuid().simple()
    );
    fixture.place.sql(&sql);

    let stolen = fixture.values(&theirs).await;

    assert!(matches!(stolen, Err(StoreError::SecretClosed { .. })), "{stolen:?}");
    let said = fixture.again(&fixture.key()).await;
    assert!(said[0].problem.contains("was changed or moved") && said[0].missing_key.is_none(), "{said:?}");
}

#[tokio::test]
async fn nothing_of_another_organization_can_be_seen_or_changed() {
    let fixture = Fixture::new().await;
    let mine = fixture.create("api", vec![secret("TOKEN", CANARY)]).await;
    let stranger = carrel_domain::OrganizationId::from_uuid(uuid::Uuid::now_v7());
    let store = &fixture.store;

    assert!(store.environments(stranger).await.expect("an answer").is_empty());
    assert!(store.environment(stranger, &mine.name).await.is_err());
    assert!(store.environment_version(stranger, mine.id, 1).await.is_err());
    assert!(store.secret_values(stranger, mine.id, &mine.spec.secrets).await.is_err());
    assert!(store.kept_secrets(stranger, mine.id).await.expect("an answer").is_empty());
    assert!(store.delete_environment(stranger, &mine.name).await.is_err());
    let foreign = Environment { organization: stranger, ..mine.clone() };
    let content = EnvironmentContent { spec: EnvironmentSpec::of_default(), values: Vec::new() };
    assert!(store.edit_environment(&foreign, content, fixture.owner.user).await.is_err());
    assert_eq!(store.reset_snapshots(stranger, mine.id).await.expect("an answer"), 0);
    assert_eq!(fixture.values(&mine).await.expect("it is as it was"), [CANARY]);
}

impl Fixture {
    /// The repository of a task, for snapshots belong to one.
    async fn repository(&self) -> RepositoryId {
        let task = self.task(None).await.expect("a task");
        self.store.task(self.owner.organization, task).await.expect("the task").task.repository_id
    }

    fn snapshot(&self, environment: &Environment, repository: RepositoryId, key: &str, life_s: i64) -> NewSnapshot {
        let id = SnapshotId::from_uuid(uuid::Uuid::now_v7());
        NewSnapshot {
            id,
            organization: self.owner.organization,
            environment: environment.id,
            repository,
            key: key.to_owned(),
            parts: BTreeMap::from([("image".to_owned(), "abc".to_owned())]),
            layer: format!("snapshot-{id}"),
            image_digest: None,
            package_hosts: vec!["registry.example.com".parse().expect("a rule")],
            size_bytes: Some(4096),
            made_at: None,
            expires_at: self.clock.now() + jiff::SignedDuration::from_secs(life_s),
            pack_key: None,
            packed: None,
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_found_by_its_key_until_it_expires_and_then_tells_why_it_is_not() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let (environment, repository) = (fixture.create("api", Vec::new()).await, fixture.repository().await);
    let new = fixture.snapshot(&environment, repository, "key-1", 100);
    let kept = store.insert_snapshot(new).await.expect("kept");
    let find = async |key: &str| store.find_snapshot(organization, environment.id, repository, key).await;

    assert_eq!(find("key-1").await.expect("asked"), Some(kept.clone()));
    assert_eq!(find("key-2").await.expect("asked"), None);

    fixture.clock.0.store(40, Ordering::SeqCst);
    store.touch_snapshot(organization, kept.id).await.expect("touched");
    let used = find("key-1").await.expect("asked").expect("found");
    assert_eq!(used.last_used_at, fixture.clock.now());

    fixture.clock.0.store(100, Ordering::SeqCst);
    assert_eq!(find("key-1").await.expect("asked"), None);
    let latest = store.latest_snapshot(organization, environment.id, repository).await.expect("asked");
    assert_eq!(latest.map(|latest| (latest.id, latest.was_reset)), Some((kept.id, false)));
    let with = async |key: &str| store.latest_snapshot_with(organization, environment.id, repository, key).await;
    assert_eq!(with("key-1").await.expect("asked").map(|same| same.id), Some(kept.id));
    assert_eq!(with("key-2").await.expect("asked"), None);
    assert_eq!(store.expired_snapshots().await.expect("asked").len(), 1);
    store.forget_snapshot(kept.id).await.expect("forgotten");
    assert!(store.all_snapshots().await.expect("asked").is_empty());
    assert!(store.touch_snapshot(organization, kept.id).await.is_err());
}

#[tokio::test]
async fn all_snapshots_are_all_however_many_there_are() {
    let fixture = Fixture::new().await;
    let environment = fixture.create("api", Vec::new()).await;
    let repository = fixture.repository().await;
    fixture.store.insert_snapshot(fixture.snapshot(&environment, repository, "key", 100)).await.expect("kept");
    let columns = "organization_id, environment_id, repository_id, snapshot_key, parts, layer, package_hosts, state,
        created_at, expires_at";
    let sql = format!(
        "with recursive number(n) as (select 1 union all select n + 1 from number where n < 2500)
         insert into snapshot (id, {columns}, last_used_at) select randomblob(16), {columns}, last_used_at + n
         from snapshot, number"
    );
    fixture.place.sql(&sql);

    let all = fixture.store.all_snapshots().await.expect("asked");

    let ids: std::collections::BTreeSet<uuid::Uuid> = all.iter().map(|snapshot| snapshot.id.as_uuid()).collect();
    let uses: std::collections::BTreeSet<Timestamp> = all.iter().map(|snapshot| snapshot.last_used_at).collect();
    assert_eq!((all.len(), ids.len(), uses.len()), (2501, 2501, 2501));
}

#[tokio::test]
async fn a_reset_ends_the_snapshots_of_one_environment_and_says_so() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let (one, other) = (fixture.create("one", Vec::new()).await, fixture.create("other", Vec::new()).await);
    let repository = fixture.repository().await;
    for environment in [&one, &other] {
        let new = fixture.snapshot(environment, repository, "key", 100);
        store.insert_snapshot(new).await.expect("kept");
    }

    assert_eq!(store.reset_snapshots(organization, one.id).await.expect("reset"), 1);
    assert_eq!(store.reset_snapshots(organization, one.id).await.expect("reset"), 0);

    let found = store.find_snapshot(organization, one.id, repository, "key").await.expect("asked");
    let latest = store.latest_snapshot(organization, one.id, repository).await.expect("asked").expect("it is known");
    assert!(found.is_none() && latest.was_reset);
    let untouched = store.find_snapshot(organization, other.id, repository, "key").await.expect("asked");
    assert!(untouched.is_some_and(|snapshot| !snapshot.was_reset));
    assert_eq!(store.snapshots_of(organization, one.id).await.expect("asked").len(), 1);
}

#[tokio::test]
async fn an_attempt_that_waits_in_the_queue_holds_its_version_too() {
    let fixture = Fixture::new().await;
    let first = fixture.create("api", vec![secret("TOKEN", "first-value")]).await;
    let task = fixture.task(Some("api")).await.expect("a task");
    let thread = fixture.store.task(fixture.owner.organization, task).await.expect("the task");
    assert_eq!(thread.turns[0].attempts[0].state, AttemptState::Queued);

    fixture.edit(&first, EnvironmentSpec::default(), Vec::new()).await;

    assert_eq!(fixture.values(&first).await.expect("kept for it"), ["first-value"]);
}

//! Who is next: those with the fewest running, first among organizations, then among people, then by priority and age; and
//! nobody has more at once than is allowed, whoever claims.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{
    Allowance, Attempt, AttemptId, AttemptLimits, AttemptState, BudgetOwner, CancelledBy, Clock, EventBody, Mode,
    NewEvent, NewTask, NewTurn, OrganizationId, Priority, Prompt, Redactor, Revision, UserId, WorkerId,
};
use carrel_store::{
    AtOnce, Attendance, JobKind, Lease, Presence, Principal, Queue, Role, SealingKeys, Store, StoreError,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::place::Place;

const LEASE: Duration = Duration::from_secs(30);
const GONE: Duration = Duration::from_secs(60);
const DAY: i64 = 86_400;

#[derive(Clone, Default)]
struct Seconds(Arc<AtomicI64>);

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

struct Fixture {
    place: Place,
    store: Store,
    keys: String,
    clock: Seconds,
    owner: Principal,
    claims: AtomicI64,
}

impl Fixture {
    async fn new() -> Self {
        let (place, clock) = (Place::of(module_path!()), Seconds::default());
        let keys = SealingKeys::fresh().expect("chance").expose().to_owned();
        let (store, _) = place.open(Arc::new(clock.clone()), Redactor::default(), &keys).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { place, store, keys, clock, owner, claims: AtomicI64::new(0) }
    }

    async fn another(&self, number: u128) -> Store {
        let id = WorkerId::from_uuid(Uuid::from_u128(number));
        self.place.open_as(id, Arc::new(self.clock.clone()), Redactor::default(), &self.keys).await.0
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Another member of an organization.
    fn person(&self, organization: OrganizationId, name: &str) -> Principal {
        let user = Uuid::now_v7();
        let (o, u) = (organization.as_uuid().simple(), user.simple());
        self.place.sql(&format!("insert into account values (x'{u}', '{name}', 0)"));
        self.place.sql(&format!("insert into member values (x'{o}', x'{u}', 'member')"));
        Principal { organization, user: UserId::from_uuid(user) }
    }

    /// Another organization with one person in it.
    fn organization(&self, name: &str) -> Principal {
        let (organization, environment) = (Uuid::now_v7(), Uuid::now_v7());
        let (o, e) = (organization.simple(), environment.simple());
        self.place.sql(&format!("insert into organization values (x'{o}', '{name}', 0)"));
        self.place.sql(&format!(
            "insert into environment (id, organization_id, name, version) values (x'{e}', x'{o}', 'default', 1)"
        ));
        self.place.sql(&format!(
            "insert into environment_version (environment_id, version, organization_id, image, created_at)
             values (x'{e}', 1, x'{o}', 'host', 0)"
        ));
        self.person(OrganizationId::from_uuid(organization), name)
    }

    async fn ask(&self, who: Principal, priority: Priority) -> Attempt {
        self.ask_for(who, priority, Attempts::ONE).await.remove(0)
    }

    async fn ask_for(&self, who: Principal, priority: Priority, attempts: Attempts) -> Vec<Attempt> {
        let new = NewTask {
            organization: who.organization,
            created_by: who.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: None,
            local_changes: None,
            priority,
            turn: NewTurn {
                prompt: Prompt::parse("Fix it").expect("a prompt"),
                mode: Mode::Code,
                attempts,
                attachments: Vec::new(),
                from_attempt: None,
                model: None,
                effort: None,
                limits: AttemptLimits::NONE,
                agent: None,
            },
        };
        let id = self.store.create_task(&new, "gpt-test").await.expect("a task");
        let thread = self.store.task(who.organization, id).await.expect("the task");
        assert_eq!(thread.task.priority, priority);
        thread.turns[0].attempts.clone()
    }

    async fn asks(&self, who: Principal, count: usize) -> Vec<AttemptId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.ask(who, Priority::Normal).await.id);
        }
        ids
    }

    fn lease(&self) -> Lease {
        let number = self.claims.fetch_add(1, Ordering::SeqCst);
        Lease { owner: format!("claim {number}"), duration: LEASE }
    }

    async fn claim(&self) -> Option<(AttemptId, carrel_store::Job, Lease)> {
        self.claim_by(&self.store).await
    }

    async fn claim_by(&self, store: &Store) -> Option<(AttemptId, carrel_store::Job, Lease)> {
        let lease = self.lease();
        let job = store.claim_job_of_anybody(Queue::Attempts, &lease, GONE).await.expect("asked")?;
        let JobKind::Attempt(id) = job.kind else { panic!("another kind of job") };
        Some((id, job, lease))
    }

    /// Claims everything that can be claimed, and says whose it is, in this order.
    async fn order(&self, names: &[(&'static str, &[AttemptId])]) -> Vec<&'static str> {
        let mut order = Vec::new();
        while let Some((id, ..)) = self.claim().await {
            let (name, _) = names.iter().find(|(_, ids)| ids.contains(&id)).expect("one that was asked for");
            order.push(*name);
        }
        order
    }

    async fn allow(&self, owner: BudgetOwner, attempts: Option<u32>) {
        let allowance = Allowance { attempts, ..Allowance::default() };
        let set = self.store.set_budget(self.owner, owner.id(), allowance).await.expect("an owner may");
        assert_eq!(set.allowance.attempts, attempts);
    }

    async fn wait(&self, attempt: &Attempt) -> Option<String> {
        let thread = self.store.task(attempt.organization, attempt.task).await.expect("the task");
        self.store.wait(&thread, Duration::from_mins(1)).await.expect("asked")
    }
}

#[tokio::test]
async fn whoever_has_the_fewest_running_is_next_among_organizations_and_then_among_people() {
    let fixture = Fixture::new().await;
    let ada = fixture.owner;
    let bob = fixture.person(ada.organization, "Bob");
    let eve = fixture.organization("Elsewhere");
    let many = fixture.asks(ada, 6).await;
    let few = fixture.asks(bob, 2).await;
    let others = fixture.asks(eve, 2).await;

    let order = fixture.order(&[("ada", &many), ("bob", &few), ("eve", &others)]).await;

    let expected = ["ada", "eve", "bob", "eve", "ada", "bob", "ada", "ada", "ada", "ada"];
    assert_eq!(order, expected);
}

#[tokio::test]
async fn of_one_person_priority_goes_first_and_a_low_task_is_claimed_in_the_end() {
    let fixture = Fixture::new().await;
    let who = fixture.owner;
    let low = fixture.ask(who, Priority::Low).await.id;
    fixture.pass(60);
    let normal = fixture.ask(who, Priority::Normal).await.id;
    fixture.pass(60);
    let high = fixture.ask(who, Priority::High).await.id;

    let mut order = Vec::new();
    for _ in 0..3 {
        let (id, job, lease) = fixture.claim().await.expect("one waits");
        fixture.store.finish_job(job.id, &lease).await.expect("done");
        order.push(id);
    }
    assert_eq!(order, [high, normal, low]);

    // However many normal ones come every day, those of a day later do not pass it by.
    let low = fixture.ask(who, Priority::Low).await.id;
    let mut before = Vec::new();
    for _ in 0..2 {
        fixture.pass(DAY - 60);
        before.push(fixture.ask(who, Priority::Normal).await.id);
    }
    let first = fixture.claim().await.expect("one waits").0;
    let second = fixture.claim().await.expect("one waits").0;
    assert_eq!([first, second], [before[0], low]);
}

#[tokio::test]
async fn a_limit_of_a_person_holds_until_one_ends_and_says_so() {
    let fixture = Fixture::new().await;
    let bob = fixture.person(fixture.owner.organization, "Bob");
    fixture.allow(BudgetOwner::Person(bob.user), Some(2)).await;
    let (first, second, third) = (
        fixture.ask(bob, Priority::Normal).await,
        fixture.ask(bob, Priority::Normal).await,
        fixture.ask(bob, Priority::Normal).await,
    );
    let (_, job, lease) = fixture.claim().await.expect("the first");
    assert_eq!(fixture.claim().await.expect("the second").0, second.id);

    assert_eq!(fixture.claim().await.map(|(id, ..)| id), None, "no third");
    let wait = fixture.wait(&third).await.expect("it waits");
    assert!(wait.starts_with("queued: 2 of 2 attempts of Bob are running"), "{wait}");
    assert!(wait.contains(&format!("carrel budget set --person {} --attempts 3", bob.user)), "{wait}");
    let own = fixture.ask(fixture.owner, Priority::Normal).await;
    assert_eq!(fixture.claim().await.map(|(id, ..)| id), Some(own.id), "others are not held up");

    // A job that rests or is given back keeps its place.
    fixture.store.postpone_job(job.id, &lease, Duration::from_secs(5), "no room").await.expect("it rests");
    assert!(fixture.claim().await.is_none());
    fixture.pass(10);
    let (again, job, lease) = fixture.claim().await.expect("it has rested");
    assert_eq!(again, first.id, "what was begun is gone on with");
    fixture.store.finish_job(job.id, &lease).await.expect("it is done");
    assert_eq!(fixture.claim().await.map(|(id, ..)| id), Some(third.id));
}

#[tokio::test]
async fn a_limit_that_is_lowered_stops_nothing_and_none_is_as_the_installation_says() {
    let mut fixture = Fixture::new().await;
    fixture.store = fixture.store.clone().with_at_once(AtOnce { person: Some(3), organization: Some(4) });
    let bob = fixture.person(fixture.owner.organization, "Bob");
    fixture.asks(fixture.owner, 5).await;
    let waiting = fixture.ask(bob, Priority::Normal).await;
    fixture.asks(bob, 4).await;
    let mut running = Vec::new();
    while let Some(one) = fixture.claim().await {
        running.push(one);
    }
    assert_eq!(running.len(), 4, "two of each, as many as the organization may");
    let more = fixture.ask(bob, Priority::Normal).await;
    let wait = fixture.wait(&more).await.expect("it waits");
    assert!(wait.starts_with("queued: 4 of 4 attempts of My organization are running"), "{wait}");
    assert_eq!(fixture.wait(&waiting).await, None, "it runs");

    fixture.allow(BudgetOwner::Organization(fixture.owner.organization), Some(1)).await;

    for (_, job, lease) in &running {
        assert!(fixture.store.renew_job(job.id, lease).await.expect("asked"), "what runs goes on");
    }
    assert!(fixture.claim().await.is_none());
    for (_, job, lease) in running.split_off(1) {
        fixture.store.finish_job(job.id, &lease).await.expect("done");
        assert!(fixture.claim().await.is_none(), "one still runs");
    }
    fixture.allow(BudgetOwner::Organization(fixture.owner.organization), None).await;
    assert!(fixture.claim().await.is_some());
}

#[tokio::test]
async fn a_limit_is_never_exceeded_however_many_workers_claim_at_once() {
    let fixture = Fixture::new().await;
    let bob = fixture.person(fixture.owner.organization, "Bob");
    fixture.allow(BudgetOwner::Person(bob.user), Some(3)).await;
    fixture.allow(BudgetOwner::Person(fixture.owner.user), Some(5)).await;
    fixture.asks(bob, 20).await;
    fixture.asks(fixture.owner, 20).await;
    let fixture = Arc::new(fixture);
    let mut claimers = tokio::task::JoinSet::new();

    for number in 0..6 {
        let fixture = Arc::clone(&fixture);
        claimers.spawn(async move {
            let store = fixture.another(10 + number).await;
            let mut claimed = Vec::new();
            while let Some((id, ..)) = fixture.claim_by(&store).await {
                claimed.push(id);
            }
            claimed
        });
    }

    let claimed: Vec<AttemptId> = claimers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 8, "{claimed:?}");
}

#[tokio::test]
async fn what_was_begun_is_left_to_its_worker_within_fair_sharing_and_moves_when_that_is_gone() {
    let fixture = Fixture::new().await;
    let other = fixture.another(2).await;
    let presence = Presence { name: "a machine", role: Role::Worker, capacity: 4, version: "1" };
    for store in [&fixture.store, &other] {
        store.announce_worker(presence).await.expect("announced");
    }
    let begun = fixture.ask(fixture.owner, Priority::Normal).await;
    let (_, job, lease) = fixture.claim().await.expect("one waits");
    fixture.store.advance_attempt(&begun, AttemptState::Preparing, Vec::new()).await.expect("begun");
    fixture.store.hand_back_job(job.id, &lease).await.expect("given back");
    let bob = fixture.person(fixture.owner.organization, "Bob");
    let fresh = fixture.ask(bob, Priority::High).await;

    let (other_one, theirs, held) = fixture.claim_by(&other).await.expect("one waits");
    assert_eq!(other_one, fresh.id, "the other one is not its own");
    assert!(fixture.claim_by(&other).await.is_none());
    let workers = fixture.store.workers().await.expect("asked");
    let running: BTreeMap<WorkerId, u32> = workers.into_iter().map(|worker| (worker.id, worker.running)).collect();
    assert_eq!(running.into_values().collect::<Vec<_>>(), [1, 1]);

    // It comes back, and goes on before anything new of anybody's.
    other.finish_job(theirs.id, &held).await.expect("done");
    fixture.asks(bob, 1).await;
    let (own, job, lease) = fixture.claim().await.expect("its own");
    assert_eq!(own, begun.id);
    fixture.store.hand_back_job(job.id, &lease).await.expect("given back");

    fixture.pass(61);
    other.announce_worker(presence).await.expect("it is there");
    let (moved, job, _) = fixture.claim_by(&other).await.expect("its worker is gone");
    assert_eq!((moved, job.home), (begun.id, Some(fixture.store.worker())));
}

#[tokio::test]
async fn one_that_is_stopped_while_it_waits_is_in_nobodys_way() {
    let fixture = Fixture::new().await;
    let attempt = fixture.ask(fixture.owner, Priority::Normal).await;
    let next = fixture.ask(fixture.owner, Priority::Normal).await;
    let wait = fixture.wait(&next).await;
    assert_eq!(wait.as_deref(), Some("waiting for a free worker: 1 of this person's before it"));

    let by = CancelledBy::User(fixture.owner.user);
    fixture.store.request_cancel(attempt.organization, attempt.id, by).await.expect("stopped");

    let wait = fixture.wait(&next).await;
    assert_eq!(wait.as_deref(), Some("waiting for a free worker: the next of this person's"));
    assert_eq!(fixture.wait(&attempt).await, None);
    assert_eq!(fixture.claim().await.map(|(id, ..)| id), Some(next.id));
    assert!(fixture.claim().await.is_none());
}

#[tokio::test]
async fn a_worker_that_was_stopped_is_waited_for_and_then_gone() {
    let fixture = Fixture::new().await;
    let other = fixture.another(2).await;
    let presence = Presence { name: "a machine", role: Role::All, capacity: 4, version: "1" };
    let attends = async |store: &Store| {
        let workers = store.workers_for(fixture.owner).await.expect("an owner may");
        let own = workers.into_iter().find(|worker| worker.id == fixture.store.worker()).expect("it is known");
        own.attendance(store.shared_now(), GONE)
    };
    fixture.store.announce_worker(presence).await.expect("announced");
    let begun = fixture.ask(fixture.owner, Priority::Normal).await;
    let (_, job, lease) = fixture.claim().await.expect("one waits");
    fixture.store.advance_attempt(&begun, AttemptState::Preparing, Vec::new()).await.expect("begun");
    fixture.store.hand_back_job(job.id, &lease).await.expect("given back");
    fixture.store.worker_leaves(Duration::from_secs(600)).await.expect("told");

    fixture.pass(300);
    assert_eq!(attends(&other).await, Attendance::Away);
    assert!(fixture.claim_by(&other).await.is_none(), "it is waited for");
    fixture.pass(301);
    assert_eq!(attends(&other).await, Attendance::Gone);
    let (moved, job, lease) = fixture.claim_by(&other).await.expect("it did not come back");
    assert_eq!(moved, begun.id);
    other.finish_job(job.id, &lease).await.expect("done");

    fixture.store.announce_worker(presence).await.expect("it is back");
    assert_eq!(attends(&other).await, Attendance::Here);
    let bob = fixture.person(fixture.owner.organization, "Bob");
    let refused = fixture.store.workers_for(bob).await;
    assert!(matches!(refused, Err(StoreError::OwnersOnly { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_process_that_only_answers_is_waited_for_by_nobody() {
    let fixture = Fixture::new().await;
    let other = fixture.another(2).await;
    let presence = Presence { name: "a machine", role: Role::All, capacity: 4, version: "1" };
    fixture.store.announce_worker(presence).await.expect("announced");
    let begun = fixture.ask(fixture.owner, Priority::Normal).await;
    let (_, job, lease) = fixture.claim().await.expect("one waits");
    fixture.store.advance_attempt(&begun, AttemptState::Preparing, Vec::new()).await.expect("begun");
    fixture.store.hand_back_job(job.id, &lease).await.expect("given back");
    assert!(fixture.claim_by(&other).await.is_none(), "it is left to the one that works");

    let presence = Presence { role: Role::Api, capacity: 0, ..presence };
    fixture.store.announce_worker(presence).await.expect("started anew");

    assert_eq!(fixture.claim_by(&other).await.map(|(id, ..)| id), Some(begun.id));
}

#[tokio::test]
async fn what_waits_for_one_worker_says_when_that_is_away_or_silent() {
    let fixture = Fixture::new().await;
    let other = fixture.another(2).await;
    other
        .announce_worker(Presence { name: "attic", role: Role::Worker, capacity: 4, version: "1" })
        .await
        .expect("told");
    let attempt = fixture.ask(fixture.owner, Priority::Normal).await;
    let home = Uuid::from_u128(2).simple();
    fixture.place.sql(&format!("update job set worker_id = x'{home}'"));

    let here = fixture.wait(&attempt).await.expect("it waits");
    fixture.pass(31);
    let silent = fixture.wait(&attempt).await.expect("it waits");
    other.worker_leaves(Duration::from_secs(60)).await.expect("told");
    let away = fixture.wait(&attempt).await.expect("it waits");

    // The same of one that was begun there and given back.
    fixture.place.sql("update job set worker_id = null");
    let (_, job, lease) = fixture.claim().await.expect("one waits");
    fixture.store.advance_attempt(&attempt, AttemptState::Preparing, Vec::new()).await.expect("begun");
    let works = fixture.wait(&attempt).await;
    fixture.store.hand_back_job(job.id, &lease).await.expect("given back");
    fixture.place.sql(&format!("update job set worker_id = x'{home}'"));
    let begun = fixture.wait(&attempt).await.expect("it waits");

    assert_eq!((works, &begun), (None, &away));
    assert_eq!(here, "waiting for a free worker: the next of this person's");
    assert!(silent.starts_with("waiting for the worker `attic`, which was not heard of since 20"), "{silent}");
    assert!(away.starts_with("waiting for the worker `attic`, which was stopped and is expected back by"), "{away}");
}

#[tokio::test]
async fn an_attempt_that_cannot_begin_beside_one_that_works_is_told_of() {
    let fixture = Fixture::new().await;
    let two = Attempts::new(2).expect("a number");
    let attempts = fixture.ask_for(fixture.owner, Priority::Normal, two).await;
    let (first, ..) = fixture.claim().await.expect("one waits");
    let begun = attempts.iter().find(|attempt| attempt.id == first).expect("one of them");
    fixture.store.advance_attempt(begun, AttemptState::Preparing, Vec::new()).await.expect("begun");

    let beside = fixture.wait(begun).await;
    let body = EventBody::ModelRetrying { reason: "503".to_owned(), wait_ms: 9000, retry: 2, retries: 5 };
    let event = NewEvent { attempt: Some(begun.id), body };
    fixture.store.append(begun.organization, begun.task, vec![event]).await.expect("stored");
    let model = fixture.wait(begun).await.expect("it waits");

    let words = "one of its attempts: waiting for a free worker: the next of this person's";
    assert_eq!(beside.as_deref(), Some(words));
    assert!(model.starts_with("waiting for the model: retry 2 of 5"), "{model}");
}

#[tokio::test]
async fn an_attempt_that_rests_says_why_and_until_when_and_hears_at_once_that_it_is_to_stop() {
    let fixture = Fixture::new().await;
    let attempt = fixture.ask(fixture.owner, Priority::Normal).await;
    let (_, job, lease) = fixture.claim().await.expect("one waits");
    fixture.store.postpone_job(job.id, &lease, Duration::from_secs(9), "no bucket").await.expect("it rests");
    let before_it_began = fixture.wait(&attempt).await;
    fixture.pass(10);
    let (_, job, lease) = fixture.claim().await.expect("it has rested");
    fixture.store.advance_attempt(&attempt, AttemptState::Preparing, Vec::new()).await.expect("begun");

    fixture.store.postpone_job(job.id, &lease, Duration::from_secs(300), "no room").await.expect("it rests");
    let rests = fixture.wait(&attempt).await;
    let early = fixture.claim().await.map(|(id, ..)| id);
    fixture
        .store
        .request_cancel(attempt.organization, attempt.id, CancelledBy::User(fixture.owner.user))
        .await
        .expect("asked");
    let claimed = fixture.claim().await.map(|(id, ..)| id);

    assert_eq!(before_it_began.as_deref(), Some("going on in 9 s: no bucket"));
    assert_eq!(rests.as_deref(), Some("going on in 300 s: no room"));
    assert_eq!((early, claimed), (None, Some(attempt.id)));
    assert_eq!(fixture.wait(&attempt).await, None, "somebody is at it");
}

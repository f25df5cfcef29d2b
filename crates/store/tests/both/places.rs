//! A job whose repository is not on the worker's machine: it is passed on, to whoever has it first, and to each once.

use std::sync::Arc;
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{AttemptLimits, Clock, Mode, NewTask, NewTurn, Prompt, Redactor, Revision, Task, WorkerId};
use carrel_store::{Claim, Job, Lease, Passed, Presence, Principal, Queue, Role, SealingKeys, Store, StoreError};
use jiff::Timestamp;
use uuid::Uuid;

use crate::place::Place;

const GONE: Duration = Duration::from_secs(60);

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }
}

/// Three workers, of which the second was heard of last, and a task that waits.
struct Fixture {
    place: Place,
    stores: Vec<Store>,
    task: Task,
}

fn id(number: u128) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(number))
}

fn new_task(owner: Principal) -> NewTask {
    NewTask {
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
            attempts: Attempts::ONE,
            attachments: Vec::new(),
            from_attempt: None,
            model: None,
            effort: None,
            limits: AttemptLimits::NONE,
            agent: None,
        },
    }
}

impl Fixture {
    async fn new() -> Self {
        let place = Place::of(module_path!());
        let keys = SealingKeys::fresh().expect("chance").expose().to_owned();
        let mut stores = Vec::new();
        for (number, name) in [(1, "one"), (2, "two"), (3, "three")] {
            let (store, _) = place.open_as(id(number), Arc::new(Fixed), Redactor::default(), &keys).await;
            announce(&store, name, Role::All).await;
            stores.push(store);
        }
        place.sql("update worker set seen_at = seen_at + 1000 where name = 'two'");
        let owner = stores[0].ensure_owner().await.expect("an owner").principal;
        let task = stores[0].create_task(&new_task(owner), "gpt-test").await.expect("a task");
        let task = stores[0].task(owner.organization, task).await.expect("the task").task;
        Self { place, stores, task }
    }

    /// What a worker claims, if it claims something.
    async fn claim(&self, number: usize) -> Option<(Job, Store, Lease)> {
        let lease = Lease { owner: Uuid::now_v7().to_string(), duration: Duration::from_secs(30) };
        let store = &self.stores[number - 1];
        let job = store.claim_job_of_anybody(Queue::Attempts, &lease, GONE).await.expect("asked")?;
        let held = store.under(Claim { job: job.id, owner: lease.owner.clone() });
        Some((job, held, lease))
    }

    /// A worker claims the job and passes it on; how often it was claimed, and what became of it.
    async fn passes_on(&self, number: usize) -> (i64, Passed) {
        let (job, held, lease) = self.claim(number).await.expect("a job");
        let passed = held.pass_on(&self.task, GONE).await.expect("passed on");
        self.stores[number - 1].hand_back_job(job.id, &lease).await.expect("given back");
        (job.tries, passed)
    }

    /// Says from outside which worker has the repository.
    fn known(&self, number: u128) {
        let id = Uuid::from_u128(number).simple().to_string();
        self.place.sql(&format!("update repository set worker_id = x'{id}'"));
    }
}

async fn announce(store: &Store, name: &str, role: Role) {
    store.announce_worker(Presence { name, role, capacity: 1, version: "1" }).await.expect("told");
}

fn name(passed: &Passed) -> &str {
    match passed {
        Passed::To(worker) => &worker.name,
        Passed::Nobody { .. } => "nobody",
    }
}

#[tokio::test]
async fn a_job_is_passed_on_to_each_worker_once_and_nobody_else_takes_it_meanwhile() {
    let fixture = Fixture::new().await;

    let (_, first) = fixture.passes_on(1).await;
    let others = (fixture.claim(1).await.is_none(), fixture.claim(3).await.is_none());
    let (tries, second) = fixture.passes_on(2).await;
    let (_, last) = fixture.passes_on(3).await;

    assert_eq!((name(&first), name(&second)), ("two", "three"));
    assert_eq!(others, (true, true), "it is left to the second");
    assert_eq!(tries, 1, "nothing is wrong with the job");
    let asked = ["one", "three", "two"].map(str::to_owned).to_vec();
    assert_eq!(last, Passed::Nobody { asked, had: None });
}

#[tokio::test]
async fn whoever_has_the_repository_is_asked_first() {
    let fixture = Fixture::new().await;
    fixture.known(3);

    let (_, passed) = fixture.passes_on(1).await;

    assert_eq!(name(&passed), "three");
    let (job, _, _) = fixture.claim(3).await.expect("it is left to the third");
    assert_eq!(job.home, Some(id(3)), "what it prepares is its own");
}

#[tokio::test]
async fn those_that_are_gone_or_make_no_sandboxes_are_not_asked_and_who_had_it_is_named() {
    let fixture = Fixture::new().await;
    fixture.known(3);
    announce(&fixture.stores[1], "two", Role::Api).await;
    fixture.place.sql("update worker set seen_at = 0 where name = 'three'");

    let (_, passed) = fixture.passes_on(1).await;

    let Passed::Nobody { asked, had } = passed else { panic!("{passed:?}") };
    assert_eq!((asked, had.map(|worker| worker.name)), (vec!["one".to_owned()], Some("three".to_owned())));
}

#[tokio::test]
async fn who_does_not_find_the_repository_any_more_is_not_said_to_have_it() {
    let fixture = Fixture::new().await;
    fixture.known(1);

    let (_, passed) = fixture.passes_on(1).await;
    let (_, again) = fixture.passes_on(2).await;
    let (_, last) = fixture.passes_on(3).await;

    assert_eq!((name(&passed), name(&again)), ("two", "three"));
    assert!(matches!(last, Passed::Nobody { had: None, .. }), "{last:?}");
}

#[tokio::test]
async fn a_job_is_passed_on_by_whoever_holds_its_claim_alone_and_leaves_nothing_behind() {
    let fixture = Fixture::new().await;
    let (job, held, lease) = fixture.claim(1).await.expect("a job");

    let free = fixture.stores[0].pass_on(&fixture.task, GONE).await;
    held.pass_on(&fixture.task, GONE).await.expect("passed on");
    fixture.stores[0].finish_job(job.id, &lease).await.expect("done, with what was noted of it");
    let late = held.pass_on(&fixture.task, GONE).await;

    assert!(matches!(free, Err(StoreError::ClaimLost)), "{free:?}");
    assert!(matches!(late, Err(StoreError::ClaimLost)), "{late:?}");
}

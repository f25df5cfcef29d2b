//! What a worker may still write once its claim is lost: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{Attempt, AttemptLimits, AttemptState, Clock, EventBody, Mode, NewEvent, NewTask, NewTurn, Prompt};
use carrel_domain::{Redactor, Revision};
use carrel_store::{Claim, Job, Lease, Principal, Queue, Store, StoreError};
use jiff::Timestamp;

use crate::place::Place;

#[derive(Clone, Default)]
struct Seconds(Arc<AtomicI64>);

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

struct Fixture {
    _place: Place,
    store: Store,
    clock: Seconds,
    owner: Principal,
}

impl Fixture {
    async fn new() -> Self {
        let (place, clock) = (Place::of(module_path!()), Seconds::default());
        let store = place.open_once(Arc::new(clock.clone()), Redactor::default()).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { _place: place, store, clock, owner }
    }

    async fn attempt(&self) -> Attempt {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: None,
            local_changes: None,
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
        };
        let id = self.store.create_task(&new, "gpt-test").await.expect("a task");
        self.store.task(self.owner.organization, id).await.expect("the task").turns[0].attempts[0].clone()
    }

    /// A worker that claims the job, and what it writes through from then on.
    async fn claim(&self, owner: &str) -> (Job, Store) {
        let lease = Lease { owner: owner.to_owned(), duration: Duration::from_secs(30) };
        let job = self.store.claim_job(Queue::Attempts, &lease).await.expect("asked").expect("a job");
        let held = self.store.under(Claim { job: job.id, owner: owner.to_owned() });
        (job, held)
    }
}

fn said(attempt: &Attempt, text: &str) -> Vec<NewEvent> {
    vec![NewEvent { attempt: Some(attempt.id), body: EventBody::AgentMessage { text: text.to_owned() } }]
}

#[tokio::test]
async fn whoever_holds_the_claim_writes_and_whoever_has_lost_it_does_not() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt().await;
    let (job, slow) = fixture.claim("slow").await;
    slow.append_with_files(&attempt, said(&attempt, "one"), Vec::new()).await.expect("it holds the claim");

    fixture.clock.0.store(31, Ordering::SeqCst);
    let (same, quick) = fixture.claim("quick").await;

    assert_eq!(same.id, job.id);
    let event = slow.append_with_files(&attempt, said(&attempt, "two"), Vec::new()).await;
    let state = slow.advance_attempt(&attempt, AttemptState::Preparing, Vec::new()).await;
    let file = slow.keep_artifact(&attempt, "patch", b"theirs".to_vec()).await;
    assert!(matches!(event, Err(StoreError::ClaimLost)), "{event:?}");
    assert!(matches!(state, Err(StoreError::ClaimLost)), "{state:?}");
    assert!(matches!(file, Err(StoreError::ClaimLost)), "{file:?}");
    quick.append_with_files(&attempt, said(&attempt, "three"), Vec::new()).await.expect("it holds the claim");
    let events = fixture.store.events(fixture.owner.organization, attempt.task, 0, 100).await.expect("events");
    let texts: Vec<&str> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::AgentMessage { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["one", "three"]);
}

#[tokio::test]
async fn a_claim_whose_time_is_over_still_writes_while_nobody_else_has_the_job() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt().await;
    let (_, slow) = fixture.claim("slow").await;

    fixture.clock.0.store(3600, Ordering::SeqCst);

    slow.append_with_files(&attempt, said(&attempt, "late"), Vec::new()).await.expect("nobody was quicker");
}

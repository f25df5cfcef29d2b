//! What a worker may still write once its claim is lost: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{Attempt, AttemptLimits, AttemptState, Clock, EventBody, Mode, NewEvent, NewTask, NewTurn, Prompt};
use carrel_domain::{Redactor, Revision, Stage};
use carrel_store::{Claim, Job, Lease, Principal, Queue, QueueDepth, Store, StoreError};
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
    place: Place,
    store: Store,
    clock: Seconds,
    owner: Principal,
}

impl Fixture {
    async fn new() -> Self {
        let (place, clock) = (Place::of(module_path!()), Seconds::default());
        let store = place.open_once(Arc::new(clock.clone()), Redactor::default()).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { place, store, clock, owner }
    }

    async fn attempt(&self) -> Attempt {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
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

#[tokio::test]
async fn claims_count_anew_once_the_conversation_has_got_on() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt().await;
    let later = |claims: i64| fixture.clock.0.store(claims * 31, Ordering::SeqCst);
    for number in 1..=4 {
        later(number);
        let (job, held) = fixture.claim(&format!("worker {number}")).await;
        assert_eq!(job.tries, number);
        held.append_with_files(&attempt, said(&attempt, "still here"), Vec::new()).await.expect("it holds the claim");
    }

    later(5);
    let (stuck, held) = fixture.claim("worker 5").await;
    let item = EventBody::ConversationItem { item: serde_json::json!({"type": "function_call_output"}) };
    let step = vec![NewEvent { attempt: Some(attempt.id), body: item }];
    held.append_with_files(&attempt, step, Vec::new()).await.expect("it holds the claim");

    assert_eq!(stuck.tries, 5, "words alone are no progress");
    assert_eq!(fixture.store.job_tries(stuck.id).await.expect("it is there"), 1);
    later(6);
    let (next, _) = fixture.claim("worker 6").await;
    assert_eq!((next.id, next.tries), (stuck.id, 2));
}

#[tokio::test]
async fn an_attempt_that_has_ended_needs_its_sandbox_until_its_job_is_done() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt().await;
    let (job, held) = fixture.claim("one").await;
    let begun = held.advance_attempt(&attempt, AttemptState::Preparing, Vec::new()).await.expect("begun");
    let failed = AttemptState::Failed { stage: Stage::Preparing, reason: "no".to_owned(), retryable: true };
    held.advance_attempt(&begun, failed, Vec::new()).await.expect("ended");

    let before = fixture.store.attempts_under_way().await.expect("asked");
    let lease = Lease { owner: "one".to_owned(), duration: Duration::from_secs(30) };
    fixture.store.finish_job(job.id, &lease).await.expect("done");
    let after = fixture.store.attempts_under_way().await.expect("asked");

    assert_eq!(before.iter().map(|attempt| attempt.id).collect::<Vec<_>>(), [attempt.id]);
    assert_eq!(after, []);
}

#[tokio::test]
async fn the_depth_of_a_queue_tells_what_waits_what_is_worked_on_what_rests_and_since_when() {
    let fixture = Fixture::new().await;
    for _ in 0..4 {
        fixture.attempt().await;
    }
    fixture.clock.0.store(20, Ordering::SeqCst);

    fixture.claim("one").await;
    let (job, _) = fixture.claim("two").await;
    let lease = Lease { owner: "two".to_owned(), duration: Duration::from_secs(30) };
    fixture.store.postpone_job(job.id, &lease, Duration::from_secs(60), "no room").await.expect("put off");

    let depth = fixture.store.queue_depth(Queue::Attempts).await.expect("counted");
    assert_eq!(depth, QueueDepth { due: 2, claimed: 1, resting: 1, oldest: Duration::from_secs(20) });
    let other = fixture.store.queue_depth(Queue::Publications).await.expect("counted");
    assert_eq!(other, QueueDepth::default());
    let connections = fixture.store.connections();
    assert!(connections.in_use + connections.idle >= 1, "{connections:?}");
}

#[tokio::test]
async fn a_job_that_a_clock_which_was_ahead_has_put_off_does_not_wait_for_that_time() {
    let fixture = Fixture::new().await;
    fixture.clock.0.fetch_add(3600, Ordering::SeqCst);
    let attempt = fixture.attempt().await;
    let Fixture { place, store, .. } = fixture;
    drop(store);
    let back = place.open_once(Arc::new(Seconds::default()), Redactor::default()).await;
    let lease = Lease { owner: "me".to_owned(), duration: Duration::from_secs(30) };
    let early = back.claim_job(Queue::Attempts, &lease).await.expect("asked");

    back.worker_is_there().await.expect("told");

    let claimed = back.claim_job(Queue::Attempts, &lease).await.expect("asked").expect("it is due");
    assert_eq!((early, claimed.kind), (None, carrel_store::JobKind::Attempt(attempt.id)));
}

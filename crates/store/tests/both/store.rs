//! The store, on a real database in a folder of its own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrel_domain::comparison::Tally;
use carrel_domain::event::CommandEnd;
use carrel_domain::task::Attempts;
use carrel_domain::{
    AnswerNotes, AttemptState, BranchName, CancelledBy, Clock, CommitOid, EventBody, Mode, NewEvent, NewTask, NewTurn,
    OrganizationId, Outcome, PatchSummary, Prompt, PublicationState, Redactor, Revision, Secret, Stage, Standing,
    TaskId, UserId,
};
use carrel_store::{AttemptListing, Change, Lease, NewPublication, Principal, Queue, Store, StoreError, TaskThread};
use jiff::Timestamp;

use crate::place::Place;

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct StandingClock(Arc<AtomicI64>);

impl StandingClock {
    fn move_on(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).expect("a short time"), Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

struct Fixture {
    _place: Place,
    store: Store,
    clock: StandingClock,
    owner: Principal,
}

impl Fixture {
    async fn new() -> Self {
        let (place, clock) = (Place::of(module_path!()), StandingClock::default());
        let redactor = Redactor::new([&Secret::new("hunter2-hunter2")]);
        let store = place.open_once(Arc::new(clock.clone()), redactor).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { _place: place, store, clock, owner }
    }

    async fn task(&self, attempts: u32) -> TaskId {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: None,
            local_changes: None,
            priority: carrel_domain::Priority::Normal,
            turn: turn("Fix it\nnow", attempts),
        };
        self.store.create_task(&new, "gpt-test").await.expect("a task")
    }
}

fn turn(prompt: &str, attempts: u32) -> NewTurn {
    NewTurn {
        prompt: Prompt::parse(prompt).expect("a prompt"),
        mode: Mode::Code,
        attempts: Attempts::new(attempts).expect("1 to 4"),
        attachments: Vec::new(),
        from_attempt: None,
        model: None,
        effort: None,
        agent: None,
        limits: carrel_domain::AttemptLimits::NONE,
    }
}

fn lease(owner: &str) -> Lease {
    Lease { owner: owner.to_owned(), duration: Duration::from_secs(30) }
}

fn message(text: &str) -> NewEvent {
    NewEvent { attempt: None, body: EventBody::AgentMessage { text: text.to_owned() } }
}

fn stranger() -> OrganizationId {
    OrganizationId::from_uuid(uuid::Uuid::now_v7())
}

#[tokio::test]
async fn there_is_one_organization_and_owner_however_often_the_service_starts() {
    let fixture = Fixture::new().await;

    let again = fixture.store.ensure_owner().await.expect("an owner");

    assert_eq!(again.principal, fixture.owner);
}

#[tokio::test]
async fn a_task_comes_with_its_turn_its_attempts_their_jobs_and_its_first_event() {
    let fixture = Fixture::new().await;

    let id = fixture.task(3).await;

    let thread = fixture.store.task(fixture.owner.organization, id).await.expect("the task");
    assert_eq!(thread.task.title, "Fix it");
    assert_eq!(thread.task.last_seq, 1);
    let numbers: Vec<u32> = thread.turns[0].attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let mut jobs = 0;
    while fixture.store.claim_job(Queue::Attempts, &lease("a")).await.expect("the queue").is_some() {
        jobs += 1;
    }
    assert_eq!(jobs, 3);
}

#[tokio::test]
async fn a_change_from_an_old_version_is_refused_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let id = fixture.task(1).await;
    let seen = store.task(organization, id).await.expect("the task").turns[0].attempts[0].clone();
    store.advance_attempt(&seen, AttemptState::Preparing, vec![]).await.expect("the first change");

    let failed = AttemptState::Failed { stage: Stage::Queued, reason: "late".to_owned(), retryable: true };
    let second = store.advance_attempt(&seen, failed, vec![]).await;

    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    let attempt = store.attempt(organization, seen.id).await.expect("the attempt");
    assert_eq!(attempt.state, AttemptState::Preparing);
    assert_eq!(store.events(organization, id, 0, 10).await.expect("the log").len(), 2);
}

#[tokio::test]
async fn a_wish_to_stop_survives_a_workers_change_and_is_void_after_the_end() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let id = fixture.task(1).await;
    let seen = store.task(organization, id).await.expect("the task").turns[0].attempts[0].clone();
    let seen = store.advance_attempt(&seen, AttemptState::Preparing, vec![]).await.expect("it has begun");
    let by = CancelledBy::User(fixture.owner.user);

    store.request_cancel(organization, seen.id, by).await.expect("asked");
    store.advance_attempt(&seen, AttemptState::SettingUp, vec![]).await.expect("a worker's change");

    let attempt = store.attempt(organization, seen.id).await.expect("the attempt");
    assert_eq!((attempt.cancel_requested_by, attempt.state.word()), (Some(by), "setting_up"));
    let other = CancelledBy::User(UserId::from_uuid(uuid::Uuid::nil()));
    let ended = store.advance_attempt(&attempt, AttemptState::Cancelled { by }, vec![]).await.expect("the end");
    assert!(ended.ended_at.is_some());
    let asked = store.request_cancel(organization, seen.id, other).await.expect("asked again");
    assert_eq!(asked.cancel_requested_by, Some(by));
}

#[tokio::test]
async fn an_attempt_that_waits_in_the_queue_is_stopped_at_once() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let id = fixture.task(1).await;
    let seen = store.task(organization, id).await.expect("the task").turns[0].attempts[0].clone();
    let by = CancelledBy::User(fixture.owner.user);

    let stopped = store.request_cancel(organization, seen.id, by).await.expect("asked");

    assert_eq!((stopped.state.clone(), stopped.started_at), (AttemptState::Cancelled { by }, None));
    assert_eq!(store.attempt(organization, seen.id).await.expect("the attempt"), stopped);
    let late = store.advance_attempt(&seen, AttemptState::Preparing, vec![]).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
}

#[tokio::test]
async fn attempts_of_one_turn_are_pinned_to_one_commit() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let id = fixture.task(2).await;
    let attempts = store.task(organization, id).await.expect("the task").turns[0].attempts.clone();
    let oid = |digit: &str| digit.repeat(40).parse::<CommitOid>().expect("an object name");

    let first = store.pin_base(&attempts[0], oid("a")).await.expect("pinned");
    let second = store.pin_base(&attempts[1], oid("b")).await.expect("pinned");

    assert_eq!((first, second), (oid("a"), oid("a")));
}

#[tokio::test]
async fn a_job_made_anew_is_lost_to_whoever_held_it() {
    let fixture = Fixture::new().await;
    let (store, owner) = (&fixture.store, fixture.owner);
    let task = fixture.task(1).await;
    let attempt = store.task(owner.organization, task).await.expect("the task").turns[0].attempts[0].id;
    let new = NewPublication {
        organization: owner.organization,
        task,
        attempt,
        branch: "fix".parse::<BranchName>().expect("a name"),
        message: "Fix it".to_owned(),
        created_by: owner.user,
    };
    let publication = store.request_publication(&new).await.expect("asked");
    let job = store.claim_job(Queue::Publications, &lease("first")).await.expect("the queue").expect("a job");
    let failed = PublicationState::Failed { reason: "no route".to_owned(), retryable: true };
    store.advance_publication(&publication, failed).await.expect("it failed");

    store.request_publication(&new).await.expect("asked again");
    store.finish_job(job.id, &lease("first")).await.expect("no harm");

    let again = store.claim_job(Queue::Publications, &lease("second")).await.expect("the queue");
    assert_eq!(again.map(|job| job.tries), Some(1), "the new wish is not lost");
}

#[tokio::test]
async fn a_log_written_by_many_at_once_has_no_gaps_and_no_doubles() {
    let fixture = Fixture::new().await;
    let id = fixture.task(1).await;
    let organization = fixture.owner.organization;

    let writers: Vec<_> = (0..20)
        .map(|writer| {
            let store = fixture.store.clone();
            tokio::spawn(async move {
                for entry in 0..10 {
                    let events = vec![message(&format!("{writer}/{entry}")), message("more")];
                    store.append(organization, id, events).await.expect("appended");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }

    let seqs: Vec<i64> =
        fixture.store.events(organization, id, 0, 1000).await.expect("the log").iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=401).collect::<Vec<i64>>());
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    let fixture = Fixture::new().await;
    let id = fixture.task(1).await;
    let organization = fixture.owner.organization;

    fixture.store.append(organization, id, vec![message("the key is hunter2-hunter2!")]).await.expect("appended");

    let log = fixture.store.events(organization, id, 1, 10).await.expect("the log");
    assert_eq!(log[0].body, EventBody::AgentMessage { text: "the key is [redacted]!".to_owned() });
}

#[tokio::test]
async fn another_organization_sees_nothing() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let id = fixture.task(1).await;
    let attempt = store.task(fixture.owner.organization, id).await.expect("the task").turns[0].attempts[0].clone();

    assert!(matches!(store.task(stranger(), id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.attempt(stranger(), attempt.id).await, Err(StoreError::NotFound { .. })));
    assert!(store.events(stranger(), id, 0, 10).await.expect("a log").is_empty());
    assert!(store.tasks(stranger(), None, 10).await.expect("a list").is_empty());
    assert!(store.repositories(stranger()).await.expect("a list").is_empty());
    assert!(store.append(stranger(), id, vec![message("x")]).await.is_err());
    let by = CancelledBy::User(fixture.owner.user);
    assert!(store.request_cancel(stranger(), attempt.id, by).await.is_err());
}

#[tokio::test]
async fn many_workers_claim_every_job_once() {
    let fixture = Fixture::new().await;
    for _ in 0..25 {
        fixture.task(4).await;
    }
    let claimed = Arc::new(Mutex::new(Vec::new()));

    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (store, claimed) = (fixture.store.clone(), Arc::clone(&claimed));
            tokio::spawn(async move {
                let lease = lease(&format!("worker {worker}"));
                while let Some(job) = store.claim_job(Queue::Attempts, &lease).await.expect("the queue") {
                    claimed.lock().expect("no panic").push(job.id);
                    store.finish_job(job.id, &lease).await.expect("finished");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }

    let mut claimed = claimed.lock().expect("no panic").clone();
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 100);
}

#[tokio::test]
async fn a_job_whose_lease_ran_out_goes_to_the_next_worker_and_is_lost_to_the_first() {
    let fixture = Fixture::new().await;
    fixture.task(1).await;
    let job = fixture.store.claim_job(Queue::Attempts, &lease("first")).await.expect("the queue").expect("a job");
    assert_eq!(fixture.store.claim_job(Queue::Attempts, &lease("second")).await.expect("the queue"), None);

    fixture.clock.move_on(Duration::from_secs(31));

    let again =
        fixture.store.claim_job(Queue::Attempts, &lease("second")).await.expect("the queue").expect("the job again");
    assert_eq!((again.id, again.tries), (job.id, 2));
    assert!(!fixture.store.renew_job(job.id, &lease("first")).await.expect("asked"));
    fixture.store.finish_job(job.id, &lease("first")).await.expect("no harm");
    assert!(fixture.store.renew_job(job.id, &lease("second")).await.expect("asked"), "it is still there");
}

#[tokio::test]
async fn lists_go_from_new_to_old_page_by_page() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(fixture.task(1).await);
    }
    ids.reverse();

    let first = fixture.store.tasks(fixture.owner.organization, None, 3).await.expect("a page");
    let second = fixture.store.tasks(fixture.owner.organization, Some(first[2].task.id), 3).await.expect("a page");

    let seen: Vec<TaskId> = first.iter().chain(&second).map(|listing| listing.task.id).collect();
    assert_eq!(seen, ids);
    let queued = AttemptListing { standing: Standing::Queued, additions: None, deletions: None };
    assert_eq!(first[0].attempts, [queued]);
}

#[tokio::test]
async fn a_list_shows_how_many_lines_a_ready_attempt_has_changed() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let id = fixture.task(1).await;
    let mut attempt = store.task(organization, id).await.expect("the task").turns[0].attempts[0].clone();
    let patch = PatchSummary { additions: 3, deletions: 1, ..PatchSummary::default() };
    let (answer, notes, tally) = ("Done.".to_owned(), AnswerNotes::default(), Tally::default());
    let done = AttemptState::Collecting { answer: answer.clone(), notes: notes.clone() };
    let outcome = AttemptState::Ready(Outcome { answer, patch: Some(patch), notes, tally });

    for next in [AttemptState::Preparing, AttemptState::SettingUp, AttemptState::Running, done, outcome] {
        attempt = store.advance_attempt(&attempt, next, vec![]).await.expect("on its way");
    }

    let listed = store.tasks(organization, None, 1).await.expect("a list");
    let ready = AttemptListing { standing: Standing::Ready, additions: Some(3), deletions: Some(1) };
    assert_eq!(listed[0].attempts, [ready]);
}

#[tokio::test]
async fn two_follow_ups_at_the_same_moment_do_not_both_become_the_second_turn() {
    let fixture = Fixture::new().await;
    let (store, owner) = (&fixture.store, fixture.owner);
    let id = fixture.task(1).await;
    let TaskThread { task, turns, .. } = store.task(owner.organization, id).await.expect("the task");
    let (early, stop) = (turn("now", 1), CancelledBy::User(owner.user));
    let early = store.add_turn(&task, 1, &early, owner.user, "m").await;
    assert!(matches!(early, Err(StoreError::Conflict { .. })), "it is still worked on: {early:?}");
    store.request_cancel(owner.organization, turns[0].attempts[0].id, stop).await.expect("stopped");

    let (first, second) = (turn("more", 1), turn("less", 1));
    let (first, second) = tokio::join!(
        store.add_turn(&task, 1, &first, owner.user, "m"),
        store.add_turn(&task, 1, &second, owner.user, "m")
    );

    assert!(first.is_ok() ^ second.is_ok(), "{first:?} {second:?}");
    assert_eq!(store.task(owner.organization, id).await.expect("the task").turns.len(), 2);
}

#[tokio::test]
async fn asking_twice_for_the_same_publication_makes_one_and_a_failed_one_is_tried_again() {
    let fixture = Fixture::new().await;
    let (store, owner) = (&fixture.store, fixture.owner);
    let task = fixture.task(1).await;
    let attempt = store.task(owner.organization, task).await.expect("the task").turns[0].attempts[0].id;
    let new = NewPublication {
        organization: owner.organization,
        task,
        attempt,
        branch: "fix".parse::<BranchName>().expect("a name"),
        message: "Fix it".to_owned(),
        created_by: owner.user,
    };

    let first = store.request_publication(&new).await.expect("asked");
    let second = store.request_publication(&new).await.expect("asked again");
    assert_eq!(first, second);

    let failed = PublicationState::Failed { reason: "no route".to_owned(), retryable: true };
    store.advance_publication(&first, failed).await.expect("it failed");
    let third = store.request_publication(&new).await.expect("asked once more");
    assert_eq!((third.id, third.state), (first.id, PublicationState::Requested));
}

#[tokio::test]
async fn the_output_of_one_command_is_read_from_the_log() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let task = fixture.task(1).await;
    let attempt = store.task(organization, task).await.expect("the task").turns[0].attempts[0].id;
    let started = |id: &str| EventBody::CommandStarted {
        command_id: id.to_owned(),
        command: "true".to_owned(),
        directory: "/".to_owned(),
    };
    let output = |id: &str, text: &str| EventBody::CommandOutput { command_id: id.to_owned(), text: text.to_owned() };
    let ended = |id: &str| EventBody::CommandEnded {
        command_id: id.to_owned(),
        end: CommandEnd::Exited { code: 0 },
        duration_ms: 1,
        output_bytes: 8,
        dropped_bytes: 0,
    };
    let responded =
        EventBody::ModelResponded { model: "m".to_owned(), response_id: String::new(), usage: None, duration_ms: 1 };
    let bodies = [
        started("call-0"),
        output("call-0", "zero\n"),
        ended("call-0"),
        responded,
        started("call-1"),
        output("call-1", "one\n"),
        started("call-12"),
        output("call-12", "\"command_id\":\"call-1\"\n"),
        output("call-1", "two\n"),
        ended("call-1"),
    ];
    let events = bodies.map(|body| NewEvent { attempt: Some(attempt), body });
    store.append(organization, task, events.into()).await.expect("appended");

    let shown = store.shown_output(organization, attempt).await.expect("an answer");
    let expected = [("call-0", 0), ("call-1", 8), ("call-12", 22)];
    assert_eq!(shown, expected.map(|(id, bytes)| (id.to_owned(), bytes)).into(), "of what may still be listened to");
    let found = store.command_output(organization, attempt, "call-1").await.expect("an answer");

    assert_eq!(found.as_deref(), Some("one\ntwo\n"));
    assert_eq!(store.command_output(organization, attempt, "%").await.expect("an answer"), None);
    assert_eq!(store.command_output(stranger(), attempt, "call-1").await.expect("an answer"), None);
}

#[tokio::test]
async fn an_owner_link_opens_one_session_and_only_in_its_time() {
    let fixture = Fixture::new().await;
    let (store, owner) = (&fixture.store, fixture.owner);
    let soon = fixture.clock.now() + Duration::from_secs(60);
    store.keep_owner_link(owner, "link", soon).await.expect("kept");
    store.keep_owner_link(owner, "late", soon).await.expect("kept");

    assert_eq!(store.redeem_owner_link("link", "session", soon).await.expect("asked"), Some(owner));
    assert_eq!(store.redeem_owner_link("link", "other", soon).await.expect("asked"), None);
    let session = store.session_holder("session").await.expect("asked").map(|(_, principal)| principal);
    assert_eq!(session, Some(owner));
    fixture.clock.move_on(Duration::from_secs(61));
    assert_eq!(store.redeem_owner_link("late", "third", soon).await.expect("asked"), None);
    assert!(store.session_holder("session").await.expect("asked").is_none(), "sessions end too");
}

#[tokio::test]
async fn listeners_hear_of_what_was_stored() {
    let fixture = Fixture::new().await;
    let mut changes = fixture.store.changes();

    let task = fixture.task(1).await;

    let organization = fixture.owner.organization;
    assert_eq!(changes.next().await, Change::Log { organization, task, last_seq: 1 });
    assert_eq!(changes.next().await, Change::Job);
}

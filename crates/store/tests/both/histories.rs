//! Histories of a task: people and workers change it in any order, often from an old view of it, and after each step the
//! store is as its diagrams allow. Nothing leaves an end, every change raises the version by one and is in the log, once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use carrel_domain::comparison::Tally;
use carrel_domain::task::Attempts;
use carrel_domain::{
    AnswerNotes, Attempt, AttemptId, AttemptLimits, AttemptState, CancelledBy, Clock, CommitOid, EventBody, Mode,
    NewEvent, NewTask, NewTurn, Outcome, Priority, Prompt, Publication, PublicationId, PublicationState, Redactor,
    Revision, Stage, TaskId,
};
use carrel_store::{NewPublication, NewRetry, Principal, Store, StoreError};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::place::Place;

/// Each takes hundreds of transactions.
const CASES: u32 = if cfg!(debug_assertions) { 24 } else { 200 };

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What happens. Numbers choose among what there is, and among what there was.
#[derive(Debug, Clone, Copy)]
enum Step {
    Advance { view: usize, to: usize },
    Cancel { attempt: usize },
    Say { attempt: usize },
    Hear { attempt: usize },
    Retry { attempt: usize, resumes: bool },
    GoOn { attempts: u32 },
    Publish { attempt: usize, branch: usize },
    AdvancePublication { view: usize, to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..64_usize;
    prop_oneof![
        12 => (number.clone(), number.clone()).prop_map(|(view, to)| Step::Advance { view, to }),
        2 => number.clone().prop_map(|attempt| Step::Cancel { attempt }),
        2 => number.clone().prop_map(|attempt| Step::Say { attempt }),
        2 => number.clone().prop_map(|attempt| Step::Hear { attempt }),
        3 => (number.clone(), any::<bool>()).prop_map(|(attempt, resumes)| Step::Retry { attempt, resumes }),
        2 => (1..3_u32).prop_map(|attempts| Step::GoOn { attempts }),
        3 => (number.clone(), 0..2_usize).prop_map(|(attempt, branch)| Step::Publish { attempt, branch }),
        6 => (number.clone(), number).prop_map(|(view, to)| Step::AdvancePublication { view, to }),
    ]
}

fn attempt_states() -> Vec<AttemptState> {
    let (answer, notes) = ("Done.".to_owned(), AnswerNotes::default());
    let failed = |stage| AttemptState::Failed { stage, reason: "no model".to_owned(), retryable: true };
    vec![
        AttemptState::Preparing,
        AttemptState::SettingUp,
        AttemptState::Running,
        AttemptState::Collecting { answer: answer.clone(), notes: notes.clone() },
        AttemptState::Ready(Outcome { answer, patch: None, notes, tally: Tally::default() }),
        failed(Stage::Preparing),
        failed(Stage::Running),
        AttemptState::Cancelled { by: CancelledBy::User(carrel_domain::UserId::from_uuid(uuid::Uuid::nil())) },
        AttemptState::Queued,
    ]
}

fn publication_states() -> Vec<PublicationState> {
    let commit = |digit: &str| digit.repeat(40).parse::<CommitOid>().expect("a commit");
    vec![
        PublicationState::Committed { commit: commit("1") },
        PublicationState::Pushed { commit: commit("1") },
        PublicationState::Pushed { commit: commit("2") },
        PublicationState::Failed { reason: "refused".to_owned(), retryable: true },
        PublicationState::Requested,
    ]
}

fn turn(attempts: u32) -> NewTurn {
    NewTurn {
        prompt: Prompt::parse("Fix it").expect("a prompt"),
        mode: Mode::Code,
        attempts: Attempts::new(attempts).expect("1 to 4"),
        attachments: Vec::new(),
        from_attempt: None,
        model: None,
        effort: None,
        agent: None,
        limits: AttemptLimits::NONE,
    }
}

struct World {
    _place: Place,
    store: Store,
    owner: Principal,
    task: TaskId,
    /// Every view of an attempt there ever was; the last of each is as it stands.
    attempts: Vec<Attempt>,
    publications: Vec<Publication>,
    /// How often each changed its state.
    moves: BTreeMap<AttemptId, usize>,
    publication_moves: BTreeMap<PublicationId, usize>,
}

impl World {
    async fn open() -> Self {
        let place = Place::of(module_path!());
        let store = place.open_once(Arc::new(Now), Redactor::default()).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self {
            _place: place,
            store,
            owner,
            task: TaskId::from_uuid(uuid::Uuid::nil()),
            attempts: Vec::new(),
            publications: Vec::new(),
            moves: BTreeMap::new(),
            publication_moves: BTreeMap::new(),
        }
    }

    async fn begin(&mut self) {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: None,
            local_changes: None,
            priority: Priority::Normal,
            turn: turn(2),
        };
        self.task = self.store.create_task(&new, "gpt-test").await.expect("a task");
        self.attempts.clear();
        self.publications.clear();
        self.moves.clear();
        self.publication_moves.clear();
        self.look().await;
    }

    /// An attempt as it stands.
    fn attempt(&self, number: usize) -> Attempt {
        let ids: Vec<AttemptId> = self.moves.keys().copied().collect();
        let id = ids[number % ids.len()];
        self.attempts.iter().rfind(|attempt| attempt.id == id).expect("it was seen").clone()
    }

    async fn take(&mut self, step: Step) {
        let (store, organization, user) = (self.store.clone(), self.owner.organization, self.owner.user);
        match step {
            Step::Advance { view, to } => {
                // Half of the time as it stands, otherwise as somebody once saw it.
                let seen = if view % 2 == 0 {
                    self.attempt(view / 2)
                } else {
                    self.attempts[view % self.attempts.len()].clone()
                };
                let next = attempt_states()[to % attempt_states().len()].clone();
                let is_arrow = seen.state.clone().advance(next.clone()).is_ok();
                let is_now = self.attempts.iter().rfind(|attempt| attempt.id == seen.id).map(|now| now.version)
                    == Some(seen.version);
                let waits = !store.waiting_messages(&seen).await.expect("messages").is_empty();
                let held_up = waits && matches!(next, AttemptState::Collecting { .. });
                match store.advance_attempt(&seen, next, Vec::new()).await {
                    Ok(_) => assert!(is_arrow && is_now && !held_up, "{seen:?} was changed"),
                    Err(StoreError::Impossible(_)) => assert!(!is_arrow),
                    Err(StoreError::Conflict { .. }) => assert!(!is_now || held_up),
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Cancel { attempt } => {
                let id = self.attempt(attempt).id;
                store.request_cancel(organization, id, CancelledBy::User(user)).await.expect("it is written down");
            }
            Step::Say { attempt } => {
                let now = self.attempt(attempt);
                let hears = now.state.hears() && now.cancel_requested_by.is_none();
                match store.send_message(organization, now.id, "faster", user).await {
                    Ok(_) | Err(StoreError::TooManyMessages { .. }) => assert!(hears, "{now:?} is told something"),
                    Err(StoreError::TooLate { .. }) => assert!(!hears, "{now:?} is told nothing"),
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Hear { attempt } => {
                let now = self.attempt(attempt);
                let waiting = store.waiting_messages(&now).await.expect("messages");
                let heard = waiting.iter().map(|message| NewEvent {
                    attempt: Some(now.id),
                    body: EventBody::MessageDelivered { message_id: message.id },
                });
                store.append(organization, self.task, heard.collect()).await.expect("heard");
            }
            Step::Retry { attempt, resumes } => {
                let now = self.attempt(attempt);
                let new = NewRetry { resumes, latest_environment: false, limits: AttemptLimits::NONE };
                if store.retry_attempt(organization, now.id, new).await.is_ok() {
                    assert!(now.state.can_be_retried(), "{now:?} is made again");
                }
            }
            Step::GoOn { attempts } => {
                let thread = store.task(organization, self.task).await.expect("the task");
                let turns = u32::try_from(thread.turns.len()).expect("few");
                let works =
                    thread.turns.iter().flat_map(|turn| &turn.attempts).any(|attempt| !attempt.state.has_ended());
                let added = store.add_turn(&thread.task, turns, &turn(attempts), user, "gpt-test").await;
                assert_eq!(added.is_ok(), !works, "{added:?}");
            }
            Step::Publish { attempt, branch } => {
                let new = NewPublication {
                    organization,
                    task: self.task,
                    attempt: self.attempt(attempt).id,
                    branch: ["fix", "other"][branch].parse().expect("a branch"),
                    message: "Fix it".to_owned(),
                    created_by: user,
                };
                store.request_publication(&new).await.expect("a publication");
            }
            Step::AdvancePublication { view, to } => {
                let Some(seen) = self.publications.get(view % self.publications.len().max(1)).cloned() else { return };
                let next = publication_states()[to % publication_states().len()].clone();
                let is_arrow = seen.state.clone().advance(next.clone()).is_ok();
                let is_now = self.publications.iter().rfind(|one| one.id == seen.id).map(|now| now.version)
                    == Some(seen.version);
                match store.advance_publication(&seen, next).await {
                    Ok(_) => assert!(is_arrow && is_now, "{seen:?} was changed"),
                    Err(StoreError::Impossible(_)) => assert!(!is_arrow),
                    Err(StoreError::Conflict { .. }) => assert!(!is_now),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        self.look().await;
    }

    /// Reads how things stand, and holds it against how they stood.
    async fn look(&mut self) {
        let thread = self.store.task(self.owner.organization, self.task).await.expect("the task");
        for now in thread.turns.into_iter().flat_map(|turn| turn.attempts) {
            let before = self.attempts.iter().rfind(|attempt| attempt.id == now.id);
            let moves = self.moves.entry(now.id).or_default();
            match before {
                None => assert_eq!(now.state, AttemptState::Queued),
                Some(before) if before.state == now.state => assert_eq!(before.version, now.version),
                Some(before) => {
                    before.state.clone().advance(now.state.clone()).expect("the diagram has this arrow");
                    assert_eq!(now.version, before.version + 1);
                    *moves += 1;
                }
            }
            assert_eq!(now.ended_at.is_some(), now.state.has_ended(), "{now:?}");
            self.attempts.push(now);
        }
        for now in thread.publications {
            let moves = self.publication_moves.entry(now.id).or_default();
            match self.publications.iter().rfind(|one| one.id == now.id) {
                None => assert_eq!(now.state, PublicationState::Requested),
                Some(before) if before.state == now.state => assert_eq!(before.version, now.version),
                Some(before) => {
                    before.state.clone().advance(now.state.clone()).expect("the diagram has this arrow");
                    assert_eq!(now.version, before.version + 1);
                    *moves += 1;
                }
            }
            self.publications.push(now);
        }
    }

    /// The log has everything that happened, once and in order.
    async fn settle(&self) {
        let events = self.store.events(self.owner.organization, self.task, 0, 1000).await.expect("a log");
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..).take(events.len()).collect::<Vec<i64>>(), "the log has a gap");
        for (id, moves) in &self.moves {
            let told: Vec<&AttemptState> = events
                .iter()
                .filter(|event| event.attempt == Some(*id))
                .filter_map(|event| match &event.body {
                    EventBody::AttemptState(state) => Some(state),
                    _ => None,
                })
                .collect();
            assert_eq!(told.len(), *moves, "{told:?}");
            let now = self.attempts.iter().rfind(|attempt| attempt.id == *id).expect("it was seen");
            assert!(told.last().is_none_or(|last| **last == now.state));
        }
        let told = events.iter().filter(|event| event.body.kind().starts_with("publication.")).count();
        let moved: usize = self.publication_moves.values().map(|moves| moves + 1).sum();
        assert_eq!(told, moved);
    }
}

#[test]
fn whoever_does_what_in_whatever_order_the_diagrams_hold() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = RefCell::new(runtime.block_on(World::open()));
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });

    let outcome = runner.run(&proptest::collection::vec(step(), 1..60), |steps| {
        let mut world = world.borrow_mut();
        runtime.block_on(async {
            world.begin().await;
            for step in steps {
                world.take(step).await;
            }
            world.settle().await;
        });
        Ok(())
    });

    outcome.unwrap_or_else(|error| panic!("{error}"));
}

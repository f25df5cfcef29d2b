//! What people say to attempts, and attempts that are made again, on a real database in a folder of its own.

use std::sync::Arc;

use carrel_domain::task::Attempts;
use carrel_domain::{
    AnswerNotes, Attempt, AttemptState, CancelledBy, Clock, EventBody, Mode, NewEvent, NewTask, NewTurn,
    OrganizationId, Prompt, Redactor, Revision, Secret, Stage,
};
use carrel_store::{Change, NewRetry, Principal, Store, StoreError, TaskThread};
use jiff::Timestamp;

use crate::place::Place;

const ANEW: NewRetry =
    NewRetry { resumes: false, latest_environment: false, limits: carrel_domain::AttemptLimits::NONE };

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }
}

struct Fixture {
    _place: Place,
    store: Store,
    owner: Principal,
}

impl Fixture {
    async fn new() -> Self {
        let place = Place::of(module_path!());
        let store = place.open_once(Arc::new(Noon), Redactor::new([&Secret::new("hunter2-hunter2")])).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { _place: place, store, owner }
    }

    /// The first attempt of a new task.
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
                agent: None,
                limits: carrel_domain::AttemptLimits::NONE,
            },
        };
        let task = self.store.create_task(&new, "gpt-test").await.expect("a task");
        let thread = self.store.task(self.owner.organization, task).await.expect("it is there");
        thread.turns[0].attempts[0].clone()
    }

    async fn running(&self) -> Attempt {
        let mut attempt = self.attempt().await;
        for state in [AttemptState::Preparing, AttemptState::SettingUp, AttemptState::Running] {
            attempt = self.store.advance_attempt(&attempt, state, Vec::new()).await.expect("it moves on");
        }
        attempt
    }

    async fn failed(&self) -> Attempt {
        let attempt = self.running().await;
        let failed = AttemptState::Failed { stage: Stage::Running, reason: "no model".to_owned(), retryable: true };
        self.store.advance_attempt(&attempt, failed, Vec::new()).await.expect("it fails")
    }

    async fn say(&self, attempt: &Attempt, text: &str) -> Result<carrel_domain::Message, StoreError> {
        self.store.send_message(self.owner.organization, attempt.id, text, self.owner.user).await
    }

    async fn waiting(&self, attempt: &Attempt) -> Vec<String> {
        let waiting = self.store.waiting_messages(attempt).await.expect("the database answers");
        waiting.into_iter().map(|message| message.text).collect()
    }

    async fn retry(&self, attempt: &Attempt, new: NewRetry) -> Result<Attempt, StoreError> {
        self.store.retry_attempt(self.owner.organization, attempt.id, new).await
    }

    async fn thread(&self, attempt: &Attempt) -> TaskThread {
        self.store.task(self.owner.organization, attempt.task).await.expect("it is there")
    }
}

fn collecting() -> AttemptState {
    AttemptState::Collecting { answer: "done".to_owned(), notes: AnswerNotes::default() }
}

fn delivered(attempt: &Attempt, message: &carrel_domain::Message) -> NewEvent {
    NewEvent { attempt: Some(attempt.id), body: EventBody::MessageDelivered { message_id: message.id } }
}

#[tokio::test]
async fn messages_wait_in_order_until_they_are_told_to_be_delivered() {
    let fixture = Fixture::new().await;
    let attempt = fixture.running().await;
    let mut changes = fixture.store.changes();
    let first = fixture.say(&attempt, "faster").await.expect("it is taken");
    fixture.say(&attempt, "and with hunter2-hunter2").await.expect("it is taken");
    let heard = changes.next().await;

    let before = fixture.waiting(&attempt).await;
    fixture.store.append_with_files(&attempt, vec![delivered(&attempt, &first)], Vec::new()).await.expect("stored");
    let again = fixture.store.append_with_files(&attempt, vec![delivered(&attempt, &first)], Vec::new()).await;

    assert_eq!(heard, Change::MessageSent(attempt.id));
    assert_eq!(before.len(), 2);
    assert!(before[0] == "faster" && !before[1].contains("hunter2"), "{before:?}");
    assert_eq!(fixture.waiting(&attempt).await.len(), 1);
    assert!(matches!(again, Err(StoreError::Conflict { noun: "message" })), "{again:?}");
}

#[tokio::test]
async fn an_agent_for_whom_a_message_waits_is_not_done() {
    let fixture = Fixture::new().await;
    let attempt = fixture.running().await;
    let message = fixture.say(&attempt, "faster").await.expect("it is taken");

    let too_early = fixture.store.advance_attempt(&attempt, collecting(), Vec::new()).await;
    fixture.store.append_with_files(&attempt, vec![delivered(&attempt, &message)], Vec::new()).await.expect("stored");
    let done = fixture.store.advance_attempt(&attempt, collecting(), Vec::new()).await.expect("it is done");
    let too_late = fixture.say(&attempt, "faster still").await;

    assert!(matches!(too_early, Err(StoreError::Conflict { noun: "attempt" })), "{too_early:?}");
    assert_eq!(done.state, collecting());
    assert!(matches!(too_late, Err(StoreError::TooLate { state: "at its end" })), "{too_late:?}");
}

#[tokio::test]
async fn the_last_word_of_an_agent_counts_and_what_it_has_not_heard_is_said_so() {
    let fixture = Fixture::new().await;
    let attempt = fixture.running().await;
    fixture.say(&attempt, "faster").await.expect("it is taken");
    let last_word = Some("the limit of 2 steps is all but reached".to_owned());
    let notes = AnswerNotes { last_word, ..AnswerNotes::default() };
    let summed_up = AttemptState::Collecting { answer: "done".to_owned(), notes };

    let done = fixture.store.advance_attempt(&attempt, summed_up.clone(), Vec::new()).await.expect("it is done");

    assert_eq!(done.state, summed_up);
    let events = fixture.store.events(attempt.organization, attempt.task, 0, 100).await.expect("a log");
    let warning = events.into_iter().find_map(|event| match event.body {
        EventBody::Warning { message } => Some(message),
        _ => None,
    });
    let expected = "a message was not delivered: the limit of 2 steps is all but reached; say it in a follow-up";
    assert_eq!(warning.as_deref(), Some(expected));
}

#[tokio::test]
async fn an_attempt_that_is_being_stopped_hears_nothing_and_too_many_messages_are_refused() {
    let fixture = Fixture::new().await;
    let (stopping, flooded) = (fixture.running().await, fixture.running().await);
    let by = CancelledBy::User(fixture.owner.user);
    fixture.store.request_cancel(fixture.owner.organization, stopping.id, by).await.expect("it is written down");
    for _ in 0..carrel_domain::message::MAX_WAITING {
        fixture.say(&flooded, "more").await.expect("it is taken");
    }

    let stopped = fixture.say(&stopping, "faster").await;
    let one_more = fixture.say(&flooded, "more").await;
    let stranger = OrganizationId::from_uuid(uuid::Uuid::now_v7());
    let strange = fixture.store.send_message(stranger, flooded.id, "mine", fixture.owner.user).await;

    assert!(matches!(stopped, Err(StoreError::TooLate { .. })), "{stopped:?}");
    assert!(matches!(one_more, Err(StoreError::TooManyMessages { .. })), "{one_more:?}");
    assert!(matches!(strange, Err(StoreError::NotFound { noun: "attempt" })), "{strange:?}");
}

#[tokio::test]
async fn a_retry_has_the_next_number_the_same_pins_and_what_was_not_heard() {
    let fixture = Fixture::new().await;
    let running = fixture.running().await;
    fixture.say(&running, "faster").await.expect("it is taken");
    let failed = AttemptState::Failed { stage: Stage::Running, reason: "no model".to_owned(), retryable: true };
    let failed = fixture.store.advance_attempt(&running, failed, Vec::new()).await.expect("it fails");

    let retry = fixture.retry(&failed, ANEW).await.expect("it is made again");

    let pins = |attempt: &Attempt| {
        (attempt.turn, attempt.environment, attempt.environment_version, attempt.model.clone(), attempt.base.clone())
    };
    assert_eq!((retry.number, retry.retry.map(|retry| retry.of)), (2, Some(failed.id)));
    assert_eq!(pins(&retry), pins(&failed));
    assert_eq!(fixture.waiting(&retry).await, ["faster"]);
    let thread = fixture.thread(&failed).await;
    assert_eq!(thread.turns[0].attempts[1], retry, "it is read back whole");
    assert_eq!(thread.state(), carrel_domain::TaskState::Queued, "what was made again counts no more");
    let listed = fixture.store.tasks(fixture.owner.organization, None, 10).await.expect("a list");
    assert_eq!(listed[0].attempts.len(), 1);
}

#[tokio::test]
async fn warnings_and_limits_count_in_what_an_attempt_has_done() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt().await;
    let told = [
        EventBody::Warning { message: "the answer: untrue".to_owned() },
        EventBody::LimitHit { limit: "disk".to_owned(), message: "full".to_owned() },
        EventBody::AgentMessage { text: "Hm.".to_owned() },
    ];
    let events = told.map(|body| NewEvent { attempt: Some(attempt.id), body }).to_vec();
    fixture.store.append_with_files(&attempt, events, Vec::new()).await.expect("told");

    let tally = fixture.store.tally(&attempt).await.expect("counted");

    assert_eq!((tally.warnings, tally.commands), (2, 0));
}

#[tokio::test]
async fn only_the_last_of_what_has_no_result_is_made_again() {
    let fixture = Fixture::new().await;
    let (running, failed) = (fixture.running().await, fixture.failed().await);

    let too_early = fixture.retry(&running, ANEW).await;
    fixture.retry(&failed, ANEW).await.expect("it is made again");
    let twice = fixture.retry(&failed, ANEW).await;

    let reason = |refused: Result<Attempt, StoreError>| refused.expect_err("refused").to_string();
    assert!(reason(too_early).contains("wait until it has ended"));
    assert!(reason(twice).contains("as attempt 2; retry that one"));
}

#[tokio::test]
async fn an_attempt_ends_and_is_made_again_in_one_step_where_it_may_be() {
    let fixture = Fixture::new().await;
    let running = fixture.running().await;
    let (organization, task) = (running.organization, running.task);
    let end = || AttemptState::Failed { stage: Stage::Running, reason: "gone".to_owned(), retryable: true };

    let ended = fixture.store.end_and_retry(&running, end(), Vec::new()).await.expect("ended");
    let twice = fixture.store.end_and_retry(&running, end(), Vec::new()).await;

    assert!(ended.state.has_ended() && matches!(twice, Err(StoreError::Conflict { .. })), "{twice:?}");
    let attempts = fixture.store.task(organization, task).await.expect("the task").turns.remove(0).attempts;
    let again: Vec<_> = attempts.iter().map(|attempt| (attempt.number, attempt.retry.map(|retry| retry.of))).collect();
    assert_eq!(again, [(1, None), (2, Some(running.id))]);
    let events = fixture.store.events(organization, task, 0, 100).await.expect("the log");
    let kinds: Vec<&str> = events.iter().rev().take(2).map(|event| event.body.kind()).collect();
    assert_eq!(kinds, ["attempt.retried", "attempt.state"], "the end comes first");
}

#[tokio::test]
async fn a_compacted_conversation_is_read_with_all_that_it_ever_had() {
    let fixture = Fixture::new().await;
    let Attempt { organization, task, id: attempt, .. } = fixture.attempt().await;
    let item = |text: &str| serde_json::json!({"type": "message", "role": "user", "content": text});
    let (before_tokens, after_tokens, items_dropped) = (9, 3, 1);
    let items = vec![item("a"), item("summary")];
    let compacted = EventBody::ContextCompacted { before_tokens, after_tokens, items_dropped, by_model: true, items };
    let bodies = [
        EventBody::ConversationItem { item: item("a") },
        compacted,
        EventBody::AgentMessage { text: "b".to_owned() },
        EventBody::ConversationItem { item: item("c") },
    ];
    let events = bodies.map(|body| NewEvent { attempt: Some(attempt), body });
    fixture.store.append(organization, task, events.into()).await.expect("appended");

    let conversation = fixture.store.conversation(organization, attempt).await.expect("the conversation");

    let mark = serde_json::json!({"type": "context_compacted"});
    assert_eq!(conversation, [item("a"), mark, item("a"), item("summary"), item("c")]);
}

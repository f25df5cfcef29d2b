//! What followers of a task's log hear, on a real database in a folder of its own.

use std::sync::Arc;
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{
    AttemptLimits, Clock, EventBody, Mode, NewEvent, NewTask, NewTurn, OrganizationId, Priority, Prompt, Redactor,
    Revision, TaskId, WorkerId,
};
use carrel_store::{Principal, SealingKeys, Store, StoreError, Tail, Told};
use jiff::Timestamp;

use crate::place::Place;

/// How long something may take that happens at once, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct Fixture {
    place: Place,
    keys: String,
    store: Store,
    owner: Principal,
}

impl Fixture {
    async fn new() -> Self {
        let (place, keys) = (Place::of(module_path!()), SealingKeys::fresh().expect("chance").expose().to_owned());
        let store = place.open(Arc::new(Now), Redactor::default(), &keys).await.0;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { place, keys, store, owner }
    }

    async fn task(&self) -> TaskId {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: None,
            local_changes: None,
            priority: Priority::Normal,
            turn: NewTurn {
                prompt: Prompt::parse("Fix it").expect("a prompt"),
                mode: Mode::Code,
                attempts: Attempts::ONE,
                attachments: Vec::new(),
                from_attempt: None,
                model: None,
                effort: None,
                agent: None,
                limits: AttemptLimits::NONE,
            },
        };
        self.store.create_task(&new, "gpt-test").await.expect("a task")
    }

    async fn say(&self, store: &Store, task: TaskId, texts: &[&str]) {
        let said = |text: &&str| NewEvent { attempt: None, body: EventBody::AgentMessage { text: (*text).to_owned() } };
        let events = texts.iter().map(said).collect();
        store.append(self.owner.organization, task, events).await.expect("appended");
    }
}

/// What is told until this was said.
async fn heard(tail: &mut Tail, last: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != last) {
        let told = tokio::time::timeout(PATIENCE, tail.next()).await.expect("it is told");
        let Told::Events(events) = told else { panic!("something was missed: {told:?}") };
        let all = events.iter().filter_map(|event| match &event.body {
            EventBody::AgentMessage { text } => Some(text.clone()),
            _ => None,
        });
        texts.extend(all);
    }
    texts
}

#[tokio::test]
async fn all_who_follow_a_log_hear_what_is_said_in_it_and_nothing_else() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let (task, other) = (fixture.task().await, fixture.task().await);
    let mut first = store.follow(organization, task).await.expect("it is there");

    fixture.say(store, task, &["one"]).await;
    let one = heard(&mut first, "one").await;
    let mut second = store.follow(organization, task).await.expect("it is there");
    fixture.say(store, other, &["elsewhere"]).await;
    fixture.say(store, task, &["two", "three"]).await;

    assert_eq!(one, ["one"]);
    assert_eq!(heard(&mut first, "three").await, ["two", "three"]);
    assert_eq!(heard(&mut second, "three").await, ["two", "three"]);
}

#[tokio::test]
async fn a_log_that_was_left_alone_is_followed_anew() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let task = fixture.task().await;
    drop(store.follow(organization, task).await.expect("it is there"));
    fixture.say(store, task, &["between"]).await;

    let mut tail = store.follow(organization, task).await.expect("it is there");
    fixture.say(store, task, &["after"]).await;

    assert_eq!(heard(&mut tail, "after").await, ["after"]);
}

#[tokio::test]
async fn who_does_not_listen_for_long_is_told_that_something_was_missed() {
    let fixture = Fixture::new().await;
    let (store, organization) = (&fixture.store, fixture.owner.organization);
    let task = fixture.task().await;
    let mut slow = store.follow(organization, task).await.expect("it is there");
    let mut quick = store.follow(organization, task).await.expect("it is there");

    for number in 0..100 {
        let text = number.to_string();
        fixture.say(store, task, &[&text]).await;
        assert_eq!(heard(&mut quick, &text).await, [text]);
    }

    assert!(matches!(slow.next().await, Told::Missed));
}

#[tokio::test]
async fn a_task_of_others_is_not_followed() {
    let fixture = Fixture::new().await;
    let task = fixture.task().await;
    let stranger = OrganizationId::from_uuid(uuid::Uuid::now_v7());

    let refused = fixture.store.follow(stranger, task).await.err().expect("it is not theirs");

    assert!(matches!(refused, StoreError::NotFound { noun: "task" }), "{refused}");
}

#[tokio::test]
async fn what_another_process_says_is_heard_at_once() {
    if module_path!().ends_with("_on_sqlite") {
        // One process alone has it.
        return;
    }
    let fixture = Fixture::new().await;
    let task = fixture.task().await;
    let worker = WorkerId::from_uuid(uuid::Uuid::from_u128(2));
    let elsewhere = fixture.place.open_as(worker, Arc::new(Now), Redactor::default(), &fixture.keys).await.0;
    let mut tail = elsewhere.follow(fixture.owner.organization, task).await.expect("it is there");

    fixture.say(&fixture.store, task, &["here"]).await;

    assert_eq!(heard(&mut tail, "here").await, ["here"]);
}

//! What an attempt leaves behind, on a real database in a folder of its own.

use std::sync::Arc;

use carrel_domain::task::Attempts;
use carrel_domain::{
    Attempt, AttemptLimits, Clock, EventBody, Mode, NewEvent, NewTask, NewTurn, OrganizationId, Prompt, Redactor,
    Revision, TaskId,
};
use carrel_store::Store;
use jiff::Timestamp;

use crate::place::Place;

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct Fixture {
    _place: Place,
    store: Store,
    organization: OrganizationId,
    attempt: Attempt,
}

impl Fixture {
    async fn new() -> Self {
        let place = Place::of(module_path!());
        let store = place.open_once(Arc::new(Now), Redactor::default()).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
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
                attempts: Attempts::new(1).expect("1 to 4"),
                attachments: Vec::new(),
                from_attempt: None,
                model: None,
                effort: None,
                agent: None,
                limits: AttemptLimits::NONE,
            },
        };
        let task = store.create_task(&new, "gpt-test").await.expect("a task");
        let attempt = store.task(owner.organization, task).await.expect("the task").turns[0].attempts[0].clone();
        Self { _place: place, store, organization: owner.organization, attempt }
    }
}

fn stranger() -> OrganizationId {
    OrganizationId::from_uuid(uuid::Uuid::now_v7())
}

#[tokio::test]
async fn an_artifact_is_kept_whole_and_replaced_under_its_name() {
    let fixture = Fixture::new().await;
    let (store, organization, attempt) = (&fixture.store, fixture.organization, &fixture.attempt);

    store.keep_artifact(attempt, "patch", b"one".to_vec()).await.expect("kept");
    store.keep_artifact(attempt, "patch", b"three".to_vec()).await.expect("kept again");

    let artifact = store.artifact(organization, attempt.id, "patch").await.expect("it is there");
    assert_eq!((store.artifact_bytes(&artifact).await.expect("bytes"), artifact.size_bytes), (b"three".to_vec(), 5));
    assert!(store.artifact(stranger(), attempt.id, "patch").await.is_err());
}

#[tokio::test]
async fn an_attached_file_comes_with_its_event_or_not_at_all() {
    let fixture = Fixture::new().await;
    let (store, organization, attempt) = (&fixture.store, fixture.organization, &fixture.attempt);
    let told = |name: &str| {
        let body = EventBody::ArtifactAttached { name: name.to_owned(), size_bytes: 3, description: None };
        vec![NewEvent { attempt: Some(attempt.id), body }]
    };
    let file = |name: &str, text: &[u8]| vec![(name.to_owned(), text.to_vec())];

    store.append_with_files(attempt, told("patch"), file("patch", b"one")).await.expect("kept");
    store.append_with_files(attempt, told("patch"), file("patch", b"two")).await.expect("kept again");
    let elsewhere = Attempt { task: TaskId::from_uuid(uuid::Uuid::nil()), ..attempt.clone() };
    store.append_with_files(&elsewhere, told("x"), file("x", b"x")).await.expect_err("there is no such task");

    let all = store.attachments(organization, attempt.id).await.expect("a list");
    assert_eq!(all.iter().map(|one| (one.name.as_str(), one.artifact.size_bytes)).collect::<Vec<_>>(), [("patch", 3)]);
    let kept = store.attachment(organization, attempt.id, "patch").await.expect("it is there");
    assert_eq!(store.artifact_bytes(&kept).await.expect("bytes"), b"two");
    assert!(store.artifact(organization, attempt.id, "patch").await.is_err(), "it is no patch");
    assert!(store.attachments(stranger(), attempt.id).await.expect("a list").is_empty());
    assert!(store.attachment(stranger(), attempt.id, "patch").await.is_err());
}

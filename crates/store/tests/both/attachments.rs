//! Files that people give, on a real database in a folder of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use carrel_domain::task::Attempts;
use carrel_domain::{
    Attachment, AttachmentId, Clock, Mode, NewTask, NewTurn, OrganizationId, Prompt, Redactor, Revision, TaskId,
};
use carrel_store::{NewDiff, Principal, Store, StoreError};
use jiff::Timestamp;

use crate::place::Place;

#[derive(Clone, Default)]
struct Hours(Arc<AtomicI64>);

impl Clock for Hours {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 3600 * self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

struct Fixture {
    _place: Place,
    store: Store,
    hours: Hours,
    owner: Principal,
}

impl Fixture {
    async fn new() -> Self {
        let (place, hours) = (Place::of(module_path!()), Hours::default());
        let store = place.open_once(Arc::new(hours.clone()), Redactor::default()).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { _place: place, store, hours, owner }
    }

    async fn give(&self, name: &str, bytes: &[u8]) -> Attachment {
        let (organization, user) = (self.owner.organization, self.owner.user);
        self.store.add_attachment(organization, user, (name, None), bytes.to_vec()).await.expect("it is kept")
    }

    async fn task(&self, attachments: Vec<AttachmentId>) -> Result<TaskId, StoreError> {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: None,
            local_changes: None,
            priority: carrel_domain::Priority::Normal,
            turn: NewTurn {
                prompt: Prompt::parse("Look").expect("a prompt"),
                mode: Mode::Code,
                attempts: Attempts::ONE,
                attachments,
                from_attempt: None,
                model: None,
                effort: None,
                agent: None,
                limits: carrel_domain::AttemptLimits::NONE,
            },
        };
        self.store.create_task(&new, "gpt-test").await
    }

    /// Makes the bytes of an attachment look as if they had been written two hours ago.
    async fn age(&self, attachment: &Attachment) -> std::path::PathBuf {
        let found = self.store.attachment_file(self.owner.organization, attachment.id).await.expect("it is there");
        let path = self.store.artifact_path(&found.1).await.expect("its bytes");
        let file = std::fs::File::options().write(true).open(&path).expect("its bytes");
        file.set_modified(SystemTime::now() - Duration::from_hours(2)).expect("a time");
        path
    }

    async fn is_there(&self, attachment: &Attachment) -> bool {
        self.store.attachment_file(self.owner.organization, attachment.id).await.is_ok()
    }
}

#[tokio::test]
async fn what_no_turn_has_taken_within_a_day_is_collected_with_its_bytes() {
    let fixture = Fixture::new().await;
    let (used, unused) = (fixture.give("a", b"used").await, fixture.give("b", b"unused").await);
    let (twin, same) = (fixture.give("c", b"same").await, fixture.give("d", b"same").await);
    fixture.task(vec![used.id, twin.id]).await.expect("a task");
    let (used_path, unused_path, same_path) =
        (fixture.age(&used).await, fixture.age(&unused).await, fixture.age(&same).await);

    fixture.hours.0.store(23, Ordering::SeqCst);
    fixture.store.collect_attachments().await.expect("the database answers");
    let before = fixture.is_there(&unused).await;
    fixture.hours.0.store(25, Ordering::SeqCst);
    fixture.store.collect_attachments().await.expect("the database answers");

    assert!(before, "a day is not over");
    assert!(!fixture.is_there(&unused).await && !unused_path.exists());
    assert!(!fixture.is_there(&same).await && same_path.exists(), "another has the same bytes");
    assert!(fixture.is_there(&used).await && used_path.exists());
}

#[tokio::test]
async fn nobody_gives_more_files_than_tasks_take() {
    let fixture = Fixture::new().await;
    let (organization, user) = (fixture.owner.organization, fixture.owner.user);
    let first = fixture.give("first", b"first").await;
    for number in 1..carrel_domain::attachment::MAX_WAITING {
        fixture.give(&number.to_string(), b"same").await;
    }

    let refused = fixture.store.add_attachment(organization, user, ("more", None), b"more".to_vec()).await;
    fixture.task(vec![first.id]).await.expect("a task");
    let taken = fixture.store.add_attachment(organization, user, ("more", None), b"more".to_vec()).await;

    assert!(matches!(refused, Err(StoreError::TooManyAttachments { files: 200, .. })), "{refused:?}");
    assert_eq!(taken.expect("there is room again").name, "more");
}

#[tokio::test]
async fn bytes_that_were_given_again_just_now_stay() {
    let fixture = Fixture::new().await;
    let first = fixture.give("a", b"again").await;
    let path = fixture.age(&first).await;
    fixture.hours.0.store(25, Ordering::SeqCst);

    let again = fixture.give("a", b"again").await;

    assert!(!fixture.is_there(&first).await);
    assert!(fixture.is_there(&again).await && path.exists());
}

#[tokio::test]
async fn names_are_numbered_within_a_task_and_what_is_not_there_is_refused() {
    let fixture = Fixture::new().await;
    let (one, two) = (fixture.give("log.txt", b"1").await, fixture.give("log.txt", b"2").await);
    let task = fixture.task(vec![one.id, two.id]).await.expect("a task");
    let placed = fixture.store.task_attachments(fixture.owner.organization, task).await.expect("a list");

    let unknown = fixture.task(vec![AttachmentId::from_uuid(uuid::Uuid::nil())]).await;
    let stranger = OrganizationId::from_uuid(uuid::Uuid::now_v7());
    let strange = fixture.store.attachment_file(stranger, one.id).await;

    let names: Vec<&str> = placed.iter().map(|one| one.attachment.name.as_str()).collect();
    assert_eq!(names, ["log.txt", "log-2.txt"]);
    assert!(matches!(unknown, Err(StoreError::UnknownAttachment { .. })), "{unknown:?}");
    assert!(matches!(strange, Err(StoreError::NotFound { .. })), "{strange:?}");
    let tasks = fixture.store.tasks(fixture.owner.organization, None, 10).await.expect("a list");
    assert_eq!(tasks.len(), 1, "nothing is stored of what was refused");
}

#[tokio::test]
async fn a_diff_of_a_prompt_is_kept_once_for_all_attempts_of_its_turn_and_told_once() {
    let fixture = Fixture::new().await;
    let given = fixture.give("prompt.diff", b"mine").await;
    let task = fixture.task(vec![given.id]).await.expect("a task");
    let organization = fixture.owner.organization;
    let thread = fixture.store.task(organization, task).await.expect("a thread");
    let attempt = &thread.turns[0].attempts[0];
    let had = |bytes: &[u8]| NewDiff {
        position: 0,
        source: "the prompt".to_owned(),
        content: Ok(("prompt.diff".to_owned(), bytes.to_vec())),
    };
    let missing = NewDiff { position: 1, source: "https://x/1.diff".to_owned(), content: Err("404".to_owned()) };

    for new in [had(b"first"), had(b"second"), missing.clone(), missing] {
        fixture.store.keep_prompt_diff(attempt, new).await.expect("the database answers");
    }

    let kept = fixture.store.prompt_diffs(organization, attempt.turn).await.expect("the database answers");
    let places: Vec<_> =
        kept.iter().map(|diff| (diff.position, diff.attachment.is_some(), diff.problem.as_deref())).collect();
    assert_eq!(places, [(0, true, None), (1, false, Some("404"))]);
    let placed = fixture.store.task_attachments(organization, task).await.expect("the database answers");
    let names: Vec<_> = placed.iter().map(|one| one.attachment.name.as_str()).collect();
    assert_eq!(names, ["prompt.diff", "prompt-2.diff"], "what a person gave keeps its name");
    assert_eq!(fixture.store.artifact_bytes(&placed[1].artifact).await.expect("its bytes"), b"first");
    let events = fixture.store.events(organization, task, 0, 100).await.expect("the database answers");
    assert_eq!(events.iter().filter(|event| event.body.kind() == "diff.provided").count(), 2);
}

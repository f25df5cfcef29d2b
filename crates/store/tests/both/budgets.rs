//! What is spent is counted once, in its month, against the organization and the person; and what tasks wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{
    Allowance, Attempt, AttemptId, AttemptLimits, AttemptState, Budget, BudgetId, BudgetOwner, Clock, EventBody, Level,
    Mode, NewEvent, NewTask, NewTurn, Prompt, Redactor, Revision, Spending, Usage,
};
use carrel_store::{Principal, Store, StoreError};
use jiff::Timestamp;

use crate::place::Place;

/// The middle of January 2027.
const JANUARY: i64 = 1_800_000_000;

struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).expect("a time")
    }
}

struct Fixture {
    place: Place,
    store: Store,
    owner: Principal,
    clock: Arc<Hand>,
}

impl Fixture {
    async fn new() -> Self {
        let place = Place::of(module_path!());
        let clock = Arc::new(Hand(AtomicI64::new(JANUARY)));
        let store = place.open_once(Arc::clone(&clock) as Arc<dyn Clock>, Redactor::default()).await;
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Self { place, store, owner, clock }
    }

    async fn attempt(&self, limits: AttemptLimits) -> Attempt {
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
                limits,
            },
        };
        let task = self.store.create_task(&new, "gpt-test").await.expect("a task");
        let thread = self.store.task(self.owner.organization, task).await.expect("it is there");
        thread.turns[0].attempts[0].clone()
    }

    async fn again(&self, id: AttemptId) -> Attempt {
        self.store.attempt(self.owner.organization, id).await.expect("it is there")
    }

    /// Stores that the model has answered so often, for so many tokens and millionths each.
    async fn spend(&self, attempt: &Attempt, answers: usize, tokens: u64) -> Vec<Budget> {
        let usage =
            Usage { input_tokens: tokens - 1, output_tokens: 1, cost_usd_micros: 5, requests: 1, ..Usage::default() };
        let body = EventBody::ModelResponded {
            model: "gpt-test".to_owned(),
            response_id: String::new(),
            usage: Some(usage),
            duration_ms: 1,
        };
        let event = NewEvent { attempt: Some(attempt.id), body };
        self.store.append_with_files(attempt, vec![event; answers], Vec::new()).await.expect("stored")
    }

    async fn budgets(&self) -> Vec<Budget> {
        self.store.budgets(self.owner.organization).await.expect("budgets")
    }

    async fn spent(&self) -> Vec<(u64, u64)> {
        self.budgets().await.iter().map(|budget| (budget.spent.tokens, budget.spent.cost_usd_micros)).collect()
    }

    async fn allow(&self, owner: BudgetId, tokens: u64) -> Result<Budget, StoreError> {
        let allowance = Allowance { tokens: Some(tokens), ..Allowance::default() };
        self.store.set_budget(self.owner, owner, allowance).await
    }

    fn organization(&self) -> BudgetId {
        BudgetOwner::Organization(self.owner.organization).id()
    }

    async fn warnings(&self, attempt: &Attempt) -> Vec<String> {
        let events = self.store.events(attempt.organization, attempt.task, 0, 1000).await.expect("events");
        let said = events.into_iter().filter_map(|event| match event.body {
            EventBody::Warning { message } => Some(message),
            _ => None,
        });
        said.collect()
    }
}

#[tokio::test]
async fn what_an_answer_cost_is_counted_for_the_attempt_the_person_and_the_organization() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt(AttemptLimits::NONE).await;

    fixture.spend(&attempt, 2, 100).await;
    fixture.spend(&attempt, 1, 50).await;

    assert_eq!(fixture.spent().await, [(250, 15), (250, 15)]);
    let usage = fixture.again(attempt.id).await.usage;
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.requests), (247, 3, 3));
    assert_eq!(fixture.store.spent(&attempt).await.expect("a sum"), usage, "as the log has it");
}

#[tokio::test]
async fn what_is_not_stored_is_not_counted() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt(AttemptLimits::NONE).await;
    let elsewhere = Attempt { task: carrel_domain::TaskId::from_uuid(uuid::Uuid::from_u128(7)), ..attempt.clone() };
    let body = EventBody::ModelResponded {
        model: "gpt-test".to_owned(),
        response_id: String::new(),
        usage: Some(Usage { input_tokens: 10, ..Usage::default() }),
        duration_ms: 1,
    };
    let event = NewEvent { attempt: Some(attempt.id), body };

    let refused = fixture.store.append_with_files(&elsewhere, vec![event], Vec::new()).await;

    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(fixture.spent().await, [(0, 0), (0, 0)]);
}

#[tokio::test]
async fn a_new_month_begins_at_nothing() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt(AttemptLimits::NONE).await;
    fixture.allow(fixture.organization(), 100).await.expect("set");
    fixture.spend(&attempt, 1, 100).await;
    let january = fixture.budgets().await.remove(0);

    fixture.clock.0.store(january.month.ends_at().as_second(), Ordering::Relaxed);
    let february = fixture.budgets().await.remove(0);

    assert_eq!((january.level(), january.month.to_string().as_str()), (Level::Exhausted, "2027-01"));
    assert_eq!((february.level(), february.month.to_string().as_str()), (Level::Fine, "2027-02"));
    assert_eq!((february.spent, february.allowance), (Spending::default(), january.allowance));
}

#[tokio::test]
async fn a_budget_warns_once_at_eighty_hundredths_and_once_at_its_end() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt(AttemptLimits::NONE).await;
    fixture.allow(fixture.organization(), 100).await.expect("set");

    for _ in 0..12 {
        fixture.spend(&attempt, 1, 10).await;
    }

    let warnings = fixture.warnings(&attempt).await;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("nearly used up (80 of 100 tokens)"), "{warnings:?}");
    assert!(warnings[1].contains("is used up (100 of 100 tokens)"), "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("2027-02-01")), "{warnings:?}");
}

#[tokio::test]
async fn a_person_has_a_budget_beside_the_organizations() {
    let fixture = Fixture::new().await;
    let person = BudgetOwner::Person(fixture.owner.user).id();

    fixture.allow(person, 100).await.expect("set");
    fixture.allow(person, 200).await.expect("set anew");

    let [whole, own] = fixture.budgets().await.try_into().expect("two budgets");
    assert_eq!((whole.allowance.tokens, own.allowance.tokens), (None, Some(200)));
}

#[tokio::test]
async fn whoever_stores_what_an_answer_cost_learns_how_its_budgets_stand() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt(AttemptLimits::NONE).await;
    fixture.allow(fixture.organization(), 100).await.expect("set");

    let nothing = fixture.spend(&attempt, 0, 100).await;
    let counted = fixture.spend(&attempt, 1, 100).await;

    assert_eq!(nothing, []);
    assert_eq!(counted, fixture.budgets().await, "the organization's first");
    assert_eq!(counted[0].level(), Level::Exhausted);
    let known = fixture.store.budgets_of_attempt(attempt.organization, attempt.id).await.expect("budgets");
    assert_eq!(counted, known, "as for one that is taken up again");
}

#[tokio::test]
async fn only_owners_set_budgets_and_only_of_members() {
    let fixture = Fixture::new().await;
    let stranger = BudgetId::from_uuid(uuid::Uuid::from_u128(7));

    let unknown = fixture.allow(stranger, 1).await;
    fixture.place.sql("update member set role = 'member'");
    let refused = fixture.allow(fixture.organization(), 1).await;

    assert!(matches!(unknown, Err(StoreError::NotFound { noun: "budget" })), "{unknown:?}");
    assert!(matches!(refused, Err(StoreError::OwnersOnly { .. })), "{refused:?}");
    assert_eq!(fixture.budgets().await[0].allowance, Allowance::default());
}

#[tokio::test]
async fn numbers_that_make_no_sense_fill_a_counter_and_break_nothing() {
    let fixture = Fixture::new().await;
    let attempt = fixture.attempt(AttemptLimits::NONE).await;

    for _ in 0..3 {
        fixture.spend(&attempt, 2, u64::MAX).await;
    }

    let spent = fixture.spent().await;
    assert_eq!(spent[0].0, 3_000_000_000_000, "a trillion for each time");
    assert_eq!(fixture.again(attempt.id).await.usage.input_tokens, u64::MAX);
}

#[tokio::test]
async fn an_attempt_keeps_what_it_may_use() {
    let fixture = Fixture::new().await;
    let limits = AttemptLimits { steps: Some(5), wall_clock_s: Some(60), ..AttemptLimits::NONE };

    let attempt = fixture.attempt(limits).await;

    assert_eq!(attempt.limits, limits);
}

#[tokio::test]
async fn a_list_says_what_its_tasks_wait_for() {
    let fixture = Fixture::new().await;
    let first = fixture.attempt(AttemptLimits::NONE).await;
    let second = fixture.attempt(AttemptLimits::NONE).await;
    let third = fixture.attempt(AttemptLimits::NONE).await;
    fixture.store.advance_attempt(&first, AttemptState::Preparing, Vec::new()).await.expect("it moves on");
    let body = EventBody::ModelRetrying { reason: "503".to_owned(), wait_ms: 9000, retry: 2, retries: 5 };
    let event = NewEvent { attempt: Some(first.id), body };
    fixture.store.append(first.organization, first.task, vec![event]).await.expect("stored");

    let listings = fixture.store.tasks(fixture.owner.organization, None, 10).await.expect("tasks");
    let waits =
        fixture.store.waits(fixture.owner.organization, &listings, Duration::from_mins(1)).await.expect("waits");

    assert_eq!(waits[&first.task], "waiting for the model: retry 2 of 5 in 9 s");
    // The job of the first is still nobody's here.
    assert_eq!(waits[&second.task], "waiting for a free worker: 1 of this person's before it");
    assert_eq!(waits[&third.task], "waiting for a free worker: 2 of this person's before it");
}

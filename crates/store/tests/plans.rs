//! No statement that somebody waits for looks at all of a table that grows with use. The statements are those that the
//! store really makes: a PostgreSQL with a good deal in it tells how it runs each (`auto_explain`), and SQLite is asked about
//! every one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{
    Attempt, AttemptLimits, AttemptState, CancelledBy, Clock, EventBody, Image, Mode, NewEvent, NewTask, NewTurn,
    Prompt, Recipe, Redactor, ResourceLimits, Revision, Secret, Setup, Stage, WorkerId,
};
use carrel_store::{
    ArtifactPlace, Lease, NewPublication, NewRetry, Principal, Queue, SealingKeys, Store, StoreOptions,
};
use carrel_testkit::Postgres;
use jiff::Timestamp;

/// Tables that grow with every task.
const GROWING: [&str; 12] = [
    "task",
    "turn",
    "attempt",
    "event",
    "job",
    "message",
    "publication",
    "artifact",
    "attachment",
    "turn_attachment",
    "recipe",
    "web_session",
];

/// How often everything is there that one task leaves.
const TASKS: u32 = 2_000;

/// Statements that look at everything on purpose: nobody waits for them, or there are few rows.
const ALLOWED: [&str; 2] = [
    // The whole queue, once when a worker starts.
    "from job j join attempt a on a.id = j.subject_id where j.kind = 'attempt'",
    // What `/metrics` tells of the queue, with a limit.
    "from (select run_at, lease_until from job where kind = $1 limit",
];

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

async fn open(folder: &std::path::Path, postgres: Option<&Postgres>) -> Store {
    let options = StoreOptions {
        folder: folder.to_owned(),
        postgres: postgres.map(|server| Secret::new(server.url())),
        artifacts: ArtifactPlace::DataFolder,
        worker: WorkerId::from_uuid(uuid::Uuid::from_u128(1)),
        clock: Arc::new(Now),
        redactor: Redactor::default(),
        keys: SealingKeys::parse(SealingKeys::fresh().as_ref().expect("chance")).expect("keys"),
    };
    Store::open(options).await.expect("a store").0
}

fn new_task(owner: Principal, attachments: Vec<carrel_domain::AttachmentId>) -> NewTask {
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
            attachments,
            from_attempt: None,
            model: None,
            effort: None,
            limits: AttemptLimits::NONE,
            agent: None,
        },
    }
}

/// One task with all that belongs to it, made and read as the service does.
async fn live(store: &Store) -> Attempt {
    let owner = store.ensure_owner().await.expect("an owner").principal;
    let organization = owner.organization;
    let given = store.add_attachment(organization, owner.user, ("a.txt", None), b"a".to_vec()).await.expect("kept");
    let task = store.create_task(&new_task(owner, vec![given.id]), "gpt-test").await.expect("a task");
    let thread = store.task(organization, task).await.expect("the task");
    let attempt = thread.turns[0].attempts[0].clone();
    let here = carrel_store::Presence { name: "here", role: carrel_store::Role::All, capacity: 4, version: "1" };
    store.announce_worker(here).await.expect("it is told");
    let lease = Lease { owner: "me".to_owned(), duration: Duration::from_secs(30) };
    let job = store.claim_job_of_anybody(Queue::Attempts, &lease, Duration::from_secs(60)).await.expect("asked");
    if let Some(job) = &job {
        store.renew_job(job.id, &lease).await.expect("renewed");
        store.hand_back_job(job.id, &lease).await.expect("given back");
    }
    let attempt = advance(store, &attempt).await;
    store.pin_recipe(&attempt, &recipe()).await.expect("kept");
    let soon = Timestamp::now() + Duration::from_secs(60);
    let link = format!("link {}", attempt.id);
    store.keep_owner_link(owner, &link, soon).await.expect("kept");
    store.redeem_owner_link(&link, &format!("session {}", attempt.id), soon).await.expect("asked").expect("signed in");
    let message = store.send_message(organization, attempt.id, "faster", owner.user).await.expect("it is taken");
    store.waiting_messages(&attempt).await.expect("messages");
    let bodies = [
        EventBody::CommandStarted { command_id: "c".to_owned(), command: "true".to_owned(), directory: "/".to_owned() },
        EventBody::CommandOutput { command_id: "c".to_owned(), text: "x".to_owned() },
        EventBody::MessageDelivered { message_id: message.id },
    ];
    let events = bodies.map(|body| NewEvent { attempt: Some(attempt.id), body }).into();
    store.append_with_files(&attempt, events, vec![("a".to_owned(), b"a".to_vec())]).await.expect("stored");
    read(store, owner, &attempt).await;
    let failed = AttemptState::Failed { stage: Stage::Running, reason: "no model".to_owned(), retryable: true };
    let failed = store.advance_attempt(&attempt, failed, Vec::new()).await.expect("it fails");
    let new = NewRetry { resumes: false, latest_environment: false, limits: AttemptLimits::NONE };
    let retry = store.retry_attempt(organization, failed.id, new).await.expect("again");
    store.request_cancel(organization, retry.id, CancelledBy::User(owner.user)).await.expect("stopped");
    if let Some(job) = job {
        store.finish_job(job.id, &lease).await.expect("done");
    }
    failed
}

fn recipe() -> Recipe {
    Recipe {
        image: Image::Host,
        digest: None,
        setup: Setup::Automatic,
        maintenance_script: None,
        image_variables: BTreeMap::new(),
        variables: BTreeMap::new(),
        limits: ResourceLimits::default(),
        is_shaped_by_repository: false,
        snapshot: None,
        layers: Vec::new(),
        package_hosts: Vec::new(),
    }
}

async fn advance(store: &Store, attempt: &Attempt) -> Attempt {
    let mut attempt = attempt.clone();
    for next in [AttemptState::Preparing, AttemptState::SettingUp, AttemptState::Running] {
        attempt = store.advance_attempt(&attempt, next, Vec::new()).await.expect("a step");
    }
    attempt
}

/// What pages, watchers and workers ask for.
async fn read(store: &Store, owner: Principal, attempt: &Attempt) {
    let (organization, id) = (owner.organization, attempt.id);
    let page = store.tasks(organization, None, 20).await.expect("a page");
    let older = page.last().map(|listing| listing.task.id);
    let _older = store.tasks(organization, older, 20).await.expect("a page");
    let _waits = store.waits(organization, &page, Duration::from_mins(1)).await.expect("waits");
    let _events = store.events(organization, attempt.task, 1, 100).await.expect("events");
    let _items = store.conversation(organization, id).await.expect("items");
    let _shown = store.shown_output(organization, id).await.expect("output");
    let _output = store.command_output(organization, id, "c").await.expect("output");
    let _started = store.started_patch(organization, id).await.expect("a patch");
    let _spent = store.spent(attempt).await.expect("usage");
    let _tally = store.tally(attempt).await.expect("a tally");
    let _recipe = store.recipe(organization, id).await.expect("a recipe");
    let _files = store.attachments(organization, id).await.expect("files");
    let _given = store.task_attachments(organization, attempt.task).await.expect("files");
    let _budgets = store.budgets_of_attempt(organization, id).await.expect("budgets");
    let _own = store.attempts_under_way().await.expect("attempts");
    let _holder = store.session_holder("nobody").await.expect("nobody");
    let _token = store.token_holder("nobody").await.expect("nobody");
    let _depth = store.queue_depth(Queue::Attempts).await.expect("a depth");
    let _digests = store.digests_in_use().await.expect("digests");
    let _collected = store.collect_artifacts().await.expect("collected");
    store.collect_attachments().await.expect("collected");
    let new = NewPublication {
        organization,
        task: attempt.task,
        attempt: id,
        branch: "fix".parse().expect("a branch"),
        message: "Fix it".to_owned(),
        created_by: owner.user,
    };
    store.request_publication(&new).await.expect("a publication");
}

/// Multiplies what one task has left, in organizations of other people: rows as they are but for their names.
fn multiply(postgres: &Postgres) {
    let renamed = |column: &str| format!("'{column}', md5({column}::text || n)::uuid");
    let rows = |table: &str, columns: &[&str], more: &str| {
        let columns: Vec<String> = columns.iter().map(|column| renamed(column)).collect();
        format!(
            "insert into {table} select (jsonb_populate_record(t, jsonb_build_object({}{more}))).*
             from {table} t, generate_series(1, {TASKS}) n on conflict do nothing;",
            columns.join(", ")
        )
    };
    let sql = [
        "set session_replication_role = replica;".to_owned(),
        rows("event", &["task_id", "attempt_id"], ""),
        rows("job", &["id", "subject_id"], ", 'run_at', t.run_at + n"),
        rows("message", &["id", "attempt_id"], ""),
        rows("publication", &["id", "task_id", "attempt_id"], ""),
        rows("artifact", &["id", "attempt_id"], ", 'sha256', md5(n::text)"),
        rows("turn_attachment", &["turn_id", "attachment_id", "task_id"], ""),
        rows("attachment", &["id"], ", 'sha256', md5(n::text)"),
        rows("recipe", &["attempt_id"], ""),
        rows("web_session", &["id"], ", 'hash', md5(n::text), 'expires_at', t.expires_at + n"),
        rows("attempt", &["id", "task_id", "turn_id"], ""),
        rows("turn", &["id", "task_id"], ", 'prompt', repeat('Fix it. ', 200)"),
        rows("task", &["id"], ""),
        "analyze;".to_owned(),
    ];
    for statement in sql {
        let statement = format!("set session_replication_role = replica; {statement}");
        assert!(postgres.query(&statement).is_some(), "{statement}");
    }
}

/// The statements of a log of `auto_explain`, each with its plan.
fn explained(log: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in log.split("Query Text: ").skip(1) {
        let lines: Vec<&str> = entry.lines().collect();
        // The plan's lines are indented; what follows it begins with a time.
        let end = lines.iter().position(|line| line.starts_with("20") && line.contains("LOG:")).unwrap_or(lines.len());
        let plan = lines[..end].iter().position(|line| line.contains("  (cost=")).unwrap_or(end);
        let join = |lines: &[&str]| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        found.push((join(&lines[..plan]), lines[plan..end].join("\n")));
    }
    found
}

fn looks_at_all_on_postgres(plan: &str) -> Option<&'static str> {
    GROWING.into_iter().find(|table| {
        plan.lines().any(|line| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "Seq");
            words.next() == Some("Seq") && words.next() == Some("Scan") && words.nth(1) == Some(table)
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_that_somebody_waits_for_looks_at_all_of_a_table() {
    let (postgres, folder) = (Postgres::start(), tempfile::tempdir().expect("a folder"));
    let first = open(&folder.path().join("postgres"), Some(&postgres)).await;
    live(&first).await;
    drop(first);
    multiply(&postgres);
    // As on a disk without moving parts.
    for setting in
        ["session_preload_libraries = 'auto_explain'", "auto_explain.log_min_duration = 0", "random_page_cost = 1.1"]
    {
        postgres.query(&format!("alter database postgres set {setting}")).expect("a setting");
    }
    let store = open(&folder.path().join("postgres"), Some(&postgres)).await;

    live(&store).await;

    drop(store);
    let all = explained(&postgres.logged());
    assert!(all.len() > 60, "{}", all.len());
    let mut wrong = BTreeSet::new();
    for (statement, plan) in &all {
        if let Some(table) = looks_at_all_on_postgres(plan)
            && !ALLOWED.iter().any(|allowed| statement.contains(allowed))
        {
            wrong.insert(format!("PostgreSQL, all of {table}: {statement}\n{plan}"));
        }
    }
    let statements: BTreeSet<String> = all.into_iter().map(|(statement, _)| statement).collect();
    let sqlite = folder.path().join("sqlite");
    let store = open(&sqlite, None).await;
    // A copy: the store keeps its own to itself.
    for name in ["carrel.sqlite", "carrel.sqlite-wal"] {
        std::fs::copy(sqlite.join(name), folder.path().join(name)).expect("a copy");
    }
    wrong.extend(looks_at_all_on_sqlite(&folder.path().join("carrel.sqlite"), &statements));
    drop(store);
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{} statements:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// What SQLite would go through from beginning to end.
fn looks_at_all_on_sqlite(database: &std::path::Path, statements: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for statement in statements {
        let sql = statement.replace(" for update skip locked", "").replace(" for share", "");
        let words = ["select", "insert", "update", "delete", "with"];
        if ["pg_", "clock_timestamp(", "to_regclass("].iter().any(|own| sql.contains(own))
            || !words.iter().any(|word| sql.starts_with(word))
        {
            continue;
        }
        let ran = Command::new("sqlite3").arg(database).arg(format!("explain query plan {sql}")).output();
        let ran = ran.expect("sqlite3 is installed");
        let (plan, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{sql}: {said}");
        let scans = |line: &str| {
            let line = line.trim_start_matches(['|', '-', '`', ' ']);
            let table = line.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            table.is_some_and(|alias| is_growing(&sql, alias))
        };
        if plan.lines().any(scans) && !ALLOWED.iter().any(|allowed| sql.contains(allowed)) {
            wrong.push(format!("SQLite: {sql}\n{plan}"));
        }
    }
    wrong
}

/// Whether the table of this name or alias in a statement is one that grows.
fn is_growing(sql: &str, alias: &str) -> bool {
    let words: Vec<&str> = sql.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    GROWING.contains(&alias) || words.windows(2).any(|pair| pair[1] == alias && GROWING.contains(&pair[0]))
}

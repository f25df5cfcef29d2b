//! How fast work is given out: tasks are delegated, and claimed, told of in the log and done by more and more claimers at
//! once, each step in a transaction of its own, as the service does it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use carrel_domain::task::Attempts;
use carrel_domain::{
    AttemptLimits, Clock, EventBody, Mode, NewEvent, NewTask, NewTurn, Prompt, Redactor, Revision, Secret, WorkerId,
};
use carrel_store::{ArtifactPlace, Claim, JobKind, Lease, Queue, SealingKeys, Store, StoreOptions};
use jiff::Timestamp;

use super::fill::Database;

/// How many tasks are done by so many claimers at once.
const CLAIMERS: [usize; 3] = [1, 4, 16];
const TASKS_EACH: u32 = 400;

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Measures, and says what was found.
pub(super) async fn measure(folder: &Path, database: &Database, key: &str) -> Result<String> {
    let store = open(folder, database, key).await?;
    let mut said = Vec::new();
    for claimers in CLAIMERS {
        let delegating = Instant::now();
        delegate(&store).await?;
        let delegated = delegating.elapsed();
        let began = Instant::now();
        let working = (0..claimers).map(|number| tokio::spawn(work(store.clone(), number)));
        let mut done = 0;
        for worker in working.collect::<Vec<_>>() {
            done += worker.await??;
        }
        let (each, took) = (f64::from(done), began.elapsed().as_secs_f64());
        if claimers == 1 {
            said.push(format!("{:.0} delegated", f64::from(TASKS_EACH) / delegated.as_secs_f64()));
        }
        said.push(format!("{:.0} claimed and done by {claimers}", each / took));
    }
    Ok(format!("tasks a second: {}", said.join(", ")))
}

async fn open(folder: &Path, database: &Database, key: &str) -> Result<Store> {
    let options = StoreOptions {
        folder: folder.to_owned(),
        postgres: match database {
            Database::Postgres(postgres) => Some(Secret::new(postgres.url())),
            Database::Sqlite(_) => None,
        },
        artifacts: ArtifactPlace::DataFolder,
        worker: WorkerId::from_uuid(uuid::Uuid::now_v7()),
        clock: Arc::new(Now),
        redactor: Redactor::default(),
        keys: SealingKeys::parse(&Secret::new(key))?,
    };
    Ok(Store::open(options).await?.0)
}

async fn delegate(store: &Store) -> Result<()> {
    let owner = store.ensure_owner().await?.principal;
    let new = NewTask {
        organization: owner.organization,
        created_by: owner.user,
        repository: "/srv/code/api".parse()?,
        revision: Revision::DefaultBranch,
        environment: None,
        local_changes: None,
        priority: carrel_domain::Priority::Normal,
        turn: NewTurn {
            prompt: Prompt::parse("Mend it")?,
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
    for _ in 0..TASKS_EACH {
        store.create_task(&new, "a-model").await?;
    }
    Ok(())
}

/// Takes one job after the other until there is none; gives how many.
async fn work(store: Store, number: usize) -> Result<u32> {
    let lease = Lease { owner: format!("claimer {number}"), duration: Duration::from_secs(60) };
    let mut done = 0;
    while let Some(job) = store.claim_job(Queue::Attempts, &lease).await? {
        let JobKind::Attempt(id) = job.kind else { continue };
        let attempt = store.attempt(job.organization, id).await?;
        let claim = Claim { job: job.id, owner: lease.owner.clone() };
        let body = EventBody::AgentMessage { text: "Nothing is done here.".to_owned() };
        let said = vec![NewEvent { attempt: Some(id), body }];
        store.under(claim).append(job.organization, attempt.task, said).await?;
        store.finish_job(job.id, &lease).await?;
        done += 1;
    }
    Ok(done)
}

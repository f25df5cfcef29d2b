//! The protocol of claims in turmoil: workers claim, renew, write, give back, finish, stall and die in any order while the
//! clock goes on, and after each step the store says what a model of a few lines says. So no job is ever held by two, nothing
//! that a lost claim writes is kept, and in the end every job was done once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{
    Attempt, AttemptId, AttemptLimits, Clock, EventBody, JobId, Mode, NewEvent, NewTask, NewTurn, Prompt, Redactor,
    Revision, WorkerId,
};
use carrel_store::{Claim, Job, JobKind, Lease, Principal, Queue, Store, StoreError};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::place::Place;

/// How long a claim lasts, and after how long without a sign of life a worker is gone: odd, while the clock goes on by even
/// numbers, so that nothing hangs on the milliseconds between machines.
const LEASE: i64 = 31;
const GONE: i64 = 61;

const WORKERS: usize = 3;
const OTHERS: [usize; WORKERS] = [0, 1, 2];

/// Each takes hundreds of transactions; PostgreSQL's take longer.
const CASES: u32 = if cfg!(debug_assertions) { 24 } else { 200 };

#[derive(Clone, Default)]
struct Seconds(Arc<AtomicI64>);

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

/// What happens. Numbers choose among what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    Delegate,
    Pass { seconds: i64 },
    IsThere { worker: usize },
    Claim { worker: usize, of_anybody: bool },
    Renew { claim: usize },
    Write { claim: usize },
    GiveBack { claim: usize },
    Rest { claim: usize, seconds: u64 },
    Finish { claim: usize },
    Restart { worker: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, claim) = (0..WORKERS, 0..64_usize);
    prop_oneof![
        2 => Just(Step::Delegate),
        3 => (1..23_i64).prop_map(|half| Step::Pass { seconds: 2 * half }),
        2 => worker.clone().prop_map(|worker| Step::IsThere { worker }),
        6 => (worker.clone(), any::<bool>()).prop_map(|(worker, of_anybody)| Step::Claim { worker, of_anybody }),
        3 => claim.clone().prop_map(|claim| Step::Renew { claim }),
        6 => claim.clone().prop_map(|claim| Step::Write { claim }),
        1 => claim.clone().prop_map(|claim| Step::GiveBack { claim }),
        1 => (claim.clone(), 0..10_u64).prop_map(|(claim, half)| Step::Rest { claim, seconds: 2 * half + 1 }),
        2 => claim.prop_map(|claim| Step::Finish { claim }),
        1 => worker.prop_map(|worker| Step::Restart { worker }),
    ]
}

/// A job as it must be.
#[derive(Debug, Clone)]
struct Known {
    attempt: Attempt,
    /// Since when it may be claimed.
    due: i64,
    /// Whose it is, and until when.
    held: Option<(String, i64)>,
    /// The worker that others leave it to.
    left_to: Option<usize>,
    /// What was written under claims that held.
    written: Vec<String>,
}

/// What somebody was once given.
#[derive(Debug, Clone)]
struct Held {
    worker: usize,
    job: JobId,
    lease: Lease,
}

struct World {
    stores: Vec<Store>,
    clock: Seconds,
    owner: Principal,
    jobs: BTreeMap<JobId, Known>,
    done: Vec<Known>,
    /// Attempts whose job was not claimed yet, so that its id is not known.
    fresh: BTreeMap<AttemptId, Known>,
    /// What each job is about, also those that are done.
    attempts: BTreeMap<JobId, Attempt>,
    /// Every claim there ever was, lost ones among them.
    claims: Vec<Held>,
    seen: [i64; WORKERS],
    names: u64,
}

impl World {
    async fn open(place: &Place) -> Self {
        let (clock, keys) = (Seconds::default(), carrel_store::SealingKeys::fresh().expect("chance"));
        let mut stores = Vec::new();
        for worker in OTHERS {
            let id = WorkerId::from_uuid(uuid::Uuid::from_u128(1 + worker as u128));
            let clock = Arc::new(clock.clone());
            stores.push(place.open_as(id, clock, Redactor::default(), keys.expose()).await.0);
        }
        let owner = stores[0].ensure_owner().await.expect("an owner").principal;
        let mut world = Self {
            stores,
            clock,
            owner,
            jobs: BTreeMap::new(),
            done: Vec::new(),
            fresh: BTreeMap::new(),
            attempts: BTreeMap::new(),
            claims: Vec::new(),
            seen: [0; WORKERS],
            names: 0,
        };
        world.begin().await;
        world
    }

    /// Begins anew; what a case that failed has left is put out of the way.
    async fn begin(&mut self) {
        self.clock.0.fetch_add(10 * GONE + 10, Ordering::SeqCst);
        let (gone, duration) = (Duration::from_secs(GONE as u64), Duration::from_secs(1));
        loop {
            self.names += 1;
            let lease = Lease { owner: format!("broom {}", self.names), duration };
            let left = self.stores[0].claim_job_of_anybody(Queue::Attempts, &lease, gone).await;
            let Some(job) = left.expect("the database answers") else { break };
            self.stores[0].finish_job(job.id, &lease).await.expect("the database answers");
        }
        (self.jobs, self.fresh, self.claims, self.done) = Default::default();
        self.attempts.clear();
        for worker in OTHERS {
            self.is_there(worker).await;
        }
    }

    fn now(&self) -> i64 {
        self.clock.0.load(Ordering::SeqCst)
    }

    async fn is_there(&mut self, worker: usize) {
        let name = format!("worker {worker}");
        let presence = carrel_store::Presence { name: &name, role: carrel_store::Role::All, capacity: 4, version: "1" };
        self.stores[worker].announce_worker(presence).await.expect("it is told");
        self.seen[worker] = self.now();
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Delegate => self.delegate().await,
            Step::Pass { seconds } => drop(self.clock.0.fetch_add(seconds, Ordering::SeqCst)),
            Step::IsThere { worker } => self.is_there(worker).await,
            Step::Claim { worker, of_anybody } => self.claim(worker, of_anybody).await,
            Step::Renew { claim } => self.renew(claim).await,
            Step::Write { claim } => self.write(claim).await,
            Step::GiveBack { claim } => self.give_back(claim, None).await,
            Step::Rest { claim, seconds } => self.give_back(claim, Some(seconds)).await,
            Step::Finish { claim } => self.finish(claim).await,
            Step::Restart { worker } => self.restart(worker).await,
        }
    }

    async fn delegate(&mut self) {
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
        let id = self.stores[0].create_task(&new, "gpt-test").await.expect("a task");
        let thread = self.stores[0].task(self.owner.organization, id).await.expect("the task");
        let attempt = thread.turns[0].attempts[0].clone();
        let known = Known { due: self.now(), held: None, left_to: None, written: Vec::new(), attempt };
        self.fresh.insert(known.attempt.id, known);
    }

    /// Whether the job may be had by this worker.
    fn may_have(&self, known: &Known, worker: usize, of_anybody: bool) -> bool {
        let now = self.now();
        let is_left_to_another =
            known.left_to.is_some_and(|other| other != worker && !(of_anybody && self.seen[other] <= now - GONE));
        known.due <= now && known.held.as_ref().is_none_or(|(_, until)| *until <= now) && !is_left_to_another
    }

    async fn claim(&mut self, worker: usize, of_anybody: bool) {
        self.names += 1;
        let lease = Lease { owner: format!("claim {}", self.names), duration: Duration::from_secs(LEASE as u64) };
        let store = &self.stores[worker];
        let claimed = match of_anybody {
            true => store.claim_job_of_anybody(Queue::Attempts, &lease, Duration::from_secs(GONE as u64)).await,
            false => store.claim_job(Queue::Attempts, &lease).await,
        };
        let Some(Job { id, kind, .. }) = claimed.expect("the database answers") else {
            let possible = self.jobs.values().chain(self.fresh.values());
            let missed: Vec<&Known> = possible.filter(|known| self.may_have(known, worker, of_anybody)).collect();
            assert!(missed.is_empty(), "worker {worker} was given none of {missed:?}");
            return;
        };
        let JobKind::Attempt(attempt) = kind else { panic!("another kind of job") };
        if let Some(fresh) = self.fresh.remove(&attempt) {
            self.attempts.insert(id, fresh.attempt.clone());
            self.jobs.insert(id, fresh);
        }
        let known = self.jobs.get(&id).expect("a job that is not done");
        assert!(self.may_have(known, worker, of_anybody), "worker {worker} was given {known:?}");
        let held = Some((lease.owner.clone(), self.now() + LEASE));
        let known = self.jobs.get_mut(&id).expect("it is known");
        (known.held, known.left_to) = (held, Some(worker));
        self.claims.push(Held { worker, job: id, lease });
    }

    /// The claim of this number, and whether it still holds.
    fn of(&self, claim: usize) -> Option<(Held, bool)> {
        let held = self.claims.get(claim % self.claims.len().max(1))?.clone();
        let holds = self.jobs.get(&held.job).and_then(|known| known.held.as_ref());
        let holds = holds.is_some_and(|(owner, _)| *owner == held.lease.owner);
        Some((held, holds))
    }

    async fn renew(&mut self, claim: usize) {
        let Some((held, holds)) = self.of(claim) else { return };
        let renewed = self.stores[held.worker].renew_job(held.job, &held.lease).await.expect("the database answers");
        assert_eq!(renewed, holds, "{held:?}");
        let until = self.now() + LEASE;
        if let Some(known) = self.jobs.get_mut(&held.job).filter(|_| holds) {
            known.held = Some((held.lease.owner, until));
        }
    }

    async fn write(&mut self, claim: usize) {
        let Some((held, holds)) = self.of(claim) else { return };
        let attempt = self.attempts[&held.job].clone();
        self.names += 1;
        let text = format!("{} by {}", self.names, held.lease.owner);
        let store = self.stores[held.worker].under(Claim { job: held.job, owner: held.lease.owner.clone() });
        let body = EventBody::AgentMessage { text: text.clone() };
        let event = NewEvent { attempt: Some(attempt.id), body };
        let written = store.append_with_files(&attempt, vec![event], Vec::new()).await;
        match written {
            Ok(_) => assert!(holds, "a lost claim has written: {held:?}"),
            Err(StoreError::ClaimLost) => assert!(!holds, "a claim that holds was refused: {held:?}"),
            Err(other) => panic!("{other}"),
        }
        if let Some(known) = self.jobs.get_mut(&held.job).filter(|_| holds) {
            known.written.push(text);
        }
    }

    async fn give_back(&mut self, claim: usize, rest: Option<u64>) {
        let Some((held, holds)) = self.of(claim) else { return };
        let store = &self.stores[held.worker];
        match rest {
            None => store.hand_back_job(held.job, &held.lease).await,
            Some(seconds) => store.postpone_job(held.job, &held.lease, Duration::from_secs(seconds), "it rains").await,
        }
        .expect("the database answers");
        let now = self.now();
        if let Some(known) = self.jobs.get_mut(&held.job).filter(|_| holds) {
            // Nothing of these attempts was prepared anywhere.
            (known.held, known.left_to) = (None, None);
            known.due = rest.map_or(known.due, |seconds| now + i64::try_from(seconds).expect("a few"));
        }
    }

    async fn finish(&mut self, claim: usize) {
        let Some((held, holds)) = self.of(claim) else { return };
        self.stores[held.worker].finish_job(held.job, &held.lease).await.expect("the database answers");
        if holds {
            self.done.extend(self.jobs.remove(&held.job));
        }
    }

    /// A worker that died and was started anew.
    async fn restart(&mut self, worker: usize) {
        self.stores[worker].release_own_jobs().await.expect("the database answers");
        self.is_there(worker).await;
        for known in self.jobs.values_mut().filter(|known| known.left_to == Some(worker)) {
            known.held = None;
        }
    }

    /// Lets everything come to its end, and compares what was written with what the logs have.
    async fn settle(&mut self) {
        self.clock.0.fetch_add(10 * GONE + 10, Ordering::SeqCst);
        while !(self.jobs.is_empty() && self.fresh.is_empty()) {
            let before = self.claims.len();
            self.claim(0, true).await;
            assert!(self.claims.len() > before, "a job is stuck: {:?}", self.jobs);
            self.write(before).await;
            self.finish(before).await;
        }
        self.claim(1, true).await;
        for known in &self.done {
            let organization = self.owner.organization;
            let events = self.stores[2].events(organization, known.attempt.task, 0, 1000).await.expect("a log");
            let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
            assert_eq!(seqs, (1..).take(events.len()).collect::<Vec<i64>>(), "a log has a gap");
            let texts = events.into_iter().filter_map(|event| match event.body {
                EventBody::AgentMessage { text } => Some(text),
                _ => None,
            });
            assert_eq!(texts.collect::<Vec<_>>(), known.written);
        }
    }
}

#[test]
fn whatever_happens_a_job_is_held_by_one_and_done_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let place = Place::of(module_path!());
    let world = std::cell::RefCell::new(runtime.block_on(World::open(&place)));
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });

    let outcome = runner.run(&proptest::collection::vec(step(), 1..80), |steps| {
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

    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

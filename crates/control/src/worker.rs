//! The worker: claims jobs under a lease, keeps the lease while a job is worked on, and lets go of everything when the
//! process is to stop, so that the next one goes on from there at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use carrel_domain::{Attempt, AttemptId, AttemptState, EventBody, JobId, NewEvent, SandboxId};
use carrel_store::{
    Attendance, Change, Claim, Job, JobKind, Lease, Presence, Principal, Queue, Store, StoreError, Worker,
};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing::field::{Empty, display};
use uuid::Uuid;

use crate::{Control, ControlError, attempt, publish};

/// How often the queue is looked at when nothing is heard: jobs become due by time, and other processes add some.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a job rests after something went wrong around it: twice as long each time, up to the most.
const REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_mins(5);

/// After so many tries, which is most of an hour, the trouble is not going to go away. Until then an attempt keeps what it has
/// made: a bucket, a database or a disk that is away for a while costs nobody an agent's work.
pub(crate) const MAX_TRIES: i64 = 18;

/// After so many claims of one job in which it did not get on, it is the job that ends its workers.
pub(crate) const MAX_CLAIMS: i64 = 20;

/// Publications worked on at the same time. They are short, and never wait for attempts.
const PUBLICATIONS: usize = 8;

/// How long a worker that is stopped tries to say so: what waits for it to end has not much longer.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// How a job was left.
pub(crate) enum Left {
    /// It is done.
    Done,
    /// Something around it went wrong, such as the store: it is to be tried again.
    Again {
        /// What went wrong.
        reason: String,
    },
    /// Another worker is to go on with it: it is given back.
    ToAnother,
}

impl Control {
    /// Gives back what this worker had claimed before it was started anew, and removes the sandboxes nobody needs any more.
    /// To be called once, before [`Control::work`], by the only process that uses this data folder.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn recover(&self) -> Result<(), ControlError> {
        let role = self.inner.role;
        let capacity = if role.works() { u32::try_from(self.inner.limits.jobs).unwrap_or(u32::MAX) } else { 0 };
        let presence = Presence { name: &self.inner.machine, role, capacity, version: self.inner.version };
        self.inner.store.announce_worker(presence).await?;
        self.pulse.written(self.inner.clock.now());
        let released = self.inner.store.release_own_jobs().await?;
        if !role.works() {
            return Ok(());
        }
        if released > 0 {
            tracing::info!(jobs = released, "going on with what an earlier process left");
        }
        let under_way = self.inner.store.attempts_under_way().await?;
        for attempt in &under_way {
            if let Err(error) = self.tell_of_restart(attempt).await {
                tracing::warn!(attempt = %attempt.id, %error, "cannot write into the log of an attempt that goes on");
            }
        }
        let needed: Vec<SandboxId> = under_way.iter().map(|attempt| attempt.id.sandbox()).collect();
        let there = match self.inner.sandboxes.list().await {
            Ok(there) => there,
            Err(error) => {
                tracing::warn!(%error, "cannot list sandboxes; leftovers stay");
                return Ok(());
            }
        };
        for id in there.into_iter().filter(|id| !needed.contains(id)) {
            if let Err(error) = self.inner.sandboxes.destroy(id).await {
                tracing::warn!(sandbox = %id, %error, "a sandbox that nobody needs could not be removed");
            }
        }
        Ok(())
    }

    /// Tells the log of an attempt that was under way why nothing was heard for a while, and what happens now.
    async fn tell_of_restart(&self, attempt: &Attempt) -> Result<(), ControlError> {
        let on = match attempt.state {
            AttemptState::Preparing | AttemptState::SettingUp => "this step begins anew",
            AttemptState::Running | AttemptState::Collecting { .. } => "the attempt goes on where it was",
            AttemptState::Queued
            | AttemptState::Ready(_)
            | AttemptState::Failed { .. }
            | AttemptState::Cancelled { .. } => return Ok(()),
        };
        let body = EventBody::Progress { message: format!("the service was started again; {on}"), duration_ms: None };
        let event = NewEvent { attempt: Some(attempt.id), body };
        self.inner.store.append(attempt.organization, attempt.task, vec![event]).await?;
        Ok(())
    }

    /// Works on jobs until told to stop. Then it lets go of them: sandboxes keep running, claims are given back. A process
    /// that has no work to do by its role only stays known to the others.
    pub async fn work(&self, stop: CancellationToken) {
        if !self.inner.role.works() {
            tokio::join!(self.stay_known(&stop), self.tend_artifacts(&stop));
            return;
        }
        tokio::join!(
            self.work_off(Queue::Attempts, self.inner.limits.jobs, &stop),
            self.work_off(Queue::Publications, PUBLICATIONS, &stop),
            self.tend_layers(&stop),
            self.tend_packs(&stop),
            self.stay_known(&stop),
            self.tend_artifacts(&stop),
            self.tend_lost(&stop),
        );
    }

    /// Ends the sandboxes of attempts whose claims were lost, once nobody needs them here any more: another worker prepares the
    /// attempt anew, or has ended it. One that this worker goes on with itself stays.
    async fn tend_lost(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.inner.limits.gone_after / 2) => {}
            }
            let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if lost.is_empty() {
                continue;
            }
            let under_way: BTreeSet<AttemptId> = match self.inner.store.attempts_under_way().await {
                Ok(attempts) => attempts.iter().map(|attempt| attempt.id).collect(),
                Err(error) => {
                    tracing::warn!(%error, "cannot look what became of attempts whose claims were lost");
                    continue;
                }
            };
            for id in lost.difference(&under_way) {
                if attempt::end_sandboxes(self, *id).await {
                    self.lost.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                }
            }
        }
    }

    /// Says again and again that this worker is there.
    async fn stay_known(&self, stop: &CancellationToken) {
        let mut rest = self.inner.limits.gone_after / 6;
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.leave().await,
                () = tokio::time::sleep(rest) => {}
            }
            rest = match self.inner.store.worker_is_there().await {
                Ok(()) => {
                    self.pulse.written(self.inner.clock.now());
                    self.inner.limits.gone_after / 6
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot say that this worker is there");
                    self.pulse.missed();
                    LOOK_EVERY
                }
            };
        }
    }

    /// Says that this worker is stopped on purpose, so that a planned restart is not taken for a loss.
    async fn leave(&self) {
        let returns_within = self.inner.limits.returns_within.unwrap_or(self.inner.limits.gone_after);
        match tokio::time::timeout(LEAVE_WITHIN, self.inner.store.worker_leaves(returns_within)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot say when this worker will be back"),
            Err(_) => tracing::warn!("cannot say when this worker will be back: the database does not answer"),
        }
    }

    /// The workers of the installation with how each stands, for those who look after it.
    ///
    /// # Errors
    /// When the person is no owner of the organization, or the store refuses.
    pub async fn workers(&self, by: Principal) -> Result<Vec<(Worker, Attendance)>, ControlError> {
        let store = &self.inner.store;
        let (workers, now) = (store.workers_for(by).await?, store.shared_now());
        let gone_after = self.inner.limits.gone_after;
        let stands = |worker: Worker| {
            let attendance = worker.attendance(now, gone_after);
            (worker, attendance)
        };
        Ok(workers.into_iter().map(stands).collect())
    }

    /// Works on the jobs of one queue, so many at the same time.
    async fn work_off(&self, queue: Queue, jobs: usize, stop: &CancellationToken) {
        let slots = Arc::new(Semaphore::new(jobs));
        let mut changes = self.inner.store.changes();
        let mut crew = Crew::default();
        while !stop.is_cancelled() {
            self.pulse.looked();
            self.claim_all(queue, &slots, stop, &mut crew).await;
            crew.dismiss();
            let heard = async {
                loop {
                    match changes.next().await {
                        Change::Job | Change::Anything => return,
                        Change::Log { .. } | Change::CancelRequested(_) | Change::MessageSent(_) => {}
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = heard => {}
                Some(ended) = crew.running.join_next() => report(ended),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        while let Some(ended) = crew.running.join_next().await {
            report(ended);
        }
    }

    async fn claim_all(&self, queue: Queue, slots: &Arc<Semaphore>, stop: &CancellationToken, crew: &mut Crew) {
        while let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            // Every claim has an owner of its own: a claim that ran out is told from the one that followed it.
            let lease = Lease { owner: Uuid::now_v7().to_string(), duration: self.inner.limits.lease };
            let gone_after = self.inner.limits.gone_after;
            let claimed = if !self.inner.store.is_shared() {
                // Nobody else can come back: what is another's was taken over with an archive.
                self.inner.store.claim_job_of_anybody(queue, &lease, Duration::ZERO).await
            } else if self.pulse.is_steady(gone_after, self.inner.clock.now()) {
                self.inner.store.claim_job_of_anybody(queue, &lease, gone_after).await
            } else {
                self.inner.store.claim_job(queue, &lease).await
            };
            let job = match claimed {
                Ok(Some(job)) => job,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot look into the queue");
                    return;
                }
            };
            let (control, stop, id) = (self.clone(), stop.clone(), job.id);
            // Whatever is logged on the way says which job, attempt and task it is about.
            let span = tracing::info_span!("job", job = %id, attempt = Empty, publication = Empty, task = Empty);
            match job.kind {
                JobKind::Attempt(id) => span.record("attempt", display(id)),
                JobKind::Publication(id) => span.record("publication", display(id)),
            };
            let working = self.metrics().working(queue);
            let work = async move {
                control.work_on(job, &lease, &stop).await;
                drop((slot, working));
            };
            crew.put_on(id, work.instrument(span));
        }
    }

    /// Works on one job while its lease lasts.
    async fn work_on(&self, job: Job, lease: &Lease, stop: &CancellationToken) {
        let store = &self.inner.store;
        let left = tokio::select! {
            left = self.drive(&job, lease) => left,
            () = self.keep(&job, lease) => {
                tracing::warn!(job = %job.id, "lost the lease on a job; somebody else goes on with it");
                if let JobKind::Attempt(id) = job.kind {
                    self.lost.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                }
                return;
            }
            () = stop.cancelled() => {
                if let Err(error) = store.hand_back_job(job.id, lease).await {
                    tracing::warn!(job = %job.id, %error, "could not give a job back; its lease has to run out");
                }
                return;
            }
        };
        let outcome = match left {
            Left::Done => store.finish_job(job.id, lease).await,
            Left::ToAnother => store.hand_back_job(job.id, lease).await,
            Left::Again { reason } => {
                let job = Job { tries: tries(store, &job).await, ..job.clone() };
                tracing::warn!(job = %job.id, tries = job.tries, reason, "a job is to be tried again");
                let rest = rest_after(job.tries);
                let held = store.under(claim(&job, lease));
                Box::pin(tell_of_rest(&held, &job, &reason, rest)).await;
                store.postpone_job(job.id, lease, rest, &reason).await
            }
        };
        if let Err(error) = outcome {
            tracing::error!(job = %job.id, %error, "could not put a job away; it will be worked on once more");
        }
    }

    async fn drive(&self, job: &Job, lease: &Lease) -> Left {
        // Whatever the job's stages write depends on the claim: a worker that stood still for too long does no harm.
        let store = self.inner.store.under(claim(job, lease));
        match job.kind {
            // The futures of the two are large; boxed, a waiting attempt holds one of the right size.
            JobKind::Attempt(id) => Box::pin(attempt::drive(self, &store, job, id)).await,
            JobKind::Publication(id) => Box::pin(publish::drive(self, &store, job, id)).await,
        }
    }

    /// Renews a lease until it is lost.
    async fn keep(&self, job: &Job, lease: &Lease) {
        // By what has passed here, whatever a clock says and however long the database takes to refuse.
        let mut until = Instant::now() + lease.duration;
        loop {
            tokio::time::sleep(lease.duration / 3).await;
            let asked = Instant::now();
            match tokio::time::timeout_at(until, self.inner.store.renew_job(job.id, lease)).await {
                Ok(Ok(true)) => until = asked + lease.duration,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) if Instant::now() < until => {
                    tracing::warn!(job = %job.id, %error, "could not renew a lease");
                }
                Ok(Err(_)) => return,
            }
        }
    }
}

/// Who works on what.
#[derive(Default)]
struct Crew {
    running: JoinSet<()>,
    by_job: HashMap<JobId, AbortHandle>,
}

impl Crew {
    /// Puts somebody on a job. Whoever was on it had lost the claim (the machine slept, or its clock was set) and ends.
    fn put_on(&mut self, job: JobId, work: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(work);
        if let Some(older) = self.by_job.insert(job, handle) {
            older.abort();
        }
    }

    /// Lets those go who have ended.
    fn dismiss(&mut self) {
        while let Some(ended) = self.running.try_join_next() {
            report(ended);
        }
        self.by_job.retain(|_, handle| !handle.is_finished());
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && !error.is_cancelled()
    {
        tracing::error!(%error, "work on a job ended badly; the job is claimed again when its lease has run out");
    }
}

fn claim(job: &Job, lease: &Lease) -> Claim {
    Claim { job: job.id, owner: lease.owner.clone() }
}

fn rest_after(tries: i64) -> Duration {
    let doubled = u32::try_from(tries.max(1) - 1).unwrap_or(u32::MAX);
    REST.saturating_mul(2_u32.saturating_pow(doubled)).min(LONGEST_REST)
}

/// How often a job was claimed since it last got on, which may have been under this claim. Where the store does not say, as
/// when it was claimed.
pub(crate) async fn tries(store: &Store, job: &Job) -> i64 {
    store.job_tries(job.id).await.unwrap_or(job.tries)
}

/// Says in the log of an attempt that it rests, why, and until when.
async fn tell_of_rest(store: &Store, job: &Job, reason: &str, rest: Duration) {
    let seconds = rest.as_secs();
    let again = |most: i64| format!("going on in {seconds} s (try {} of {most})", job.tries.saturating_add(1));
    let told = async {
        let (task, attempt, message) = match job.kind {
            JobKind::Attempt(id) => {
                let attempt = store.attempt(job.organization, id).await?;
                (attempt.task, Some(id), format!("{reason}; {}", again(MAX_TRIES)))
            }
            JobKind::Publication(id) => {
                let publication = store.publication(job.organization, id).await?;
                let message = format!("pushing to `{}`: {reason}; {}", publication.branch, again(publish::TRIES));
                (publication.task, None, message)
            }
        };
        let event = NewEvent { attempt, body: EventBody::Warning { message } };
        store.append(job.organization, task, vec![event]).await
    };
    match told.await {
        // Whoever has the job now tells what becomes of it.
        Ok(()) | Err(StoreError::ClaimLost) => {}
        // Most often it is the store that does not work now.
        Err(error) => tracing::warn!(job = %job.id, %error, "could not say in the log of a task that a job rests"),
    }
}

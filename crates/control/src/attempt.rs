//! One attempt, driven through its stages: one arm of [`drive`] and one file a stage. The states and their diagram are
//! `carrel_domain::attempt`'s.
//!
//! Every stage may be entered twice, because its worker may die at any point: it looks at what is there and goes on.

mod collect;
mod prepare;
mod run;

use std::time::Duration;

use carrel_domain::{Attempt, AttemptId, AttemptState, EventBody, NewEvent, TaskId, Turn};
use carrel_forge::ForgeError;
use carrel_sandbox::SandboxError;
use carrel_store::{Job, Store, StoreError, TaskThread};
use tokio_util::sync::CancellationToken;

use crate::worker::{Left, MAX_CLAIMS, MAX_TRIES};
use crate::{Control, cancel};

/// The name of the artifact that is an attempt's patch.
pub(crate) const PATCH: &str = "patch";

/// Where the objects of the mirror are in a sandbox.
const OBJECTS: &str = "/run/carrel/objects";

/// How often, and after how long each time, a full disk is tried again.
const ROOM_TRIES: u32 = 20;
const ROOM_WAIT: Duration = Duration::from_millis(250);

/// Why a stage does not lead to the next state.
enum Halt {
    /// The attempt has failed.
    Failed { reason: String, retryable: bool },
    /// Somebody stopped it.
    Cancelled,
    /// Something around it does not work; the attempt is as it was.
    Around(String),
}

impl Halt {
    fn failed(reason: impl ToString) -> Self {
        Self::Failed { reason: reason.to_string(), retryable: false }
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match error {
            // What fills the disk is most often the sandbox itself: ending the attempt gives the space back.
            StoreError::DiskFull => Self::Failed { reason: error.to_string(), retryable: true },
            other => Self::Around(other.to_string()),
        }
    }
}

impl From<ForgeError> for Halt {
    fn from(error: ForgeError) -> Self {
        Self::Failed { reason: error.to_string(), retryable: error.is_retryable() }
    }
}

impl From<SandboxError> for Halt {
    fn from(error: SandboxError) -> Self {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        Self::Failed { reason, retryable: true }
    }
}

/// What a stage leads to: the next state, and the events that belong to the step.
#[derive(Clone)]
struct Step {
    next: AttemptState,
    events: Vec<EventBody>,
}

impl Step {
    fn to(next: AttemptState) -> Self {
        Self { next, events: Vec::new() }
    }
}

/// What a stage works on.
struct Scene<'a> {
    control: &'a Control,
    attempt: &'a Attempt,
    thread: &'a TaskThread,
    turn: &'a Turn,
    cancel: CancellationToken,
}

impl Scene<'_> {
    fn store(&self) -> &Store {
        &self.control.inner.store
    }

    /// The folder of the repository in the sandbox.
    fn workspace(&self) -> String {
        format!("/workspace/{}", self.thread.task.repository.name())
    }

    async fn tell(&self, body: EventBody) -> Result<(), Halt> {
        let event = NewEvent { attempt: Some(self.attempt.id), body };
        Ok(self.store().append(self.attempt.organization, self.task(), vec![event]).await?)
    }

    async fn progress(&self, message: String, since: std::time::Instant) -> Result<(), Halt> {
        let duration_ms = u64::try_from(since.elapsed().as_millis()).ok();
        self.tell(EventBody::Progress { message, duration_ms }).await
    }

    const fn task(&self) -> TaskId {
        self.thread.task.id
    }
}

/// Drives an attempt to its end.
pub(crate) async fn drive(control: &Control, job: &Job, id: AttemptId) -> Left {
    loop {
        let attempt = match control.inner.store.attempt(job.organization, id).await {
            Ok(attempt) => attempt,
            Err(StoreError::NotFound { .. }) => return Left::Done,
            Err(error) => return Left::Again { reason: error.to_string() },
        };
        if attempt.state.has_ended() {
            tracing::info!(attempt = %id, task = %attempt.task, state = attempt.state.word(), "an attempt has ended");
            put_away(control, id).await;
            return Left::Done;
        }
        let worked =
            if job.tries > MAX_CLAIMS { Err(ends_its_workers(job.tries)) } else { stage(control, &attempt).await };
        let step = match worked {
            Ok(step) => step,
            // The wish came after the attempt was read: reading it again shows whose it is.
            Err(Halt::Cancelled) if attempt.cancel_requested_by.is_none() => continue,
            Err(halt) => match ended(&attempt, halt, job.tries) {
                Ok(next) => Step::to(next),
                Err(reason) => return Left::Again { reason },
            },
        };
        // Nothing of the attempt may run on once a person sees that it was stopped. Any other end is stored first: if
        // the service dies in between, what was found out must not be lost with the sandbox.
        if matches!(step.next, AttemptState::Cancelled { .. }) {
            put_away(control, id).await;
        }
        match advance_when_there_is_room(control, &attempt, step).await {
            Ok(()) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Left::Again { reason: error.to_string() },
        }
    }
}

/// Moves the attempt on. On a full disk its sandbox, which has most likely filled it, is put away first, and then gives
/// its space back little by little.
async fn advance_when_there_is_room(control: &Control, attempt: &Attempt, step: Step) -> Result<(), StoreError> {
    match advance(control, attempt.clone(), step.clone()).await {
        Err(StoreError::DiskFull) => put_away(control, attempt.id).await,
        other => return other,
    }
    for _ in 0..ROOM_TRIES {
        match advance(control, attempt.clone(), step.clone()).await {
            Err(StoreError::DiskFull) => tokio::time::sleep(ROOM_WAIT).await,
            other => return other,
        }
    }
    advance(control, attempt.clone(), step).await
}

async fn advance(control: &Control, attempt: Attempt, step: Step) -> Result<(), StoreError> {
    let store = &control.inner.store;
    let next = attempt.state.clone().advance(step.next).expect("stages lead along the diagram's arrows");
    // Preparing and running write other columns of the row, so its version may have moved; its state may not.
    let now = store.attempt(attempt.organization, attempt.id).await?;
    if now.state != attempt.state {
        return Err(StoreError::Conflict { noun: "attempt" });
    }
    store.advance_attempt(&now, next, step.events).await.map(drop)
}

/// Does what the attempt's state calls for.
async fn stage(control: &Control, attempt: &Attempt) -> Result<Step, Halt> {
    let thread = control.inner.store.task(attempt.organization, attempt.task).await?;
    let (turn, _) =
        thread.attempt(attempt.id).ok_or_else(|| Halt::failed("the attempt is no longer part of its task"))?;
    let scene = Scene { control, attempt, thread: &thread, turn, cancel: CancellationToken::new() };
    let changes = control.inner.store.changes();
    let watch = cancel::watch(&control.inner.store, changes, attempt, &scene.cancel);
    if attempt.cancel_requested_by.is_some() {
        return Err(Halt::Cancelled);
    }
    let work = async {
        match &attempt.state {
            AttemptState::Queued => Ok(Step::to(AttemptState::Preparing)),
            AttemptState::Preparing => prepare::prepare(&scene).await,
            // The environment `default` has no scripts; environments that have some run them here.
            AttemptState::SettingUp => Ok(Step::to(AttemptState::Running)),
            AttemptState::Running => run::run(&scene).await,
            AttemptState::Collecting { answer } => collect::collect(&scene, answer).await,
            AttemptState::Ready(_) | AttemptState::Failed { .. } | AttemptState::Cancelled { .. } => {
                unreachable!("an attempt that has ended is not driven")
            }
        }
    };
    // The agent stops itself when it is cancelled, and says what it leaves; every other stage is just dropped.
    let stops_itself = matches!(attempt.state, AttemptState::Running);
    tokio::pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => outcome,
        () = watch => if stops_itself { work.await } else { Err(Halt::Cancelled) },
    }
}

fn ends_its_workers(claims: i64) -> Halt {
    Halt::failed(format!("{claims} workers have died or given up over this attempt; the service's log says how"))
}

/// The state a halt leads to, or the reason why the attempt stays where it is and is taken up again.
fn ended(attempt: &Attempt, halt: Halt, tries: i64) -> Result<AttemptState, String> {
    let stage = attempt.state.stage().expect("only attempts that have not ended are driven");
    match halt {
        Halt::Failed { reason, retryable } => Ok(AttemptState::Failed { stage, reason, retryable }),
        Halt::Cancelled => match attempt.cancel_requested_by {
            Some(by) => Ok(AttemptState::Cancelled { by }),
            None => Err("nobody has asked for it to be stopped".to_owned()),
        },
        Halt::Around(reason) if tries < MAX_TRIES => Err(reason),
        Halt::Around(reason) => Ok(AttemptState::Failed { stage, reason, retryable: true }),
    }
}

/// Ends the sandbox, if there is one. A failure is told to the log of the service: the next start tries again.
async fn put_away(control: &Control, id: AttemptId) {
    if let Err(error) = control.inner.sandboxes.destroy(id.sandbox()).await {
        tracing::warn!(attempt = %id, %error, "the sandbox of an attempt that has ended could not be removed");
    }
}

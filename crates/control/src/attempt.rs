//! One attempt, driven through its stages: one arm of [`drive`] and one file a stage. The states and their diagram are
//! `carrel_domain::attempt`'s.
//!
//! Every stage may be entered twice, because its worker may die at any point: it looks at what is there and goes on.

mod away;
mod collect;
mod door;
pub(crate) mod limits;
pub(crate) mod network;
mod prepare;
mod raise;
mod run;
pub(crate) mod setup;
mod site;
mod spending;

use std::ops::Deref;
use std::time::{Duration, Instant};

use carrel_domain::{
    Attempt, AttemptId, AttemptState, BranchName, Environment, EventBody, Mode, Recipe, Revision, Stage, TaskId, Turn,
};
use carrel_forge::ForgeError;
use carrel_image::ImageError;
use carrel_sandbox::{Finished, SandboxError};
use carrel_store::{Job, Store, StoreError, TaskThread};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::away::Away;
pub(crate) use prepare::local_changes;
pub(crate) use site::{Listener, Site};

use crate::worker::{Left, MAX_CLAIMS, MAX_TRIES};
use crate::{Control, cancel, trace, worker};

/// The name of the artifact that is an attempt's patch.
pub(crate) const PATCH: &str = "patch";

/// Where the objects of the mirror are in a sandbox.
const OBJECTS: &str = "/run/carrel/objects";

/// How often, and after how long each time, a full disk is tried again.
const ROOM_TRIES: u32 = 20;
const ROOM_WAIT: Duration = Duration::from_millis(250);

/// What git and others say that could not write a file; some do not say why.
const UNWRITTEN: [&str; 6] =
    ["No space left", "Disk quota exceeded", "failed to write", "couldn't write", "unable to write", "write error"];

/// Why a stage does not lead to the next state.
pub(crate) enum Halt {
    /// The attempt has failed.
    Failed { reason: String, retryable: bool },
    /// The attempt has failed for want of disk: its sandbox, which has most likely filled it, must not be kept.
    NoRoom { reason: String },
    /// What the attempt had is lost, with its sandbox or its machine: it ends, and is made again.
    Lost { reason: String },
    /// Somebody stopped it.
    Cancelled,
    /// Something around it does not work; the attempt is as it was.
    Around(String),
    /// It was passed on to another worker, whose machine may have what this one has not.
    PassedOn,
}

impl Halt {
    pub(crate) fn failed(reason: impl ToString) -> Self {
        Self::Failed { reason: reason.to_string(), retryable: false }
    }

    fn from_image(error: &ImageError) -> Self {
        Self::Failed { reason: with_causes(error), retryable: error.is_transient() }
    }

    /// The same, with what a person can do about it.
    fn with_way_out(self, way_out: &str) -> Self {
        match self {
            Self::Failed { reason, retryable } => Self::Failed { reason: format!("{reason}\n{way_out}"), retryable },
            Self::NoRoom { .. } | Self::Lost { .. } | Self::Cancelled | Self::Around(_) | Self::PassedOn => self,
        }
    }
}

/// An error with what lies beneath it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match error {
            // What fills the disk may be the sandbox itself: ending the attempt gives the space back then.
            StoreError::DiskFull => Self::NoRoom { reason: error.to_string() },
            // Somebody has to give the value, its key or the bytes again.
            StoreError::SecretClosed { .. } | StoreError::SecretGone { .. } | StoreError::ArtifactLost { .. } => {
                Self::failed(error)
            }
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
        Self::Failed { reason: with_causes(&error), retryable: true }
    }
}

/// What a stage leads to: the next state, and the events that belong to the step.
#[derive(Clone)]
struct Step {
    next: AttemptState,
    events: Vec<EventBody>,
    /// Whether the attempt is made again with that.
    is_made_again: bool,
}

impl Step {
    fn to(next: AttemptState) -> Self {
        Self { next, events: Vec::new(), is_made_again: false }
    }
}

/// What a stage works on: a site, and the attempt it is for.
pub(crate) struct Scene<'a> {
    site: Site<'a>,
    attempt: &'a Attempt,
    thread: &'a TaskThread,
    turn: &'a Turn,
    cancel: CancellationToken,
}

impl<'a> Deref for Scene<'a> {
    type Target = Site<'a>;

    fn deref(&self) -> &Site<'a> {
        &self.site
    }
}

impl Scene<'_> {
    /// The branch the task names, if it names one.
    fn branch(&self) -> Option<BranchName> {
        match &self.thread.task.revision {
            Revision::Branch(branch) => Some(branch.clone()),
            Revision::DefaultBranch | Revision::Commit(_) => None,
        }
    }

    /// What the sandbox is made of, as it was settled.
    async fn recipe(&self) -> Result<Recipe, Halt> {
        let recipe = self.store().recipe(self.attempt.organization, self.attempt.id).await?;
        recipe.ok_or_else(|| Halt::Failed {
            reason: "the attempt was prepared by an older version; start it again".to_owned(),
            retryable: true,
        })
    }

    /// The attempt whose conversation and files this one goes on from.
    fn goes_on_from(&self) -> Option<AttemptId> {
        self.attempt.goes_on_from(self.turn)
    }

    const fn task(&self) -> TaskId {
        self.thread.task.id
    }
}

/// Drives an attempt to its end.
pub(crate) async fn drive(control: &Control, store: &Store, job: &Job, id: AttemptId) -> Left {
    let away = Away::of(job, store);
    let mut is_named = false;
    loop {
        let attempt = match store.attempt(job.organization, id).await {
            Ok(attempt) => attempt,
            Err(StoreError::NotFound { .. }) => return Left::Done,
            Err(error) => return Left::Again { reason: error.to_string() },
        };
        if attempt.state.has_ended() {
            tracing::info!(attempt = %id, task = %attempt.task, state = attempt.state.word(), "an attempt has ended");
            put_away(control, &attempt).await;
            return Left::Done;
        }
        if !std::mem::replace(&mut is_named, true) {
            tracing::Span::current().record("task", tracing::field::display(attempt.task));
        }
        let (since, driving) = (Instant::now(), control.metrics().driving(&attempt.state));
        let worked = match away.as_ref() {
            _ if job.tries > MAX_CLAIMS => Err(ends_its_workers(job.tries)),
            Some(away) => away.taken_up(store, &attempt).await,
            None => Ok(()),
        };
        let worked = match worked {
            Ok(()) => {
                let span = trace::stage(attempt.task, &attempt.state);
                stage(control, store, &attempt).instrument(span).await
            }
            Err(halt) => Err(halt),
        };
        drop(driving);
        let class = worked.as_ref().err().and_then(Halt::class);
        let step = match worked {
            Ok(step) => step,
            // The wish came after the attempt was read: reading it again shows whose it is.
            Err(Halt::Cancelled) if attempt.cancel_requested_by.is_none() => continue,
            Err(Halt::PassedOn) => return Left::ToAnother,
            Err(halt) => {
                let halt = match halt {
                    Halt::NoRoom { reason } if !gives_room(control, id).await => Halt::Around(reason),
                    halt => halt,
                };
                let is_made_again = matches!(halt, Halt::Lost { .. }) && away::is_made_again(control, &attempt).await;
                match ended(&attempt, halt, worker::tries(store, job).await) {
                    Ok(next) => Step { is_made_again, ..Step::to(next) },
                    Err(reason) => return Left::Again { reason },
                }
            }
        };
        // Nothing of the attempt may run on once a person sees that it was stopped. Any other end is stored first: if
        // the service dies in between, what was found out must not be lost with the sandbox.
        if matches!(step.next, AttemptState::Cancelled { .. }) {
            if matches!(attempt.state, AttemptState::Running | AttemptState::Collecting { .. }) {
                keep_files(control, &attempt).await;
            }
            end_sandboxes(control, id).await;
        }
        let next = step.next.clone();
        match advance_when_there_is_room(control, store, &attempt, step).await {
            Ok(()) => control.metrics().advanced(attempt.state.stage(), since.elapsed(), &next, class),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Left::Again { reason: error.to_string() },
        }
    }
}

/// Moves the attempt on. On a full disk room is waited for; a sandbox that nobody needs any more, and which has most likely
/// filled it, is put away for that, and then gives its space back little by little.
async fn advance_when_there_is_room(
    control: &Control,
    store: &Store,
    attempt: &Attempt,
    step: Step,
) -> Result<(), StoreError> {
    for gives_way in [is_given_up(&step.next), is_kept_elsewhere(&step.next)] {
        match advance(store, attempt.clone(), step.clone()).await {
            Err(StoreError::DiskFull) if gives_way => {
                gives_room(control, attempt.id).await;
            }
            Err(StoreError::DiskFull) => {}
            other => return other,
        }
        for _ in 0..ROOM_TRIES {
            match advance(store, attempt.clone(), step.clone()).await {
                Err(StoreError::DiskFull) => tokio::time::sleep(ROOM_WAIT).await,
                other => return other,
            }
        }
    }
    advance(store, attempt.clone(), step).await
}

/// Ends the sandboxes of an attempt on a full disk, if that gives it room that matters: where somebody else has filled it,
/// nothing would come of it, and the attempt can go on once there is room again.
async fn gives_room(control: &Control, id: AttemptId) -> bool {
    let sandboxes = &control.inner.sandboxes;
    let (own, builder) = tokio::join!(sandboxes.is_heavy(id.sandbox()), sandboxes.is_heavy(id.builder()));
    (own || builder) && end_sandboxes(control, id).await
}

/// Whether nothing of the sandbox is needed in this state.
const fn is_given_up(next: &AttemptState) -> bool {
    matches!(next, AttemptState::Failed { .. } | AttemptState::Cancelled { .. })
}

/// Whether what the sandbox has for this state can be found without it, by whoever has to come to the same once more.
const fn is_kept_elsewhere(next: &AttemptState) -> bool {
    match next {
        AttemptState::Failed { .. } | AttemptState::Cancelled { .. } => true,
        AttemptState::Ready(outcome) => outcome.patch.is_some(),
        AttemptState::Queued
        | AttemptState::Preparing
        | AttemptState::SettingUp
        | AttemptState::Running
        | AttemptState::Collecting { .. } => false,
    }
}

async fn advance(store: &Store, attempt: Attempt, step: Step) -> Result<(), StoreError> {
    // Preparing and running write other columns of the row, so its version may have moved; its state may not.
    let now = store.attempt(attempt.organization, attempt.id).await?;
    if now.state != attempt.state {
        return Err(StoreError::Conflict { noun: "attempt" });
    }
    let moved = match step.is_made_again {
        true => store.end_and_retry(&now, step.next, step.events).await,
        false => store.advance_attempt(&now, step.next, step.events).await,
    };
    moved.map(drop)
}

/// Does what the attempt's state calls for.
async fn stage(control: &Control, store: &Store, attempt: &Attempt) -> Result<Step, Halt> {
    let thread = store.task(attempt.organization, attempt.task).await?;
    let (turn, _) =
        thread.attempt(attempt.id).ok_or_else(|| Halt::failed("the attempt is no longer part of its task"))?;
    let pinned = |known: &&Environment| known.id == attempt.environment && known.version == attempt.environment_version;
    let environment = thread.environments.iter().find(pinned);
    let environment = environment.ok_or_else(|| Halt::failed("the attempt's environment is no longer known"))?;
    let site = Site {
        control,
        store,
        organization: attempt.organization,
        environment,
        repository_id: thread.task.repository_id,
        repository: &thread.task.repository,
        sandbox: attempt.id.sandbox(),
        builder: attempt.id.builder(),
        listener: Listener::Log(attempt),
    };
    let scene = Scene { site, attempt, thread: &thread, turn, cancel: CancellationToken::new() };
    let watch = cancel::watch(store, store.changes(), attempt, &scene.cancel);
    if attempt.cancel_requested_by.is_some() {
        return Err(Halt::Cancelled);
    }
    let work = async {
        match &attempt.state {
            AttemptState::Queued => spending::admit(&scene).await.map(|()| Step::to(AttemptState::Preparing)),
            AttemptState::Preparing => prepare::prepare(&scene).await,
            AttemptState::SettingUp => Box::pin(setup::set_up(&scene)).await,
            AttemptState::Running => Box::pin(run::run(&scene)).await,
            AttemptState::Collecting { answer, notes } => collect::collect(&scene, answer, notes).await,
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
        Halt::NoRoom { reason } | Halt::Lost { reason } => Ok(AttemptState::Failed { stage, reason, retryable: true }),
        Halt::Cancelled => match attempt.cancel_requested_by {
            Some(by) => Ok(AttemptState::Cancelled { by }),
            None => Err("nobody has asked for it to be stopped".to_owned()),
        },
        Halt::Around(reason) if tries < MAX_TRIES => Err(reason),
        Halt::Around(reason) => Ok(AttemptState::Failed { stage, reason, retryable: true }),
        Halt::PassedOn => Err("it was passed on to another worker".to_owned()),
    }
}

/// Puts the sandbox of an attempt that has ended away. The files of a change are kept, for the turn or the retry that may
/// go on from them; all else goes.
async fn put_away(control: &Control, attempt: &Attempt) {
    let has_worked = match attempt.state {
        AttemptState::Ready(_) => true,
        AttemptState::Failed { stage, .. } => matches!(stage, Stage::Running | Stage::Collecting),
        // Kept before a person saw that it was stopped.
        _ => false,
    };
    if has_worked {
        keep_files(control, attempt).await;
    }
    end_sandboxes(control, attempt.id).await;
}

/// Ends the sandbox of a change and keeps its files.
async fn keep_files(control: &Control, attempt: &Attempt) {
    if is_a_change(control, attempt).await {
        match control.inner.sandboxes.keep(attempt.id.sandbox(), &setup::kept_layer(attempt.id)).await {
            // It was kept before this worker's predecessor died, or by a follow-up that was there first.
            Ok(()) | Err(SandboxError::Gone(_) | SandboxError::LayerExists(_)) => control.tend_layers_soon(),
            Err(error) => {
                tracing::warn!(attempt = %attempt.id, error = with_causes(&error), "the files of an attempt could not be kept");
            }
        }
    }
}

async fn is_a_change(control: &Control, attempt: &Attempt) -> bool {
    let thread = control.inner.store.task(attempt.organization, attempt.task).await.ok();
    thread.as_ref().and_then(|thread| thread.attempt(attempt.id)).is_some_and(|(turn, _)| turn.mode == Mode::Code)
}

/// Ends the sandbox, and the one a snapshot was built in, where there are any; says whether none is left. A failure is told
/// to the log of the service: the next start tries again.
pub(crate) async fn end_sandboxes(control: &Control, id: AttemptId) -> bool {
    let mut have_ended = true;
    for sandbox in [id.sandbox(), id.builder()] {
        if let Err(error) = control.inner.sandboxes.destroy(sandbox).await {
            tracing::warn!(attempt = %id, %error, "a sandbox that its attempt does not need any more could not be removed");
            have_ended = false;
        }
    }
    have_ended
}

/// A step inside the sandbox that has to work, or else its last words are the reason.
fn succeeded(finished: &Finished, what: &str) -> Result<(), Halt> {
    if finished.status.is_success() {
        return Ok(());
    }
    let said = if finished.stderr.is_empty() {
        String::from_utf8_lossy(&finished.output)
    } else {
        finished.stderr.as_str().into()
    };
    let tail: Vec<&str> = said.trim().lines().rev().take(5).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    let reason = format!("could not {what} in the sandbox ({:?}): {}", finished.status, tail.join(" / "));
    if UNWRITTEN.iter().any(|words| reason.contains(words)) {
        // Files of an agent are kept, and a retry that resumes finds them.
        let reason = format!("{reason}; the disk is full, or was: free some space, and retry it");
        return Err(Halt::Failed { reason, retryable: true });
    }
    Err(Halt::failed(reason))
}

#[cfg(test)]
mod tests {
    use carrel_domain::comparison::Tally;
    use carrel_domain::{AnswerNotes, Outcome, PatchSummary};

    use super::*;

    #[test]
    fn what_could_not_be_written_is_for_want_of_disk_and_may_be_tried_again() {
        let ended = |stderr: &str| Finished {
            status: carrel_sandbox::ExitStatus::Exited(128),
            stderr: stderr.to_owned(),
            output: Vec::new(),
            dropped_bytes: 0,
            duration: Duration::ZERO,
        };

        let full = succeeded(&ended("error: failed to write new configuration file x.lock"), "find the changes");
        let other = succeeded(&ended("fatal: bad object"), "find the changes");

        assert!(matches!(full, Err(Halt::Failed { reason, retryable: true }) if reason.contains("the disk is full")));
        assert!(matches!(other, Err(Halt::Failed { retryable: false, .. })));
    }

    #[test]
    fn a_sandbox_gives_way_to_a_full_disk_only_when_what_it_has_is_elsewhere() {
        let notes = AnswerNotes::default;
        let ready = |patch: Option<PatchSummary>| {
            AttemptState::Ready(Outcome { answer: String::new(), patch, notes: notes(), tally: Tally::default() })
        };
        let patch = PatchSummary { files: Vec::new(), additions: 1, deletions: 0, size_bytes: 1 };
        let failed = AttemptState::Failed { stage: Stage::Running, reason: String::new(), retryable: true };
        let collecting = AttemptState::Collecting { answer: String::new(), notes: notes() };

        let ways = [failed, ready(Some(patch)), ready(None), collecting, AttemptState::Running];

        assert_eq!(ways.each_ref().map(is_given_up), [true, false, false, false, false]);
        assert_eq!(ways.each_ref().map(is_kept_elsewhere), [true, true, false, false, false]);
    }
}

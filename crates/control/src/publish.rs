//! Publishing: a ready patch becomes a commit in the mirror and a branch at the remote. Every step may be walked twice.

use carrel_domain::{
    AttemptId, AttemptState, BranchName, CommitOid, EventBody, NewEvent, OrganizationId, Publication, PublicationId,
    PublicationState, UserId,
};
use carrel_forge::{CommitRequest, ForgeError};
use carrel_store::{Job, NewPublication, Store, StoreError, TaskThread};
use tracing::Instrument as _;

use crate::attempt::{self, PATCH, local_changes};
use crate::elsewhere::{self, Elsewhere};
use crate::worker::{Left, MAX_CLAIMS};
use crate::{Control, ControlError, base, trace};

/// How often a publication is tried by itself. A person waits for it, and can try again.
pub(crate) const TRIES: i64 = 2;

/// The longest commit message, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Who asks for which patch to go where.
#[derive(Debug, Clone)]
pub struct PublicationRequest {
    /// Whose.
    pub organization: OrganizationId,
    /// The attempt whose patch it is.
    pub attempt: AttemptId,
    /// The branch it goes to.
    pub branch: BranchName,
    /// The commit's message; the task's title if it is none.
    pub message: Option<String>,
    /// Who asks.
    pub by: UserId,
}

impl Control {
    /// Takes a wish to publish. The same wish again gives the same publication; a failed one is tried again.
    ///
    /// # Errors
    /// When the attempt has no patch.
    pub async fn publish(&self, request: PublicationRequest) -> Result<Publication, ControlError> {
        let store = &self.inner.store;
        let attempt = store.attempt(request.organization, request.attempt).await?;
        match &attempt.state {
            AttemptState::Ready(outcome) if outcome.patch.is_some() => {}
            AttemptState::Ready(_) => {
                return Err(ControlError::NotNow(
                    "the attempt has changed nothing, so there is nothing to publish".to_owned(),
                ));
            }
            other => {
                let word = other.word();
                return Err(ControlError::NotNow(format!("the attempt is {word}; only a ready one can be published")));
            }
        }
        let message = match request.message {
            Some(message) => checked(&message)?,
            None => {
                let task = store.task(request.organization, attempt.task).await?.task;
                format!("{}\n\nCarrel-Task: {}", task.title, task.id)
            }
        };
        let new = NewPublication {
            organization: request.organization,
            task: attempt.task,
            attempt: attempt.id,
            branch: request.branch,
            message,
            created_by: request.by,
        };
        Ok(store.request_publication(&new).await?)
    }
}

fn checked(message: &str) -> Result<String, ControlError> {
    if message.trim().is_empty() {
        return Err(ControlError::invalid("message", "the message is empty; leave it out to take the task's title"));
    }
    if message.len() > MAX_MESSAGE_BYTES || message.contains('\0') {
        return Err(ControlError::invalid(
            "message",
            format!("the message is longer than {MAX_MESSAGE_BYTES} bytes or has a NUL"),
        ));
    }
    Ok(message.to_owned())
}

/// Why a publication does not go on.
enum Halt {
    /// It cannot be done.
    Failed { reason: String, retryable: bool },
    /// The store does not work.
    Store(StoreError),
    /// It was passed on to another worker, whose machine may have the repository.
    PassedOn,
}

impl Halt {
    fn ends_its_workers(claims: i64) -> Self {
        let reason =
            format!("{claims} workers have died or given up over this publication; the service's log says how");
        Self::Failed { reason, retryable: true }
    }
}

impl From<attempt::Halt> for Halt {
    fn from(halt: attempt::Halt) -> Self {
        match halt {
            attempt::Halt::Failed { reason, retryable } => Self::Failed { reason, retryable },
            attempt::Halt::NoRoom { reason } | attempt::Halt::Lost { reason } | attempt::Halt::Around(reason) => {
                Self::Failed { reason, retryable: true }
            }
            attempt::Halt::PassedOn => Self::PassedOn,
            attempt::Halt::Cancelled => Self::Failed { reason: "it was stopped".to_owned(), retryable: true },
        }
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ForgeError> for Halt {
    fn from(error: ForgeError) -> Self {
        Self::Failed { reason: error.to_string(), retryable: error.is_retryable() }
    }
}

/// Drives a publication to its end.
pub(crate) async fn drive(control: &Control, store: &Store, job: &Job, id: PublicationId) -> Left {
    loop {
        let publication = match store.publication(job.organization, id).await {
            Ok(publication) => publication,
            Err(StoreError::NotFound { .. }) => return Left::Done,
            Err(error) => return Left::Again { reason: error.to_string() },
        };
        if publication.state.has_ended() {
            return Left::Done;
        }
        let worked = match job.tries > MAX_CLAIMS {
            true => Err(Halt::ends_its_workers(job.tries)),
            false => {
                let span = trace::publication(publication.task, &publication.state);
                step(control, store, &publication).instrument(span).await
            }
        };
        let next = match worked {
            Ok(next) => next,
            Err(Halt::Failed { reason, retryable: true }) if job.tries < TRIES => return Left::Again { reason },
            Err(Halt::Failed { reason, retryable }) => PublicationState::Failed { reason, retryable },
            Err(Halt::Store(error)) if job.tries < TRIES => return Left::Again { reason: error.to_string() },
            Err(Halt::PassedOn) => return Left::ToAnother,
            Err(Halt::Store(error)) => PublicationState::Failed { reason: error.to_string(), retryable: true },
        };
        match store.advance_publication(&publication, next).await {
            Ok(advanced) => control.metrics().published(&advanced.state),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Left::Again { reason: error.to_string() },
        }
    }
}

async fn step(control: &Control, store: &Store, publication: &Publication) -> Result<PublicationState, Halt> {
    let thread = store.task(publication.organization, publication.task).await?;
    match &publication.state {
        PublicationState::Requested => {
            let commit = commit(control, store, publication, &thread).await?;
            tell_of_local_changes(store, publication, &thread).await?;
            Ok(PublicationState::Committed { commit })
        }
        PublicationState::Committed { commit } => {
            let mirror = control.inner.forge.mirror(thread.task.repository_id);
            // It was made on another machine, perhaps.
            if !base::has(&mirror, commit).await?
                && self::commit(control, store, publication, &thread).await? != *commit
            {
                return Err(Halt::Failed {
                    reason: format!(
                        "commit {} was made on another worker's machine and would be another one here; let all workers have \
                         the same CARREL_GIT_AUTHOR, and publish again",
                        commit.short()
                    ),
                    retryable: true,
                });
            }
            let ours = pushed_before(&thread, publication);
            match mirror.push(&thread.task.repository, commit, &publication.branch, ours.as_ref()).await {
                Ok(_) => Ok(PublicationState::Pushed { commit: commit.clone() }),
                Err(error) => Err(refused(control, store, publication, &thread, error).await),
            }
        }
        ended @ (PublicationState::Pushed { .. } | PublicationState::Failed { .. }) => Ok(ended.clone()),
    }
}

async fn commit(
    control: &Control,
    store: &Store,
    publication: &Publication,
    thread: &TaskThread,
) -> Result<CommitOid, Halt> {
    let unusable = |reason: &str| Halt::Failed { reason: reason.to_owned(), retryable: false };
    let (_, attempt) =
        thread.attempt(publication.attempt).ok_or_else(|| unusable("the attempt is no longer part of its task"))?;
    let base = attempt.base.clone().ok_or_else(|| unusable("the attempt has no base commit"))?;
    let patch = store.artifact(publication.organization, attempt.id, PATCH).await?;
    let patch = store.artifact_path(&patch).await?;
    let bytes = tokio::fs::read(&patch).await.map_err(StoreError::from)?;
    if control.inner.redactor.finds_in(&publication.message) {
        return Err(unusable(
            "the commit's message holds one of this installation's own secrets; give another message",
        ));
    }
    if control.inner.redactor.finds_in(&String::from_utf8_lossy(&bytes)) {
        return Err(unusable(
            "the patch holds one of this installation's own secrets, so it is not published; look at the diff",
        ));
    }
    if let Some(changes) = &thread.task.local_changes {
        let redactor = &control.inner.redactor;
        if local_changes::hold_a_secret(store, redactor, publication.organization, changes).await? {
            return Err(unusable(
                "the local changes the task started from hold one of this installation's own secrets, so nothing is published",
            ));
        }
    }
    let mut mirror = control.inner.forge.mirror(thread.task.repository_id);
    if !base::has(&mirror, &base).await? {
        let (id, location) = (thread.task.repository_id, &thread.task.repository);
        mirror = match control.inner.forge.fetch(id, location).await {
            Ok(mirror) => mirror,
            Err(error) => return Err(refused(control, store, publication, thread, error).await),
        };
        Box::pin(base::bring(control, store, thread, &mirror, &base)).await?;
    }
    let author = &control.inner.author;
    let request = CommitRequest {
        base: &base,
        patch: &patch,
        message: &publication.message,
        author_name: &author.name,
        author_email: &author.email,
        at: publication.created_at,
    };
    Ok(mirror.commit_patch(&request).await?)
}

/// What a refusal of the repository's leads to: a path that leads nowhere here may be one of another worker's machine.
async fn refused(
    control: &Control,
    store: &Store,
    publication: &Publication,
    thread: &TaskThread,
    error: ForgeError,
) -> Halt {
    if !elsewhere::is_not_here(&thread.task.repository, &error) {
        return error.into();
    }
    match elsewhere::pass_on(control, store, &thread.task, publication.attempt, &error).await {
        Ok(Elsewhere::PassedOn) => Halt::PassedOn,
        Ok(Elsewhere::Nowhere { reason, retryable }) => Halt::Failed { reason, retryable },
        Err(error) => Halt::Store(error),
    }
}

async fn tell_of_local_changes(
    store: &Store,
    publication: &Publication,
    thread: &TaskThread,
) -> Result<(), StoreError> {
    if thread.task.local_changes.is_none() {
        return Ok(());
    }
    let message = format!(
        "the branch {} gets two commits: the local changes the task started from, and those of the agent on them",
        publication.branch
    );
    let body = EventBody::Progress { message, duration_ms: None };
    let event = NewEvent { attempt: Some(publication.attempt), body };
    store.append(publication.organization, publication.task, vec![event]).await
}

/// The commit that this task put on this branch last, so that a follow-up may move its own branch on.
fn pushed_before(thread: &TaskThread, publication: &Publication) -> Option<CommitOid> {
    thread.publications.iter().rev().find_map(|other| match &other.state {
        PublicationState::Pushed { commit } if other.branch == publication.branch && other.id != publication.id => {
            Some(commit.clone())
        }
        _ => None,
    })
}

//! Asking for tasks and turns: what can be known to be wrong is said now, the rest is written down and returned.

use carrel_domain::{AttemptId, AttemptState, NewTask, NewTurn, OrganizationId, TaskId, TaskState, UserId};
use carrel_forge::ForgeError;
use carrel_store::{TaskThread, TurnThread};

use crate::models::Choice;
use crate::{Control, ControlError};

impl Control {
    /// Takes a task. A repository on this machine is looked at first, so that a wrong path or branch is said at once;
    /// one behind a URL is reached when the attempt is prepared.
    ///
    /// # Errors
    /// When it names something that is not there. Nothing is stored then.
    pub async fn create_task(&self, new: &NewTask) -> Result<TaskId, ControlError> {
        let (model, effort) = (new.turn.model.as_deref(), new.turn.effort.as_deref());
        let choice = self.inner.models.choose(model, effort, None)?;
        self.inner.forge.probe(&new.repository, &new.revision).await.map_err(|error| refused(&error))?;
        let new = NewTask { turn: NewTurn { effort: choice.effort, ..new.turn.clone() }, ..new.clone() };
        Ok(self.inner.store.create_task(&new, &choice.model).await?)
    }

    /// Takes a follow-up: it goes on from the files and the conversation of one attempt.
    ///
    /// # Errors
    /// When the turn before is still worked on, or the attempt named is none of this task or has no result.
    pub async fn follow_up(
        &self,
        organization: OrganizationId,
        task: TaskId,
        new: NewTurn,
        by: UserId,
    ) -> Result<(), ControlError> {
        let thread = self.inner.store.task(organization, task).await?;
        if matches!(thread.state(), TaskState::Queued | TaskState::Running) {
            return Err(ControlError::NotNow(
                "the task is still being worked on; wait until it has ended, or stop it first".to_owned(),
            ));
        }
        let from_attempt = match new.from_attempt {
            Some(id) => Some(ready(&thread, id)?),
            None => latest_ready(&thread.turns),
        };
        let before = thread.turns.last().and_then(|turn| turn.attempts.first());
        let before = before.map(|attempt| Choice { model: attempt.model.clone(), effort: attempt.effort.clone() });
        let choice = self.inner.models.choose(new.model.as_deref(), new.effort.as_deref(), before.as_ref())?;
        let count = u32::try_from(thread.turns.len()).expect("a task has few turns");
        let new = NewTurn { from_attempt, effort: choice.effort, ..new };
        Ok(self.inner.store.add_turn(&thread.task, count, &new, by, &choice.model).await?)
    }
}

/// The first attempt with a result in the last turn that has one.
fn latest_ready(turns: &[TurnThread]) -> Option<AttemptId> {
    let is_ready = |state: &AttemptState| matches!(state, AttemptState::Ready(_));
    turns
        .iter()
        .rev()
        .find_map(|turn| turn.attempts.iter().find(|attempt| is_ready(&attempt.state)))
        .map(|found| found.id)
}

fn ready(thread: &TaskThread, id: AttemptId) -> Result<AttemptId, ControlError> {
    let (_, attempt) = thread
        .attempt(id)
        .ok_or_else(|| ControlError::invalid("from_attempt_id", format!("attempt {id} is none of this task")))?;
    match attempt.state {
        AttemptState::Ready(_) => Ok(id),
        _ => Err(ControlError::invalid(
            "from_attempt_id",
            format!("attempt {id} is {} and has no files to go on from", attempt.state.word()),
        )),
    }
}

fn refused(error: &ForgeError) -> ControlError {
    let field = match error {
        ForgeError::UnknownBranch { .. } | ForgeError::NoDefaultBranch { .. } => "branch",
        ForgeError::UnknownCommit { .. } | ForgeError::AmbiguousCommit { .. } => "commit",
        _ => "repository",
    };
    ControlError::invalid(field, error)
}

//! Asking for tasks and turns: what can be known to be wrong is said now, the rest is written down and returned.

#[cfg(test)]
mod tests;

use carrel_domain::{
    Attempt, AttemptId, AttemptState, LocalChanges, NewTask, NewTurn, OrganizationId, TaskId, TaskState, UserId,
};
use carrel_forge::ForgeError;
use carrel_forge::patch::{self, PatchError};
use carrel_store::{StoreError, TaskThread, TurnThread};

use crate::comparison::compare;
use crate::models::Choice;
use crate::{Control, ControlError, elsewhere};

impl Control {
    /// Takes a task. A repository on this machine is looked at first, so that a wrong path or branch is said at once;
    /// one behind a URL is reached when the attempt is prepared.
    ///
    /// # Errors
    /// When it names something that is not there. Nothing is stored then.
    pub async fn create_task(&self, new: &NewTask) -> Result<TaskId, ControlError> {
        let (model, effort) = (new.turn.model.as_deref(), new.turn.effort.as_deref());
        let choice = self.inner.models.choose(model, effort, None)?;
        let agent = self.agent(new.turn.agent.as_deref(), None, &choice)?;
        self.gives(new.turn.limits, &choice.model)?;
        self.admit(new.organization, new.created_by).await?;
        let is_here = match self.inner.forge.probe(&new.repository, &new.revision).await {
            Ok(()) => true,
            // Nothing is prepared on this machine: whoever works says so if it is nowhere.
            Err(error) if !self.inner.role.works() && elsewhere::is_not_here(&new.repository, &error) => false,
            Err(error) => return Err(refused(&error)),
        };
        let mut new = NewTask { turn: NewTurn { effort: choice.effort, agent, ..new.turn.clone() }, ..new.clone() };
        if let Some(changes) = new.local_changes {
            new.local_changes = Some(read(self, new.organization, changes).await?);
            if !new.turn.attachments.contains(&changes.attachment) {
                new.turn.attachments.push(changes.attachment);
            }
        }
        let task = self.inner.store.create_task(&new, &choice.model).await?;
        if is_here
            && self.inner.role.works()
            && let Err(error) = elsewhere::is_here(self, &self.inner.store, new.organization, &new.repository).await
        {
            // Whoever has not got it asks one after the other.
            tracing::warn!(%task, %error, "could not take note of whose machine has a repository");
        }
        crate::trace::led_to(task);
        Ok(task)
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
        crate::trace::led_to(task);
        if matches!(thread.state(), TaskState::Queued | TaskState::Running) {
            return Err(ControlError::NotNow(
                "the task is still being worked on; wait until it has ended, or stop it first".to_owned(),
            ));
        }
        let from_attempt = match new.from_attempt {
            Some(id) => Some(ready(&thread, id)?),
            None => best_of_latest(&thread.turns),
        };
        self.admit(organization, by).await?;
        // A retry may have been given other limits than what it made again.
        let before = from_attempt.and_then(|id| thread.attempt(id)).map(|(_, attempt)| attempt);
        let before = before.or_else(|| thread.turns.last().and_then(|turn| turn.attempts.last()));
        let limits = new.limits.over(before.map(|attempt| attempt.limits).unwrap_or_default());
        let agent_before = before.and_then(|attempt| attempt.agent.clone());
        let before = before.map(|attempt| Choice { model: attempt.model.clone(), effort: attempt.effort.clone() });
        let choice = self.inner.models.choose(new.model.as_deref(), new.effort.as_deref(), before.as_ref())?;
        self.gives(new.limits, &choice.model)?;
        let agent = self.agent(new.agent.as_deref(), agent_before.as_deref(), &choice)?;
        let count = u32::try_from(thread.turns.len()).expect("a task has few turns");
        let new = NewTurn { from_attempt, effort: choice.effort, agent, limits, ..new };
        Ok(self.inner.store.add_turn(&thread.task, count, &new, by, &choice.model).await?)
    }

    /// The agent that a turn is given to.
    fn agent(
        &self,
        asked: Option<&str>,
        before: Option<&str>,
        choice: &Choice,
    ) -> Result<Option<String>, ControlError> {
        let model = self.inner.models.get(&choice.model);
        self.inner.agents.choose(asked, before, &choice.model, model)
    }
}

/// Of the last turn that has a result: the attempt that comparing suggests, or else the first with a result.
fn best_of_latest(turns: &[TurnThread]) -> Option<AttemptId> {
    let is_ready = |attempt: &&Attempt| matches!(attempt.state, AttemptState::Ready(_));
    turns.iter().rev().find_map(|turn| {
        let first = turn.attempts.iter().find(is_ready)?;
        let suggested = compare(&turn.attempts).and_then(|compared| compared.suggested);
        let suggested = turn.attempts.iter().filter(is_ready).find(|one| Some(one.id) == suggested);
        Some(suggested.unwrap_or(first).id)
    })
}

/// What a patch of local changes is, read from its bytes: nothing is taken that could not be committed.
async fn read(
    control: &Control,
    organization: OrganizationId,
    changes: LocalChanges,
) -> Result<LocalChanges, ControlError> {
    let id = changes.attachment;
    let wrong = |problem: &dyn std::fmt::Display| ControlError::invalid("local_changes", problem);
    let (attachment, file) = match control.inner.store.attachment_file(organization, id).await {
        Err(StoreError::NotFound { .. }) => {
            return Err(wrong(&format!("there is no attachment {id}; upload the patch as one first")));
        }
        other => other?,
    };
    if attachment.size_bytes > LocalChanges::MAX_BYTES {
        let (size, most) = (attachment.size_bytes, LocalChanges::MAX_BYTES);
        return Err(wrong(&format!("the patch has {size} bytes, more than the {most} allowed; push a branch instead")));
    }
    let bytes = control.inner.store.artifact_bytes(&file).await?;
    let not_taken = |error: &PatchError| {
        wrong(&format!("the patch is not taken: {error}; make it with `git diff --binary --full-index`"))
    };
    let summary = patch::parse(&bytes).map_err(|error| not_taken(&error))?;
    if summary.files.is_empty() {
        return Err(not_taken(&PatchError::Empty));
    }
    let files = summary.files.len() as u64;
    Ok(LocalChanges { files, additions: summary.additions, deletions: summary.deletions, ..changes })
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

//! From the store's rows to what crosses HTTP.

use carrel_domain::{
    Attempt, AttemptId, AttemptState, Environment, EnvironmentId, Publication, RepositoryId, RepositoryLocation,
    Revision, Standing, Task, TaskId, TurnId, UserId,
};
use carrel_store::{TaskListing, TaskThread, TurnThread};
use carrel_wire as wire;

/// A task with everything under it.
pub(crate) fn task(thread: TaskThread, waits_for: Option<String>) -> wire::Task {
    let state = thread.state().into();
    let TaskThread { task, turns, publications, environments } = thread;
    let (branch, commit) = match &task.revision {
        Revision::DefaultBranch => (None, None),
        Revision::Branch(branch) => (Some(branch.to_string()), None),
        Revision::Commit(commit) => (None, Some(commit.to_string())),
    };
    wire::Task {
        id: TaskId::as_uuid(task.id),
        repository: repository(task.repository_id, &task.repository),
        environment: environment(task.environment, &environments),
        branch,
        commit,
        local_changes: task.local_changes.map(Into::into),
        state,
        priority: task.priority.into(),
        waits_for,
        created_at: task.created_at,
        updated_at: task.updated_at,
        created_by: UserId::as_uuid(task.created_by),
        last_seq: task.last_seq,
        turns: turns.into_iter().map(|thread| turn(thread, &publications, &environments)).collect(),
        title: task.title,
    }
}

fn turn(thread: TurnThread, publications: &[Publication], environments: &[Environment]) -> wire::Turn {
    let TurnThread { turn, attempts, attachments } = thread;
    let comparison = comparison(&attempts);
    wire::Turn {
        id: TurnId::as_uuid(turn.id),
        number: turn.number,
        prompt: turn.prompt,
        mode: turn.mode.into(),
        from_attempt_id: turn.from_attempt.map(AttemptId::as_uuid),
        created_at: turn.created_at,
        created_by: UserId::as_uuid(turn.created_by),
        attempts: attempts.into_iter().map(|row| attempt(row, publications, environments)).collect(),
        attachments: attachments.into_iter().map(Into::into).collect(),
        comparison,
    }
}

/// Which attempt of a turn to look at first.
fn comparison(attempts: &[Attempt]) -> Option<wire::Comparison> {
    let compared = carrel_control::compare(attempts)?;
    let suggested_attempt_id = compared.suggested.map(AttemptId::as_uuid);
    Some(wire::Comparison { suggested_attempt_id, reason: compared.reason })
}

/// An attempt, with those of its task's publications and environments that are its own.
pub(crate) fn attempt(row: Attempt, publications: &[Publication], environments: &[Environment]) -> wire::Attempt {
    let state = wire::AttemptState::from(&row.state);
    let (result, failure) = match row.state {
        AttemptState::Ready(outcome) => (Some(outcome.into()), None),
        AttemptState::Failed { stage, reason, retryable } => {
            let stage = Some(wire::attempts::stage_word(stage).to_owned());
            (None, Some(wire::Failure { stage, reason, retryable }))
        }
        AttemptState::Queued
        | AttemptState::Preparing
        | AttemptState::SettingUp
        | AttemptState::Running
        | AttemptState::Collecting { .. }
        | AttemptState::Cancelled { .. } => (None, None),
    };
    let pinned =
        environments.iter().find(|known| (known.id, known.version) == (row.environment, row.environment_version));
    wire::Attempt {
        id: row.id.as_uuid(),
        number: row.number,
        retry_of: row.retry.map(|retry| retry.of.as_uuid()),
        resumes: row.retry.is_some_and(|retry| retry.resumes),
        state,
        base_commit: row.base.map(|commit| commit.to_string()),
        environment: wire::AttemptEnvironment {
            id: row.environment.as_uuid(),
            name: pinned.map(|known| known.name.to_string()).unwrap_or_default(),
            version: row.environment_version,
            image: pinned.and_then(|known| known.spec.image.as_ref()).map(ToString::to_string),
        },
        model: row.model,
        effort: row.effort,
        agent: row.agent.unwrap_or_else(|| carrel_control::OWN_AGENT.to_owned()),
        limits: row.limits.into(),
        usage: row.usage.into(),
        result,
        failure,
        cancel_requested: row.cancel_requested_by.is_some(),
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        publications: publications.iter().filter(|one| one.attempt == row.id).cloned().map(Into::into).collect(),
    }
}

/// A task's environment. Every attempt of a task is pinned to a version of it, so its name is known.
fn environment(id: EnvironmentId, environments: &[Environment]) -> wire::Named {
    let known = environments.iter().find(|known| known.id == id);
    wire::Named { id: id.as_uuid(), name: known.map(|known| known.name.to_string()).unwrap_or_default() }
}

/// A task as a list shows it.
pub(crate) fn summary(listing: TaskListing, waits_for: Option<String>) -> wire::TaskSummary {
    let TaskListing { task, mode, attempts } = listing;
    let state = carrel_domain::TaskState::of(attempts.iter().map(|attempt| attempt.standing)).into();
    let ready = attempts.iter().find(|attempt| attempt.standing == Standing::Ready);
    let Task { id, repository_id, repository: location, title, created_at, updated_at, .. } = task;
    wire::TaskSummary {
        id: id.as_uuid(),
        title,
        repository: repository(repository_id, &location),
        state,
        mode: mode.into(),
        waits_for,
        attempts: u32::try_from(attempts.len()).unwrap_or(u32::MAX),
        additions: ready.and_then(|attempt| attempt.additions),
        deletions: ready.and_then(|attempt| attempt.deletions),
        created_at,
        updated_at,
    }
}

/// A repository.
pub(crate) fn repository(id: RepositoryId, location: &RepositoryLocation) -> wire::Repository {
    wire::Repository { id: id.as_uuid(), location: location.to_string(), name: location.name() }
}

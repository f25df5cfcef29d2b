//! The commit that a task starts from, on a machine that may not have it: a worker elsewhere has pinned it, and the branch has
//! moved since, or has made it there of a person's local changes.

use carrel_domain::{CommitOid, Revision};
use carrel_forge::{ForgeError, Mirror};
use carrel_store::{Store, TaskThread};

use crate::Control;
use crate::attempt::{Halt, local_changes};

/// Whether this mirror has the commit, if need be after asking where it was fetched from. It is kept from then on.
pub(crate) async fn has(mirror: &Mirror, commit: &CommitOid) -> Result<bool, ForgeError> {
    let prefix = commit.as_str().parse().expect("a whole name begins with itself");
    match mirror.resolve(&Revision::Commit(prefix)).await {
        Ok(_) => Ok(true),
        Err(ForgeError::UnknownCommit { .. } | ForgeError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Brings the commit that attempts of this task start from into the mirror of this machine.
pub(crate) async fn bring(
    control: &Control,
    store: &Store,
    thread: &TaskThread,
    mirror: &Mirror,
    commit: &CommitOid,
) -> Result<(), Halt> {
    if has(mirror, commit).await? {
        return Ok(());
    }
    let gone = || {
        Halt::failed(format!(
            "the task starts from commit {}, which is neither on this worker's machine nor given by the repository's server any \
             more; create a new task",
            commit.short()
        ))
    };
    let Some(changes) = &thread.task.local_changes else { return Err(gone()) };
    let organization = thread.task.organization;
    let mut under = None;
    for attempt in thread.turns.iter().flat_map(|turn| &turn.attempts) {
        let applied = store.local_changes_applied(organization, attempt.id).await?;
        under = under.or(applied.filter(|(_, made)| made == commit).map(|(under, _)| under));
    }
    let Some(under) = under else { return Err(gone()) };
    if !has(mirror, &under).await? {
        return Err(gone());
    }
    let (made, _) = local_changes::commit(control, store, &thread.task, changes, mirror, &under).await?;
    if made == *commit {
        return Ok(());
    }
    Err(Halt::failed(format!(
        "the task's local changes are commit {} on another worker's machine and would be {} here; let all workers have the same \
         CARREL_GIT_AUTHOR",
        commit.short(),
        made.short()
    )))
}

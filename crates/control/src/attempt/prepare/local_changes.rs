//! Changes that a person has not pushed become a commit on the commit the task names, and the attempt starts from that one: so
//! checking out, the attempt's own patch, follow-ups and recovery are what they always are. The commit is made in the mirror
//! of fixed facts, so made again it is the same one; it leaves only with a publication, beneath the attempt's own.

use carrel_domain::{CommitOid, EventBody, LocalChanges, PatchSummary, Redactor, Task};
use carrel_forge::{Base, CommitRequest, ForgeError, Mirror, patch};
use carrel_store::{Store, StoreError};

use super::super::{Halt, Scene};
use crate::Control;

/// The base with the local changes on it, where the task has some.
pub(super) async fn onto(scene: &Scene<'_>, mirror: &Mirror, base: Base) -> Result<Base, Halt> {
    let task = &scene.thread.task;
    let Some(changes) = &task.local_changes else { return Ok(base) };
    let (commit, patch) = commit(scene.control, scene.store(), task, changes, mirror, &base.commit).await?;
    scene.tell(EventBody::LocalChangesApplied { base: base.commit, commit: commit.clone(), patch }).await?;
    Ok(Base { commit, ..base })
}

/// The commit that the local changes of a task are on this one: the same on every machine.
pub(crate) async fn commit(
    control: &Control,
    store: &Store,
    task: &Task,
    changes: &LocalChanges,
    mirror: &Mirror,
    base: &CommitOid,
) -> Result<(CommitOid, PatchSummary), Halt> {
    let (_, file) = store.attachment_file(task.organization, changes.attachment).await?;
    let file = store.artifact_path(&file).await?;
    let bytes = tokio::fs::read(&file).await.map_err(StoreError::from)?;
    let summary = patch::parse(&bytes).map_err(|error| Halt::failed(format!("the local changes: {error}")))?;
    let author = &control.inner.author;
    let message =
        format!("Local changes\n\nWhat the task started from, as it was sent with it.\n\nCarrel-Task: {}", task.id);
    let request = CommitRequest {
        base,
        patch: &file,
        message: &message,
        author_name: &author.name,
        author_email: &author.email,
        at: task.created_at,
    };
    let commit = mirror.commit_patch(&request).await.map_err(|error| does_not_fit(error, base))?;
    Ok((commit, summary))
}

fn does_not_fit(error: ForgeError, base: &CommitOid) -> Halt {
    let is_about_the_patch = matches!(error, ForgeError::PatchDoesNotApply { .. } | ForgeError::PatchRefused(_));
    let halt = Halt::from(error);
    if !is_about_the_patch {
        return halt;
    }
    halt.with_way_out(&format!(
        "the local changes do not fit commit {}: name the commit they were made on with the task, or let `carrel task create \
         --with-local-changes` find it",
        base.short()
    ))
}

/// Whether the local changes of a task hold one of the installation's own secrets.
pub(crate) async fn hold_a_secret(
    store: &Store,
    redactor: &Redactor,
    organization: carrel_domain::OrganizationId,
    changes: &LocalChanges,
) -> Result<bool, StoreError> {
    let (_, file) = store.attachment_file(organization, changes.attachment).await?;
    let bytes = store.artifact_bytes(&file).await?;
    Ok(redactor.finds_in(&String::from_utf8_lossy(&bytes)))
}

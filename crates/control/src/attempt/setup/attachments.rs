//! The files that people gave: put into the sandbox before the agent begins, those of earlier turns, too.

use std::time::Instant;

use carrel_domain::attachment::FOLDER;
use carrel_sandbox::Sandbox;
use carrel_store::Placed;

use super::super::{Halt, Scene};

/// Everybody may read them, and nobody is to write them.
const MODE: u32 = 0o444;

/// Puts the attachments of the task's turns up to this one into their folder.
pub(super) async fn put(scene: &Scene<'_>, sandbox: &Sandbox) -> Result<(), Halt> {
    let placed = so_far(scene).await?;
    if placed.is_empty() {
        return Ok(());
    }
    let since = Instant::now();
    for one in &placed {
        let bytes = scene.store().artifact_bytes(&one.artifact).await?;
        sandbox.write_file(&format!("{FOLDER}/{}", one.attachment.name), &bytes, Some(MODE)).await?;
    }
    let what = if placed.len() == 1 { "1 file".to_owned() } else { format!("{} files", placed.len()) };
    scene.progress(format!("put {what} into {FOLDER}"), since).await
}

/// The attachments of this turn and of those before it, without the patch that the commit already has.
pub(crate) async fn so_far(scene: &Scene<'_>) -> Result<Vec<Placed>, Halt> {
    let all = scene.store().task_attachments(scene.attempt.organization, scene.task()).await?;
    let is_later = |one: &Placed| {
        scene.thread.turns.iter().any(|other| other.turn.id == one.turn && other.turn.number > scene.turn.number)
    };
    let local_changes = scene.thread.task.local_changes.map(|changes| changes.attachment);
    Ok(all.into_iter().filter(|one| !is_later(one) && Some(one.attachment.id) != local_changes).collect())
}

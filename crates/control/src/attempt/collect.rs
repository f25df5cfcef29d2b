//! Collecting: the difference between the files in the sandbox and the base commit becomes a patch. Git runs inside the
//! sandbox; what comes out is untrusted bytes, which are bounded, parsed and kept.

mod quick;
#[cfg(test)]
mod tests;
mod tree;

use std::time::Instant;

use carrel_domain::{AnswerNotes, AttemptState, EventBody, Mode, Outcome, PatchSummary};
use carrel_forge::patch;
use carrel_sandbox::{LayerName, Sandbox, SandboxError};
use carrel_store::StoreError;

use super::{Halt, PATCH, Scene, Step, setup, succeeded};
use tree::{Diff, Submodules, Tree};

pub(super) async fn collect(scene: &Scene<'_>, answer: &str, notes: &AnswerNotes) -> Result<Step, Halt> {
    let patch = match scene.turn.mode {
        Mode::Ask => None,
        Mode::Code => collect_patch(scene).await?,
    };
    let events = match scene.turn.mode {
        Mode::Ask => Vec::new(),
        Mode::Code => vec![EventBody::PatchCollected { patch: patch.clone() }],
    };
    let tally = scene.store().tally(scene.attempt).await?;
    let outcome = Outcome { answer: answer.to_owned(), patch, notes: notes.clone(), tally };
    Ok(Step { events, ..Step::to(AttemptState::Ready(outcome)) })
}

/// Notes what the work tree is before the agent begins, so that its changes are found without a look at every file.
pub(super) async fn note_before(scene: &Scene<'_>, sandbox: &Sandbox) -> Result<(), Halt> {
    Ok(quick::note_before(&scene.control.inner.sandboxes, sandbox, &scene.workspace()).await?)
}

async fn collect_patch(scene: &Scene<'_>) -> Result<Option<PatchSummary>, Halt> {
    let since = Instant::now();
    let sandbox = match scene.control.inner.sandboxes.attach(scene.attempt.id.sandbox()).await {
        Ok(sandbox) => sandbox,
        Err(SandboxError::Gone(_)) => match kept_before(scene).await? {
            Some(patch) => return Ok(Some(patch)),
            None if scene.control.inner.sandboxes.is_whole(scene.attempt.id.sandbox()) => {
                setup::attach(scene, &scene.recipe().await?).await?
            }
            // Nobody is there any more to look at what is missing.
            None => {
                let reason = "the sandbox ended before its changes were collected, and what was written last may be missing: \
                              the machine stopped, or the sandbox was removed from outside";
                return Err(Halt::Lost { reason: reason.to_owned() });
            }
        },
        Err(error) => return Err(error.into()),
    };
    // Whatever still runs could change files while they are read.
    sandbox.kill_all().await?;
    let tree = tree(scene, &sandbox).await?;
    let bytes = match quick::patch(&tree).await {
        Some(bytes) => bytes,
        None => all(scene, &tree).await?,
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    let summary =
        patch::parse(&bytes).map_err(|error| Halt::failed(format!("the changes make no usable patch: {error}")))?;
    scene.store().keep_artifact(scene.attempt, PATCH, bytes).await?;
    scene.progress(format!("collected a patch of {}", files(summary.files.len())), since).await?;
    Ok(Some(summary))
}

async fn tree<'a>(scene: &'a Scene<'_>, sandbox: &'a Sandbox) -> Result<Tree<'a>, Halt> {
    let base = scene.attempt.base.clone().ok_or_else(|| Halt::failed("the attempt has no base commit"))?;
    let recipe = scene.recipe().await?;
    let layers = recipe.layers.iter().filter_map(|name| name.parse::<LayerName>().ok());
    Ok(Tree {
        sandboxes: &scene.control.inner.sandboxes,
        sandbox,
        workspace: scene.workspace(),
        base,
        lineage: layers.filter(|name| name.as_str().starts_with("attempt-")).collect(),
        limit: scene.control.inner.limits.patch_bytes,
    })
}

/// The patch, with every file of the repository looked at.
async fn all(scene: &Scene<'_>, tree: &Tree<'_>) -> Result<Vec<u8>, Halt> {
    let finished = tree.add_all().await?;
    succeeded(&finished, "find the changes")?;
    warn_of_what_is_left_out(scene, &finished.output).await?;
    match tree.diff(Submodules::Left).await? {
        Diff::Patch(bytes) => Ok(bytes),
        Diff::TooLarge => Err(too_large(tree).await?),
        Diff::Lost => Err(Halt::failed("the sandbox lost a part of the patch")),
        Diff::Failed(finished) => match succeeded(&finished, "make a patch of the changes") {
            Err(halt) => Err(halt),
            Ok(()) => Err(Halt::failed("git made no patch of the changes, and did not say why")),
        },
    }
}

async fn warn_of_what_is_left_out(scene: &Scene<'_>, listed: &[u8]) -> Result<(), Halt> {
    let listed: String = String::from_utf8_lossy(listed).chars().take(1000).collect();
    if listed.trim().is_empty() {
        return Ok(());
    }
    let names = listed.trim().replace('\n', ", ");
    let message = format!("not in the patch: {names}");
    scene.tell(EventBody::Warning { message }).await
}

/// The patch that was kept before the worker died, if it was.
async fn kept_before(scene: &Scene<'_>) -> Result<Option<PatchSummary>, Halt> {
    let artifact = match scene.store().artifact(scene.attempt.organization, scene.attempt.id, PATCH).await {
        Ok(artifact) => artifact,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = scene.store().artifact_bytes(&artifact).await?;
    Ok(patch::parse(&bytes).ok())
}

async fn too_large(tree: &Tree<'_>) -> Result<Halt, Halt> {
    let (limit, largest) = (tree.limit, tree.largest().await?);
    let listed = String::from_utf8_lossy(&largest.output).trim().replace('\n', ", ");
    Ok(Halt::failed(format!(
        "the changes make a patch of more than {limit} bytes, which is the limit; the largest changed files (bytes, name): \
         {listed}. Add what is generated to .gitignore, or raise CARREL_MAX_PATCH_BYTES"
    )))
}

/// `1 file`, `2 files`.
fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

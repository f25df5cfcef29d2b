//! Preparing: the mirror is fetched, the base commit pinned, the sandbox launched, the commit checked out, and the
//! files of the attempt a follow-up goes on from put on top.
//!
//! Entered again after a crash it begins with a new sandbox: nothing of worth is in the old one yet.

use std::time::{Duration, Instant};

use carrel_domain::{AttemptState, EventBody, Revision};
use carrel_forge::{Base, Mirror};
use carrel_sandbox::{Command, Finished, ReadOnlyMount, Sandbox, SandboxSpec};
use carrel_store::StoreError;

use super::{Halt, OBJECTS, PATCH, Scene, Step};

/// How long git may take to check out a commit.
const CHECKOUT_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs inside the sandbox, on its git: `$1` folder, `$2` branch, `$3` commit, `$4` object format, `$5` objects.
const CHECK_OUT: &str = r#"
set -eu
mkdir -p -- "$1"
cd -- "$1"
git init --quiet --initial-branch="$2" --object-format="$4" .
printf '%s\n' "$5" > .git/objects/info/alternates
git config user.name Carrel
git config user.email carrel@localhost
git config gc.auto 0
git config advice.detachedHead false
git -c checkout.workers=0 reset --quiet --hard "$3"
"#;

/// Puts the patch `$2` onto the files of `$1`. What it adds is left for git to find, as if the agent had just done it.
const PUT_ON_TOP: &str = r#"
set -eu
cd -- "$1"
git apply --binary --whitespace=nowarn -- "$2"
rm -f -- "$2"
"#;

pub(super) async fn prepare(scene: &Scene<'_>) -> Result<Step, Halt> {
    let since = Instant::now();
    let task = &scene.thread.task;
    if !scene.control.inner.forge.mirror(task.repository_id).path().exists() {
        let message = "fetching the repository; the first time takes as long as cloning it".to_owned();
        scene.tell(EventBody::Progress { message, duration_ms: None }).await?;
    }
    let mirror = scene.control.inner.forge.fetch(task.repository_id, &task.repository).await?;
    let base = pin(scene, &mirror).await?;
    let from = base.branch.as_ref().map_or_else(String::new, |branch| format!(" of `{branch}`"));
    scene
        .progress(format!("fetched the repository; starting from commit {}{from}", base.commit.short()), since)
        .await?;

    let since = Instant::now();
    let sandbox = launch(scene, &mirror).await?;
    scene.progress("launched the sandbox".to_owned(), since).await?;

    let since = Instant::now();
    check_out(scene, &sandbox, &base).await?;
    scene.progress(format!("checked out the commit at {}", scene.workspace()), since).await?;
    put_on_top(scene, &sandbox).await?;
    Ok(Step::to(AttemptState::SettingUp))
}

/// The commit this attempt starts from: the one of the attempt it goes on from, or of its siblings, or else the one
/// the task's revision names now.
async fn pin(scene: &Scene<'_>, mirror: &Mirror) -> Result<Base, Halt> {
    let branch = match &scene.thread.task.revision {
        Revision::Branch(branch) => Some(branch.clone()),
        Revision::DefaultBranch | Revision::Commit(_) => None,
    };
    let known = scene.attempt.base.clone().or_else(|| inherited(scene));
    let base = match known {
        Some(commit) => Base { commit, branch },
        None => mirror.resolve(&scene.thread.task.revision).await?,
    };
    if scene.attempt.base.is_some() {
        return Ok(base);
    }
    let commit = scene.store().pin_base(scene.attempt, base.commit).await?;
    Ok(Base { commit, ..base })
}

fn inherited(scene: &Scene<'_>) -> Option<carrel_domain::CommitOid> {
    if let Some(from) = scene.turn.from_attempt {
        return scene.thread.attempt(from).and_then(|(_, attempt)| attempt.base.clone());
    }
    let siblings = scene.thread.turns.iter().filter(|thread| thread.turn.id == scene.turn.id);
    siblings.flat_map(|thread| &thread.attempts).find_map(|sibling| sibling.base.clone())
}

async fn launch(scene: &Scene<'_>, mirror: &Mirror) -> Result<Sandbox, Halt> {
    let sandboxes = &scene.control.inner.sandboxes;
    let id = scene.attempt.id.sandbox();
    sandboxes.destroy(id).await?;
    let spec = SandboxSpec {
        mounts: vec![ReadOnlyMount { source: mirror.objects(), target: OBJECTS.to_owned() }],
        ..SandboxSpec::new(id)
    };
    Ok(sandboxes.launch(spec).await?)
}

async fn check_out(scene: &Scene<'_>, sandbox: &Sandbox, base: &Base) -> Result<(), Halt> {
    let branch = base.branch.as_ref().map_or("carrel", |branch| branch.as_str());
    let format = if base.commit.as_str().len() == 64 { "sha256" } else { "sha1" };
    let workspace = scene.workspace();
    let command = Command::new(
        "prepare.check-out",
        ["bash", "-c", CHECK_OUT, "check-out", &workspace, branch, base.commit.as_str(), format, OBJECTS],
    );
    let finished = sandbox.run(command.directory("/").time_limit(CHECKOUT_LIMIT)).await?;
    succeeded(&finished, "check out the commit")
}

async fn put_on_top(scene: &Scene<'_>, sandbox: &Sandbox) -> Result<(), Halt> {
    let Some(from) = scene.turn.from_attempt else { return Ok(()) };
    let artifact = match scene.store().artifact(scene.attempt.organization, from, PATCH).await {
        Ok(artifact) => artifact,
        // An attempt that changed nothing leaves no patch.
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let since = Instant::now();
    let patch = tokio::fs::read(&artifact.path).await.map_err(StoreError::from)?;
    let file = "/tmp/.carrel-patch";
    sandbox.write_file(file, &patch, None).await?;
    let workspace = scene.workspace();
    let command = Command::new("prepare.put-on-top", ["bash", "-c", PUT_ON_TOP, "put-on-top", &workspace, file]);
    let finished = sandbox.run(command.directory("/").time_limit(CHECKOUT_LIMIT)).await?;
    succeeded(&finished, "put the earlier changes on top")?;
    scene.progress("put the changes of the attempt before on top".to_owned(), since).await
}

/// A step inside the sandbox that has to work, or else its last words are the reason.
pub(super) fn succeeded(finished: &Finished, what: &str) -> Result<(), Halt> {
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
    Err(Halt::failed(format!("could not {what} in the sandbox ({:?}): {}", finished.status, tail.join(" / "))))
}

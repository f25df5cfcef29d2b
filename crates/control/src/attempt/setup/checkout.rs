//! Bringing the sandbox's work tree to a commit, on its own git, and putting earlier changes on top of it.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use carrel_domain::{AttemptId, CommitOid, Mode};
use carrel_forge::Base;
use carrel_sandbox::{Command, Finished, Sandbox, SandboxError};
use carrel_store::StoreError;

use crate::attempt::{Halt, OBJECTS, PATCH, Scene, Site, succeeded};

/// How long git may take to check out a commit.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The branch a work tree is on where the task names none.
const BRANCH: &str = "carrel";

/// What a snapshot's work tree is at, in the repository's own folder: `<commit> <branch>`. It is written when nothing but a
/// check-out has touched the files since, so whoever starts there need not look at them.
const READY: &str = ".git/carrel-ready";
/// The longest such line: a commit of 64 digits, and a branch.
const READY_BYTES: u64 = 4096;

/// `$1` folder, `$2` branch, `$3` commit, `$4` object format, `$5` objects. Every file is looked at, and only what differs
/// is written. A lock of the index was left by something that has been ended: nothing else is at work here. A branch `a`
/// that is there makes `a/b` impossible, so it goes.
const CHECK_OUT: &str = r#"
set -eu
mkdir -p -- "$1"
cd -- "$1"
if [ ! -e .git ]; then
  git init --quiet --initial-branch="$2" --object-format="$4" .
  printf '%s\n' "$5" > .git/objects/info/alternates
  git config user.name Carrel
  git config user.email carrel@localhost
  git config gc.auto 0
  git config advice.detachedHead false
fi
rm -f -- .git/index.lock .git/carrel-ready
above=$2
while [ "$above" != "${above%/*}" ]; do
  above=${above%/*}
  if git show-ref --quiet --verify "refs/heads/$above"; then git update-ref -d "refs/heads/$above"; fi
done
git symbolic-ref HEAD "refs/heads/$2"
git -c checkout.workers=0 reset --quiet --hard "$3"
"#;

/// The same from a work tree that is as the commit `$4` has it: only files that differ between the two are looked at. What
/// else lies in their way goes, as it does above. Between a commit and itself there is nothing but names to change.
const MOVE: &str = r#"
set -eu
cd -- "$1"
[ "$4" = "$3" ] || git -c checkout.workers=0 read-tree --reset -u "$4" "$3"
above=$2
while [ "$above" != "${above%/*}" ]; do
  above=${above%/*}
  if git show-ref --quiet --verify "refs/heads/$above"; then git update-ref -d "refs/heads/$above"; fi
done
git symbolic-ref HEAD "refs/heads/$2"
git update-ref -m "reset: moving to $3" HEAD "$3"
"#;

/// What setup has left beside the repository's own files is not the agent's work: git is told to leave it alone (names with
/// line breaks or quotes in them, which it prints in quotes, excepted). Then the index is made to say what the files look
/// like now, as the last thing before they are kept: every stat that does not match would make git read the file again in
/// each sandbox.
const REFRESH: &str = r#"
cd -- "$1" || exit 0
rm -f -- .git/index.lock
git -c core.quotePath=false ls-files --others --exclude-standard --directory --no-empty-directory \
  | sed -n '/^"/d; s/[][\\*?!#]/\\&/g; s/ $/\\ /; s/^/\//p' >> .git/info/exclude
git update-index -q --really-refresh >/dev/null 2>&1
exit 0
"#;

/// Puts the patch `$2` onto the files of `$1`. What it adds is left for git to find, as if the agent had just done it.
const PUT_ON_TOP: &str = r#"
set -eu
cd -- "$1"
git apply --binary --whitespace=nowarn -- "$2"
rm -f -- "$2"
"#;

/// A work tree, and the commit and branch it is to be at.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    workspace: &'a str,
    commit: &'a str,
    branch: &'a str,
}

impl<'a> Wanted<'a> {
    fn new(workspace: &'a str, base: &'a Base) -> Self {
        let branch = base.branch.as_ref().map_or(BRANCH, |branch| branch.as_str());
        Self { workspace, commit: base.commit.as_str(), branch }
    }

    /// The commit, on the branch that most attempts want: then there is nothing at all to do.
    fn at_rest(workspace: &'a str, base: &'a Base) -> Self {
        Self { branch: BRANCH, ..Self::new(workspace, base) }
    }
}

/// Checks the commit out where nothing is known of what is there.
pub(super) async fn check_out(site: &Site<'_>, sandbox: &Sandbox, base: &Base) -> Result<(), Halt> {
    let workspace = site.workspace();
    let finished = reset(sandbox, Wanted::new(&workspace, base), "prepare.check-out").await?;
    succeeded(&finished, "check out the commit")
}

/// Checks the commit out in a sandbox that was launched on a snapshot just now: as much work as there is between its commit
/// and this one, however large the repository.
pub(super) async fn move_to(site: &Site<'_>, sandbox: &Sandbox, base: &Base) -> Result<(), Halt> {
    let workspace = site.workspace();
    if moved(sandbox, Wanted::new(&workspace, base)).await? {
        return Ok(());
    }
    // Made before snapshots were left ready, or git had something to say.
    check_out(site, sandbox, base).await
}

/// Takes back what a script has changed of the repository's own files, and has git leave alone what it has added.
pub(super) async fn take_back(site: &Site<'_>, sandbox: &Sandbox, base: &Base) -> Result<(), Halt> {
    let workspace = site.workspace();
    let finished = reset(sandbox, Wanted::new(&workspace, base), "prepare.take-back").await?;
    succeeded(&finished, "check out the commit")?;
    Ok(refresh_index(sandbox, &workspace).await?)
}

/// The same, for a snapshot; whether its work tree is at the commit now. Setup may have left a repository that cannot be
/// brought there: who starts on it is told so by the check-out.
pub(super) async fn tidy_up(site: &Site<'_>, sandbox: &Sandbox, base: &Base) -> Result<bool, Halt> {
    Ok(tidied(sandbox, Wanted::at_rest(&site.workspace(), base)).await?)
}

/// Notes that nothing has touched the work tree since it was tidied up. To be true, no process may be left.
pub(super) async fn note_ready(site: &Site<'_>, sandbox: &Sandbox, base: &Base) -> Result<(), Halt> {
    Ok(noted(sandbox, Wanted::at_rest(&site.workspace(), base)).await?)
}

async fn tidied(sandbox: &Sandbox, wanted: Wanted<'_>) -> Result<bool, SandboxError> {
    let finished = reset(sandbox, wanted, "prepare.take-back").await?;
    refresh_index(sandbox, wanted.workspace).await?;
    Ok(finished.status.is_success())
}

async fn noted(sandbox: &Sandbox, wanted: Wanted<'_>) -> Result<(), SandboxError> {
    let Wanted { workspace, commit, branch } = wanted;
    match sandbox.write_file(&format!("{workspace}/{READY}"), format!("{commit} {branch}\n").as_bytes(), None).await {
        // Setup may have made a file of the repository's own folder, which says where that is.
        Err(SandboxError::Inside { reason, .. }) => {
            tracing::debug!(sandbox = %sandbox.id(), reason, "a snapshot is not noted as ready");
            Ok(())
        }
        other => other,
    }
}

async fn reset(sandbox: &Sandbox, wanted: Wanted<'_>, id: &str) -> Result<Finished, SandboxError> {
    let Wanted { workspace, commit, branch } = wanted;
    let format = if commit.len() == 64 { "sha256" } else { "sha1" };
    let argv = ["bash", "-c", CHECK_OUT, "check-out", workspace, branch, commit, format, OBJECTS];
    sandbox.run(Command::new(id, argv).directory("/").time_limit(LIMIT)).await
}

/// Goes from what the snapshot is known to be at to what is wanted; whether that could be done.
async fn moved(sandbox: &Sandbox, wanted: Wanted<'_>) -> Result<bool, SandboxError> {
    let Wanted { workspace, commit, branch } = wanted;
    // If it is the sandbox that fails, the check-out says so.
    let Ok(ready) = sandbox.read_file(&format!("{workspace}/{READY}"), READY_BYTES).await else { return Ok(false) };
    let ready = String::from_utf8_lossy(&ready);
    let Some((from, on)) = ready.trim_end().split_once(' ') else { return Ok(false) };
    let Ok(from) = from.parse::<CommitOid>() else { return Ok(false) };
    if (from.as_str(), on) == (commit, branch) {
        return Ok(true);
    }
    let argv = ["bash", "-c", MOVE, "move", workspace, branch, commit, from.as_str()];
    let finished = sandbox.run(Command::new("prepare.move", argv).directory("/").time_limit(LIMIT)).await?;
    if !finished.status.is_success() {
        tracing::debug!(sandbox = %sandbox.id(), said = finished.stderr, "looking at every file for the check-out");
    }
    Ok(finished.status.is_success())
}

/// The last step before the files are kept.
async fn refresh_index(sandbox: &Sandbox, workspace: &str) -> Result<(), SandboxError> {
    let command = Command::new("prepare.refresh", ["bash", "-c", REFRESH, "refresh", workspace]);
    sandbox.run(command.directory("/").time_limit(LIMIT)).await?;
    Ok(())
}

/// Puts the patch of the attempt before on top, where its files are not kept any more.
pub(super) async fn put_on_top(scene: &Scene<'_>, sandbox: &Sandbox) -> Result<(), Halt> {
    let Some(from) = last_change(scene) else { return Ok(()) };
    let artifact = match scene.store().artifact(scene.attempt.organization, from, PATCH).await {
        Ok(artifact) => artifact,
        // An attempt that changed nothing leaves no patch.
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let since = Instant::now();
    let patch = scene.store().artifact_bytes(&artifact).await?;
    let file = "/tmp/.carrel-patch";
    sandbox.write_file(file, &patch, None).await?;
    let workspace = scene.workspace();
    let command = Command::new("prepare.put-on-top", ["bash", "-c", PUT_ON_TOP, "put-on-top", &workspace, file]);
    let finished = sandbox.run(command.directory("/").time_limit(LIMIT)).await?;
    succeeded(&finished, "put the earlier changes on top")?;
    scene.progress("put the changes of the attempt before on top".to_owned(), since).await
}

/// The attempt whose patch is all that was changed so far. A question has none of its own: it was asked on another's.
fn last_change(scene: &Scene<'_>) -> Option<AttemptId> {
    let mut from = scene.goes_on_from()?;
    loop {
        let (turn, attempt) = scene.thread.attempt(from)?;
        match turn.mode {
            Mode::Code => return Some(from),
            Mode::Ask => from = attempt.goes_on_from(turn)?,
        }
    }
}

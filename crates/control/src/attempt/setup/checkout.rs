//! Bringing the sandbox's work tree to a commit, on its own git, and putting earlier changes on top of it.

use std::time::{Duration, Instant};

use carrel_domain::{AttemptId, Mode};
use carrel_forge::Base;
use carrel_sandbox::{Command, Sandbox};
use carrel_store::StoreError;

use crate::attempt::{Halt, OBJECTS, PATCH, Scene, Site, succeeded};

/// How long git may take to check out a commit.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// `$1` folder, `$2` branch, `$3` commit, `$4` object format, `$5` objects. On a prepared work tree only what differs is
/// written. A lock of the index was left by something that has been ended: nothing else is at work here.
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
rm -f -- .git/index.lock
git symbolic-ref HEAD "refs/heads/$2"
git -c checkout.workers=0 reset --quiet --hard "$3"
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

/// Checks the commit out.
pub(super) async fn check_out(site: &Site<'_>, sandbox: &Sandbox, base: &Base) -> Result<(), Halt> {
    reset(site, sandbox, base, "prepare.check-out").await
}

/// Takes back what a script has changed of the repository's own files, and has git leave alone what it has added.
pub(super) async fn take_back(site: &Site<'_>, sandbox: &Sandbox, base: &Base) -> Result<(), Halt> {
    reset(site, sandbox, base, "prepare.take-back").await?;
    refresh_index(site, sandbox).await
}

async fn reset(site: &Site<'_>, sandbox: &Sandbox, base: &Base, id: &str) -> Result<(), Halt> {
    let branch = base.branch.as_ref().map_or("carrel", |branch| branch.as_str());
    let format = if base.commit.as_str().len() == 64 { "sha256" } else { "sha1" };
    let workspace = site.workspace();
    let command = Command::new(
        id,
        ["bash", "-c", CHECK_OUT, "check-out", &workspace, branch, base.commit.as_str(), format, OBJECTS],
    );
    let finished = sandbox.run(command.directory("/").time_limit(LIMIT)).await?;
    succeeded(&finished, "check out the commit")
}

/// The last step before the files are kept.
pub(super) async fn refresh_index(site: &Site<'_>, sandbox: &Sandbox) -> Result<(), Halt> {
    let workspace = site.workspace();
    let command = Command::new("prepare.refresh", ["bash", "-c", REFRESH, "refresh", &workspace]);
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
    let patch = tokio::fs::read(&artifact.path).await.map_err(StoreError::from)?;
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
    let mut from = scene.turn.from_attempt?;
    loop {
        let (turn, _) = scene.thread.attempt(from)?;
        match turn.mode {
            Mode::Code => return Some(from),
            Mode::Ask => from = turn.from_attempt?,
        }
    }
}

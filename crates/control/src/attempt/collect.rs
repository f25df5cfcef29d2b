//! Collecting: the difference between the files in the sandbox and the base commit becomes a patch. Git runs inside the
//! sandbox; what comes out is untrusted bytes, which are bounded, parsed and kept.

use std::time::{Duration, Instant};

use carrel_domain::{AttemptState, EventBody, Mode, Outcome, PatchSummary};
use carrel_forge::patch;
use carrel_sandbox::{Command, Output, ProcessEvent, Sandbox, SandboxError};
use carrel_store::StoreError;

use super::{Halt, OBJECTS, PATCH, Scene, Step, succeeded};

/// How long git may take to find the changes.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Puts every change below `$1` into an index of its own, `$3`, and prints what no patch can hold: repositories inside the
/// repository, and paths that git refuses. Where the agent has broken the repository's `.git`, a fresh one in `$4`, over
/// the objects `$5`, takes its place.
const ADD: &str = r#"
set -eu
cd -- "$1"
rm -rf -- "$3" "$4"
words="$3.words"
# Git leaves out what it cannot add, says so, and ends with 1; with anything higher it has given up.
add_all() {
  git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c advice.addEmbeddedRepo=false -c core.safecrlf=false \
    add --all --ignore-errors -- . 2>"$words" || [ $? -eq 1 ]
}
# With its time: git tells by it which entries may have changed within the same second.
if cp -p -- .git/index "$3" 2>/dev/null && git rev-parse --quiet --verify "$2^{tree}" >/dev/null 2>&1; then
  export GIT_INDEX_FILE="$3"
  add_all || broken=yes
else
  broken=yes
fi
if [ "${broken:-no}" = yes ]; then
  rm -f -- "$3"
  git init --quiet --bare --object-format="$6" "$4"
  printf '%s\n' "$5" > "$4/objects/info/alternates"
  export GIT_DIR="$4" GIT_WORK_TREE="$1" GIT_INDEX_FILE="$3"
  git config core.bare false
  git read-tree "$2"
  add_all || { cat -- "$words" >&2; exit 1; }
fi
sed -n '/^error: unable to add/d; /^error: adding files failed/d; s/^error: //p' -- "$words"
git -c core.quotePath=false diff --cached --raw --no-renames --diff-filter=A "$2" -- \
  | sed -n "s/^:000000 160000 [^\t]*\t\(.*\)/'\1' is a git repository of its own/p"
"#;

/// Prints the difference between `$2` and the index `$3`.
const DIFF: &str = r#"
set -eu
cd -- "$1"
[ -d "$4" ] && export GIT_DIR="$4" GIT_WORK_TREE="$1"
export GIT_INDEX_FILE="$3"
exec git -c core.quotePath=true -c diff.renameLimit=2000 diff -O/dev/null --cached --binary --full-index \
  --no-ext-diff --no-textconv --no-color --no-relative --src-prefix=a/ --dst-prefix=b/ --unified=3 \
  --diff-algorithm=myers --find-renames --ignore-submodules=all "$2" --
"#;

/// Names the largest changed files, for the person who has to find out what made the patch so big.
const LARGEST: &str = r#"
cd -- "$1"
[ -d "$4" ] && export GIT_DIR="$4" GIT_WORK_TREE="$1"
export GIT_INDEX_FILE="$3"
git diff --cached --name-only -z --ignore-submodules=all "$2" -- | xargs -0 -r stat --printf '%s %n\n' 2>/dev/null | sort -rn | head -n 5
"#;

const INDEX: &str = "/tmp/.carrel-index";
const FRESH: &str = "/tmp/.carrel-git";

pub(super) async fn collect(scene: &Scene<'_>, answer: &str) -> Result<Step, Halt> {
    let patch = match scene.turn.mode {
        Mode::Ask => None,
        Mode::Code => collect_patch(scene).await?,
    };
    let events = match scene.turn.mode {
        Mode::Ask => Vec::new(),
        Mode::Code => vec![EventBody::PatchCollected { patch: patch.clone() }],
    };
    Ok(Step { next: AttemptState::Ready(Outcome { answer: answer.to_owned(), patch }), events })
}

async fn collect_patch(scene: &Scene<'_>) -> Result<Option<PatchSummary>, Halt> {
    let since = Instant::now();
    let sandbox = match scene.control.inner.sandboxes.attach(scene.attempt.id.sandbox()).await {
        Ok(sandbox) => sandbox,
        Err(SandboxError::Gone(_)) => return kept_before(scene).await,
        Err(error) => return Err(error.into()),
    };
    // Whatever still runs could change files while they are read.
    sandbox.kill_all().await?;
    let finished = sandbox.run(step(scene, "add", ADD)?).await?;
    succeeded(&finished, "find the changes")?;
    warn_of_what_is_left_out(scene, &finished.output).await?;
    let bytes = diff(scene, &sandbox).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let summary =
        patch::parse(&bytes).map_err(|error| Halt::failed(format!("the changes make no usable patch: {error}")))?;
    scene.store().keep_artifact(scene.attempt, PATCH, bytes).await?;
    scene.progress(format!("collected a patch of {}", files(summary.files.len())), since).await?;
    Ok(Some(summary))
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

/// The patch that was kept before the worker died, when the sandbox is gone.
async fn kept_before(scene: &Scene<'_>) -> Result<Option<PatchSummary>, Halt> {
    let gone = || Halt::Failed { reason: "the sandbox is gone, and its changes with it".to_owned(), retryable: true };
    let artifact = match scene.store().artifact(scene.attempt.organization, scene.attempt.id, PATCH).await {
        Ok(artifact) => artifact,
        Err(StoreError::NotFound { .. }) => return Err(gone()),
        Err(error) => return Err(error.into()),
    };
    let bytes = tokio::fs::read(&artifact.path).await.map_err(StoreError::from)?;
    patch::parse(&bytes).map(Some).map_err(|_| gone())
}

/// One of the scripts above, under an id of its own each time: it reads files that may have changed.
fn step(scene: &Scene<'_>, name: &str, script: &str) -> Result<Command, Halt> {
    let base = scene.attempt.base.as_ref().ok_or_else(|| Halt::failed("the attempt has no base commit"))?;
    let format = if base.as_str().len() == 64 { "sha256" } else { "sha1" };
    let id = format!("collect.{name}.{}", scene.control.inner.clock.now().as_nanosecond());
    let workspace = scene.workspace();
    let argv = ["bash", "-c", script, name, &workspace, base.as_str(), INDEX, FRESH, OBJECTS, format];
    Ok(Command::new(id, argv).directory("/").time_limit(LIMIT))
}

async fn diff(scene: &Scene<'_>, sandbox: &Sandbox) -> Result<Vec<u8>, Halt> {
    let limit = scene.control.inner.limits.patch_bytes;
    let mut process = sandbox.exec(step(scene, "diff", DIFF)?.output(Output::Streamed)).await?;
    let mut bytes = Vec::new();
    while let Some(event) = process.next().await {
        match event {
            ProcessEvent::Output(piece) if bytes.len() + piece.len() > limit => {
                process.kill().await?;
                return Err(too_large(scene, sandbox, limit).await?);
            }
            ProcessEvent::Output(piece) => bytes.extend_from_slice(&piece),
            ProcessEvent::Dropped(_) => return Err(Halt::failed("the sandbox lost a part of the patch")),
            ProcessEvent::Ended(finished) => {
                succeeded(&finished, "make a patch of the changes")?;
                return Ok(bytes);
            }
        }
    }
    Err(SandboxError::Disconnected.into())
}

async fn too_large(scene: &Scene<'_>, sandbox: &Sandbox, limit: usize) -> Result<Halt, Halt> {
    let largest = sandbox.run(step(scene, "largest", LARGEST)?).await?;
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

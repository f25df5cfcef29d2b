//! A work tree in a sandbox beside the commit it started from. Git runs inside.

use std::time::Duration;

use carrel_domain::CommitOid;
use carrel_sandbox::{Command, Finished, LayerName, Output, ProcessEvent, Sandbox, SandboxError, Sandboxes};
use uuid::Uuid;

use crate::attempt::OBJECTS;

/// How long git may take to find the changes.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Puts every change below `$1` into an index of its own, `$3`, and prints what no patch can hold: repositories inside the
/// repository, and paths that git refuses. Where the agent has broken the repository's `.git`, a fresh one in `$4`, over
/// the objects `$5`, takes its place.
const ADD: &str = r#"
set -eu
export LC_ALL=C
cd -- "$1"
# Whoever collected before is killed by now, maybe with the lock in their hands.
rm -rf -- "$3" "$3.lock" "$4"
# Git leaves out what it cannot add, says so, and ends with 1; with anything higher it has given up. So it has where it was
# an object that it could not write: what is missing then is in the way of no reader. What it says comes by a pipe, because
# on a full disk a file would have no word of it.
add_all() {
  local status=0
  words=$(git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c advice.addEmbeddedRepo=false -c core.safecrlf=false \
    add --all --ignore-errors -- . 2>&1) || status=$?
  if [ "$status" -gt 1 ]; then return 1; fi
  ! printf '%s\n' "$words" | grep -q -i -e 'temporary file' -e 'repository database' -e 'unable to write' -e 'no space left' -e quota
}
# With its time: git tells by it which entries may have changed within the same second.
if cp -p -- .git/index "$3" 2>/dev/null && git rev-parse --quiet --verify "$2^{tree}" >/dev/null 2>&1; then
  export GIT_INDEX_FILE="$3"
  add_all || broken=yes
else
  broken=yes
fi
if [ "${broken:-no}" = yes ]; then
  rm -f -- "$3" "$3.lock"
  git init --quiet --bare --object-format="$6" "$4"
  printf '%s\n' "$5" > "$4/objects/info/alternates"
  export GIT_DIR="$4" GIT_WORK_TREE="$1" GIT_INDEX_FILE="$3"
  git config core.bare false
  git read-tree "$2"
  add_all || { printf '%s\n' "$words" >&2; exit 1; }
fi
printf '%s\n' "$words" | sed -n '/^error: unable to add/d; /^error: adding files failed/d; s/^error: //p'
git -c core.quotePath=false diff --cached --raw --no-renames --diff-filter=A "$2" -- \
  | sed -n "s/^:000000 160000 [^\t]*\t\(.*\)/'\1' is a git repository of its own/p"
"#;

/// Prints the difference between `$2` and the index `$3`. `$7` says what of submodules counts.
const DIFF: &str = r#"
set -eu
cd -- "$1"
[ -d "$4" ] && export GIT_DIR="$4" GIT_WORK_TREE="$1"
export GIT_INDEX_FILE="$3"
exec git -c core.quotePath=true -c diff.renameLimit=2000 diff -O/dev/null --cached --binary --full-index \
  --no-ext-diff --no-textconv --no-color --no-relative --src-prefix=a/ --dst-prefix=b/ --unified=3 \
  --diff-algorithm=myers --find-renames --ita-visible-in-index \
  --ignore-submodules="$7" "$2" --
"#;

/// Names the largest changed files, for the person who has to find out what made the patch so big.
const LARGEST: &str = r#"
cd -- "$1"
[ -d "$4" ] && export GIT_DIR="$4" GIT_WORK_TREE="$1"
export GIT_INDEX_FILE="$3"
git diff --cached --name-only -z --ignore-submodules=all "$2" -- | xargs -0 -r stat --printf '%s %n\n' 2>/dev/null | sort -rn | head -n 5
"#;

/// The index of our own.
const INDEX: &str = "/tmp/.carrel-index";
/// The `.git` that takes the place of a broken one.
const FRESH: &str = "/tmp/.carrel-git";

/// A work tree and the commit it started from.
pub(super) struct Tree<'a> {
    pub(super) sandboxes: &'a Sandboxes,
    pub(super) sandbox: &'a Sandbox,
    /// The folder of the repository.
    pub(super) workspace: String,
    pub(super) base: CommitOid,
    /// The layers beneath the sandbox that hold earlier changes of the same work.
    pub(super) lineage: Vec<LayerName>,
    /// The longest patch, in bytes.
    pub(super) limit: usize,
}

/// What a difference came to.
pub(super) enum Diff {
    /// A patch.
    Patch(Vec<u8>),
    /// One that is longer than it may be.
    TooLarge,
    /// Git could not make one.
    Failed(Finished),
    /// A part of it was lost on the way.
    Lost,
}

/// What of submodules is a part of the difference.
#[derive(Clone, Copy)]
pub(super) enum Submodules {
    Left,
    Shown,
}

impl Tree<'_> {
    /// Puts all changes into our index; what it prints is what no patch can hold.
    pub(super) async fn add_all(&self) -> Result<Finished, SandboxError> {
        self.sandbox.run(self.step("add", ADD, "")).await
    }

    /// The names and sizes of the largest changed files.
    pub(super) async fn largest(&self) -> Result<Finished, SandboxError> {
        self.sandbox.run(self.step("largest", LARGEST, "")).await
    }

    /// The difference between the base and our index.
    pub(super) async fn diff(&self, submodules: Submodules) -> Result<Diff, SandboxError> {
        let shown = match submodules {
            Submodules::Left => "all",
            Submodules::Shown => "none",
        };
        let mut process = self.sandbox.exec(self.step("diff", DIFF, shown).output(Output::Streamed)).await?;
        let mut bytes = Vec::new();
        while let Some(event) = process.next().await {
            match event {
                ProcessEvent::Output(piece) if bytes.len() + piece.len() > self.limit => {
                    process.kill().await?;
                    return Ok(Diff::TooLarge);
                }
                ProcessEvent::Output(piece) => bytes.extend_from_slice(&piece),
                ProcessEvent::Dropped(_) => return Ok(Diff::Lost),
                ProcessEvent::Ended(finished) if finished.status.is_success() => return Ok(Diff::Patch(bytes)),
                ProcessEvent::Ended(finished) => return Ok(Diff::Failed(finished)),
            }
        }
        Err(SandboxError::Disconnected)
    }

    /// One of the scripts, under an id of its own each time: it reads files that may have changed.
    pub(super) fn step(&self, name: &str, script: &str, last: &str) -> Command {
        let base = self.base.as_str();
        let format = if base.len() == 64 { "sha256" } else { "sha1" };
        let id = format!("collect.{name}.{}", Uuid::now_v7());
        let argv = ["bash", "-c", script, name, &self.workspace, base, INDEX, FRESH, OBJECTS, format, last];
        Command::new(id, argv).directory("/").time_limit(LIMIT)
    }
}

//! The same patch with only those files looked at that the sandbox's layer says were written or removed: as much work as
//! was changed, however large the repository.
//!
//! What was written before the agent began is noted then: a file that was checked out into the layer and is gone again
//! leaves no trace there. Everything else is as it was checked out, so it is not in the patch; unless the agent has changed what git knows of it
//! or leaves out. So whenever one of the files is changed that decide about others (what is ignored, git's settings,
//! repositories in the repository), whenever git has anything to say, and whenever the patch names a file that was
//! not looked at, this gives up, and every file is looked at.

use std::collections::BTreeSet;

use carrel_forge::patch;
use carrel_sandbox::{Changed, Sandbox, SandboxError, Sandboxes};

use super::tree::{Diff, Submodules, Tree};

/// How many paths are given to git. It compares each of them with each file it knows: with more, it is faster to look at
/// everything.
const PATHS: usize = 1000;
/// How many changes are listed, those git is not told of included.
const LISTED: usize = 20_000;
/// Where the lists are in the sandbox.
const LIST: &str = "/tmp/.carrel-changed";

/// What was written before the agent began, and what git left out then; in the repository's own folder, so that they are
/// there as long as it is. An agent that changes them only leaves out of its patch what it did itself.
const BEFORE: &str = ".git/carrel-before";
const EXCLUDE_BEFORE: &str = ".git/carrel-exclude";
const EXCLUDE: &str = ".git/info/exclude";
/// The longest of these files.
const NOTED_BYTES: u64 = 4 << 20;

/// Puts the changes of the listed paths (`$7`, ended by zero bytes) into an index of its own, `$3`, or fails: when a
/// folder of the other list is a repository of its own, or when git has anything to say. Git takes a path that is nowhere
/// for a mistake: of those that are gone it is given the files that it knows.
const ADD: &str = r#"
set -eu
export LC_ALL=C
cd -P -- "$1"
if [ "$PWD" != "$1" ] || [ ! -d .git ] || [ -L .git ] || [ ! -f .git/index ] || [ -L .git/index ]; then exit 1; fi
rm -rf -- "$3" "$3.lock" "$4"
while IFS= read -r -d '' folder; do
  if [ -e "$folder/.git" ] || [ -L "$folder/.git" ]; then exit 1; fi
done < "$7.folders"
# Git writes a new file in place of an index, never into it; with its time either way.
ln -- .git/index "$3" 2>/dev/null || cp -p -- .git/index "$3"
export GIT_INDEX_FILE="$3" GIT_LITERAL_PATHSPECS=1
while IFS= read -r -d '' path; do
  if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\0' "$path" >&3; else printf '%s\0' "$path" >&4; fi
done < "$7" 3> "$7.there" 4> "$7.gone"
if [ -s "$7.gone" ]; then
  xargs -0 git ls-files -z -- < "$7.gone" >> "$7.there"
  [ "$(tr -dc '\0' < "$7.there" | wc -c)" -le 1000 ]
fi
if [ -s "$7.there" ]; then
  # Ignored files make it end with 1. What it says comes by a pipe: on a full disk a file would have no word of it.
  status=0
  words=$(git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c advice.addEmbeddedRepo=false -c core.safecrlf=false \
    -c index.skipHash=true add --all --ignore-errors --pathspec-from-file="$7.there" --pathspec-file-nul 2>&1) || status=$?
  if [ "$status" -gt 1 ]; then exit 1; fi
  if printf '%s\n' "$words" | grep -q -e '^error' -e '^fatal' -e embedded -e submodule; then exit 1; fi
fi
"#;

/// Notes what was written before the agent begins. Where it is too much to be worth it there is no note, and every file
/// is looked at in the end.
pub(super) async fn note_before(sandboxes: &Sandboxes, sandbox: &Sandbox, workspace: &str) -> Result<(), SandboxError> {
    let Changed::Paths(paths) = sandboxes.changed_in_sandbox(sandbox.id(), workspace, &[], PATHS).await? else {
        return Ok(());
    };
    let paths = paths.into_iter().filter(|path| !path.starts_with(b".git/")).collect();
    let exclude = match sandbox.read_file(&format!("{workspace}/{EXCLUDE}"), NOTED_BYTES).await {
        Ok(exclude) => exclude,
        Err(SandboxError::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    sandbox.write_file(&format!("{workspace}/{EXCLUDE_BEFORE}"), &exclude, None).await?;
    sandbox.write_file(&format!("{workspace}/{BEFORE}"), &list(&paths), None).await
}

/// The patch; nothing when it takes a look at everything to tell.
pub(super) async fn patch(tree: &Tree<'_>) -> Option<Vec<u8>> {
    match try_patch(tree).await {
        Ok(Ok(bytes)) => Some(bytes),
        Ok(Err(reason)) => {
            tracing::debug!(sandbox = %tree.sandbox.id(), reason, "looking at every file for the patch");
            None
        }
        Err(error) => {
            tracing::debug!(sandbox = %tree.sandbox.id(), %error, "looking at every file for the patch");
            None
        }
    }
}

/// The patch, or why it takes a look at everything.
async fn try_patch(tree: &Tree<'_>) -> Result<Result<Vec<u8>, &'static str>, SandboxError> {
    if has_other_settings(tree).await? {
        return Ok(Err("git's settings for all repositories were changed"));
    }
    let Changed::Paths(mut changed) = changed(tree, &tree.workspace).await? else {
        return Ok(Err("the folder was replaced, or too much was changed"));
    };
    let read = |name: &'static str| async move {
        tree.sandbox.read_file(&format!("{}/{name}", tree.workspace), NOTED_BYTES).await
    };
    let before = read(BEFORE).await?;
    changed.extend(before.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec));
    // Maintenance has added to it; the agent, most often, has not.
    if changed.iter().any(|path| path == EXCLUDE.as_bytes()) && read(EXCLUDE).await? == read(EXCLUDE_BEFORE).await? {
        changed.retain(|path| path != EXCLUDE.as_bytes());
    }
    let paths = match worth_a_look(changed) {
        Ok(paths) if paths.len() > PATHS => return Ok(Err("too much was changed")),
        Ok(paths) => paths,
        Err(reason) => return Ok(Err(reason)),
    };
    tree.sandbox.write_file(LIST, &list(&paths), None).await?;
    tree.sandbox.write_file(&format!("{LIST}.folders"), &list(&folders(&paths)), None).await?;
    let added = tree.sandbox.run(tree.step("add-changed", ADD, LIST)).await?;
    if !added.status.is_success() {
        return Ok(Err("git could not add what was changed"));
    }
    let Diff::Patch(bytes) = tree.diff(Submodules::Shown).await? else {
        return Ok(Err("git could not make a patch of what was changed"));
    };
    match patch::parse(&bytes) {
        Ok(summary) => {
            let mut named = summary.files.iter().flat_map(|file| std::iter::once(&file.path).chain(&file.old_path));
            if named.all(|path| is_in(&paths, path.as_bytes())) {
                Ok(Ok(bytes))
            } else {
                Ok(Err("git knows other changes than there are"))
            }
        }
        Err(_) => Ok(Err("the changes make no plain patch")),
    }
}

async fn changed(tree: &Tree<'_>, below: &str) -> Result<Changed, SandboxError> {
    tree.sandboxes.changed_in_sandbox(tree.sandbox.id(), below, &tree.lineage, LISTED).await
}

/// Whether git's settings beside those of the repository may have been changed.
async fn has_other_settings(tree: &Tree<'_>) -> Result<bool, SandboxError> {
    for home in ["/home/carrel", "/root"] {
        let Changed::Paths(paths) = changed(tree, home).await? else { return Ok(true) };
        let are_there = [".gitconfig", ".config/git"].iter().any(|name| {
            let (name, below) = (name.as_bytes(), format!("{name}/"));
            paths.iter().any(|path| path == name || path.starts_with(below.as_bytes()))
        });
        // As a whole: by a program that keeps its own there, most often.
        let is_new = paths.iter().any(|path| path == b".config");
        if are_there || is_new && tree.sandbox.stat(&format!("{home}/.config/git")).await?.is_some() {
            return Ok(true);
        }
    }
    let Changed::Paths(paths) = changed(tree, "/etc").await? else { return Ok(true) };
    Ok(paths.iter().any(|path| path == b"gitconfig" || path == b"gitattributes"))
}

/// The changes that git is to look at, none within another; or why it has to look at everything.
fn worth_a_look(changed: Vec<Vec<u8>>) -> Result<BTreeSet<Vec<u8>>, &'static str> {
    let mut paths = BTreeSet::new();
    for path in changed {
        if let Some(own) = path.strip_prefix(b".git/") {
            let settings: [&[u8]; 5] = [b"config", b"config.worktree", b"info", b"commondir", b"modules"];
            let first = own.split(|byte| *byte == b'/').next().unwrap_or_default();
            if settings.contains(&first) {
                return Err("git's settings for the repository were changed");
            }
            continue;
        }
        if path.split(|byte| *byte == b'/').any(|name| name.eq_ignore_ascii_case(b".git")) {
            return Err("a repository was changed in the repository, or its own was replaced");
        }
        let at = path.iter().rposition(|byte| *byte == b'/');
        let name = at.map_or(path.as_slice(), |at| &path[at + 1..]);
        match (name, at) {
            // They decide about all files of their folder.
            (b".gitignore" | b".gitattributes" | b".gitmodules", None) => {
                return Err("what is ignored was changed, or the attributes, or the submodules");
            }
            (b".gitignore" | b".gitattributes", Some(at)) => paths.insert(path[..at].to_vec()),
            _ => paths.insert(path),
        };
    }
    let all = paths.clone();
    paths.retain(|path| !ancestors(path).any(|above| all.contains(above)));
    Ok(paths)
}

/// The folders in which the paths lie.
fn folders(paths: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
    paths.iter().flat_map(|path| ancestors(path)).map(<[u8]>::to_vec).collect()
}

fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

fn is_in(paths: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    paths.contains(path) || ancestors(path).any(|above| paths.contains(above))
}

fn list(paths: &BTreeSet<Vec<u8>>) -> Vec<u8> {
    paths.iter().flat_map(|path| path.iter().copied().chain([0])).collect()
}

//! `carrel task apply`: a patch goes into the current checkout, merged three ways by the person's own git.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use carrel_wire::Task;
use serde_json::json;
use uuid::Uuid;

use super::{choose, patch_of};
use crate::cli::Which;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, safe};

pub(super) async fn apply(client: &Client, id: Uuid, which: Which, json: bool) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let attempt = choose(&task, which)?;
    let patch = patch_of(client, attempt).await?;
    let top = git(&["rev-parse", "--show-toplevel"], None)?;
    if !top.status.success() {
        return Err(Failure::usage("this folder is not in a git checkout; change into the one the patch is for"));
    }
    let top = String::from_utf8_lossy(&top.stdout).trim_end_matches('\n').to_owned();
    let files: Vec<&str> = attempt
        .result
        .iter()
        .filter_map(|result| result.patch.as_ref())
        .flat_map(|patch| &patch.files)
        .map(|file| file.path.as_str())
        .collect();
    // Conflicts that are there already must not be taken for ours.
    let unsettled = conflicts(&top)?;
    if !unsettled.is_empty() {
        let list = safe(&unsettled.join(", "));
        return Err(Failure::work(format!(
            "nothing was applied: this checkout has unsettled conflicts in {list}; settle them first"
        )));
    }
    // What can be taken back cleanly, and cannot be put on top, is there already.
    let is_there = git(&["-C", &top, "apply", "--check", "--reverse", "--binary", "-"], Some(&patch))?.status.success();
    if is_there && !git(&["-C", &top, "apply", "--check", "--binary", "-"], Some(&patch))?.status.success() {
        return if json {
            output::document(&json!({ "applied": [], "conflicts": [] }))
        } else {
            output::line("the patch is applied already; nothing was changed")
        };
    }
    // The checkout has the local changes the task started from, and they are most often not staged: three ways would want that.
    if task.local_changes.is_some() {
        let plain = git(&["-C", &top, "apply", "--binary", "--whitespace=nowarn", "-"], Some(&patch))?;
        if plain.status.success() {
            return if json {
                output::document(&json!({ "applied": files, "conflicts": [] }))
            } else {
                output::line(&format!(
                    "applied to {}, beside your own changes; nothing is staged",
                    output::files(files.len())
                ))
            };
        }
    }
    let applied = git(&["-C", &top, "apply", "--3way", "--binary", "--whitespace=nowarn", "-"], Some(&patch))?;
    let conflicts = conflicts(&top)?;
    if applied.status.success() && conflicts.is_empty() {
        return if json {
            output::document(&json!({ "applied": files, "conflicts": [] }))
        } else {
            output::line(&format!("applied to {}; the changes are staged", output::files(files.len())))
        };
    }
    if conflicts.is_empty() {
        return Err(Failure::work(not_applied(&String::from_utf8_lossy(&applied.stderr), &task.repository.location)));
    }
    if json {
        output::document(&json!({ "applied": files, "conflicts": conflicts }))?;
    }
    let list: Vec<String> = conflicts.iter().map(|path| format!("  {}", safe(path))).collect();
    Err(Failure::work(format!(
        "the patch was applied, with conflicts in\n{}\nsettle them and `git add` the files, or go back with `git checkout HEAD -- FILE`",
        list.join("\n")
    )))
}

/// Git's own words without its thinking aloud, and the way out.
fn not_applied(words: &str, repository: &str) -> String {
    let errors: Vec<String> = words.lines().filter_map(|line| line.strip_prefix("error: ")).map(safe).collect();
    let said = |part: &str| errors.iter().any(|line| line.contains(part));
    let remedy = if said("does not match index") {
        "commit or stash your own changes to these files first".to_owned()
    } else if said("already exists in") {
        "move the files that are in the way".to_owned()
    } else if said("does not exist in index") || said("No such file") {
        format!("is this a checkout of {}?", safe(repository))
    } else {
        "start from the commit that `carrel task show` names, or ask for a follow-up".to_owned()
    };
    format!("the patch was not applied, nothing was changed: {}\n{remedy}", errors.join("; "))
}

/// The files that wait for somebody to settle a conflict.
fn conflicts(top: &str) -> Result<Vec<String>, Failure> {
    let unmerged = git(&["-C", top, "diff", "--name-only", "--diff-filter=U", "-z"], None)?;
    let names = String::from_utf8_lossy(&unmerged.stdout).into_owned();
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn git(arguments: &[&str], input: Option<&[u8]>) -> Result<Output, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("cannot run git: {error}; install it"));
    let mut child = Command::new("git")
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A git that refuses early closes its end; its words and exit code say why.
            scope.spawn(move || stdin.write_all(input).ok());
        }
        child.wait_with_output().map_err(failed)
    })
}

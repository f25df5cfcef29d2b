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
    let applied = git(&["-C", &top, "apply", "--3way", "--binary", "--whitespace=nowarn", "-"], Some(&patch))?;
    let conflicts = conflicts(&top)?;
    let files: Vec<&str> = attempt
        .result
        .iter()
        .filter_map(|result| result.patch.as_ref())
        .flat_map(|patch| &patch.files)
        .map(|file| file.path.as_str())
        .collect();
    if applied.status.success() && conflicts.is_empty() {
        return if json {
            output::document(&json!({ "applied": files, "conflicts": [] }))
        } else {
            output::line(&format!("applied to {}; the changes are staged", output::files(files.len())))
        };
    }
    if conflicts.is_empty() {
        let words = safe(String::from_utf8_lossy(&applied.stderr).trim());
        return Err(Failure::work(format!("the patch was not applied, nothing was changed:\n{words}")));
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

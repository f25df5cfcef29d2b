//! `apply_patch`: reads the files a patch names, computes what becomes of them, and writes all of it or nothing. The
//! files are read and written inside the sandbox, so whatever a path leads to, nothing outside can be hurt.

mod started;

use std::collections::BTreeMap;

use carrel_domain::EventBody;
use carrel_domain::git::is_safe_repository_path;
use carrel_domain::patch::{ChangeKind, FileChange};
use carrel_sandbox::{FileKind, SandboxError};

use super::{Outcome, Pending, Tools, is_about_the_request};
use crate::AgentError;
use crate::patch::{Original, PatchError, Planned, Section, parse, plan};

/// The largest file that a patch can change.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What is done when looking at files goes wrong.
const READING: &str = "read a file that a patch changes";

/// More files than any patch needs.
const MAX_FILES: usize = 1000;

impl Tools {
    /// Applies the patch of a call, whose paths are relative to `folder`, which is itself relative to the workspace. One that
    /// was cut off is finished.
    pub(super) async fn apply_patch(
        &self,
        text: &str,
        folder: Option<&str>,
        pending: &Pending,
    ) -> Result<Outcome, AgentError> {
        let folder = join(&self.workspace, folder.unwrap_or_default());
        let sections = match parse(text).and_then(|sections| self.inside_workspace(sections, &folder)) {
            Ok(sections) => sections,
            Err(error) => return Ok(refused(&error.to_string())),
        };
        if let Some(started) = self.started(pending) {
            return self.finish(sections, started).await;
        }
        let (mut originals, mut folders) = (BTreeMap::new(), BTreeMap::new());
        for path in sections.iter().flat_map(Section::paths) {
            if originals.len() == MAX_FILES {
                return Ok(refused(&format!("the patch names more than {MAX_FILES} files; make it several")));
            }
            if !originals.contains_key(path) {
                originals.insert(path.to_owned(), self.original(path, &mut folders).await?);
            }
        }
        // Searching a large file for a hunk takes long enough to be in the way of others.
        let (planned, originals) = tokio::task::spawn_blocking(move || (plan(&sections, &originals), originals))
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let planned = match planned {
            Ok(planned) => planned,
            Err(error) => return Ok(refused(&error.to_string())),
        };
        self.note(pending, &planned, &originals).await?;
        match self.write(&planned, &originals).await? {
            None => Ok(applied(planned.changes, &planned.replaced)),
            Some(problem) => Ok(refused(&format!("{problem}; everything is as it was before"))),
        }
    }

    /// The sections with their paths relative to the workspace, or why one leads out of it.
    fn inside_workspace(&self, mut sections: Vec<Section>, folder: &str) -> Result<Vec<Section>, PatchError> {
        for section in &mut sections {
            let (path, moved_to) = match section {
                Section::Add { path, .. } | Section::Delete { path } => (path, None),
                Section::Update { path, moved_to, .. } => (path, moved_to.as_mut()),
            };
            for path in std::iter::once(path).chain(moved_to) {
                *path = self.relative(path, folder)?;
            }
        }
        Ok(sections)
    }

    fn relative(&self, path: &str, folder: &str) -> Result<String, PatchError> {
        let wrong = |problem: String| Err(PatchError::Path { path: path.to_owned(), problem });
        let absolute = join(folder, path);
        let Some(relative) = absolute.strip_prefix(&self.workspace).and_then(|rest| rest.strip_prefix('/')) else {
            return wrong(format!("is outside the repository at {}; a patch changes only files in it", self.workspace));
        };
        if !is_safe_repository_path(relative) {
            return wrong("is no path that a patch may change: it is git's own, or could be taken for it".to_owned());
        }
        Ok(relative.to_owned())
    }

    /// Whether a folder above the path is a symbolic link, which may lead out of the repository. Each folder is looked at
    /// once: `folders` has what is known.
    async fn is_behind_link(&self, path: &str, folders: &mut BTreeMap<String, bool>) -> Result<bool, AgentError> {
        for (end, _) in path.match_indices('/') {
            let folder = &path[..end];
            if !folders.contains_key(folder) {
                let is_link = match self.sessions.sandbox().stat(&join(&self.workspace, folder)).await {
                    Ok(stat) => stat.is_some_and(|stat| stat.kind == FileKind::Link),
                    Err(error) if is_about_the_request(&error) => false,
                    Err(source) => return Err(AgentError::Sandbox { action: READING, source }),
                };
                folders.insert(folder.to_owned(), is_link);
            }
            if folders[folder] {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn original(&self, path: &str, folders: &mut BTreeMap<String, bool>) -> Result<Original, AgentError> {
        let action = READING;
        if self.is_behind_link(path, folders).await? {
            return Ok(Original::Untouchable(
                "lies behind a symbolic link to a folder; name the file by its real path",
            ));
        }
        let absolute = join(&self.workspace, path);
        let sandbox = self.sessions.sandbox();
        let stat = match sandbox.stat(&absolute).await {
            Ok(stat) => stat,
            Err(error) if is_about_the_request(&error) => {
                return Ok(Original::Untouchable(
                    "cannot be looked at: a part of its path is not a folder, or is closed",
                ));
            }
            Err(source) => return Err(AgentError::Sandbox { action, source }),
        };
        let Some(stat) = stat else { return Ok(Original::Missing) };
        match stat.kind {
            FileKind::File => {}
            FileKind::Folder => return Ok(Original::Untouchable("is a folder")),
            FileKind::Link => {
                return Ok(Original::Untouchable(
                    "is a symbolic link; patch the file it leads to, or change the link with a command",
                ));
            }
            FileKind::Special => return Ok(Original::Untouchable("is not a regular file")),
        }
        let bytes = match sandbox.read_file(&absolute, MAX_FILE_BYTES).await {
            Ok(bytes) => bytes,
            Err(SandboxError::TooLarge { .. }) => {
                return Ok(Original::Untouchable("is too large for a patch; change it with a command"));
            }
            Err(error) if is_about_the_request(&error) => return Ok(Original::Untouchable("cannot be read")),
            Err(source) => return Err(AgentError::Sandbox { action, source }),
        };
        Ok(match String::from_utf8(bytes) {
            Ok(content) => Original::Text { content, mode: stat.mode },
            Err(_) => Original::Untouchable("is not UTF-8 text; change it with a command"),
        })
    }

    /// Writes everything. When the sandbox refuses something, puts back what was there and says what it was.
    async fn write(
        &self,
        planned: &Planned,
        originals: &BTreeMap<String, Original>,
    ) -> Result<Option<String>, AgentError> {
        let mut done = Vec::new();
        // What goes goes last: of what is moved there is always one, wherever this is cut off.
        let (come, go): (Vec<_>, Vec<_>) = planned.files.iter().partition(|(_, after)| after.is_some());
        for (path, after) in come.into_iter().chain(go) {
            done.push(path);
            let written = match after {
                Some((content, mode)) => self.put(path, content, *mode).await,
                None if matches!(originals.get(path), Some(Original::Missing)) => Ok(()),
                None => self.sessions.sandbox().remove_file(&join(&self.workspace, path)).await,
            };
            match written {
                Ok(()) => {}
                Err(error) if is_about_the_request(&error) => {
                    self.put_back(&done, originals).await?;
                    return Ok(Some(format!("`{path}` cannot be written: {error}")));
                }
                Err(source) => return Err(AgentError::Sandbox { action: "write the files of a patch", source }),
            }
        }
        Ok(None)
    }

    async fn put_back(&self, done: &[&String], originals: &BTreeMap<String, Original>) -> Result<(), AgentError> {
        for path in done.iter().rev() {
            let restored = match originals.get(*path) {
                Some(Original::Text { content, mode }) => self.put(path, content, Some(*mode)).await,
                Some(Original::Untouchable(_)) => Ok(()),
                Some(Original::Missing) | None => {
                    match self.sessions.sandbox().remove_file(&join(&self.workspace, path)).await {
                        Err(SandboxError::NotFound { .. }) => Ok(()),
                        other => other,
                    }
                }
            };
            match restored {
                // The file that could not be written cannot be put back either, and does not need to be.
                Err(error) if !is_about_the_request(&error) => {
                    return Err(AgentError::Sandbox { action: "put back the files of a patch", source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn put(&self, path: &str, content: &str, mode: Option<u32>) -> Result<(), SandboxError> {
        self.sessions.sandbox().write_file(&join(&self.workspace, path), content.as_bytes(), mode).await
    }
}

fn refused(reason: &str) -> Outcome {
    let text = format!("The patch was not applied; nothing has changed: {reason}");
    Outcome::plain(text).with(EventBody::PatchRefused { reason: reason.to_owned() })
}

/// How the result of a patch that was applied begins.
pub(crate) const APPLIED: &str = "The patch is applied. Changed files:\n";

fn applied(files: Vec<FileChange>, replaced: &[String]) -> Outcome {
    let mut text = APPLIED.to_owned();
    for file in &files {
        let path = &file.path;
        let line = match (file.kind, &file.old_path) {
            (ChangeKind::Added, _) => format!("A {path}\n"),
            (ChangeKind::Deleted, _) => format!("D {path}\n"),
            (ChangeKind::Modified, _) | (ChangeKind::Renamed, None) => format!("M {path}\n"),
            (ChangeKind::Renamed, Some(old)) => format!("R {old} -> {path}\n"),
        };
        text.push_str(&line);
    }
    if !replaced.is_empty() {
        let what = if replaced.len() == 1 {
            "was there before, and its old content is"
        } else {
            "were there before, and their old contents are"
        };
        text.push_str(&format!(
            "\nNote: {} {what} gone. If you did not mean to replace it, get it back from git.\n",
            replaced.join(", ")
        ));
    }
    Outcome::plain(text).with(EventBody::PatchApplied { files })
}

/// `path` seen from `folder`, without `.` and `..`. Absolute paths stay.
pub(super) fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { folder };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if start.is_empty() || start.starts_with('/') {
        return format!("/{}", parts.join("/"));
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_a_shell_would() {
        for (folder, path, expected) in [
            ("/workspace/x", "a/b", "/workspace/x/a/b"),
            ("/workspace/x", "", "/workspace/x"),
            ("/workspace/x", "../y", "/workspace/y"),
            ("/workspace/x", "./a/../../..//b", "/b"),
            ("/workspace/x", "/etc/passwd", "/etc/passwd"),
            ("src", "a", "src/a"),
        ] {
            assert_eq!(join(folder, path), expected, "{folder} {path}");
        }
    }
}

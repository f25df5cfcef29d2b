//! What can be said of a repository at a commit from a look at some of its folders and a few small files: its shape, its
//! languages, and how it seems to be built and tested. Everything here comes from the repository, so it is bounded, and
//! says nothing about what may be run.
//!
//! Whoever can read the repository asks in turns: [`Look::next_folders`] until there are none, then
//! [`Look::wanted_files`]; [`Look::facts`] is what came of it. The same commit gives the same facts.

mod commands;
mod languages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// How many folders are looked into, the root included.
pub const MAX_FOLDERS: usize = 60;

/// The longest file that is read.
pub const MAX_FILE_BYTES: u64 = 256 << 10;

/// How many files are read.
pub const MAX_FILES: usize = 16;

/// How deep folders are looked into; the root is 0.
const MAX_DEPTH: usize = 4;

/// How many folders of the root are shown, how many names of each, and how many files of the root.
const SHOWN_FOLDERS: usize = 40;
const SHOWN_INSIDE: usize = 12;
const SHOWN_FILES: usize = 30;

/// How many commands, languages and names of other lists are told.
const SHOWN_COMMANDS: usize = 24;
const SHOWN_LANGUAGES: usize = 8;
const SHOWN_NAMES: usize = 12;

/// The longest name that is shown whole.
const NAME_CHARS: usize = 60;

/// The longest path that is asked for.
const MAX_PATH_BYTES: usize = 1000;

/// The longest subject of a commit that is shown whole.
const SUBJECT_CHARS: usize = 120;

/// Folders of other people's code, and of what is generated: they say nothing about this one.
const PASSED_OVER: &[&str] = &[
    "node_modules",
    "vendor",
    "third_party",
    "third-party",
    "external",
    "dist",
    "target",
    "testdata",
    "fixtures",
    "__snapshots__",
];

/// What lock files are called.
const LOCK_FILES: &[&str] = &[
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    "deno.lock",
    "Cargo.lock",
    "uv.lock",
    "poetry.lock",
    "Pipfile.lock",
    "pdm.lock",
    "requirements.txt",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "gradle.lockfile",
    "mix.lock",
    "pubspec.lock",
    "Package.resolved",
    "packages.lock.json",
    "flake.lock",
];

/// What continuous integration is described in, at the root.
const CI_FILES: &[&str] = &[
    ".gitlab-ci.yml",
    ".travis.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    ".drone.yml",
    ".woodpecker.yml",
    "appveyor.yml",
    ".cirrus.yml",
    "cloudbuild.yaml",
];

/// Folders of the root in which every file describes continuous integration.
const CI_FOLDERS: &[&str] =
    &[".github/workflows", ".gitea/workflows", ".forgejo/workflows", ".circleci", ".buildkite", ".woodpecker", ".ci"];

/// What something in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// Another repository.
    Submodule,
}

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without the folder's.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What was seen of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The first line of the commit's message.
    pub subject: String,
    /// The day it was committed, as `2026-11-23`; empty when that is not known.
    pub date: String,
    /// Folders that were looked into, by their path; the root's is empty. `None`: it was too large, or could not be read.
    pub folders: BTreeMap<String, Option<Vec<Entry>>>,
    /// Files that were read, by their path. `None`: too large, or it could not be read.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    /// Why there is less than there could be: the time was over, or git failed.
    pub cut_short: Option<String>,
}

/// Facts for somebody who sees the repository for the first time. All texts but the field names are the repository's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryFacts {
    /// The first line of the base commit's message.
    pub subject: String,
    /// The day it was committed; may be empty.
    pub date: String,
    /// How many files were seen by name.
    pub files_seen: usize,
    /// Whether that is all of them.
    pub is_all: bool,
    /// Languages by the endings of these files, the most files first.
    pub languages: Vec<(&'static str, usize)>,
    /// Lines that show the root and what is in its folders.
    pub tree: Vec<String>,
    /// Commands that build, test or check it, each with the file that tells of it.
    pub commands: Vec<(String, String)>,
    /// Lock files, as paths.
    pub lock_files: Vec<String>,
    /// Files that describe continuous integration, as paths.
    pub ci_files: Vec<String>,
    /// What is missing here, in words.
    pub missing: Vec<String>,
}

impl Look {
    /// The folders to look into next; none when it is enough.
    #[must_use]
    pub fn next_folders(&self) -> Vec<String> {
        if self.folders.is_empty() {
            return vec![String::new()];
        }
        let mut wanted: Vec<String> = self
            .folders
            .iter()
            .filter(|(path, _)| depth(path) < MAX_DEPTH && !is_passed_over(path))
            .flat_map(|(path, entries)| {
                let inside = entries.iter().flatten().filter(|entry| entry.kind == Kind::Folder);
                inside.map(move |entry| join(path, &entry.name))
            })
            .filter(|path| !self.folders.contains_key(path) && is_askable(path))
            .collect();
        // Level by level, so that where there are too many, those near the root are seen.
        wanted.sort_by(|one, other| (depth(one), one).cmp(&(depth(other), other)));
        let level = wanted.first().map_or(0, |path| depth(path));
        wanted.retain(|path| depth(path) == level);
        wanted.truncate(MAX_FOLDERS.saturating_sub(self.folders.len()));
        wanted
    }

    /// The small files that say how the repository is built and tested.
    #[must_use]
    pub fn wanted_files(&self) -> Vec<String> {
        let mut wanted: Vec<String> = Vec::new();
        for (path, entries) in self.near_root() {
            let named = entries.iter().filter(|entry| entry.kind == Kind::File && commands::is_read(&entry.name));
            wanted.extend(named.map(|entry| join(path, &entry.name)));
        }
        wanted.sort_by(|one, other| (depth(one), one).cmp(&(depth(other), other)));
        wanted.truncate(MAX_FILES);
        wanted
    }

    /// What it all says.
    #[must_use]
    pub fn facts(&self) -> RepositoryFacts {
        let (files_seen, languages) = self.languages();
        let mut missing = Vec::new();
        if let Some(reason) = &self.cut_short {
            missing.push(reason.clone());
        }
        let closed = |what: Vec<&String>, why: &str| {
            let names: Vec<String> = what.iter().take(SHOWN_NAMES).map(|path| name(path)).collect();
            (!names.is_empty()).then(|| format!("{} {why}", names.join(", ")))
        };
        if self.folders.get("").is_some_and(Option::is_none) {
            missing.push("the root could not be listed, or is too large".to_owned());
        }
        let folders = self.folders.iter().filter(|(path, entries)| entries.is_none() && !path.is_empty());
        missing.extend(closed(folders.map(|(path, _)| path).collect(), "could not be listed, or is too large"));
        let files = self.files.iter().filter(|(_, content)| content.is_none());
        missing.extend(closed(files.map(|(path, _)| path).collect(), "could not be read, or is too large"));
        let mut commands = commands::found(self);
        commands.truncate(SHOWN_COMMANDS);
        RepositoryFacts {
            subject: short(&self.subject, SUBJECT_CHARS),
            date: self.date.clone(),
            files_seen,
            is_all: self.is_all(),
            languages,
            tree: self.tree(),
            commands,
            lock_files: self.named(LOCK_FILES),
            ci_files: self.ci_files(),
            missing,
        }
    }

    /// The root and its folders, as far as they were looked into.
    fn near_root(&self) -> impl Iterator<Item = (&str, &[Entry])> {
        self.folders.iter().filter(|(path, _)| depth(path) <= 1 && !is_passed_over(path)).filter_map(
            |(path, entries)| {
                let entries: &[Entry] = entries.as_ref()?;
                Some((path.as_str(), entries))
            },
        )
    }

    fn root(&self) -> &[Entry] {
        self.folders.get("").and_then(Option::as_deref).unwrap_or_default()
    }

    fn is_all(&self) -> bool {
        self.cut_short.is_none()
            && self.folders.iter().all(|(path, entries)| {
                let mut inside = entries.iter().flatten().filter(|entry| entry.kind == Kind::Folder);
                entries.is_some() && inside.all(|entry| self.folders.contains_key(&join(path, &entry.name)))
            })
    }

    fn languages(&self) -> (usize, Vec<(&'static str, usize)>) {
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut seen = 0;
        for (path, entries) in &self.folders {
            let files = entries.iter().flatten().filter(|entry| entry.kind == Kind::File);
            for entry in files {
                seen += 1;
                if let Some(language) = languages::of(&entry.name).filter(|_| !is_passed_over(path)) {
                    *counts.entry(language).or_default() += 1;
                }
            }
        }
        let mut languages: Vec<(&'static str, usize)> = counts.into_iter().collect();
        languages.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        languages.truncate(SHOWN_LANGUAGES);
        (seen, languages)
    }

    /// One line for each folder of the root, with the number of what is in it and some of the names, and one for its files.
    fn tree(&self) -> Vec<String> {
        let (folders, files): (Vec<&Entry>, Vec<&Entry>) =
            self.root().iter().partition(|entry| entry.kind == Kind::Folder);
        let mut lines: Vec<String> = Vec::new();
        for folder in folders.iter().take(SHOWN_FOLDERS) {
            let line = match self.folders.get(&folder.name) {
                Some(Some(inside)) => {
                    format!("{}/ ({}): {}", name(&folder.name), inside.len(), self.inside(&folder.name, inside))
                }
                Some(None) | None => format!("{}/", name(&folder.name)),
            };
            lines.push(line);
        }
        if folders.len() > SHOWN_FOLDERS {
            lines.push(format!("… {} more folders", folders.len() - SHOWN_FOLDERS));
        }
        let names: Vec<String> = files.iter().map(|entry| shown(entry, None)).collect();
        if !names.is_empty() {
            lines.push(listed(&names, SHOWN_FILES));
        }
        lines
    }

    fn inside(&self, path: &str, entries: &[Entry]) -> String {
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        // Folders first: they say more.
        sorted.sort_by_key(|entry| entry.kind != Kind::Folder);
        let count = |entry: &Entry| self.folders.get(&join(path, &entry.name)).and_then(Option::as_ref).map(Vec::len);
        let names: Vec<String> = sorted.iter().take(SHOWN_INSIDE + 1).map(|entry| shown(entry, count(entry))).collect();
        let left = sorted.len().saturating_sub(SHOWN_INSIDE);
        if left <= 1 {
            return names.join(", ");
        }
        format!("{}, … {left} more", names[..SHOWN_INSIDE].join(", "))
    }

    /// Files of these names in the root and its folders.
    fn named(&self, wanted: &[&str]) -> Vec<String> {
        let mut found: Vec<String> = self
            .near_root()
            .flat_map(|(path, entries)| {
                let entries = entries.iter().filter(|entry| entry.kind == Kind::File);
                entries.filter(|entry| wanted.contains(&entry.name.as_str())).map(move |entry| join(path, &entry.name))
            })
            .collect();
        found.sort_by(|one, other| (depth(one), one).cmp(&(depth(other), other)));
        found.truncate(SHOWN_NAMES);
        found.iter().map(|path| name(path)).collect()
    }

    fn ci_files(&self) -> Vec<String> {
        let at_root = self.root().iter().filter(|entry| CI_FILES.contains(&entry.name.as_str()));
        let mut found: Vec<String> = at_root.map(|entry| name(&entry.name)).collect();
        for folder in CI_FOLDERS {
            let inside = self.folders.get(*folder).and_then(Option::as_deref).unwrap_or_default();
            let files = inside.iter().filter(|entry| entry.kind == Kind::File);
            found.extend(files.map(|entry| name(&join(folder, &entry.name))));
        }
        found.truncate(SHOWN_NAMES);
        found
    }
}

fn depth(path: &str) -> usize {
    if path.is_empty() { 0 } else { path.matches('/').count() + 1 }
}

fn is_passed_over(path: &str) -> bool {
    path.split('/').any(|part| PASSED_OVER.contains(&part))
}

/// Whether a path can be asked for line by line.
fn is_askable(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES && !path.contains(['\n', '\0', '\u{fffd}'])
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn shown(entry: &Entry, count: Option<usize>) -> String {
    let shown = name(&entry.name);
    match (entry.kind, count) {
        (Kind::Folder, Some(count)) => format!("{shown}/ ({count})"),
        (Kind::Folder, None) => format!("{shown}/"),
        (Kind::File, _) => shown,
        (Kind::Link, _) => format!("{shown} (link)"),
        (Kind::Submodule, _) => format!("{shown} (submodule)"),
    }
}

/// A list of which one more than allowed is no reason to cut it.
fn listed(names: &[String], most: usize) -> String {
    if names.len() <= most + 1 {
        return names.join(", ");
    }
    format!("{}, … {} more", names[..most].join(", "), names.len() - most)
}

/// A name or a path as it can stand in a list: one that has more than letters, digits and what is common in names stands in
/// quotation marks, on one line, and a long one is cut.
fn name(text: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "._-+@~/#%=()[]".contains(character);
    if text.chars().all(is_plain) {
        return short(text, NAME_CHARS);
    }
    let mut quoted = String::from("\"");
    for character in short(text, NAME_CHARS).chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                quoted.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

/// The beginning of a text, on one line.
fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

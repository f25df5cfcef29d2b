//! Whether citations hold: those of files against the files as they are now, through the sandbox and nowhere outside the
//! repository; those of output against what is recorded. Everything is bounded, and what cannot be looked at within the
//! bounds counts neither way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use carrel_domain::citation::{Lines, Reference, Source, citations};
use carrel_domain::{CitationsCheck, CommitOid, FailingCitation};
use carrel_sandbox::{FileKind, SandboxError};
use tokio::time::{Instant, timeout_at};

use super::own;
use crate::AgentError;
use crate::tools::Tools;

/// How many different citations are checked.
const MAX_CHECKS: usize = 200;

/// How long a checked file may be, in bytes. One is held at a time.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// How many folders deep a cited file may lie.
const MAX_DEPTH: usize = 64;

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why what the agent made itself is not cited where nothing is kept of it.
const OWN: &str =
    "it was made or changed in this turn, and nothing of that is kept; cite what was there, or the output of a command";

/// How much of a file is looked at to tell whether it is text, as git does.
const TEXT_BYTES: usize = 8000;

/// What was found out.
#[derive(Debug)]
pub(crate) struct Citations {
    /// Which hold.
    pub(crate) check: CitationsCheck,
    /// The pieces of output that citations name, as they name them and as they are known.
    pub(crate) chunks: BTreeMap<String, String>,
}

/// What a citation can refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// So many lines, of which some may not have been kept.
    Lines { count: u64, lost: Option<(u64, u64)> },
    /// Nothing that could be cited, and why.
    Not(String),
    /// It was not looked at.
    Unseen,
}

/// Checks the citations of an answer. Of a turn whose changes are not kept, `base` is the commit that it stands on: what the
/// agent made itself cannot be cited then.
pub(super) async fn check(answer: &str, base: Option<&CommitOid>, tools: &Tools) -> Result<Citations, AgentError> {
    let deadline = Instant::now() + TIMEOUT;
    let own = match base {
        Some(base) => own::among(cited_files(answer, tools), base, tools).await,
        None => BTreeSet::new(),
    };
    let (mut check, mut chunks) = (CitationsCheck::default(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    let mut sources: BTreeMap<Source, Found> = BTreeMap::new();
    for citation in citations(answer) {
        if !seen.insert(citation.text) {
            continue;
        }
        if seen.len() > MAX_CHECKS {
            check.unchecked += 1;
            continue;
        }
        let Some(Reference { source, lines }) = citation.reference else {
            let reason = "it has not the form `【F:path†L1-L9】` or `【chunk†L1-L9】`".to_owned();
            check.failing.push(FailingCitation { citation: citation.text.to_owned(), reason });
            continue;
        };
        if let Source::Output(name) = &source {
            chunks.insert(name.clone(), chunk_id(name, tools).to_owned());
        }
        if !sources.contains_key(&source) {
            let found = match timeout_at(deadline, look(&source, tools)).await {
                Ok(_) if is_own(&source, &own, tools) => Found::Not(OWN.to_owned()),
                Ok(found) => found?,
                Err(_) => Found::Unseen,
            };
            sources.insert(source.clone(), found);
        }
        match verdict(&sources[&source], lines) {
            Some(Ok(())) => check.holding += 1,
            Some(Err(reason)) => check.failing.push(FailingCitation { citation: citation.text.to_owned(), reason }),
            None => check.unchecked += 1,
        }
    }
    Ok(Citations { check, chunks })
}

/// The files of the repository that an answer cites, as paths in it.
fn cited_files(answer: &str, tools: &Tools) -> Vec<String> {
    let sources = citations(answer).into_iter().filter_map(|citation| Some(citation.reference?.source));
    let paths: BTreeSet<String> = sources.filter_map(|source| path_of(&source, tools)).collect();
    paths.into_iter().take(MAX_CHECKS).collect()
}

fn path_of(source: &Source, tools: &Tools) -> Option<String> {
    match source {
        Source::File(path) => within(path, tools.workspace()).map(|parts| parts.join("/")),
        Source::Output(_) => None,
    }
}

fn is_own(source: &Source, own: &BTreeSet<String>, tools: &Tools) -> bool {
    path_of(source, tools).is_some_and(|path| own.contains(&path))
}

/// What there is.
async fn look(source: &Source, tools: &Tools) -> Result<Found, AgentError> {
    match source {
        Source::File(path) => Ok(file(path, tools).await.unwrap_or_else(|error| {
            tracing::warn!(sandbox = %tools.sandbox().id(), %error, "a cited file could not be looked at");
            Found::Unseen
        })),
        Source::Output(name) => output(chunk_id(name, tools), tools).await,
    }
}

/// Whether these lines are there; nothing where that is not known.
fn verdict(found: &Found, lines: Option<Lines>) -> Option<Result<(), String>> {
    let (count, lost) = match found {
        Found::Unseen => return None,
        Found::Not(reason) => return Some(Err(reason.clone())),
        Found::Lines { count, lost } => (*count, *lost),
    };
    let Some(Lines { first, last }) = lines else { return Some(Ok(())) };
    let (first, last) = (u64::from(first), u64::from(last));
    let has = if count == 1 { "there is only 1 line".to_owned() } else { format!("there are only {count} lines") };
    Some(match lost {
        _ if first == 0 => Err("lines are counted from 1".to_owned()),
        _ if first > last => Err(format!("line {first} is behind line {last}")),
        _ if count == 0 => Err("it is empty".to_owned()),
        _ if last > count => Err(has),
        Some((from, to)) if first >= from && last <= to => {
            Err(format!("lines {from} to {to} of the output were not kept"))
        }
        _ => Ok(()),
    })
}

/// A file of the repository. An error is about the sandbox.
async fn file(path: &str, tools: &Tools) -> Result<Found, SandboxError> {
    let not = |reason: &str| Ok(Found::Not(reason.to_owned()));
    let Some(parts) = within(path, tools.workspace()) else {
        return not("it is not in the repository");
    };
    let sandbox = tools.sandbox();
    let mut whole = tools.workspace().trim_end_matches('/').to_owned();
    for (at, part) in parts.iter().enumerate() {
        whole.push('/');
        whole.push_str(part);
        let found = match sandbox.stat(&whole).await {
            Ok(found) => found,
            Err(SandboxError::Inside { .. } | SandboxError::Invalid(_) | SandboxError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        match found.map(|found| found.kind) {
            None => return not("there is no such file"),
            Some(FileKind::Link) => return not("a symbolic link is in its path; cite the file itself"),
            Some(FileKind::Folder) if at + 1 < parts.len() => {}
            Some(FileKind::Folder) => return not("it is a folder; cite lines of its files"),
            Some(FileKind::File) if at + 1 == parts.len() => {}
            Some(FileKind::File | FileKind::Special) => return not("there is no such file"),
        }
    }
    match sandbox.read_file(&whole, MAX_FILE_BYTES).await {
        Ok(bytes) if bytes[..bytes.len().min(TEXT_BYTES)].contains(&0) => not("it is not text"),
        Ok(bytes) => Ok(Found::Lines { count: lines_in(&bytes), lost: None }),
        Err(SandboxError::TooLarge { .. }) => Ok(Found::Unseen),
        Err(SandboxError::NotFound { .. } | SandboxError::NotAFile { .. }) => not("there is no such file"),
        Err(SandboxError::Inside { .. }) => not("it cannot be read"),
        Err(error) => Err(error),
    }
}

/// The folders and the name of a path that stays in the repository.
fn within<'p>(path: &'p str, workspace: &str) -> Option<Vec<&'p str>> {
    let inside = match path.strip_prefix('/') {
        Some(_) => path.strip_prefix(workspace.trim_end_matches('/'))?.strip_prefix('/')?,
        None => path,
    };
    let parts: Vec<&str> = inside.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let is_inside = !parts.is_empty() && parts.len() <= MAX_DEPTH && parts[0] != ".git" && !parts.contains(&"..");
    (is_inside && !path.ends_with('/')).then_some(parts)
}

/// Lines as editors count them: what follows the last line end is one too, if it is not empty.
fn lines_in(bytes: &[u8]) -> u64 {
    let ends = crate::output::ends::count_lines(bytes);
    ends + u64::from(bytes.last().is_some_and(|last| *last != b'\n'))
}

/// The name of a piece of output, without what models like to put before it.
fn chunk_id<'n>(name: &'n str, tools: &Tools) -> &'n str {
    if tools.knows_chunk(name) {
        return name;
    }
    let bare = ["Chunk ID", "chunk ID", "chunk_id", "chunk"].iter().find_map(|before| name.strip_prefix(before));
    bare.map_or(name, |bare| bare.trim_start_matches([':', '_', '-', ' ', '=']))
}

/// A piece of output.
async fn output(id: &str, tools: &Tools) -> Result<Found, AgentError> {
    if !tools.knows_chunk(id) {
        return Ok(Found::Not("there is no output of this chunk ID".to_owned()));
    }
    match tools.chunk(id).await {
        Ok(Some(recorded)) => Ok(Found::Lines { count: recorded.last_line(), lost: recorded.lost_lines() }),
        Ok(None) => Ok(Found::Not("nothing is recorded of this output".to_owned())),
        // The answer is worth more than the check: a sandbox that does not say leaves it open.
        Err(AgentError::Sandbox { action, source }) => {
            tracing::warn!(sandbox = %tools.sandbox().id(), error = %source, "could not {action} that is cited");
            Ok(Found::Unseen)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(first: u32, last: u32) -> Option<Lines> {
        Some(Lines { first, last })
    }

    #[test]
    fn lines_hold_when_all_of_them_are_there() {
        let three = Found::Lines { count: 3, lost: None };
        for (lines, expected) in [
            (None, Ok(())),
            (lines(1, 3), Ok(())),
            (lines(3, 3), Ok(())),
            (lines(1, 4), Err("there are only 3 lines")),
            (lines(0, 1), Err("lines are counted from 1")),
            (lines(2, 1), Err("line 2 is behind line 1")),
        ] {
            assert_eq!(verdict(&three, lines), Some(expected.map_err(str::to_owned)), "{lines:?}");
        }
        assert_eq!(verdict(&Found::Lines { count: 0, lost: None }, lines(1, 1)), Some(Err("it is empty".to_owned())));
        assert_eq!(verdict(&Found::Unseen, lines(1, 1)), None);
    }

    #[test]
    fn output_that_was_not_kept_holds_nothing_up() {
        let cut = Found::Lines { count: 100, lost: Some((20, 80)) };

        assert_eq!(verdict(&cut, lines(10, 30)), Some(Ok(())));
        assert!(matches!(verdict(&cut, lines(20, 80)), Some(Err(reason)) if reason.contains("not kept")));
    }

    #[test]
    fn a_path_stays_in_the_repository() {
        let inside = |path| within(path, "/workspace/x").map(|parts| parts.join("/"));

        assert_eq!(inside("src//./a.rs").as_deref(), Some("src/a.rs"));
        assert_eq!(inside("/workspace/x/src/a.rs").as_deref(), Some("src/a.rs"));
        for path in
            ["/etc/passwd", "../a", "a/../../b", "/workspace/xy/a", "/workspace/x", "", ".", "src/", ".git/config"]
        {
            assert_eq!(inside(path), None, "{path}");
        }
        assert_eq!(within(&"a/".repeat(100), "/x"), None);
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let counts = [&b""[..], b"a", b"a\n", b"a\nb", b"\n\n"].map(lines_in);

        assert_eq!(counts, [0, 1, 1, 2, 2]);
    }
}

//! What files become by a patch. Everything is computed before anything is written, so a patch applies whole or not
//! at all.

use std::borrow::Cow;
use std::collections::BTreeMap;

use carrel_domain::FileChange;
use carrel_domain::patch::ChangeKind;

use super::text::{Line, join, lines, usual_end};
use super::{Hunk, HunkLine, PatchError, Section, seek};

/// What some editors put before a text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// How much of a line an error message repeats.
const MAX_LINE_CHARS: usize = 300;

/// How many lines of the file an error message shows, and how many around them.
const MAX_SHOWN: usize = 30;
const AROUND: usize = 2;

/// A file before the patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Original {
    /// There is none.
    Missing,
    /// A text file.
    Text {
        /// All of it.
        content: String,
        /// Its permissions.
        mode: u32,
    },
    /// Something a patch cannot change, and why.
    Untouchable(&'static str),
}

/// What is to be done. Paths are those of the map given to [`plan`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Planned {
    /// What each file becomes; `None` for one that goes.
    pub(crate) files: BTreeMap<String, Option<(String, Option<u32>)>>,
    /// What is said about it, in the order of the patch.
    pub(crate) changes: Vec<FileChange>,
    /// Files that were there and that another one takes the place of, whole: one that is added or moved there.
    pub(crate) replaced: Vec<String>,
}

/// Computes what becomes of the files. `originals` has every path the sections name.
pub(crate) fn plan(sections: &[Section], originals: &BTreeMap<String, Original>) -> Result<Planned, PatchError> {
    let mut state = State { originals, planned: Planned::default() };
    for section in sections {
        match section {
            Section::Add { path, lines } => state.add(path, lines)?,
            Section::Delete { path } => state.delete(path)?,
            Section::Update { path, moved_to, hunks } => state.update(path, moved_to.as_deref(), hunks)?,
        }
    }
    Ok(state.planned)
}

struct State<'o> {
    originals: &'o BTreeMap<String, Original>,
    planned: Planned,
}

impl State<'_> {
    /// The file as it is after the sections so far: its content and the mode it shall have.
    fn read(&self, path: &str) -> Result<Option<(String, Option<u32>)>, PatchError> {
        if let Some(planned) = self.planned.files.get(path) {
            return Ok(planned.clone());
        }
        match self.originals.get(path) {
            None | Some(Original::Missing) => Ok(None),
            Some(Original::Text { content, mode }) => Ok(Some((content.clone(), Some(*mode)))),
            Some(Original::Untouchable(why)) => wrong_path(path, *why),
        }
    }

    fn add(&mut self, path: &str, lines: &[String]) -> Result<(), PatchError> {
        let old = self.read(path)?;
        if old.is_some() {
            self.planned.replaced.push(path.to_owned());
        }
        let content: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        self.planned.changes.push(FileChange {
            path: path.to_owned(),
            old_path: None,
            kind: if old.is_some() { ChangeKind::Modified } else { ChangeKind::Added },
            additions: lines.len() as u64,
            deletions: old.as_ref().map_or(0, |(content, _)| content.lines().count() as u64),
            binary: false,
        });
        self.planned.files.insert(path.to_owned(), Some((content, old.and_then(|(_, mode)| mode))));
        Ok(())
    }

    fn delete(&mut self, path: &str) -> Result<(), PatchError> {
        let Some((content, _)) = self.read(path)? else {
            return wrong_path(path, "is not there, so it cannot be deleted");
        };
        self.planned.changes.push(FileChange {
            path: path.to_owned(),
            old_path: None,
            kind: ChangeKind::Deleted,
            additions: 0,
            deletions: content.lines().count() as u64,
            binary: false,
        });
        self.planned.files.insert(path.to_owned(), None);
        Ok(())
    }

    fn update(&mut self, path: &str, moved_to: Option<&str>, hunks: &[Hunk]) -> Result<(), PatchError> {
        let Some((content, mode)) = self.read(path)? else {
            return wrong_path(path, "is not there, so it cannot be updated; add it with `*** Add File:`");
        };
        let target = moved_to.unwrap_or(path);
        // A file that is there already is replaced, as one that is added would.
        if target != path && self.read(target)?.is_some() {
            self.planned.replaced.push(target.to_owned());
        }
        let (content, additions, deletions) = apply(path, &content, hunks)?;
        self.planned.changes.push(FileChange {
            path: target.to_owned(),
            old_path: (target != path).then(|| path.to_owned()),
            kind: if target == path { ChangeKind::Modified } else { ChangeKind::Renamed },
            additions,
            deletions,
            binary: false,
        });
        if target != path {
            self.planned.files.insert(path.to_owned(), None);
        }
        self.planned.files.insert(target.to_owned(), Some((content, mode)));
        Ok(())
    }
}

fn wrong_path<T>(path: &str, problem: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Path { path: path.to_owned(), problem: problem.into() })
}

/// The content after the hunks, and how many lines came and went.
fn apply(path: &str, content: &str, hunks: &[Hunk]) -> Result<(String, u64, u64), PatchError> {
    // No patch shows the mark, and none shall lose it.
    let (mark, content) = content.strip_prefix(BYTE_ORDER_MARK).map_or(("", content), |rest| (BYTE_ORDER_MARK, rest));
    let file = lines(content);
    let end = usual_end(&file);
    let mut result: Vec<Line> = Vec::with_capacity(file.len());
    let mut at_the_end: Vec<Line> = Vec::new();
    let (mut done, mut additions, mut deletions) = (0, 0, 0);
    for hunk in hunks {
        let (place, hunk) = place(&file, hunk, done).map_err(|problem| PatchError::Place {
            path: path.to_owned(),
            line: hunk.number,
            problem,
        })?;
        let Place::At(place) = place else {
            let new = hunk.new_lines().map(|text| Line { text: text.to_owned(), end });
            at_the_end.extend(new);
            additions += hunk.lines.len() as u64;
            continue;
        };
        result.extend_from_slice(&file[done..place]);
        done = place;
        for line in &hunk.lines {
            match line {
                HunkLine::Keep(_) => {
                    // The file's own line: what the patch shows of it may differ in white space.
                    result.push(file[done].clone());
                    done += 1;
                }
                HunkLine::Remove(_) => {
                    done += 1;
                    deletions += 1;
                }
                HunkLine::Add(text) => {
                    result.push(Line { text: text.clone(), end });
                    additions += 1;
                }
            }
        }
    }
    result.extend_from_slice(&file[done..]);
    result.append(&mut at_the_end);
    let result = join(&result, end);
    let result = if result.starts_with(mark) { result } else { format!("{mark}{result}") };
    Ok((result, additions, deletions))
}

/// Where a hunk belongs.
enum Place {
    /// Before this line, counted from 0.
    At(usize),
    /// After all others.
    End,
}

/// Where a hunk belongs, at or after the line `from`, and the hunk as it fits there; or what is wrong.
fn place<'h>(file: &[Line], hunk: &'h Hunk, from: usize) -> Result<(Place, Cow<'h, Hunk>), String> {
    let mut from = from;
    for anchor in &hunk.anchors {
        match seek::find(file, &[anchor], from) {
            Some(at) => from = at + 1,
            None => return Err(no_anchor(file, anchor, from)),
        }
    }
    let old = hunk.old_lines();
    if old.is_empty() {
        // Nothing says where, but the line before it; without one, new lines go to the end.
        let goes_to_end = hunk.anchors.is_empty() || hunk.at_end;
        return Ok((if goes_to_end { Place::End } else { Place::At(from) }, Cow::Borrowed(hunk)));
    }
    let found = if hunk.at_end { seek::find_at_end(file, &old, from) } else { seek::find(file, &old, from) };
    // An anchor may be the first line of the hunk as well.
    let found = found.or_else(|| {
        let back = from.checked_sub(1).filter(|_| !hunk.anchors.is_empty())?;
        seek::find(file, &old, back).filter(|at| *at == back && !hunk.at_end)
    });
    if let Some(at) = found {
        return Ok((Place::At(at), Cow::Borrowed(hunk)));
    }
    // Models take the end of the last line for one more, empty line.
    if let Some(shorter) = hunk.without_last_blank()
        && let Some(at) = seek::find_at_end(file, &shorter.old_lines(), from)
    {
        return Ok((Place::At(at), Cow::Owned(shorter)));
    }
    Err(no_place(file, &old, hunk, from))
}

fn no_anchor(file: &[Line], anchor: &str, from: usize) -> String {
    match seek::find(file, &[anchor], 0) {
        Some(at) => format!(
            "the line `{anchor}` of its `@@` stands at line {} of the file, before the end of the previous hunk; hunks follow the order of the file",
            at + 1
        ),
        None if from == 0 => {
            let like = seek::most_alike(file, anchor);
            let like = like.map_or_else(String::new, |at| format!("; the most like it:\n{}", shown(file, at, 1)));
            format!("the file has no line `{}`, as its `@@` says{like}", short(anchor))
        }
        None => format!("the file has no line `{anchor}`, as its `@@` says, after line {from}"),
    }
}

fn no_place(file: &[Line], old: &[&str], hunk: &Hunk, from: usize) -> String {
    if file.is_empty() {
        return "the file is empty".to_owned();
    }
    let Some((at, fitting)) = seek::nearest(file, old) else {
        let first = old.iter().find(|line| !line.trim().is_empty()).unwrap_or(&old[0]);
        let like = seek::most_alike(file, first);
        let like = like.map_or_else(String::new, |at| format!("; the most like it:\n{}\n", shown(file, at, 1)));
        return format!("none of its lines is in the file, such as `{}`{like}; read the file again", short(first));
    };
    if fitting == old.iter().filter(|line| !line.trim().is_empty()).count() && fits(file, old, at) {
        if at < from {
            return format!(
                "its lines stand at line {} of the file, before the end of the previous hunk or before its `@@` line; hunks follow the order of the file",
                at + 1
            );
        }
        if hunk.at_end {
            return format!("its lines stand at line {} of the file, but the file does not end there", at + 1);
        }
    }
    let wrong = (0..old.len()).find(|offset| !fits(file, &old[*offset..=*offset], at + offset)).unwrap_or_default();
    let there = match file.get(at + wrong) {
        Some(line) => format!("line {} of the file is `{}`", at + wrong + 1, short(&line.text)),
        None => "the file has ended".to_owned(),
    };
    format!(
        "it is nearest to line {} of the file, where {fitting} of its {} lines stand; but {there}, where the hunk has `{}`. The file there:\n{}",
        at + 1,
        old.len(),
        short(old[wrong]),
        shown(file, at, old.len())
    )
}

/// Whether these lines stand there, as far as the most tolerant comparison goes.
fn fits(file: &[Line], wanted: &[&str], at: usize) -> bool {
    file.get(at..at + wanted.len()).is_some_and(|part| seek::find(part, wanted, 0) == Some(0))
}

/// Lines of the file with their numbers, with some before and after them, for a model to write its hunk anew.
fn shown(file: &[Line], at: usize, length: usize) -> String {
    let (from, to) = (at.saturating_sub(AROUND), (at + length.min(MAX_SHOWN) + AROUND).min(file.len()));
    let lines = file[from..to].iter().enumerate();
    let lines: Vec<String> =
        lines.map(|(offset, line)| format!("{}:{}", from + offset + 1, short(&line.text))).collect();
    lines.join("\n")
}

/// A line, cut if it is very long.
fn short(line: &str) -> Cow<'_, str> {
    match line.char_indices().nth(MAX_LINE_CHARS) {
        None => Cow::Borrowed(line),
        Some((at, _)) => Cow::Owned(format!("{}… [{} more bytes]", &line[..at], line.len() - at)),
    }
}

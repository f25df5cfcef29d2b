//! A patch out of text. Tolerant about what surrounds it and about white space around its markers, as models produce
//! it; strict about everything that would change its meaning.

use super::{Hunk, HunkLine, PatchError, Section};

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File:";
const DELETE: &str = "*** Delete File:";
const UPDATE: &str = "*** Update File:";
const MOVE: &str = "*** Move to:";
const END_OF_FILE: &str = "*** End of File";

/// Reads a whole patch.
pub(crate) fn parse(text: &str) -> Result<Vec<Section>, PatchError> {
    let mut lines = Lines::new(text);
    lines.skip_wrapping();
    match lines.next() {
        Some(line) if line.trim() == BEGIN => {}
        _ => return lines.wrong(format!("a patch begins with the line `{BEGIN}`")),
    }
    let mut sections = Vec::new();
    loop {
        let Some(line) = lines.next() else {
            return lines.wrong(format!("the patch does not end; its last line must be `{END}`"));
        };
        let marker = line.trim();
        if marker == END {
            break;
        }
        if marker.is_empty() {
            continue;
        }
        sections.push(section(&mut lines, marker)?);
    }
    lines.nothing_more()?;
    if sections.is_empty() {
        return lines.wrong("the patch changes no file".to_owned());
    }
    Ok(sections)
}

/// The lines of a patch, with a place among them.
struct Lines<'p> {
    lines: Vec<&'p str>,
    /// How many have been taken: the number, counted from 1, of the line taken last.
    taken: usize,
}

impl<'p> Lines<'p> {
    fn new(text: &'p str) -> Self {
        Self { lines: text.lines().collect(), taken: 0 }
    }

    fn next(&mut self) -> Option<&'p str> {
        let line = self.peek()?;
        self.taken += 1;
        Some(line)
    }

    fn peek(&self) -> Option<&'p str> {
        self.lines.get(self.taken).copied()
    }

    fn wrong<T>(&self, problem: String) -> Result<T, PatchError> {
        Err(PatchError::Format { line: self.taken.max(1), problem })
    }

    /// Blank lines, a Markdown fence, or the head of a here-document.
    fn skip_wrapping(&mut self) {
        while let Some(line) = self.peek() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with("```") && !line.starts_with("<<") {
                return;
            }
            self.taken += 1;
        }
    }

    /// After the end there may be the end of what was skipped before, and nothing that looks like a patch.
    fn nothing_more(&mut self) -> Result<(), PatchError> {
        while let Some(line) = self.next() {
            if line.trim_start().starts_with("*** ") {
                return self.wrong(format!("there is more after `{END}`; put everything into one patch"));
            }
        }
        Ok(())
    }
}

fn section(lines: &mut Lines<'_>, marker: &str) -> Result<Section, PatchError> {
    if let Some(path) = marker.strip_prefix(ADD) {
        let path = path_of(lines, path)?;
        return Ok(Section::Add { path, lines: added_lines(lines)? });
    }
    if let Some(path) = marker.strip_prefix(DELETE) {
        return Ok(Section::Delete { path: path_of(lines, path)? });
    }
    if let Some(path) = marker.strip_prefix(UPDATE) {
        let path = path_of(lines, path)?;
        let moved_to = match lines.peek().and_then(|line| line.trim().strip_prefix(MOVE)) {
            Some(target) => {
                lines.next();
                Some(path_of(lines, target)?)
            }
            None => None,
        };
        let hunks = hunks(lines)?;
        if hunks.is_empty() && moved_to.is_none() {
            return lines.wrong(format!("the section for `{path}` has no hunk"));
        }
        return Ok(Section::Update { path, moved_to, hunks });
    }
    lines.wrong(format!(
        "`{marker}` begins no section; expected `{ADD} path`, `{DELETE} path`, `{UPDATE} path` or `{END}`"
    ))
}

fn path_of(lines: &Lines<'_>, path: &str) -> Result<String, PatchError> {
    match path.trim() {
        "" => lines.wrong("the path is missing".to_owned()),
        path => Ok(path.to_owned()),
    }
}

fn added_lines(lines: &mut Lines<'_>) -> Result<Vec<String>, PatchError> {
    let mut added = Vec::new();
    while let Some(line) = lines.peek().filter(|line| !line.starts_with("***")) {
        lines.next();
        match line.strip_prefix('+') {
            Some(text) => added.push(text.to_owned()),
            None if line.trim().is_empty() && lines.peek().is_none_or(|next| next.starts_with("***")) => {}
            None => return lines.wrong("every line of an added file begins with `+`".to_owned()),
        }
    }
    Ok(added)
}

fn hunks(lines: &mut Lines<'_>) -> Result<Vec<Hunk>, PatchError> {
    let mut hunks: Vec<Hunk> = Vec::new();
    // Only the first hunk may do without its `@@` line.
    let mut current = Hunk::default();
    while let Some(line) = lines.peek().filter(|line| !is_marker(line)) {
        lines.next();
        if let Some(header) = line.strip_prefix("@@") {
            if !current.lines.is_empty() {
                // As before the next section, a blank line belongs to no hunk.
                if current.lines.len() > 1 && lines.taken >= 2 && lines.lines[lines.taken - 2].is_empty() {
                    current.lines.pop();
                }
                hunks.push(std::mem::take(&mut current));
            }
            current.number = if current.number == 0 { lines.taken } else { current.number };
            current.anchors.extend(anchor(header));
            continue;
        }
        // Not with a space before it: that would be a line of the file.
        if line.trim_end() == END_OF_FILE {
            current.at_end = true;
            if current.lines.is_empty() {
                return lines.wrong(format!("`{END_OF_FILE}` has no lines before it"));
            }
            hunks.push(std::mem::take(&mut current));
            continue;
        }
        if current.number == 0 {
            // Blank lines between hunks belong to none.
            if line.is_empty() && hunks.last().is_some_and(|last| last.at_end) {
                continue;
            }
            current.number = lines.taken;
        }
        current.lines.push(hunk_line(lines, line)?);
    }
    if current.lines.is_empty() && current.number != 0 {
        return lines.wrong("the hunk has no lines; they begin with a space, `-` or `+`".to_owned());
    }
    if !current.lines.is_empty() {
        // A blank line before the next section is white space between sections, not a line of the file.
        if current.lines.len() > 1 && lines.lines[lines.taken - 1].is_empty() {
            current.lines.pop();
        }
        hunks.push(current);
    }
    Ok(hunks)
}

fn is_marker(line: &str) -> bool {
    let line = line.trim_end();
    line == END || [ADD, DELETE, UPDATE].iter().any(|marker| line.starts_with(marker))
}

/// What stands after `@@`; line numbers of a unified diff are of no use and left out.
fn anchor(header: &str) -> Option<String> {
    let header = header.strip_prefix(' ').unwrap_or(header);
    let text = match header.trim_start().split_once(" @@") {
        Some((numbers, rest)) if is_unified(numbers) => rest.trim_start(),
        _ => header,
    };
    (!text.trim().is_empty()).then(|| text.to_owned())
}

fn is_unified(numbers: &str) -> bool {
    numbers.starts_with('-')
        && numbers.contains(" +")
        && numbers.chars().all(|character| character.is_ascii_digit() || "-+, ".contains(character))
}

fn hunk_line(lines: &Lines<'_>, line: &str) -> Result<HunkLine, PatchError> {
    // Editors and models strip the space of an empty kept line.
    if line.is_empty() {
        return Ok(HunkLine::Keep(String::new()));
    }
    let (mark, text) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
    match mark {
        " " => Ok(HunkLine::Keep(text.to_owned())),
        "-" => Ok(HunkLine::Remove(text.to_owned())),
        "+" => Ok(HunkLine::Add(text.to_owned())),
        _ => lines.wrong("every line of a hunk begins with a space (kept), `-` (removed) or `+` (added)".to_owned()),
    }
}

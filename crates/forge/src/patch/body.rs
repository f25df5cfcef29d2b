//! The content of a file's change: hunks of text, or git's binary form.

use super::header::Header;
use super::lines::{Lines, number};
use super::{PatchError, names};

/// What follows a header.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Of what kind it is.
    pub(super) content: Content,
    /// Lines with `+`.
    pub(super) additions: u64,
    /// Lines with `-`.
    pub(super) deletions: u64,
    /// What binary data says it unpacks to.
    pub(super) binary_bytes: u64,
}

/// The kind of content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// The header says all.
    #[default]
    Nothing,
    /// Hunks.
    Text,
    /// Literals or deltas.
    Binary,
}

impl Body {
    /// Reads it up to the next file or the end.
    pub(super) fn read(lines: &mut Lines<'_>, header: &Header) -> Result<Self, PatchError> {
        let mut body = Self::default();
        if lines.continue_with(b"--- ") {
            body.content = Content::Text;
            read_name(lines, b"--- ", header.has_old().then_some(("a/", &header.old)))?;
            read_name(lines, b"+++ ", header.has_new().then_some(("b/", &header.new)))?;
            body.read_hunk(lines)?;
            while lines.continue_with(b"@@ ") {
                body.read_hunk(lines)?;
            }
        } else if lines.continue_with(b"GIT binary patch\n") {
            lines.take()?;
            body.content = Content::Binary;
            body.read_binary(lines)?;
            if lines.continue_with(b"literal ") || lines.continue_with(b"delta ") {
                body.read_binary(lines)?;
            }
        } else if lines.continue_with(b"Binary files ") {
            return Err(PatchError::WithoutContents { path: header.new.clone() });
        }
        Ok(body)
    }

    /// `@@ -line[,count] +line[,count] @@` and as many lines as it counts.
    fn read_hunk(&mut self, lines: &mut Lines<'_>) -> Result<(), PatchError> {
        let (mut old, mut new) = match lines.take_after(b"@@ -")?.map(counts) {
            Some(Some(counts)) => counts,
            Some(None) => return Err(lines.wrong("does not say which lines change")),
            None => {
                lines.take()?;
                return Err(lines.wrong("should begin a hunk (`@@ -`)"));
            }
        };
        let mut is_first = true;
        while old > 0 || new > 0 {
            let line = lines.take()?;
            let taken = match line.first() {
                // Git writes no bare empty line unless told to, and takes it as an empty line of context.
                None | Some(b' ') => old.checked_sub(1).zip(new.checked_sub(1)),
                Some(b'-') => {
                    self.deletions += 1;
                    old.checked_sub(1).zip(Some(new))
                }
                Some(b'+') => {
                    self.additions += 1;
                    Some(old).zip(new.checked_sub(1))
                }
                Some(b'\\') if !is_first && is_remark(line) => Some((old, new)),
                Some(_) => return Err(lines.wrong("is not a line of a hunk")),
            };
            let Some(left) = taken else {
                return Err(lines.wrong("is one more than its hunk counts"));
            };
            (old, new) = left;
            is_first = false;
        }
        if lines.continue_with(b"\\ ") && !is_remark(lines.take()?) {
            return Err(lines.wrong("is not a remark on the end of the file"));
        }
        Ok(())
    }

    /// `literal <size>` or `delta <size>`, lines in base 85, an empty line.
    fn read_binary(&mut self, lines: &mut Lines<'_>) -> Result<(), PatchError> {
        let line = lines.take()?;
        let size = line.strip_prefix(b"literal ").or_else(|| line.strip_prefix(b"delta ")).and_then(number);
        let Some((size, [])) = size else {
            return Err(lines.wrong("should say how long the binary data is (`literal` or `delta`)"));
        };
        self.binary_bytes += size;
        loop {
            match lines.take()? {
                [] => return Ok(()),
                line if is_base85(line) => {}
                _ => return Err(lines.wrong("is not a line of binary data")),
            }
        }
    }
}

/// A `---` or `+++` line, which must have this name, or `/dev/null` for none.
fn read_name(lines: &mut Lines<'_>, beginning: &[u8], expected: Option<(&str, &String)>) -> Result<(), PatchError> {
    let Some(text) = lines.take_after(beginning)? else {
        lines.take()?;
        return Err(lines.wrong("should name the other side of the change (`+++`)"));
    };
    // Git ends a name that has a space in it with a tab.
    let name = names::whole(text.strip_suffix(b"\t").unwrap_or(text));
    let expected = expected.map_or_else(|| "/dev/null".to_owned(), |(prefix, name)| format!("{prefix}{name}"));
    if name.as_deref() == Some(expected.as_bytes()) {
        return Ok(());
    }
    Err(lines.wrong("does not name the file that the header names"))
}

/// The two counts of a hunk's first line, after `@@ -`.
fn counts(text: &[u8]) -> Option<(u64, u64)> {
    let (old, rest) = range(text)?;
    let (new, rest) = range(rest.strip_prefix(b" +")?)?;
    let is_closed = rest.strip_prefix(b" @@").is_some_and(|rest| rest.is_empty() || rest.starts_with(b" "));
    (is_closed && (old > 0 || new > 0)).then_some((old, new))
}

/// `line[,count]`, of which the count matters.
fn range(text: &[u8]) -> Option<(u64, &[u8])> {
    let (_, rest) = number(text)?;
    match rest.strip_prefix(b",") {
        Some(rest) => number(rest),
        None => Some((1, rest)),
    }
}

/// `\ No newline at end of file`, in any language: what git takes for it.
fn is_remark(line: &[u8]) -> bool {
    line.starts_with(b"\\ ") && line.len() >= 11
}

/// A letter for the length, and groups of five for four bytes each.
fn is_base85(line: &[u8]) -> bool {
    let Some((letter, groups)) = line.split_first() else {
        return false;
    };
    let bytes = match letter {
        b'A'..=b'Z' => usize::from(letter - b'A') + 1,
        b'a'..=b'z' => usize::from(letter - b'a') + 27,
        _ => return false,
    };
    groups.len() == bytes.div_ceil(4) * 5
        && groups.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&()*+-;<=>?@^_`{|}~".contains(byte))
}

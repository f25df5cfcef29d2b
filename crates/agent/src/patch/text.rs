//! A file as lines, each with its own end, so that what a patch does not touch stays byte for byte.

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Without its end.
    pub(super) text: String,
    /// `"\n"`, `"\r\n"`, or `""` for a last line that has none.
    pub(super) end: &'static str,
}

/// Splits a file.
pub(super) fn lines(content: &str) -> Vec<Line> {
    content
        .split_inclusive('\n')
        .map(|line| match (line.strip_suffix("\r\n"), line.strip_suffix('\n')) {
            (Some(text), _) => Line { text: text.to_owned(), end: "\r\n" },
            (None, Some(text)) => Line { text: text.to_owned(), end: "\n" },
            (None, None) => Line { text: line.to_owned(), end: "" },
        })
        .collect()
}

/// How most lines of a file end: how its new lines shall end.
pub(super) fn usual_end(lines: &[Line]) -> &'static str {
    let ending_in = |end: &str| lines.iter().filter(|line| line.end == end).count();
    if ending_in("\r\n") > ending_in("\n") { "\r\n" } else { "\n" }
}

/// Puts a file together again. A line without an end that is no longer the last one gets one.
pub(super) fn join(lines: &[Line], usual_end: &str) -> String {
    let mut content = String::with_capacity(lines.iter().map(|line| line.text.len() + 2).sum());
    for (index, line) in lines.iter().enumerate() {
        content.push_str(&line.text);
        let missing = line.end.is_empty() && index + 1 < lines.len();
        content.push_str(if missing { usual_end } else { line.end });
    }
    content
}

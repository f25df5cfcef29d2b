//! Diffs that a prompt names by their address on a forge, or holds itself: found in its text, nothing fetched. What they are
//! called in the sandbox is decided here, too.

#[cfg(test)]
mod tests;

use url::Url;

/// The most diffs of one prompt; what comes after them is left to the agent.
pub const MAX_IN_PROMPT: usize = 5;

/// The longest diff that is fetched, in bytes.
pub const MAX_BYTES: usize = 5_000_000;

/// How an event and the agent are told where a diff comes from that is in the prompt itself.
pub const THE_PROMPT: &str = "the prompt";

/// A diff of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptDiff {
    /// It is at this address.
    At(Url),
    /// It is this text.
    Inline(String),
}

impl PromptDiff {
    /// What its file is called, where no other has that name.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::Inline(_) => "prompt.diff".to_owned(),
            Self::At(url) => {
                let parts: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
                crate::attachment::safe_name(&parts[parts.len().saturating_sub(2)..].join("-"))
            }
        }
    }
}

/// The diffs of a prompt: those it names, then those it holds, each once.
#[must_use]
pub fn find(prompt: &str) -> Vec<PromptDiff> {
    let mut found: Vec<PromptDiff> = Vec::new();
    let inline = inline(prompt).into_iter().map(PromptDiff::Inline);
    for diff in addresses(prompt).map(PromptDiff::At).chain(inline) {
        if found.len() < MAX_IN_PROMPT && !found.contains(&diff) {
            found.push(diff);
        }
    }
    found
}

/// The addresses in a text that a forge answers with a diff.
fn addresses(text: &str) -> impl Iterator<Item = Url> {
    let ends = |letter: char| letter.is_whitespace() || "<>\"'`()[]{}|".contains(letter);
    let words = text.split(ends).filter(|word| word.starts_with("https://") || word.starts_with("http://"));
    words.filter_map(|word| {
        let url = Url::parse(word.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_'])).ok()?;
        (url.username().is_empty() && url.password().is_none() && is_of_a_forge(&url)).then_some(url)
    })
}

/// Whether it is a pull or merge request, a commit or a comparison, as a diff or a patch.
fn is_of_a_forge(url: &Url) -> bool {
    let parts: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
    let [.., kind, name] = parts.as_slice() else { return false };
    let Some(name) = name.strip_suffix(".diff").or_else(|| name.strip_suffix(".patch")) else { return false };
    let is_number = !name.is_empty() && name.len() <= 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    match *kind {
        "pull" | "pulls" | "merge_requests" => is_number && parts.len() >= 4,
        "commit" => (7..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
        // The names of branches may have slashes, which make further parts.
        _ => parts.contains(&"compare") && url.path().contains(".."),
    }
}

/// The diffs that a text holds, in fences or bare. One has names and hunks, or it could not be applied.
fn inline(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if let Some(fence) = fence(line) {
            let rest = &lines[at + 1..];
            let end = rest.iter().position(|line| closes(line, fence)).unwrap_or(rest.len());
            let is_diff = matches!(line.trim()[fence.len()..].trim(), "diff" | "patch");
            if is_diff && is_whole(&rest[..end]) {
                found.push(joined(&rest[..end]));
            }
            at += end + 2;
        } else if begins(&lines[at..]) {
            let end = at + length(&lines[at..]);
            if is_whole(&lines[at..end]) {
                found.push(joined(&lines[at..end]));
            }
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// The backticks or tildes that open a fence.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim();
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let length = line.chars().take_while(|letter| *letter == mark).count();
    (length >= 3).then(|| &line[..length])
}

fn closes(line: &str, opened: &str) -> bool {
    let line = line.trim();
    line.len() >= opened.len() && line.starts_with(opened) && line.trim_start_matches(&opened[..1]).is_empty()
}

/// Whether a diff begins with the first of these lines.
fn begins(lines: &[&str]) -> bool {
    let starts = |at: usize, with: &str| lines.get(at).is_some_and(|line| line.starts_with(with));
    starts(0, "diff --git ") || (starts(0, "--- ") && starts(1, "+++ ") && starts(2, "@@ -"))
}

/// Whether there is something to apply in it: a file's names and a hunk, or a change that needs none.
fn is_whole(lines: &[&str]) -> bool {
    let has = |with: &str| lines.iter().any(|line| line.starts_with(with));
    (has("--- ") && has("+++ ") && has("@@ -"))
        || (has("diff --git ")
            && (has("GIT binary patch") || has("rename to ") || has("new mode ") || has("new file mode ")))
}

/// How many of these lines belong to the diff that begins with them: a hunk has as many as it counts, so that a list after
/// it is no part of it.
fn length(lines: &[&str]) -> usize {
    const HEADER: &[&str] = &[
        "diff --git ",
        "index ",
        "--- ",
        "+++ ",
        "old mode ",
        "new mode ",
        "new file mode ",
        "deleted file mode ",
        "similarity index ",
        "dissimilarity index ",
        "rename from ",
        "rename to ",
        "copy from ",
        "copy to ",
        "\\ ",
        "Binary files ",
    ];
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if let Some(counts) = line.strip_prefix("@@ -").and_then(hunk) {
            at += 1 + hunk_length(&lines[at + 1..], counts);
        } else if line.starts_with("GIT binary patch") || line.starts_with("literal ") || line.starts_with("delta ") {
            let data = lines[at + 1..].iter().position(|line| line.trim().is_empty());
            let starts_data = line.starts_with("GIT");
            at = if starts_data { at + 1 } else { data.map_or(lines.len(), |data| at + data + 2) };
        } else if HEADER.iter().any(|beginning| line.starts_with(beginning)) {
            at += 1;
        } else {
            break;
        }
    }
    at
}

fn hunk_length(lines: &[&str], (mut old, mut new): (u64, u64)) -> usize {
    let mut at = 0;
    while let Some(line) = lines.get(at).filter(|_| old > 0 || new > 0) {
        match line.as_bytes().first() {
            Some(b'-') => old = old.saturating_sub(1),
            Some(b'+') => new = new.saturating_sub(1),
            Some(b' ' | b'\t' | b'\n' | b'\r') => (old, new) = (old.saturating_sub(1), new.saturating_sub(1)),
            Some(b'\\') => {}
            _ => break,
        }
        at += 1;
    }
    at
}

/// The two counts of `line[,count] +line[,count] @@`.
fn hunk(text: &str) -> Option<(u64, u64)> {
    let (old, rest) = text.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let count = |range: &str| range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok());
    Some((count(old)?, count(new)?))
}

/// The lines as a file that git takes. Where the headers end in a carriage return as well, it is the way to us that has put
/// them there, not the files.
fn joined(lines: &[&str]) -> String {
    let is_header = |line: &&&str| line.starts_with("--- ") || line.starts_with("diff --git ");
    let came_with_returns = lines.iter().find(is_header).is_some_and(|line| line.ends_with("\r\n"));
    let mut text: String = lines.concat();
    if came_with_returns {
        text = text.replace("\r\n", "\n");
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

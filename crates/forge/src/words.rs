//! What git and remotes say, made fit to be shown: no terminal escapes, no secrets, a few lines; and what it means.

use carrel_domain::Redactor;
use carrel_domain::git::is_invisible;

/// Lines kept, from the end.
const MAX_LINES: usize = 12;

/// Characters kept of one line.
const MAX_LINE: usize = 400;

/// The last lines of a program's output, cleaned and redacted.
pub(crate) fn clean(output: &[u8], redactors: &[&Redactor]) -> String {
    let mut text = without_escapes(&String::from_utf8_lossy(output));
    text = without_passwords(&text);
    for redactor in redactors {
        text = redactor.redact(&text).into_owned();
    }
    let lines: Vec<String> = text
        .split(['\n', '\r'])
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .map(|line| line.chars().take(MAX_LINE).collect())
        .collect();
    lines[lines.len().saturating_sub(MAX_LINES)..].join("\n")
}

/// The text without terminal escape sequences, control characters other than line ends and tabs, and characters that
/// do not show.
fn without_escapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                Some('[') => while characters.next().is_some_and(|next| !('@'..='~').contains(&next)) {},
                // A string sequence ends with BEL or ESC \; at the latest with the line, so that it hides no more.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while characters.peek().is_some_and(|next| !matches!(next, '\u{7}' | '\u{1b}' | '\n')) {
                        characters.next();
                    }
                }
                _ => {}
            },
            '\n' | '\r' | '\t' => clean.push(character),
            _ if character.is_control() || is_invisible(character) => {}
            _ => clean.push(character),
        }
    }
    clean
}

/// The text with what stands between `://` and `@` replaced: a URL may carry a password there.
fn without_passwords(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        clean.push_str(before);
        let end = after.find(|next: char| next == '/' || next.is_whitespace() || next == '\'').unwrap_or(after.len());
        let authority = &after[..end];
        match authority.rfind('@') {
            Some(at) if authority[..at].contains(':') => {
                clean.push_str(carrel_domain::redact::REDACTED);
                clean.push_str(&authority[at..]);
            }
            _ => clean.push_str(authority),
        }
        rest = &after[end..];
    }
    clean.push_str(rest);
    clean
}

/// What a failure of git is about, read from its words in the C locale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    DiskFull,
    NotOurs,
    NotARepository,
    NotFound,
    UntrustedHost,
    Authentication,
    Unreachable,
    Other,
}

/// What git's words mean; the first that fits, so the surer signs stand first.
pub(crate) fn meaning(words: &str) -> Meaning {
    const SIGNS: &[(Meaning, &[&str])] = &[
        // The last two are what git says of a ref and of an object that it could not write, without the reason.
        (
            Meaning::DiskFull,
            &["No space left on device", "Disk quota exceeded", "couldn't write '", "Out of diskspace"],
        ),
        (Meaning::NotOurs, &["detected dubious ownership"]),
        (
            Meaning::UntrustedHost,
            &["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known"],
        ),
        (
            Meaning::Authentication,
            &[
                "Authentication failed for",
                "could not read Username",
                "could not read Password",
                "Permission denied (",
                "Too many authentication failures",
                "returned error: 401",
                "returned error: 403",
                "HTTP 401",
                "HTTP 403",
                "HTTP Basic: Access denied",
            ],
        ),
        (Meaning::NotARepository, &["does not appear to be a git repository", "not a git repository"]),
        (Meaning::NotFound, &["' not found", "Repository not found", "returned error: 404", "HTTP 404"]),
        (
            Meaning::Unreachable,
            &[
                "Could not resolve host",
                "Couldn't resolve host",
                "Could not resolve hostname",
                "Failed to connect",
                "Couldn't connect",
                "Connection refused",
                "Connection timed out",
                "Connection reset",
                "Connection closed",
                "Network is unreachable",
                "No route to host",
                "Operation timed out",
                "Operation too slow",
                "Temporary failure in name resolution",
                "returned error: 429",
                "returned error: 5",
                "HTTP 429",
                "HTTP 5",
                "Empty reply from server",
                "unexpected disconnect",
                "the remote end hung up",
                "early EOF",
                "curl 18",
                "curl 56",
                "curl 92",
            ],
        ),
    ];
    SIGNS
        .iter()
        .find(|(_, signs)| signs.iter().any(|sign| words.contains(sign)))
        .map_or(Meaning::Other, |(meaning, _)| *meaning)
}

#[cfg(test)]
mod tests {
    use carrel_domain::Secret;

    use super::*;

    #[test]
    fn escapes_and_invisible_characters_do_not_reach_the_words() {
        let said = b"remote: \x1b[31mno\x1b[0m\x1b]52;c;ZXZpbA==\x07 way\xe2\x80\xae\x00\r\nfatal: \x9b done\n";

        assert_eq!(clean(said, &[]), "remote: no way\nfatal: \u{fffd} done");
    }

    #[test]
    fn a_secret_that_escapes_cut_in_two_is_found() {
        let redactor = Redactor::new([&Secret::new("s3cret-token")]);

        assert_eq!(clean(b"fatal: s3cret\x1b[0m-token", &[&redactor]), "fatal: [redacted]");
    }

    #[test]
    fn a_password_in_a_url_is_taken_out_even_when_nobody_knows_it() {
        let said = b"fatal: Authentication failed for 'https://me:hunter22@example.com/a/b', see ssh://git@host/x";

        assert_eq!(
            clean(said, &[]),
            "fatal: Authentication failed for 'https://[redacted]@example.com/a/b', see ssh://git@host/x"
        );
    }

    #[test]
    fn only_the_last_lines_are_kept_and_none_is_endless() {
        let said = format!("first\n{}{}", "line\n".repeat(50), "x".repeat(10_000));

        let words = clean(said.as_bytes(), &[]);

        assert_eq!(words.lines().count(), MAX_LINES);
        assert_eq!(words.lines().last().map(str::len), Some(MAX_LINE));
    }

    #[test]
    fn a_full_disk_is_recognised_whatever_else_is_said() {
        let words = "fatal: write error: No space left on device\nfatal: the remote end hung up unexpectedly";

        assert_eq!(meaning(words), Meaning::DiskFull);
        let words = "error: cannot update ref 'refs/heads/x': couldn't write '/m.git/refs/heads/x.lock'";
        assert_eq!(meaning(words), Meaning::DiskFull);
    }
}

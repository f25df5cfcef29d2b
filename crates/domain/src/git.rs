//! Names from git's world as parsed types with a strict grammar: what comes through here is safe as an argument of
//! the git program, and says what is wrong when it is not.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// Longest accepted branch name or repository location, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// A name that git, or we, cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing given.
    #[error("no {what} is given")]
    Empty {
        /// What was expected.
        what: &'static str,
    },
    /// Longer than git's file names can be.
    #[error("the {what} is longer than {MAX_NAME_BYTES} bytes")]
    TooLong {
        /// What was expected.
        what: &'static str,
    },
    /// A character that has no place there.
    #[error("the {what} `{shown}` has {character} at position {position}, which is not allowed there")]
    Character {
        /// What was expected.
        what: &'static str,
        /// The name, with invisible characters shown.
        shown: String,
        /// The character's name.
        character: String,
        /// Counted in characters from 1.
        position: usize,
    },
    /// Well-formed characters in a form that is refused.
    #[error("the {what} `{shown}` {problem}")]
    Form {
        /// What was expected.
        what: &'static str,
        /// The name.
        shown: String,
        /// What is wrong, and the way out.
        problem: &'static str,
    },
}

/// A branch's short name, such as `main` or `feature/x`: git's rules for references, and ours.
///
/// The rules are those of `git check-ref-format --branch`; besides, invisible and bidirectional characters and every
/// Unicode space are refused, because they make two different names look the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

impl BranchName {
    /// The short name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole name of the reference: `refs/heads/…`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl FromStr for BranchName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const WHAT: &str = "branch name";
        check_characters(WHAT, text, |character| matches!(character, '~' | '^' | ':' | '?' | '*' | '[' | '\\' | ' '))?;
        let form = |problem| Err(InvalidName::Form { what: WHAT, shown: visible(text), problem });
        if text.starts_with('-') {
            return form("begins with `-`");
        }
        if text == "@" || text == "HEAD" || text.starts_with("refs/") {
            return form("is not a branch; give its short name, such as `main`");
        }
        if text.contains("..") || text.contains("@{") || text.contains("//") {
            return form("has `..`, `@{` or `//` in it, which git does not allow");
        }
        if text.starts_with('/') || text.ends_with('/') || text.ends_with('.') {
            return form("begins or ends with `/`, or ends with `.`, which git does not allow");
        }
        if text.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock")) {
            return form("has a part that begins with `.` or ends with `.lock`, which git does not allow");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The full name of a git object: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitOid(String);

impl CommitOid {
    /// All digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl fmt::Debug for CommitOid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CommitOid({})", self.0)
    }
}

impl FromStr for CommitOid {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let prefix = CommitPrefix::from_str(text)?;
        if matches!(text.len(), 40 | 64) {
            return Ok(Self(prefix.0));
        }
        Err(InvalidName::Form {
            what: COMMIT,
            shown: visible(text),
            problem: "is not a full object name of 40 or 64 digits",
        })
    }
}

const COMMIT: &str = "commit";

/// What a person calls a commit: 7 to 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitPrefix(String);

impl CommitPrefix {
    /// The digits, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommitPrefix {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_characters(COMMIT, text, |_| false)?;
        if !(7..=64).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidName::Form {
                what: COMMIT,
                shown: visible(text),
                problem: "is not 7 to 64 hexadecimal digits; to start from a branch, give it as the branch",
            });
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Where an attempt starts from, as it was asked for. It is pinned to a commit when the attempt is prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Revision {
    /// The branch the remote's `HEAD` names.
    DefaultBranch,
    /// The tip of this branch.
    Branch(BranchName),
    /// This very commit.
    Commit(CommitPrefix),
}

/// Where a repository is: an absolute path on the service's machine, or a URL git can fetch from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RepositoryLocation {
    /// A folder on the service's machine.
    Path(PathBuf),
    /// `https`, `http` or `ssh`, without a password in it.
    Url(Url),
    /// `user@host:path`, the short form of `ssh`.
    Scp {
        /// `host` or `user@host`.
        authority: String,
        /// The path on that host.
        path: String,
    },
}

impl RepositoryLocation {
    /// The last part of the location without `.git`: the folder's name under `/workspace`. Always a plain file name.
    #[must_use]
    pub fn name(&self) -> String {
        let last = match self {
            Self::Path(path) => {
                let path = if path.ends_with(".git") { path.parent().unwrap_or(path) } else { path };
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            Self::Url(url) => url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(),
            Self::Scp { path, .. } => path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(),
        };
        let name: String = last
            .trim_end_matches(".git")
            .chars()
            .map(
                |character| {
                    if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '-' }
                },
            )
            .take(100)
            .collect();
        let name = name.trim_start_matches(['.', '-']).to_owned();
        if name.is_empty() { "repository".to_owned() } else { name }
    }
}

impl FromStr for RepositoryLocation {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const WHAT: &str = "repository";
        let spaces_allowed = text.starts_with('/');
        check_characters(WHAT, text, |character| character == ' ' && !spaces_allowed)?;
        let form = |problem| Err(InvalidName::Form { what: WHAT, shown: visible(text), problem });
        if text.starts_with('-') {
            return form("begins with `-`");
        }
        if text.starts_with('/') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        if text.contains("::") && !text.contains("://[") {
            return form("names a remote helper; give a path, or a URL with https, http or ssh");
        }
        if text.contains("://") {
            return parse_url(text);
        }
        if let Some((authority, path)) = text.split_once(':')
            && !authority.contains('/')
        {
            let host = authority.rsplit('@').next().unwrap_or_default();
            let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
            if host.is_empty() || host.starts_with('-') || path.is_empty() || path.starts_with('-') || !plain(authority)
            {
                return form("is not of the form user@host:path");
            }
            return Ok(Self::Scp { authority: authority.to_owned(), path: path.to_owned() });
        }
        form("is neither an absolute path nor a URL; give /path/to/repository or https://host/owner/repository")
    }
}

fn parse_url(text: &str) -> Result<RepositoryLocation, InvalidName> {
    const WHAT: &str = "repository";
    let form = |problem| {
        // A URL may hold a password where nobody expects one: it is not repeated.
        let shown = text.split("://").next().map(|scheme| format!("{scheme}://…")).unwrap_or_default();
        Err(InvalidName::Form { what: WHAT, shown, problem })
    };
    let Ok(url) = Url::parse(text) else {
        return form("is not a valid URL");
    };
    if url.scheme() == "file" {
        // What the URL stands for is held to the rules of a path written out.
        let path = url.to_file_path().ok().and_then(|path| path.into_os_string().into_string().ok());
        return match path {
            Some(path) => path.parse(),
            None => form("is not the URL of a local folder"),
        };
    }
    if !matches!(url.scheme(), "https" | "http" | "ssh") {
        return form("has a scheme that is not supported; use https, http, ssh or a path");
    }
    if url.host_str().is_none_or(|host| host.is_empty() || host.starts_with('-'))
        || url.path().trim_matches('/').is_empty()
    {
        return form("names no host or no path");
    }
    if url.password().is_some() || (url.scheme() != "ssh" && !url.username().is_empty()) {
        return form(
            "has a credential in it; put credentials into the service's git credentials file instead (see CARREL_GIT_CREDENTIALS)",
        );
    }
    // Its written-out form may be longer than what was given.
    if url.as_str().len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong { what: WHAT });
    }
    if url.username().starts_with('-') || url.query().is_some() || url.fragment().is_some() {
        return form("has a query, a fragment or a user name that is not allowed there");
    }
    Ok(RepositoryLocation::Url(url))
}

impl fmt::Display for BranchName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for CommitOid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for CommitPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for RepositoryLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(formatter),
            Self::Url(url) => url.fmt(formatter),
            Self::Scp { authority, path } => write!(formatter, "{authority}:{path}"),
        }
    }
}

macro_rules! through_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )*};
}

through_text!(BranchName, CommitOid, CommitPrefix, RepositoryLocation);

/// Whether a path inside a repository may be written by a patch: relative, without `..`, and with no part that any
/// file system could take for `.git` (letter case, trailing dots and spaces, short names, ignorable characters).
#[must_use]
pub fn is_safe_repository_path(path: &str) -> bool {
    if path.is_empty() || path.contains('\0') || Path::new(path).is_absolute() {
        return false;
    }
    path.split(['/', '\\']).all(|part| {
        let plain: String =
            part.chars().filter(|character| !is_invisible(*character)).collect::<String>().to_lowercase();
        let stem = plain.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
        !plain.is_empty() && part != ".." && part != "." && stem != ".git" && stem != "git~1"
    })
}

fn check_characters(what: &'static str, text: &str, also_refused: impl Fn(char) -> bool) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty { what });
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong { what });
    }
    let refused = |character: char| {
        character.is_control()
            || (character != ' ' && character.is_whitespace())
            || is_invisible(character)
            || also_refused(character)
    };
    match text.chars().enumerate().find(|(_, character)| refused(*character)) {
        None => Ok(()),
        Some((position, character)) => Err(InvalidName::Character {
            what,
            shown: visible(text),
            character: if character == ' ' {
                "a space".to_owned()
            } else if character.is_ascii_graphic() {
                format!("`{character}`")
            } else {
                format!("U+{:04X}", u32::from(character))
            },
            position: position + 1,
        }),
    }
}

/// Characters that show nothing or change the order of what is shown: zero-width and bidirectional marks, fillers,
/// variation selectors and tags.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    matches!(u32::from(character),
        0x00AD | 0x034F | 0x061C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x202A..=0x202E
        | 0x2060..=0x206F | 0x2800 | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0xE0000..=0xE0FFF)
}

/// The text with every character that does not show replaced by its code point.
fn visible(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|character| {
            if character.is_control() || is_invisible(character) || (character != ' ' && character.is_whitespace()) {
                format!("\\u{{{:x}}}", u32::from(character))
            } else {
                character.to_string()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;

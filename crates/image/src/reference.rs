//! Names of images: `[registry[:port]/]repository[:tag][@digest]`, read once into a type that cannot be wrong.
//!
//! The grammar is that of the `distribution/reference` package, which docker, podman and skopeo share; so are the
//! defaults: no registry means docker.io, one word there means `library/word`, no tag and no digest means `latest`.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// Longest repository name, registry included, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG_BYTES: usize = 128;
/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where that registry answers.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// The name of an image, complete: what was left out is filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` {problem}; an image is named like debian:12 or registry.example.com:5000/team/image:tag")]
pub struct InvalidReference {
    shown: String,
    problem: &'static str,
}

impl ImageReference {
    /// The registry's name, with its port where one is given: `docker.io`, `registry.example.com:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/debian`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` where there is only a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when the name is pinned to one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The host, and port, that requests go to.
    pub(crate) fn host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_HOST } else { &self.registry }
    }

    /// What a registry's manifest route takes: the digest, or else the tag.
    pub(crate) fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let wrong = |problem| {
            let shown = text.chars().take(100).flat_map(char::escape_default).collect();
            InvalidReference { shown, problem }
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| wrong("has something behind its `@` that is no digest"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon in the last part begins a tag; one before it, a port.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].rfind(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("has a tag that is none: use up to 128 letters, digits, `_`, `.` and `-`"));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if names_a_registry(first) => (first, path),
            _ => (DEFAULT_REGISTRY, name),
        };
        let registry = registry.to_ascii_lowercase();
        if !is_registry(&registry) {
            return Err(wrong("has a registry that is no host name with an optional port"));
        }
        let registry = match registry.as_str() {
            "index.docker.io" | DEFAULT_REGISTRY_HOST => DEFAULT_REGISTRY.to_owned(),
            _ => registry,
        };
        if !path.split('/').all(is_path_part) {
            return Err(wrong("has a name that is none: use lower-case letters and digits, joined by `.`, `_`, `-`"));
        }
        let is_official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if is_official { format!("library/{path}") } else { path.to_owned() };
        if registry.len() + 1 + repository.len() > MAX_NAME_BYTES {
            return Err(wrong("is longer than 255 letters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the first part of a name is a registry: it has a dot, a port or capitals, or is `localhost`.
fn names_a_registry(first: &str) -> bool {
    first.contains(['.', ':', '[']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            if !rest.is_empty() && !rest.starts_with(':') {
                return false;
            }
            (None, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    host.is_none_or(|host| host.split('.').all(is_label)) && port.is_none_or(is_port)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG_BYTES
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Lower-case words joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_part(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let joints = text.split(|char: char| char.is_ascii_lowercase() || char.is_ascii_digit());
    let is_joint = |joint: &str| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-');
    let ends_well = |byte: Option<u8>| byte.is_some_and(is_word);
    ends_well(text.bytes().next()) && ends_well(text.bytes().last()) && joints.into_iter().all(is_joint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_completed_as_other_tools_complete_it() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:12", "docker.io/library/debian:12".to_owned()),
            ("team/image", "docker.io/team/image:latest".to_owned()),
            ("docker.io/debian:12", "docker.io/library/debian:12".to_owned()),
            ("index.docker.io/debian", "docker.io/library/debian:latest".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("localhost:5000/a/b/c:1", "localhost:5000/a/b/c:1".to_owned()),
            ("Registry.Example.com/a__b-.c", String::new()),
            ("Registry.Example.com/a__b--c", "registry.example.com/a__b--c:latest".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            (&format!("debian@{digest}"), format!("docker.io/library/debian@{digest}")),
            (&format!("debian:12@{digest}"), format!("docker.io/library/debian:12@{digest}")),
        ] {
            let read = text.parse::<ImageReference>().map(|read| read.to_string()).unwrap_or_default();
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn what_could_leave_a_path_or_a_url_is_no_name() {
        let long = "a".repeat(256);
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a:b:c",
            "a@",
            "a@sha256:00",
            "../a",
            "a/../b",
            "a/.",
            "-a",
            "a-",
            "A",
            "a b",
            "a?b",
            "a#b",
            "a%2f",
            "é",
            "example.com:0/a",
            "example.com:99999/a",
            "example.com:+80/a",
            "user@example.com/a",
            "http://example.com/a",
            "ex_ample.com/a",
            "-x.com/a",
            "x..com/a",
            "[::1/a",
            "[::1]x/a",
            "a:.b",
            &format!("a:{}", "b".repeat(129)),
            &long,
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_survives_the_way_through_its_text() {
        for text in ["debian", "localhost:5000/a/b:1", "ghcr.io/a/b"] {
            let read: ImageReference = text.parse().expect("a reference");

            assert_eq!(read.to_string().parse(), Ok(read));
        }
    }
}

//! What can go wrong with an image, as things a caller can act on.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;

/// Why an image could not be had. Words that come from a registry or an archive are cleaned and short.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing is there, or it is not for everybody.
    #[error(
        "{registry} says that the image `{image}` does not exist or needs a login{words}; check the name and the tag, \
         or have an administrator give the registry's credentials"
    )]
    NotFound {
        /// The registry that was asked.
        registry: String,
        /// The image as it was written.
        image: String,
        /// What the registry said, with `: ` before it, or nothing.
        words: String,
    },
    /// The registry could not be talked to, as often as was tried.
    #[error("{registry} cannot be reached: {words}; check its name and that the service may connect to it")]
    Unreachable {
        /// Whom the connection was for.
        registry: String,
        /// What went wrong.
        words: String,
    },
    /// The registry wants fewer requests.
    #[error("{registry} takes no more requests for now{words}; try again later, or use its credentials for more")]
    RateLimited {
        /// The registry.
        registry: String,
        /// What the registry said, with `: ` before it, or nothing.
        words: String,
    },
    /// An address or a scheme that only an administrator may allow.
    #[error(
        "{host} is not asked for `{image}`: {problem}; an administrator may list the registry as one in a private \
         network (CARREL_PRIVATE_HOSTS), or as one without TLS (CARREL_PLAIN_REGISTRIES)"
    )]
    Refused {
        /// The host and port that would have been connected to.
        host: String,
        /// The image as it was written.
        image: String,
        /// Why not.
        problem: String,
    },
    /// What came is not what was promised, or is no image.
    #[error("the image `{image}` cannot be used: {problem}")]
    Invalid {
        /// The image as it was written.
        image: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no image for this kind of machine.
    #[error("the image `{image}` is for {found}, and this machine needs {wanted}; name an image that is built for it")]
    WrongPlatform {
        /// The image as it was written.
        image: String,
        /// What it is for.
        found: String,
        /// What was looked for.
        wanted: String,
    },
    /// More than the installation takes.
    #[error("the image `{image}` has {what}, and the limit is {limit}; use a smaller one, or raise the limit")]
    TooLarge {
        /// The image as it was written.
        image: String,
        /// What there is too much of.
        what: String,
        /// How much there may be, with its unit.
        limit: String,
    },
    /// An archive tried what no archive may, or is broken.
    #[error("layer {layer} of the image `{image}` cannot be unpacked: {problem}")]
    Layer {
        /// The image as it was written.
        image: String,
        /// Which layer, from 1.
        layer: usize,
        /// The entry and what is wrong with it.
        problem: String,
    },
    /// It did not come in time.
    #[error(
        "the image `{image}` did not come within {} s; try again, or raise the time that pulls have",
        .within.as_secs()
    )]
    Late {
        /// The image as it was written.
        image: String,
        /// The time there was.
        within: Duration,
    },
    /// The cache belongs to another process.
    #[error("the folder of images {} is used by another process; stop it, or use another folder", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The cache's file system failed.
    #[error("cannot {what} in the folder of images: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error("cannot set up HTTPS for registries: {0}; check the extra certificates")]
    Tls(String),
}

impl ImageError {
    /// Whether trying again, without anybody changing anything, may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::RateLimited { .. } | Self::Late { .. } | Self::Io { .. })
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    pub(crate) fn invalid(image: &impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Invalid { image: image.to_string(), problem: problem.into() }
    }

    pub(crate) fn wrong_digest(image: &impl fmt::Display, what: &str, wanted: &Digest, found: &Digest) -> Self {
        Self::invalid(image, format!("{what} should be {wanted} and is {found}; it was changed on its way"))
    }
}

/// A foreign word as an error may repeat it: one line, printable, short.
pub(crate) fn cleaned(words: &str, longest: usize) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().take(longest).flat_map(shown_char).collect();
    if line.chars().count() > longest {
        shown.push('…');
    }
    shown
}

/// A foreign file name as an error may repeat it.
pub(crate) fn cleaned_bytes(bytes: &[u8]) -> String {
    let mut shown: String = bytes.iter().take(200).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    if bytes.len() > 200 {
        shown.push('…');
    }
    shown
}

/// A character, or its escape where it could move the cursor or hide what is there.
fn shown_char(char: char) -> Vec<char> {
    let is_hidden = char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if is_hidden { char.escape_unicode().collect() } else { vec![char] }
}

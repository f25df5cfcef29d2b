//! Names of content: parsed digests, and the check that content is what its name says.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

/// A digest as OCI writes it: `sha256:` with 64, or `sha512:` with 128, lower-case hexadecimal digits. Nothing else is
/// registered, so nothing else is taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

/// Text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no digest: one is sha256: with 64 lower-case hexadecimal digits, or sha512: with 128")]
pub struct InvalidDigest;

impl Digest {
    /// The sha256 of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest as a file is named: `-` for `:`.
    pub(crate) fn file_name(&self) -> String {
        self.0.replace(':', "-")
    }

    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        name.replacen('-', ":", 1).parse().ok()
    }

    /// What computes a digest of the same kind.
    pub(crate) fn hasher(&self) -> Hasher {
        if self.0.starts_with("sha512:") { Hasher::Sha512(Sha512::new()) } else { Hasher::sha256() }
    }

    /// The digest of the same kind that these bytes have.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Self {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let digits = match text.split_once(':') {
            Some(("sha256", digits)) if digits.len() == 64 => digits,
            Some(("sha512", digits)) if digits.len() == 128 => digits,
            _ => return Err(InvalidDigest),
        };
        if digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidDigest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Computes a digest of content that comes in pieces.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest(format!("sha256:{}", hex(&hasher.finalize()))),
            Self::Sha512(hasher) => Digest(format!("sha512:{}", hex(&hasher.finalize()))),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_other_tools_say_it_is() {
        let empty = Digest::of(b"");

        assert_eq!(empty.as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let long: Digest = format!("sha512:{}", "0".repeat(128)).parse().expect("a digest");
        assert!(long.found_in(b"").as_str().starts_with("sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc"));
    }

    #[test]
    fn a_digest_that_could_be_a_path_or_is_too_short_is_refused() {
        let long = "0".repeat(64);
        for text in ["", "sha256", "sha256:", "sha256:00", "md5:0", "sha256:../../etc", &format!("SHA256:{long}")] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(format!("sha256:{}", "A".repeat(64)).parse::<Digest>().is_err());
        let digest: Digest = format!("sha256:{long}").parse().expect("a digest");
        assert_eq!(Digest::from_file_name(&digest.file_name()), Some(digest));
    }
}

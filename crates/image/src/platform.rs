//! Which of an index's images this machine runs.

use std::fmt;

use serde::Deserialize;

/// What an image is built for. Field names are those of the OCI image index.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux` for all that can run here.
    pub os: String,
    /// As Go calls it: `amd64`, `arm64`.
    pub architecture: String,
    /// The processor's generation: `v8`; empty where it does not matter.
    pub variant: String,
}

impl Platform {
    /// Linux on this machine's processor.
    #[must_use]
    pub fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "x86" => ("386", ""),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// How well an image for `offered` runs here: the lower the better, `None` not at all. An index may offer a
    /// processor in several generations; the plain one runs everywhere, and newer ones than asked for may not.
    pub(crate) fn fits(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if offered.variant == self.variant {
            return Some(0);
        }
        let generation = |variant: &str| match variant {
            "" => Some(u32::from(self.architecture == "amd64")),
            text => text.strip_prefix('v').and_then(|digits| digits.parse::<u32>().ok()),
        };
        match (generation(&self.variant), generation(&offered.variant)) {
            // An offer without a generation is a plain one.
            (_, Some(_)) if offered.variant.is_empty() => Some(1),
            (Some(0), Some(_)) => Some(2),
            (Some(have), Some(needs)) if needs <= have => Some(2 + have - needs),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.os, &self.architecture, &self.variant];
        let shown: Vec<String> = parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(|part| part.chars().take(32).flat_map(char::escape_default).collect())
            .collect();
        formatter.write_str(&shown.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    #[test]
    fn the_processor_s_own_generation_is_preferred_and_a_newer_one_is_never_taken() {
        for (machine, offered, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(2)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/arm64/v8", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8", "linux/arm64", Some(1)),
            ("linux/arm64/v8", "linux/arm64/v9", None),
            ("linux/arm/v7", "linux/arm/v6", Some(3)),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
        ] {
            assert_eq!(platform(machine).fits(&platform(offered)), expected, "{machine} {offered}");
        }
    }
}

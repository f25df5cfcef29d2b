//! What a sandbox may reach: host names as a parsed type, rules over them, and the policy of an environment.
//!
//! Which address a name stands for, and whether that address may be connected to, is decided where names are resolved
//! (`carrel-egress`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;
/// Longest label of a host name, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// A host name in its one canonical form: lower case, ASCII (an internationalised name in its `xn--` form), labels of
/// letters, digits, `-` and `_`, no dot at the end. Never an IP address in any of its spellings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Text that is no host name, or no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` {problem}")]
pub struct InvalidHost {
    shown: String,
    problem: &'static str,
}

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is that domain or one below it.
    #[must_use]
    pub fn is_within(&self, domain: &Self) -> bool {
        let rest = self.0.strip_suffix(domain.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for HostName {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let wrong = |problem| Err(InvalidHost { shown: shown(text), problem });
        if text.is_empty() || text.len() > MAX_HOST_BYTES {
            return wrong("is no host name: one has 1 to 253 characters");
        }
        let label = |label: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty()
                && label.len() <= MAX_LABEL_BYTES
                && label.bytes().all(is_plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !text.split('.').all(label) {
            return wrong(
                "is no host name: it has letters, digits, `-`, `_` and single dots, such as registry.example.com",
            );
        }
        // What a resolver may read as an address: 127.1, 2130706433, 0x7f.0.0.1 (the rule of the WHATWG's URL standard).
        let last = text.rsplit('.').next().unwrap_or(text).to_ascii_lowercase();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_number {
            return wrong("is an address, not a name; rules are about names");
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Which hosts a rule is about: exactly one, or a domain with everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DomainRule {
    /// `registry.example.com`: this host and no other.
    Exactly(HostName),
    /// `*.example.com`: hosts below this domain, and not the domain itself.
    Below(HostName),
    /// `.example.com`: this domain and every host below it.
    Within(HostName),
}

impl DomainRule {
    /// Whether the rule is about this host.
    #[must_use]
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exactly(name) => host == name,
            Self::Below(domain) => host != domain && host.is_within(domain),
            Self::Within(domain) => host.is_within(domain),
        }
    }
}

impl FromStr for DomainRule {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if let Some(domain) = text.strip_prefix("*.") {
            return domain.parse().map(Self::Below);
        }
        if let Some(domain) = text.strip_prefix('.') {
            return domain.parse().map(Self::Within);
        }
        if text.contains("://") || text.contains('/') || text.contains(':') {
            let problem = "is more than a host name; give the name alone, such as registry.example.com";
            return Err(InvalidHost { shown: shown(text), problem });
        }
        text.parse().map(Self::Exactly)
    }
}

impl fmt::Display for DomainRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => write!(formatter, "{name}"),
            Self::Below(domain) => write!(formatter, "*.{domain}"),
            Self::Within(domain) => write!(formatter, ".{domain}"),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Which hosts beside an environment's own rules may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Internet {
    /// None.
    #[default]
    Off,
    /// Those the image's package managers are configured for, and the file hosts their indexes name.
    Packages,
    /// Those, and the well-known hosts of dependencies.
    Common,
    /// All that are public.
    All,
}

/// Which requests may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Methods {
    /// Only GET, HEAD and OPTIONS. TLS is opened to see them.
    Read,
    /// Every one.
    #[default]
    All,
}

/// What a sandbox may reach in one phase of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPolicy {
    /// The preset.
    pub internet: Internet,
    /// The environment's own rules, beside the preset.
    pub domains: Vec<DomainRule>,
    /// Which requests may be made.
    pub methods: Methods,
}

impl NetworkPolicy {
    /// Everything public, as setup has it unless it is said otherwise.
    #[must_use]
    pub const fn open() -> Self {
        Self { internet: Internet::All, domains: Vec::new(), methods: Methods::All }
    }

    /// Whether nothing at all can be reached.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.internet == Internet::Off && self.domains.is_empty()
    }
}

macro_rules! text_conversions {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidHost;

            fn try_from(text: String) -> Result<Self, InvalidHost> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

text_conversions! { HostName DomainRule }

/// The text as an error may repeat it.
fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostName {
        text.parse().expect("a host name")
    }

    #[test]
    fn a_host_name_has_one_form() {
        assert_eq!(host("PyPI.Org").as_str(), "pypi.org");
        assert_eq!(host("localhost").as_str(), "localhost");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_host_name() {
        for text in [
            "",
            ".",
            "a..b",
            "a.b.",
            "-a.b",
            "a-.b",
            "a b",
            "a\0b",
            "a%2eb",
            "é.org",
            "1.2.3.4",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "::1",
            "[::1]",
            "a/b",
            "a:80",
            "a@b",
            "a\\b",
            "1.0x",
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
        }
        assert!("a".repeat(64).parse::<HostName>().is_err());
        assert!(vec!["a"; 200].join(".").parse::<HostName>().is_err());
    }

    #[test]
    fn rules_match_whole_labels_only() {
        let [exactly, below, within] =
            ["example.com", "*.example.com", ".example.com"].map(|text| text.parse::<DomainRule>().expect("a rule"));

        for (name, expected) in [
            ("example.com", [true, false, true]),
            ("a.example.com", [false, true, true]),
            ("a.b.example.com", [false, true, true]),
            ("badexample.com", [false, false, false]),
            ("example.com.evil.org", [false, false, false]),
        ] {
            assert_eq!([&exactly, &below, &within].map(|rule| rule.matches(&host(name))), expected, "{name}");
        }
    }

    #[test]
    fn a_rule_that_is_an_address_or_a_url_says_so() {
        for (text, words) in [
            ("https://example.com", "name alone"),
            ("example.com:443", "name alone"),
            ("10.0.0.1", "an address"),
            ("*.*.com", "no host name"),
            ("*", "no host name"),
        ] {
            let error = text.parse::<DomainRule>().expect_err(text).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_rule_survives_the_way_through_json() {
        for text in ["example.com", "*.example.com", ".example.com"] {
            let rule: DomainRule = text.parse().expect("a rule");
            let json = serde_json::to_string(&rule).expect("plain");
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<DomainRule>(&json).expect("read"), rule);
        }
    }
}

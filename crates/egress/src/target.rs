//! Where a connection is meant to go: a host and a port, read in one strict way whatever the road they came by.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use carrel_domain::HostName;

/// A host as a program may name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Host {
    /// A name.
    Name(HostName),
    /// An address in its plain spelling, IPv6 in brackets. Rules are about names, so it is refused unless an
    /// administrator lists it.
    Address(IpAddr),
}

/// Text that names no host, or no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` {problem}")]
pub struct InvalidTarget {
    shown: String,
    problem: &'static str,
}

fn invalid<T>(text: &str, problem: &'static str) -> Result<T, InvalidTarget> {
    // A user and a password before the host are nobody's business.
    Err(InvalidTarget { shown: shown(text.rsplit('@').next().unwrap_or_default()), problem })
}

/// Text from a sandbox as an event or an answer may repeat it: without what a terminal or a log would obey, and short.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).take(400).collect()
}

impl FromStr for Host {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse().ok());
            return match address {
                Some(address) => Ok(Self::Address(IpAddr::V6(address))),
                None => invalid(text, "is no IPv6 address in brackets"),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        match text.parse() {
            Ok(name) => Ok(Self::Name(name)),
            Err(_) if text.contains('@') => invalid(text, "has a user before it, which is not let through"),
            Err(_) if text.ends_with('.') => invalid(text, "ends in a dot; give the name without it"),
            Err(_) => invalid(text, "is no host name, and no address in its plain spelling"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(formatter, "{name}"),
            Self::Address(IpAddr::V4(address)) => write!(formatter, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Target {
    /// The host.
    pub(crate) host: Host,
    /// The port, never 0.
    pub(crate) port: u16,
}

impl Target {
    /// Reads `host:port`, or `host` alone where there is a port to fall back on. There is no user, no path and no space in
    /// it, and a port has no leading zero.
    ///
    /// # Errors
    /// When it is anything else.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, InvalidTarget> {
        let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
        let Some(colon) = text[after_brackets..].find(':').map(|at| at + after_brackets) else {
            return match default_port {
                Some(port) => Ok(Self { host: text.parse()?, port }),
                None => invalid(text, "names no port"),
            };
        };
        let (host, port) = (&text[..colon], &text[colon + 1..]);
        let is_plain = !port.is_empty() && !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if is_plain => Ok(Self { host: host.parse()?, port }),
            _ => invalid(text, "has no port from 1 to 65535"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_plain_host_and_a_plain_port() {
        for (text, expected) in [
            ("PyPI.org:443", "pypi.org:443"),
            ("pypi.org", "pypi.org:80"),
            ("10.0.0.1:8080", "10.0.0.1:8080"),
            ("[::1]:443", "[::1]:443"),
            ("[0:0:0:0:0:0:0:1]", "[::1]:80"),
        ] {
            assert_eq!(Target::parse(text, Some(80)).expect(text).to_string(), expected);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_target() {
        for text in [
            "",
            ":443",
            "pypi.org:",
            "pypi.org:0",
            "pypi.org:0443",
            "pypi.org:+443",
            "pypi.org:65536",
            "pypi.org:443:443",
            "pypi.org.:443",
            "user@pypi.org:443",
            "pypi.org@evil.org:443",
            "pypi.org%00.evil.org:443",
            "pypi.org\0.evil.org:443",
            "pypi.org#:443",
            "pypi.org/:443",
            "pypi.org\\:443",
            " pypi.org:443",
            "2130706433:443",
            "0x7f000001:443",
            "0177.0.0.1:443",
            "127.1:443",
            "::1:443",
            "[::1",
            "[::1]443",
            "[fe80::1%eth0]:443",
            "[127.0.0.1]:443",
            "пример.рф:443",
            "pypi\u{3002}org:443",
        ] {
            assert!(Target::parse(text, Some(80)).is_err(), "{text:?}");
        }
    }
}

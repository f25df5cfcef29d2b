//! How the proxy is set up, by whoever runs the installation.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use carrel_domain::{DomainRule, HostName};

use crate::target::{Host, InvalidTarget, Target};

/// The preset of common dependencies as it comes with the program.
const COMMON: &str = include_str!("../data/common.txt");

/// A host that an administrator lists: its private addresses may be connected to, and the port where one is given.
/// Whether a sandbox may reach the host at all is still the environment's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateHost {
    host: Host,
    port: Option<u16>,
}

impl PrivateHost {
    /// What the setting is called where a refusal says the way out.
    pub(crate) const SETTING: &'static str = "CARREL_PRIVATE_HOSTS of the service";

    /// Whether it is about this destination, so that private addresses of it may be connected to.
    pub(crate) fn names(&self, target: &Target) -> bool {
        self.host == target.host && self.port.is_none_or(|port| port == target.port)
    }

    /// Whether it lists this destination's port.
    pub(crate) fn allows_port_of(&self, target: &Target) -> bool {
        self.host == target.host && self.port == Some(target.port)
    }
}

impl FromStr for PrivateHost {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        if let Ok(host) = text.parse() {
            return Ok(Self { host, port: None });
        }
        let target = Target::parse(text, None)?;
        Ok(Self { host: target.host, port: Some(target.port) })
    }
}

/// Where TLS is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenTls {
    /// Where a rule needs to see inside: methods are limited, the host has a network secret, or the name is hidden
    /// (encrypted client hello) where names decide. Elsewhere the name in the TLS greeting is checked, and what
    /// travels inside stays sealed: there the `Host` of a request cannot be compared.
    #[default]
    WhereNeeded,
    /// Everywhere, so that the `Host` of every request is compared. Programs that bring their own list of certificate
    /// authorities then fail.
    Always,
}

/// Bounds and deadlines, of one sandbox's connections where it does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. Default 256.
    pub connections: usize,
    /// From the first byte of a request's head to its last. Default 30 s.
    pub head: Duration,
    /// From CONNECT to the end of the TLS greeting, and for TLS handshakes. Default 10 s.
    pub handshake: Duration,
    /// For resolving a name, and again for connecting. Default 10 s.
    pub connect: Duration,
    /// Without a byte of a body, an answer or the next request. Default 5 min.
    pub idle: Duration,
    /// Without a byte in a tunnel, either way. Default 1 h.
    pub tunnel_idle: Duration,
    /// Bytes of requests to models that are held at once, of all sandboxes; one of them may hold half of it. Default 64 MiB.
    pub model_bodies_bytes: usize,
    /// How long a request to a model waits for its room in there, before its body is read. Default 30 s.
    pub model_wait: Duration,
    /// From the first byte of the body of a request to a model to its last. Default 60 s.
    pub model_body: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(5 * 60),
            tunnel_idle: Duration::from_secs(60 * 60),
            model_bodies_bytes: 64 << 20,
            model_wait: Duration::from_secs(30),
            model_body: Duration::from_secs(60),
        }
    }
}

/// How the proxy is set up.
#[derive(Debug, Clone)]
pub struct EgressOptions {
    /// Where the certificate authority's key is kept; made on first start, with mode 0700.
    pub folder: PathBuf,
    /// Hosts whose private addresses may be reached.
    pub private_hosts: Vec<PrivateHost>,
    /// Addresses that are never connected to unless the host is listed, beside this machine's own and all that are not
    /// public.
    pub refused_addresses: Vec<IpAddr>,
    /// Addresses of names that are not to be asked for, as in `/etc/hosts`. They are judged like all others.
    pub hosts: BTreeMap<HostName, Vec<IpAddr>>,
    /// Certificates in PEM beside the system's that upstream servers may be signed by.
    pub extra_roots_pem: Vec<u8>,
    /// The preset of common dependencies.
    pub common: Vec<DomainRule>,
    /// What is known of package managers beside what their tools say. By default what comes with the program.
    pub packages: crate::packages::Known,
    /// Where TLS is opened.
    pub open_tls: OpenTls,
    /// Bounds and deadlines.
    pub limits: Limits,
}

impl EgressOptions {
    /// The defaults, with the certificate authority in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            private_hosts: Vec::new(),
            refused_addresses: Vec::new(),
            hosts: BTreeMap::new(),
            extra_roots_pem: Vec::new(),
            common: read_rules(COMMON).expect("the file that comes with the program has only rules"),
            packages: crate::packages::Known::built_in().clone(),
            open_tls: OpenTls::default(),
            limits: Limits::default(),
        }
    }
}

/// Reads a list of rules: one a line, `#` begins a comment.
///
/// # Errors
/// A line that is no rule, with its number.
pub fn read_rules(text: &str) -> Result<Vec<DomainRule>, EgressError> {
    let mut rules = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let rule = line.split('#').next().unwrap_or_default().trim();
        if rule.is_empty() {
            continue;
        }
        rules.push(rule.parse().map_err(|source| EgressError::Rule { line: index + 1, source })?);
    }
    Ok(rules)
}

/// Why the proxy cannot be opened, or a sandbox's trust not be made.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The folder of the certificate authority fails.
    #[error("cannot keep the certificate authority in {path}")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// What is kept there is not what was written.
    #[error("{path} holds no certificate authority of ours; move it away, and a new one is made at the next start")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// Extra roots are no certificates.
    #[error("the extra certificates for upstream servers are no PEM certificates")]
    Roots,
    /// A line is no rule.
    #[error("line {line} of the list of domains is no rule")]
    Rule {
        /// Its number, from 1.
        line: usize,
        /// Why not.
        #[source]
        source: carrel_domain::network::InvalidHost,
    },
    /// The image's list of certificates is too long to be one.
    #[error("the image's list of certificates has more than {max_bytes} bytes")]
    Bundle {
        /// The most that is taken.
        max_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_preset_names_hosts_of_code_and_none_that_resolve_names_for_others() {
        let rules = EgressOptions::new("/nowhere").common;

        let allows = |name: &str| rules.iter().any(|rule| rule.matches(&name.parse().expect("a name")));
        assert!(allows("github.com") && allows("objects.githubusercontent.com") && allows("deb.debian.org"));
        for name in
            ["cloudflare-dns.com", "dns.google", "doh.opendns.com", "dns.quad9.net", "example.com", "gist.evil.org"]
        {
            assert!(!allows(name), "{name}");
        }
    }

    #[test]
    fn a_line_that_is_no_rule_is_named() {
        let error = read_rules("# a comment\npypi.org # ours\n\nhttps://x.org\n").expect_err("a URL is no rule");

        assert_eq!(error.to_string(), "line 4 of the list of domains is no rule");
    }

    #[test]
    fn a_private_host_is_a_host_or_a_host_and_a_port() {
        for (text, port, expected) in [
            ("git.corp", 443, (true, false)),
            ("git.corp:8443", 8443, (true, true)),
            ("git.corp:8443", 443, (false, false)),
        ] {
            let listed: PrivateHost = text.parse().expect(text);
            let target = Target::parse("git.corp", Some(port)).expect("a target");
            assert_eq!((listed.names(&target), listed.allows_port_of(&target)), expected, "{text} {port}");
        }
        assert!("https://git.corp".parse::<PrivateHost>().is_err());
    }
}

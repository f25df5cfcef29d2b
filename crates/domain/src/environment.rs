//! How a sandbox is made ready for a repository, and what it may reach and use.
//!
//! An environment has versions: changing it makes the next one, and an attempt keeps the version it was pinned to. Values
//! of secrets are no part of it; a version names them, and says which value of each was meant.

mod hints;
pub mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DomainRule, EnvironmentId, HostName, NetworkPolicy, OrganizationId, RepositoryLocation, SnapshotId};

/// Longest name of an environment, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Longest name of a variable or a secret, in bytes.
const MAX_VARIABLE_BYTES: usize = 256;
/// Longest image reference, in bytes.
const MAX_IMAGE_BYTES: usize = 1024;

/// The name of the environment that every organization has from the start: the host's own root, no scripts.
pub const DEFAULT_ENVIRONMENT: &str = "default";

/// Why a word of an environment is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` {problem}")]
pub struct InvalidEnvironment {
    shown: String,
    problem: &'static str,
}

fn invalid<T>(text: &str, problem: &'static str) -> Result<T, InvalidEnvironment> {
    Err(InvalidEnvironment { shown: text.chars().take(100).flat_map(char::escape_default).collect(), problem })
}

/// What an environment is called: letters, digits, `-`, `_` and `.`, beginning with a letter or digit, 64 at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentName(String);

impl FromStr for EnvironmentName {
    type Err = InvalidEnvironment;

    fn from_str(text: &str) -> Result<Self, InvalidEnvironment> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_NAME_BYTES && text.bytes().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        invalid(
            text,
            "is no name for an environment: use up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first",
        )
    }
}

/// The name of a variable or a secret: what a shell takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VariableName(String);

impl FromStr for VariableName {
    type Err = InvalidEnvironment;

    fn from_str(text: &str) -> Result<Self, InvalidEnvironment> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if begins && text.len() <= MAX_VARIABLE_BYTES && text.bytes().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        invalid(text, "is no name for a variable: use letters, digits and `_`, a letter or `_` first")
    }
}

/// What a sandbox's root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Image {
    /// `host`: the host's own root, read-only, without what is private.
    #[default]
    Host,
    /// `/an/absolute/path`: a folder of the host that holds a root file system.
    Folder(String),
    /// `debian:12`, `registry.example.com/team/image@sha256:...`: an OCI image. What the reference means is read where
    /// images are pulled.
    Oci(String),
}

impl FromStr for Image {
    type Err = InvalidEnvironment;

    fn from_str(text: &str) -> Result<Self, InvalidEnvironment> {
        if text.is_empty() || text.len() > MAX_IMAGE_BYTES {
            return invalid(
                text,
                "is no image: say `host`, a folder's absolute path, or a reference such as debian:12",
            );
        }
        if text == "host" {
            return Ok(Self::Host);
        }
        if text.starts_with('/') {
            let is_plain = !text.chars().any(char::is_control) && !text.split('/').any(|part| part == "..");
            return if is_plain {
                Ok(Self::Folder(text.to_owned()))
            } else {
                invalid(text, "is no plain absolute path")
            };
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@+[]".contains(&byte);
        if text.starts_with('-') || !text.bytes().all(allowed) {
            return invalid(
                text,
                "is no reference to an image, such as debian:12 or registry.example.com/team/image:tag",
            );
        }
        Ok(Self::Oci(text.to_owned()))
    }
}

impl fmt::Display for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => formatter.write_str("host"),
            Self::Folder(text) | Self::Oci(text) => formatter.write_str(text),
        }
    }
}

/// What is run once, before a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setup {
    /// Nothing.
    Nothing,
    /// What the repository's lock files call for.
    #[default]
    Automatic,
    /// A bash script.
    Script(String),
}

/// How secrets reach programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// As a variable of setup and maintenance, and of nothing after.
    Setup,
    /// As a placeholder, which the egress proxy replaces on its way to the hosts the secret is for.
    Network,
}

/// A secret as a version of an environment names it. Its value is sealed in the store and never comes back out but to
/// where it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// The variable it is seen as.
    pub name: VariableName,
    /// How it reaches programs.
    pub kind: SecretKind,
    /// Which value: raised each time a new one is given.
    pub version: i64,
    /// The hosts a network secret's value is sent to. Never empty for one, always for a setup secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostName>,
}

/// What one sandbox may use. `None` is without a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceLimits {
    /// Thousandths of a processor. Default: no limit; sandboxes share what there is evenly.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory, page cache of its own files included. Default 4 GiB.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once. Default 1,024.
    pub processes: u32,
    /// Bytes of the writable layer. Default 20 GiB.
    pub disk_bytes: Option<u64>,
    /// Seconds from the start of an attempt to its end. Default: the installation's.
    pub wall_clock_s: Option<u32>,
    /// Seconds that setup, and maintenance, may take. Default 20 minutes.
    pub setup_s: u32,
    /// Bytes that one command's output may have before it is ended. Default 1 GiB.
    pub output_bytes: u64,
}

impl Default for ResourceLimits {
    fn default() -> Self {
        Self {
            cpu_millis: None,
            memory_bytes: Some(4 << 30),
            processes: 1024,
            disk_bytes: Some(20 << 30),
            wall_clock_s: None,
            setup_s: 20 * 60,
            output_bytes: 1 << 30,
        }
    }
}

/// What one version of an environment says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvironmentSpec {
    /// The repositories it is for; none means any.
    pub repositories: Vec<RepositoryLocation>,
    /// What its root is made of; `None`: what the repository says, or else the host's own.
    pub image: Option<Image>,
    /// What is run before a snapshot is kept; `None`: what the repository says, or else automatic setup.
    pub setup: Option<Setup>,
    /// A bash script that is run when a snapshot is reused; `None`: what the repository says, or else nothing.
    pub maintenance_script: Option<String>,
    /// Variables of every command in every phase.
    pub variables: BTreeMap<VariableName, String>,
    /// The secrets it names.
    pub secrets: Vec<SecretName>,
    /// What setup and maintenance may reach.
    pub setup_network: NetworkPolicy,
    /// What the agent may reach.
    pub agent_network: NetworkPolicy,
    /// What it may use.
    pub limits: ResourceLimits,
    /// Seconds a snapshot is reused for. Default 12 h.
    pub snapshot_life_s: u32,
}

impl Default for EnvironmentSpec {
    fn default() -> Self {
        Self {
            repositories: Vec::new(),
            image: None,
            setup: None,
            maintenance_script: None,
            variables: BTreeMap::new(),
            secrets: Vec::new(),
            setup_network: NetworkPolicy::open(),
            agent_network: NetworkPolicy::default(),
            limits: ResourceLimits::default(),
            snapshot_life_s: 12 * 60 * 60,
        }
    }
}

impl EnvironmentSpec {
    /// What the environment `default` says from the start.
    #[must_use]
    pub fn of_default() -> Self {
        Self { setup: Some(Setup::Nothing), image: Some(Image::Host), ..Self::default() }
    }

    /// The secrets of this kind.
    pub fn secrets(&self, kind: SecretKind) -> impl Iterator<Item = &SecretName> {
        self.secrets.iter().filter(move |secret| secret.kind == kind)
    }

    /// Whether it may be used with this repository.
    #[must_use]
    pub fn covers(&self, repository: &RepositoryLocation) -> bool {
        self.repositories.is_empty() || self.repositories.contains(repository)
    }

    /// Allows a host, or a domain, to the agent. `false` when it was allowed by name already.
    pub fn allow(&mut self, rule: DomainRule) -> bool {
        let is_new = !self.agent_network.domains.contains(&rule);
        if is_new {
            self.agent_network.domains.push(rule);
        }
        is_new
    }
}

/// What an attempt's sandbox is made of: settled once, from the environment's version and what the repository says, and
/// written down, so that every worker and every follow-up makes it the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The image.
    pub image: Image,
    /// The digest its reference stood for, when it is an OCI image; of a folder, what it looked like.
    pub digest: Option<String>,
    /// What is run before a snapshot is kept.
    pub setup: Setup,
    /// What is run when a snapshot is reused.
    pub maintenance_script: Option<String>,
    /// Variables that the image sets. Ours win over them.
    #[serde(default)]
    pub image_variables: BTreeMap<String, String>,
    /// Variables of every command. They win over ours.
    pub variables: BTreeMap<String, String>,
    /// What it may use.
    pub limits: ResourceLimits,
    /// Whether the repository chose the image or set variables: what its tools say of themselves is the repository's word
    /// then.
    #[serde(default)]
    pub is_shaped_by_repository: bool,
    /// The snapshot it stands on, once that is known.
    pub snapshot: Option<SnapshotId>,
    /// The kept layers beneath its own, topmost first, once they are known.
    pub layers: Vec<String>,
    /// The hosts that the image's package managers need, where the network policy wants to know them.
    pub package_hosts: Vec<DomainRule>,
}

/// An environment at one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Which one.
    pub id: EnvironmentId,
    /// Whose.
    pub organization: OrganizationId,
    /// What it is called.
    pub name: EnvironmentName,
    /// Raised with every change; the first is 1.
    pub version: i64,
    /// What it says.
    pub spec: EnvironmentSpec,
    /// When this version was made.
    pub created_at: Timestamp,
}

macro_rules! text_conversions {
    ($($name:ident)*) => {$(
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    )*
        conversions! { $($name)* }
    };
}

macro_rules! conversions {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidEnvironment;

            fn try_from(text: String) -> Result<Self, InvalidEnvironment> {
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

text_conversions! { EnvironmentName VariableName }
conversions! { Image }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_path_or_a_shell_could_misread_are_refused() {
        for text in ["", "-a", ".a", "a b", "a/b", "a\n", "é", &"a".repeat(65)] {
            assert!(text.parse::<EnvironmentName>().is_err(), "{text:?}");
        }
        for text in ["", "1A", "A-B", "A B", "A=B", "é"] {
            assert!(text.parse::<VariableName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_image_is_the_host_a_folder_or_a_reference() {
        assert_eq!("host".parse(), Ok(Image::Host));
        assert_eq!("/srv/root".parse(), Ok(Image::Folder("/srv/root".to_owned())));
        assert_eq!("debian:12".parse(), Ok(Image::Oci("debian:12".to_owned())));
        for text in ["", "-v", "/srv/../etc", "a b", "a$(b)"] {
            assert!(text.parse::<Image>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_version_stored_before_a_field_was_known_is_read_with_its_default() {
        let read: EnvironmentSpec = serde_json::from_str("{}").expect("an empty version");

        assert_eq!(read, EnvironmentSpec::default());
    }

    #[test]
    fn setup_may_reach_everything_and_the_agent_nothing_unless_said_otherwise() {
        let spec = EnvironmentSpec::default();

        assert!(!spec.setup_network.is_closed());
        assert!(spec.agent_network.is_closed());
    }
}

//! What one phase of an attempt may reach, and what is told of each attempt to reach something.

use carrel_domain::{DomainRule, HostName, NetworkPolicy, Secret};

use crate::door::ModelDoor;

/// Which part of an attempt a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Setup and maintenance scripts.
    Setup,
    /// The agent's commands.
    Agent,
}

impl Phase {
    /// As a person reads it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Setup => "setup phase",
            Self::Agent => "agent phase",
        }
    }

    /// The option of `carrel environment edit` that allows a domain in it.
    const fn allow_option(self) -> &'static str {
        match self {
            Self::Setup => "--setup-allow-domain",
            Self::Agent => "--allow-domain",
        }
    }

    /// The option of `carrel environment edit` that allows all methods in it.
    const fn methods_option(self) -> &'static str {
        match self {
            Self::Setup => "--setup-methods",
            Self::Agent => "--methods",
        }
    }
}

/// A secret whose value only the proxy knows; programs see the placeholder.
#[derive(Debug, Clone)]
pub struct NetworkSecret {
    /// What it is called, for events and refusals.
    pub name: String,
    /// What programs see in its place: letters, digits, `-` and `_`, at least 16 of them.
    pub placeholder: String,
    /// What the hosts see.
    pub value: Secret,
    /// The hosts that it is for.
    pub hosts: Vec<HostName>,
}

/// What one phase of an attempt may reach.
#[derive(Debug, Clone)]
pub struct SessionPolicy {
    /// The environment's words.
    pub network: NetworkPolicy,
    /// What the presets `packages` and `common` were found to be for the image.
    pub packages: Vec<DomainRule>,
    /// Its network secrets.
    pub secrets: Vec<NetworkSecret>,
    /// The environment's name, for the way out of a refusal.
    pub environment: String,
    /// The phase, for the way out of a refusal.
    pub phase: Phase,
    /// The way to the attempt's model, where its agent runs in the sandbox.
    pub model: Option<ModelDoor>,
}

impl SessionPolicy {
    /// How a person allows a host.
    pub(crate) fn way_to_allow(&self, host: &HostName) -> String {
        format!("carrel environment edit {} {} {host}", self.environment, self.phase.allow_option())
    }

    /// How a person allows all methods.
    pub(crate) fn way_to_all_methods(&self) -> String {
        format!("carrel environment edit {} {} all", self.environment, self.phase.methods_option())
    }

    /// The environment and the phase.
    pub(crate) fn place(&self) -> String {
        format!("the environment `{}` ({})", self.environment, self.phase.words())
    }
}

/// One request or one tunnel, and what became of it. Never holds a path, a header, or a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// The host as it was asked for; where it was no host name, an escaped and shortened form of what came.
    pub host: String,
    /// The port; 0 where none could be read.
    pub port: u16,
    /// The method, `CONNECT` for a tunnel; `None` where none could be read.
    pub method: Option<String>,
    /// Whether it was let through.
    pub allowed: bool,
    /// The rule that let it through, or why it was refused.
    pub reason: String,
    /// How a person allows it, where there is a way.
    pub way_out: Option<String>,
}

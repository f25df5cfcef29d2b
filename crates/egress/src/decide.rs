//! Whether a destination and a request are allowed: pure functions of the policy. Addresses are judged where names are
//! resolved.

use std::fmt;

use carrel_domain::{DomainRule, HostName, Internet, Methods};
use http::{HeaderMap, Method, StatusCode};

use crate::options::PrivateHost;
use crate::policy::SessionPolicy;
use crate::target::{Host, Target};

/// The ports of the web: others only where an administrator lists a host with them.
const WEB_PORTS: [u16; 2] = [80, 443];
/// Headers by which servers are told to take one method for another.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Why something does not go on, for the program and for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The status it is answered with.
    pub(crate) status: StatusCode,
    /// Why, naming the thing.
    pub(crate) why: String,
    /// How to allow it, where there is a way.
    pub(crate) way_out: Option<String>,
}

impl Refused {
    /// By a rule.
    pub(crate) fn by_policy(why: String, way_out: Option<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, why, way_out }
    }

    /// Because it cannot be understood in exactly one way.
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why: why.into(), way_out: None }
    }

    /// Because the other side fails.
    pub(crate) fn upstream(why: String) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, why, way_out: None }
    }

    /// The answer's body.
    pub(crate) fn body(&self) -> String {
        match &self.way_out {
            Some(way_out) => format!("carrel: {}. To allow it: {way_out}\n", self.why),
            None => format!("carrel: {}\n", self.why),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.why)
    }
}

/// What a destination is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// What the phase may reach.
    pub(crate) policy: &'a SessionPolicy,
    /// The preset of common dependencies.
    pub(crate) common: &'a [DomainRule],
    /// What an administrator lists.
    pub(crate) private_hosts: &'a [PrivateHost],
}

impl Rules<'_> {
    /// Whether this destination may be reached, and by which rule.
    ///
    /// # Errors
    /// Why not, and the way out.
    pub(crate) fn destination(&self, target: &Target) -> Result<String, Refused> {
        let is_listed = self.private_hosts.iter().any(|listed| listed.allows_port_of(target));
        let has_port = WEB_PORTS.contains(&target.port) || is_listed;
        let port = || format!("an administrator lists `{target}` in {}", PrivateHost::SETTING);
        let reason = match &target.host {
            Host::Name(name) => self.rule_for(name).ok_or_else(|| self.refused_name(name, has_port, port))?,
            Host::Address(_) => self.rule_for_address(target)?,
        };
        if has_port {
            return Ok(reason);
        }
        let why = format!("{target} is not allowed: only the ports 80 and 443 are");
        Err(Refused::by_policy(why, Some(port())))
    }

    /// A name that no rule is about. A way out that leads to the next refusal would be none: the port is part of it.
    fn refused_name(&self, name: &HostName, has_port: bool, port: impl Fn() -> String) -> Refused {
        let (place, allow) = (self.policy.place(), self.policy.way_to_allow(name));
        if has_port {
            return Refused::by_policy(format!("{name} is not allowed by {place}"), Some(allow));
        }
        let why = format!("{name} is not allowed by {place}, and only the ports 80 and 443 are");
        Refused::by_policy(why, Some(format!("{}, and then: {allow}", port())))
    }

    fn rule_for(&self, name: &HostName) -> Option<String> {
        let network = &self.policy.network;
        let find = |rules: &[DomainRule]| rules.iter().find(|rule| rule.matches(name)).map(ToString::to_string);
        if let Some(rule) = find(&network.domains) {
            return Some(format!("the rule `{rule}`"));
        }
        let packages = || find(&self.policy.packages).map(|rule| format!("`{rule}` of the preset `packages`"));
        let common = || find(self.common).map(|rule| format!("`{rule}` of the preset `common`"));
        match network.internet {
            Internet::Off => None,
            Internet::Packages => packages(),
            Internet::Common => packages().or_else(common),
            Internet::All => Some("the preset `all`".to_owned()),
        }
    }

    fn rule_for_address(&self, target: &Target) -> Result<String, Refused> {
        let is_listed = self.private_hosts.iter().any(|listed| listed.names(target));
        if is_listed && self.policy.network.internet == Internet::All {
            return Ok("an address that an administrator lists".to_owned());
        }
        let why = format!(
            "{} is an address, and rules are about names; {} does not allow it",
            target.host,
            self.policy.place()
        );
        Err(Refused::by_policy(why, None))
    }

    /// Whether this request may be made of a destination that is allowed.
    ///
    /// # Errors
    /// Why not, and the way out.
    pub(crate) fn request(&self, target: &Target, request: &RequestFacts<'_>) -> Result<(), Refused> {
        let host = &target.host;
        let method = request.method;
        if *method == Method::TRACE || *method == Method::CONNECT {
            return Err(Refused::by_policy(format!("the method {method} is not let through to {host}"), None));
        }
        if self.policy.network.methods == Methods::All {
            return Ok(());
        }
        let place = self.policy.place();
        let refuse = |what: String| {
            let why = format!("{what} is not allowed by {place}, which lets requests only read");
            Err(Refused::by_policy(why, Some(self.policy.way_to_all_methods())))
        };
        if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return refuse(format!("{} to {host}", crate::target::shown(method.as_str())));
        }
        if let Some(name) = OVERRIDES.iter().find(|name| request.headers.contains_key(**name)) {
            return refuse(format!("the header {name} to {host}"));
        }
        if request.is_upgrade {
            return refuse(format!("a WebSocket to {host}"));
        }
        if request.has_body {
            return refuse(format!("a body to {host}"));
        }
        Ok(())
    }
}

/// What of a request is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestFacts<'a> {
    /// Its method.
    pub(crate) method: &'a Method,
    /// Its headers.
    pub(crate) headers: &'a HeaderMap,
    /// Whether it asks for a WebSocket.
    pub(crate) is_upgrade: bool,
    /// Whether a body follows.
    pub(crate) has_body: bool,
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

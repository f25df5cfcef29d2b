//! What of an environment is allowed, and yet most likely not what somebody meant.

use super::{EnvironmentName, EnvironmentSpec, SecretKind, variables};
use crate::{HostName, Internet};

impl EnvironmentSpec {
    /// Sentences for whoever looks at the environment of this name: what will not work as it stands, and the way out.
    #[must_use]
    pub fn hints(&self, name: &EnvironmentName) -> Vec<String> {
        let of_variables = self.variables.iter().filter_map(|(variable, value)| variables::hint(variable, value));
        let of_secrets = self.secrets(SecretKind::Network).filter_map(|secret| {
            let unmet: Vec<&HostName> = secret.hosts.iter().filter(|host| !self.names(host)).collect();
            self.unreachable(secret.name.as_str(), &unmet, name)
        });
        of_variables.chain(of_secrets).collect()
    }

    /// Whether the agent may reach the host by a rule of its own, or because it may reach all.
    fn names(&self, host: &HostName) -> bool {
        let network = &self.agent_network;
        network.internet == Internet::All || network.domains.iter().any(|rule| rule.matches(host))
    }

    fn unreachable(&self, secret: &str, unmet: &[&HostName], name: &EnvironmentName) -> Option<String> {
        if unmet.is_empty() {
            return None;
        }
        let hosts: Vec<&str> = unmet.iter().map(|host| host.as_str()).collect();
        let hosts = hosts.join(", ");
        let flags: Vec<String> = unmet.iter().map(|host| format!("--allow-domain {host}")).collect();
        let preset = match self.agent_network.internet {
            Internet::Off | Internet::All => String::new(),
            Internet::Packages => " unless the preset `packages` has it".to_owned(),
            Internet::Common => " unless the preset `common` has it".to_owned(),
        };
        Some(format!(
            "the network secret `{secret}` is for {hosts}, which the agent may not reach{preset}, so it cannot use the \
             secret there; to allow it: carrel environment edit {name} {}",
            flags.join(" ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretName, VariableName};

    fn spec(internet: Internet, domains: &[&str], hosts: &[&str]) -> EnvironmentSpec {
        let name: VariableName = "TOKEN".parse().expect("a name");
        let hosts = hosts.iter().map(|host| host.parse().expect("a host")).collect();
        let mut spec = EnvironmentSpec {
            secrets: vec![SecretName { name, kind: SecretKind::Network, version: 1, hosts }],
            ..EnvironmentSpec::default()
        };
        spec.agent_network.internet = internet;
        spec.agent_network.domains = domains.iter().map(|rule| rule.parse().expect("a rule")).collect();
        spec
    }

    fn hints(spec: &EnvironmentSpec) -> Vec<String> {
        spec.hints(&"api".parse().expect("a name"))
    }

    #[test]
    fn a_network_secret_for_a_host_that_is_not_allowed_says_how_to_allow_it() {
        let spec = spec(Internet::Off, &["a.example"], &["a.example", "b.example", "c.example"]);

        let said = hints(&spec);

        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("`TOKEN` is for b.example, c.example, which the agent may not reach"), "{said:?}");
        let way_out = "carrel environment edit api --allow-domain b.example --allow-domain c.example";
        assert!(said[0].ends_with(way_out), "{said:?}");
    }

    #[test]
    fn a_network_secret_that_can_be_used_says_nothing() {
        assert_eq!(hints(&spec(Internet::All, &[], &["a.example"])), Vec::<String>::new());
        assert_eq!(hints(&spec(Internet::Off, &[".example"], &["a.example"])), Vec::<String>::new());
    }

    #[test]
    fn where_a_preset_may_have_the_host_the_hint_says_so() {
        assert!(hints(&spec(Internet::Common, &[], &["a.example"]))[0].contains("unless the preset `common` has it"));
    }

    #[test]
    fn a_variable_with_a_price_has_its_hint() {
        let mut spec = EnvironmentSpec::default();
        spec.variables.insert("PATH".parse().expect("a name"), "/opt/bin".to_owned());

        assert!(hints(&spec)[0].contains("lacks /usr/bin or /bin"));
    }
}

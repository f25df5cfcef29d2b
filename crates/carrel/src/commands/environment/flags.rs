//! What the service says about fields of a request, said about the flags that they came from.

use carrel_wire::{EditEnvironment, FieldError, SecretKind};

/// What was asked for, as far as one field may come from several flags.
pub(super) struct Asked(EditEnvironment);

impl Asked {
    /// By this change.
    pub(super) fn by(change: &EditEnvironment) -> Self {
        Self(change.clone())
    }

    /// The message with the flag in it; nothing where no flag is meant.
    pub(super) fn in_flags(&self, error: &FieldError) -> Option<String> {
        let flag = self.flag(&error.field)?;
        // The field's own name says nothing to somebody who wrote a flag.
        Some(match error.message.strip_prefix(error.field.as_str()) {
            Some(rest) => format!("{flag}{rest}"),
            None => format!("{flag}: {}", error.message),
        })
    }

    fn flag(&self, field: &str) -> Option<String> {
        let known = match field {
            "repositories" => "--repository",
            "image" => "--image",
            "setup" => "--setup-script",
            "maintenance_script" => "--maintenance-script",
            "variables_text" => "--variables-file",
            "setup_secrets_text" => "--setup-secrets-file",
            "variables" => "--variable",
            "secrets" => "--setup-secret or --network-secret",
            "agent_network.domains" => return Some(self.domains(["--allow-domain", "--remove-domain"])),
            "setup_network.domains" => return Some(self.domains(["--setup-allow-domain", "--remove-setup-domain"])),
            "limits.cpu_millis" => "--cpus (in thousandths)",
            "limits.memory_bytes" => "--memory",
            "limits.processes" => "--processes",
            "limits.disk_bytes" => "--disk",
            "limits.wall_clock_s" => "--wall-clock",
            "limits.setup_s" => "--setup-limit",
            "limits.output_bytes" => "--output",
            "snapshot_life_s" => "--snapshot-life",
            _ => return self.named(field),
        };
        Some(known.to_owned())
    }

    /// A variable or a secret by its name.
    fn named(&self, field: &str) -> Option<String> {
        if let Some(name) = field.strip_prefix("variables.") {
            let change = self.0.variables.iter().flatten().find_map(|all| all.get(name));
            return Some(match change {
                Some(Some(_)) => "--variable".to_owned(),
                Some(None) => "--remove-variable".to_owned(),
                None => "--variables-file".to_owned(),
            });
        }
        let name = field.strip_prefix("secrets.")?;
        let change = self.0.secrets.iter().flatten().find_map(|all| all.get(name));
        let flag = match change {
            Some(Some(change)) if change.kind == Some(SecretKind::Network) => "--network-secret",
            Some(Some(_)) => "--setup-secret",
            Some(None) => "--remove-secret",
            None => "--setup-secrets-file",
        };
        Some(flag.to_owned())
    }

    fn domains(&self, [add, remove]: [&str; 2]) -> String {
        let network = if add == "--allow-domain" { &self.0.agent_network } else { &self.0.setup_network };
        let Some(network) = network.iter().flatten().next() else { return add.to_owned() };
        match (network.domains_add.is_empty(), network.domains_remove.is_empty()) {
            (true, false) => remove.to_owned(),
            (false, false) => format!("{add} or {remove}"),
            (_, true) => add.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use carrel_wire::{NetworkChange, SecretChange};

    use super::*;

    fn said(change: &EditEnvironment, field: &str, message: &str) -> Option<String> {
        let error = FieldError { field: field.to_owned(), message: message.to_owned() };
        Asked::by(change).in_flags(&error)
    }

    #[test]
    fn a_field_is_called_by_its_flag() {
        let change = EditEnvironment::default();
        for (field, message, expected) in [
            ("limits.memory_bytes", "limits.memory_bytes is 1, and may be 2", Some("--memory is 1, and may be 2")),
            ("snapshot_life_s", "snapshot_life_s is 9", Some("--snapshot-life is 9")),
            ("image", "`a b` is no image", Some("--image: `a b` is no image")),
            ("name", "there is one already", None),
        ] {
            assert_eq!(said(&change, field, message).as_deref(), expected);
        }
    }

    #[test]
    fn where_several_flags_lead_to_one_field_it_is_the_one_that_was_given() {
        let network = SecretChange { kind: Some(SecretKind::Network), ..SecretChange::default() };
        let setup = SecretChange { kind: Some(SecretKind::Setup), ..SecretChange::default() };
        let all = [("K", Some(network)), ("T", Some(setup)), ("R", None)];
        let secrets: BTreeMap<_, _> = all.into_iter().map(|(name, change)| (name.to_owned(), change)).collect();
        let policy = NetworkChange { domains_remove: vec!["a.example".to_owned()], ..NetworkChange::default() };
        let change = EditEnvironment {
            secrets: Some(Some(secrets)),
            agent_network: Some(Some(policy)),
            ..EditEnvironment::default()
        };

        for (field, flag) in [
            ("secrets.K", "--network-secret"),
            ("secrets.T", "--setup-secret"),
            ("secrets.R", "--remove-secret"),
            ("secrets.X", "--setup-secrets-file"),
            ("variables.X", "--variables-file"),
            ("agent_network.domains", "--remove-domain"),
            ("setup_network.domains", "--setup-allow-domain"),
        ] {
            assert_eq!(said(&change, field, "no"), Some(format!("{flag}: no")), "{field}");
        }
    }
}

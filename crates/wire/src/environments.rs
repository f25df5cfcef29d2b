//! Environments: how sandboxes are made ready, and what they may reach. Values of secrets go in and never come out.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use uuid::Uuid;

/// An environment at its current version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Environment {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    #[schema(example = "default")]
    pub name: String,
    /// Raised with every change; attempts are pinned to one.
    pub version: i64,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// The repositories it is for; none means any.
    pub repositories: Vec<String>,
    /// What its root is made of: `host`, a folder of the service's machine, or a reference to an OCI image; null: what the
    /// repository says, or else `host`.
    #[schema(example = "debian:12")]
    pub image: Option<String>,
    /// What is run before a snapshot is kept; null: what the repository says, or else automatic setup.
    pub setup: Option<Setup>,
    /// A bash script that is run when a snapshot is reused; null: what the repository says, or else nothing.
    pub maintenance_script: Option<String>,
    /// Variables of every command in every phase.
    pub variables: BTreeMap<String, String>,
    /// The secrets it has, without their values.
    pub secrets: Vec<EnvironmentSecret>,
    /// What setup and maintenance may reach.
    pub setup_network: NetworkPolicy,
    /// What the agent may reach.
    pub agent_network: NetworkPolicy,
    /// What it may use.
    pub limits: Limits,
    /// Seconds a snapshot is reused for; 0: never.
    pub snapshot_life_s: u32,
    /// What is allowed and yet most likely not what was meant, as sentences for people, with the way out.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// The environments of an organization, by name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentList {
    /// All of them.
    pub items: Vec<Environment>,
}

/// What is run once, before a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Setup {
    /// Nothing.
    Nothing {},
    /// What the repository's lock files call for.
    Automatic {},
    /// A bash script.
    Script {
        /// The script: 1 MiB at most.
        script: String,
    },
}

/// How secrets reach programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// As a variable of setup and maintenance, and of nothing after.
    Setup,
    /// As a placeholder, in whose place the value is put on its way to the hosts the secret is for.
    Network,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentSecret {
    /// The variable it is seen as.
    pub name: String,
    /// How it reaches programs.
    pub kind: SecretKind,
    /// The hosts a network secret's value is sent to.
    pub hosts: Vec<String>,
    /// The version of the environment that came with its value.
    pub version: i64,
    /// When its value was given; null when the value is no longer there.
    pub updated_at: Option<Timestamp>,
}

/// Which hosts beside the listed ones may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Internet {
    /// None.
    Off,
    /// Those the image's package managers are configured for.
    Packages,
    /// Those, and the well-known hosts of dependencies.
    Common,
    /// All that are public.
    All,
}

/// Which requests may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Methods {
    /// Only GET, HEAD and OPTIONS.
    Read,
    /// Every one.
    All,
}

/// What a sandbox may reach in one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkPolicy {
    /// The preset.
    pub internet: Internet,
    /// Hosts beside it: `a.example` is this host alone, `*.a.example` those below it, `.a.example` both.
    pub domains: Vec<String>,
    /// Which requests may be made.
    pub methods: Methods,
}

/// What one sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Thousandths of a processor; 0: no limit, sandboxes share what there is evenly.
    pub cpu_millis: u32,
    /// Bytes of memory; 0: no limit.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub processes: u32,
    /// Bytes of the writable layer; 0: no limit.
    pub disk_bytes: u64,
    /// Seconds from the start of an attempt to its end; 0: the installation's.
    pub wall_clock_s: u32,
    /// Seconds that setup, and maintenance, may take.
    pub setup_s: u32,
    /// Bytes that one command's output may have.
    pub output_bytes: u64,
}

/// A value that is written and never read back. It does not show itself when printed for debugging.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText(…)")
    }
}

/// Makes an environment. What is left out has its default.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnvironment {
    /// Its name: up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first.
    #[schema(example = "api", max_length = 64)]
    pub name: String,
    /// The repositories it is for. Default: any.
    #[serde(default)]
    pub repositories: Option<Vec<String>>,
    /// `host`, a folder of the service's machine, or a reference to an OCI image. Default: what the repository says, or
    /// else `host`.
    #[serde(default)]
    #[schema(example = "debian:12")]
    pub image: Option<String>,
    /// Default: what the repository says, or else automatic setup.
    #[serde(default)]
    pub setup: Option<Setup>,
    /// Default: what the repository says, or else nothing.
    #[serde(default)]
    pub maintenance_script: Option<String>,
    /// Variables of every command: 200 at most, 64 KiB each.
    #[serde(default)]
    pub variables: Option<BTreeMap<String, String>>,
    /// Further variables, as the text of a `.env` file. `variables` wins over it.
    #[serde(default)]
    pub variables_text: Option<String>,
    /// Secrets by name: 100 at most, 64 KiB each.
    #[serde(default)]
    pub secrets: Option<BTreeMap<String, SecretChange>>,
    /// Further setup secrets, as the text of a `.env` file. Of one name in both, the value in `secrets` counts; it must be
    /// a setup secret there, too.
    #[serde(default)]
    pub setup_secrets_text: Option<SecretText>,
    /// What setup and maintenance may reach. Default: everything public.
    #[serde(default)]
    pub setup_network: Option<NetworkChange>,
    /// What the agent may reach. Default: nothing.
    #[serde(default)]
    pub agent_network: Option<NetworkChange>,
    /// What it may use.
    #[serde(default)]
    pub limits: Option<LimitsChange>,
    /// Seconds a snapshot is reused for; 0: never. Default: 12 hours.
    #[serde(default)]
    pub snapshot_life_s: Option<u32>,
}

/// Makes the next version of an environment. What is left out stays as it is; null gives a field its default.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EditEnvironment {
    /// The version that was looked at: another one is refused with 409. Default: whichever is current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// All repositories it is for.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub repositories: Option<Option<Vec<String>>>,
    /// Repositories to add to those it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories_add: Vec<String>,
    /// `host`, a folder of the service's machine, or a reference to an OCI image.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub image: Option<Option<String>>,
    /// What is run before a snapshot is kept.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub setup: Option<Option<Setup>>,
    /// What is run when a snapshot is reused.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub maintenance_script: Option<Option<String>>,
    /// Variables by name: null removes one, others stay. Null instead of an object removes all.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub variables: Option<Option<BTreeMap<String, Option<String>>>>,
    /// Variables that are set, as the text of a `.env` file. `variables` wins over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables_text: Option<String>,
    /// Secrets by name: null removes one, others stay. Null instead of an object removes all.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = secret_changes)]
    pub secrets: Option<Option<BTreeMap<String, Option<SecretChange>>>>,
    /// Setup secrets that get a value, as the text of a `.env` file. Of one name in both, the value in `secrets` counts; it
    /// must be a setup secret there, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_secrets_text: Option<SecretText>,
    /// What setup and maintenance may reach.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub setup_network: Option<Option<NetworkChange>>,
    /// What the agent may reach.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub agent_network: Option<Option<NetworkChange>>,
    /// What it may use.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub limits: Option<Option<LimitsChange>>,
    /// Seconds a snapshot is reused for; 0: never.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub snapshot_life_s: Option<Option<u32>>,
}

/// A secret as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretChange {
    /// How it reaches programs; a secret that is there keeps its kind when this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SecretKind>,
    /// Its value, 64 KiB at most; a secret that is there keeps its value when this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretText>,
    /// The hosts a network secret's value is sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
}

/// A network policy as it is to be. What is left out stays as it is; null gives a field its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkChange {
    /// The preset.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub internet: Option<Option<Internet>>,
    /// Which requests may be made.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub methods: Option<Option<Methods>>,
    /// All hosts beside the preset, 500 at most.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub domains: Option<Option<Vec<String>>>,
    /// Hosts to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains_add: Vec<String>,
    /// Hosts to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains_remove: Vec<String>,
}

/// Limits as they are to be. What is left out stays as it is; null gives a field its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsChange {
    /// Thousandths of a processor; 0: no limit. Default: no limit.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<Option<u32>>,
    /// Bytes of memory; 0: no limit. Default: 4 GiB.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<Option<u64>>,
    /// Processes and threads at once. Default: 1,024.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub processes: Option<Option<u32>>,
    /// Bytes of the writable layer; 0: no limit. Default: 20 GiB.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<Option<u64>>,
    /// Seconds from the start of an attempt to its end; 0: the installation's. Default: the installation's.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub wall_clock_s: Option<Option<u32>>,
    /// Seconds that setup, and maintenance, may take. Default: 20 minutes.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub setup_s: Option<Option<u32>>,
    /// Bytes that one command's output may have. Default: 1 GiB.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<Option<u64>>,
}

/// Allows the agent one more host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowDomain {
    /// `a.example` is this host alone, `*.a.example` those below it, `.a.example` both.
    #[schema(example = "registry.example.com")]
    pub domain: String,
}

/// What a reset has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheReset {
    /// How many snapshots are reused no more.
    pub snapshots: u64,
}

/// Described by hand: the derived description knows no objects whose values may be null.
fn secret_changes() -> Schema {
    let or_null = OneOfBuilder::new()
        .item(Ref::from_schema_name("SecretChange"))
        .item(ObjectBuilder::new().schema_type(Type::Null));
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(or_null.into()))))
        .description(Some("Secrets by name: null removes one, others stay. Null instead of an object removes all."))
        .into()
}

/// A field that is there, with a value or null. One that is not there never comes here.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<CreateEnvironment> for EditEnvironment {
    /// The change that makes it of an environment that has every default.
    fn from(new: CreateEnvironment) -> Self {
        let all = |variables: BTreeMap<String, String>| variables.into_iter().map(|(name, value)| (name, Some(value)));
        let each = |secrets: BTreeMap<String, SecretChange>| secrets.into_iter().map(|(name, one)| (name, Some(one)));
        Self {
            version: None,
            repositories: Some(new.repositories),
            repositories_add: Vec::new(),
            image: Some(new.image),
            setup: Some(new.setup),
            maintenance_script: Some(new.maintenance_script),
            variables: new.variables.map(|variables| Some(all(variables).collect())),
            variables_text: new.variables_text,
            secrets: new.secrets.map(|secrets| Some(each(secrets).collect())),
            setup_secrets_text: new.setup_secrets_text,
            setup_network: Some(new.setup_network),
            agent_network: Some(new.agent_network),
            limits: Some(new.limits),
            snapshot_life_s: Some(new.snapshot_life_s),
        }
    }
}

macro_rules! same_words {
    ($($name:ident { $($variant:ident)* })*) => {$(
        impl From<carrel_domain::$name> for $name {
            fn from(value: carrel_domain::$name) -> Self {
                match value {
                    $(carrel_domain::$name::$variant => Self::$variant,)*
                }
            }
        }

        impl From<$name> for carrel_domain::$name {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => Self::$variant,)*
                }
            }
        }
    )*};
}

same_words! {
    SecretKind { Setup Network }
    Internet { Off Packages Common All }
    Methods { Read All }
}

impl From<carrel_domain::Setup> for Setup {
    fn from(setup: carrel_domain::Setup) -> Self {
        match setup {
            carrel_domain::Setup::Nothing => Self::Nothing {},
            carrel_domain::Setup::Automatic => Self::Automatic {},
            carrel_domain::Setup::Script(script) => Self::Script { script },
        }
    }
}

impl From<Setup> for carrel_domain::Setup {
    fn from(setup: Setup) -> Self {
        match setup {
            Setup::Nothing {} => Self::Nothing,
            Setup::Automatic {} => Self::Automatic,
            Setup::Script { script } => Self::Script(script),
        }
    }
}

impl From<carrel_domain::NetworkPolicy> for NetworkPolicy {
    fn from(policy: carrel_domain::NetworkPolicy) -> Self {
        Self {
            internet: policy.internet.into(),
            domains: policy.domains.into_iter().map(String::from).collect(),
            methods: policy.methods.into(),
        }
    }
}

impl From<carrel_domain::ResourceLimits> for Limits {
    fn from(limits: carrel_domain::ResourceLimits) -> Self {
        Self {
            cpu_millis: limits.cpu_millis.unwrap_or(0),
            memory_bytes: limits.memory_bytes.unwrap_or(0),
            processes: limits.processes,
            disk_bytes: limits.disk_bytes.unwrap_or(0),
            wall_clock_s: limits.wall_clock_s.unwrap_or(0),
            setup_s: limits.setup_s,
            output_bytes: limits.output_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_and_what_is_null_are_told_apart() {
        let edit: EditEnvironment =
            serde_json::from_str(r#"{"image": null, "variables": {"A": null}, "limits": {"cpu_millis": null}}"#)
                .expect("an edit");

        assert_eq!(edit.image, Some(None));
        assert_eq!(edit.setup, None);
        assert_eq!(edit.variables, Some(Some(BTreeMap::from([("A".to_owned(), None)]))));
        assert_eq!(edit.limits, Some(Some(LimitsChange { cpu_millis: Some(None), ..LimitsChange::default() })));
        let written = serde_json::to_string(&edit).expect("plain data");
        assert_eq!(written, r#"{"image":null,"variables":{"A":null},"limits":{"cpu_millis":null}}"#);
    }

    #[test]
    fn a_value_does_not_show_itself_when_printed_for_debugging() {
        let change = SecretChange { value: Some(SecretText("hunter2".to_owned())), ..SecretChange::default() };

        assert!(!format!("{change:?}").contains("hunter2"));
    }

    #[test]
    fn a_misspelt_field_of_a_setup_is_refused() {
        assert!(serde_json::from_str::<Setup>(r#"{"kind": "script", "script": "make"}"#).is_ok());
        assert!(serde_json::from_str::<Setup>(r#"{"kind": "nothing"}"#).is_ok());
        assert!(serde_json::from_str::<Setup>(r#"{"kind": "nothing", "script": "make"}"#).is_err());
    }
}

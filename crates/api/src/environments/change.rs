//! What a request to make or change an environment means. The only place where that is checked.

use std::collections::BTreeMap;

use carrel_domain::{
    DomainRule, EnvironmentSpec, HostName, NetworkPolicy, RepositoryLocation, ResourceLimits, Secret, SecretKind,
    SecretName, Setup, VariableName, environment,
};
use carrel_store::{EnvironmentContent, NewSecret};
use carrel_wire::{EditEnvironment, LimitsChange, NetworkChange, SecretChange, SecretText};

use super::env_text;
use crate::problem::ApiError;

const MAX_REPOSITORIES: usize = 100;
const MAX_SCRIPT_BYTES: usize = 1 << 20;
const MAX_VARIABLES: usize = 200;
const MAX_SECRETS: usize = 100;
/// The shortest value that the redactor looks for.
const SHORTEST_SECRET: usize = 6;
const MAX_SECRET_HOSTS: usize = 50;
const MAX_DOMAINS: usize = 500;
const MAX_VALUE_BYTES: usize = 64 << 10;
/// All values together: what the system hands to a program has a limit of 2 MiB, of which arguments take some.
const MAX_VALUES_BYTES: usize = 1 << 20;
const DAY_S: u32 = 24 * 60 * 60;

/// What an environment that says `current` says after the change.
pub(super) fn understood(current: &EnvironmentSpec, change: EditEnvironment) -> Result<EnvironmentContent, ApiError> {
    let mut spec = current.clone();
    let default = EnvironmentSpec::default();
    if let Some(locations) = change.repositories {
        spec.repositories = repositories(Vec::new(), &locations.unwrap_or_default())?;
    }
    spec.repositories = repositories(spec.repositories, &change.repositories_add)?;
    if let Some(image) = change.image {
        spec.image = image.map(|image| parsed("image", &image)).transpose()?;
    }
    if let Some(setup) = change.setup {
        spec.setup = setup.map(Setup::from);
        if let Some(Setup::Script(text)) = &spec.setup {
            script("setup", text)?;
        }
    }
    if let Some(maintenance) = change.maintenance_script {
        spec.maintenance_script = maintenance;
        if let Some(text) = &spec.maintenance_script {
            script("maintenance_script", text)?;
        }
    }
    spec.variables = variables(spec.variables, change.variables_text.as_deref(), change.variables)?;
    let (secrets, values) = secrets(spec.secrets, change.setup_secrets_text.as_ref(), change.secrets)?;
    spec.secrets = secrets;
    if let Some(policy) = change.setup_network {
        spec.setup_network = network("setup_network", spec.setup_network, &default.setup_network, policy)?;
    }
    if let Some(policy) = change.agent_network {
        spec.agent_network = network("agent_network", spec.agent_network, &default.agent_network, policy)?;
    }
    if let Some(wanted) = change.limits {
        spec.limits = wanted.map_or(Ok(default.limits), |wanted| limits(spec.limits, wanted))?;
    }
    if let Some(life) = change.snapshot_life_s {
        let life = life.unwrap_or(default.snapshot_life_s);
        spec.snapshot_life_s = within("snapshot_life_s", life, 0, 30 * DAY_S)?;
    }
    names_are_free(current, &spec, &values)?;
    fits_together(&spec, &values)?;
    Ok(EnvironmentContent { spec, values })
}

/// A rule over hosts.
pub(super) fn domain(field: &str, text: &str) -> Result<DomainRule, ApiError> {
    parsed(field, text)
}

fn parsed<T: std::str::FromStr<Err: ToString>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.trim().parse().map_err(|error: T::Err| ApiError::field(field, error.to_string()))
}

fn repositories(mut found: Vec<RepositoryLocation>, locations: &[String]) -> Result<Vec<RepositoryLocation>, ApiError> {
    // Before each is compared with all others.
    at_most("repositories", "repositories", locations.len(), MAX_REPOSITORIES)?;
    for location in locations {
        let location = parsed("repositories", location)?;
        if !found.contains(&location) {
            found.push(location);
        }
    }
    at_most("repositories", "repositories", found.len(), MAX_REPOSITORIES)?;
    Ok(found)
}

fn script(field: &str, text: &str) -> Result<(), ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::field(field, "the script is empty; leave it out, or say what is to be run"));
    }
    if text.contains('\0') {
        return Err(ApiError::field(field, "the script has a NUL character, which bash does not take"));
    }
    if text.len() > MAX_SCRIPT_BYTES {
        let message = format!("the script has {} bytes, and may have {MAX_SCRIPT_BYTES}", text.len());
        return Err(ApiError::field(field, message));
    }
    Ok(())
}

fn variables(
    mut variables: BTreeMap<VariableName, String>,
    text: Option<&str>,
    change: Option<Option<BTreeMap<String, Option<String>>>>,
) -> Result<BTreeMap<VariableName, String>, ApiError> {
    if change == Some(None) {
        variables.clear();
    }
    if let Some(text) = text {
        let pasted = env_text::parse(text).map_err(|error| ApiError::field("variables_text", error))?;
        variables.extend(pasted);
    }
    for (name, value) in change.flatten().unwrap_or_default() {
        let field = format!("variables.{name}");
        let name: VariableName = parsed("variables", &name)?;
        match value {
            Some(value) => {
                variables.insert(name, value);
            }
            None if variables.remove(&name).is_some() => {}
            None => return Err(ApiError::field(&field, format!("there is no variable `{name}` to remove"))),
        }
    }
    at_most("variables", "variables", variables.len(), MAX_VARIABLES)?;
    for (name, value) in &variables {
        plain_value(&format!("variables.{name}"), &format!("the value of the variable `{name}`"), value)?;
    }
    Ok(variables)
}

/// The secrets a spec names after the change, and the values that come with it.
fn secrets(
    mut named: Vec<SecretName>,
    text: Option<&SecretText>,
    change: Option<Option<BTreeMap<String, Option<SecretChange>>>>,
) -> Result<(Vec<SecretName>, Vec<NewSecret>), ApiError> {
    let is_cleared = matches!(change, Some(None));
    if is_cleared {
        named.clear();
    }
    let mut values: BTreeMap<VariableName, NewSecret> = BTreeMap::new();
    if let Some(text) = text {
        let pasted = env_text::parse(&text.0).map_err(|error| ApiError::field("setup_secrets_text", error))?;
        for (name, value) in pasted {
            let value = value_of(&name, SecretKind::Setup, value)?;
            values.insert(name.clone(), NewSecret { name, kind: SecretKind::Setup, hosts: Vec::new(), value });
        }
    }
    for (text, wanted) in change.flatten().unwrap_or_default() {
        let name: VariableName = parsed("secrets", &text)?;
        let before = named.iter().position(|secret| secret.name == name);
        let is_setup = wanted.as_ref().is_some_and(|wanted| wanted.kind != Some(carrel_wire::SecretKind::Network));
        if values.contains_key(&name) && !is_setup {
            let message =
                format!("`{name}` is a setup secret in the text, and something else beside it; say it in one place");
            return Err(ApiError::field(&field_of(&name), message));
        }
        match (wanted, before) {
            (None, Some(index)) => {
                named.remove(index);
            }
            (None, None) => {
                let message = format!("there is no secret `{name}` to remove");
                return Err(ApiError::field(&field_of(&name), message));
            }
            (Some(wanted), before) => match secret(&name, wanted, before.map(|index| &named[index]))? {
                Wanted::Value(new) => {
                    values.insert(name, new);
                }
                Wanted::Hosts(hosts) => {
                    if let Some(index) = before {
                        named[index].hosts = hosts;
                    }
                }
            },
        }
    }
    named.retain(|secret| !values.contains_key(&secret.name));
    at_most("secrets", "secrets", named.len() + values.len(), MAX_SECRETS)?;
    Ok((named, values.into_values().collect()))
}

/// What a change wants of a secret: a value, or other hosts for the value it has.
enum Wanted {
    Value(NewSecret),
    Hosts(Vec<HostName>),
}

fn secret(name: &VariableName, wanted: SecretChange, before: Option<&SecretName>) -> Result<Wanted, ApiError> {
    let field = field_of(name);
    let kind = wanted.kind.map(SecretKind::from).or(before.map(|before| before.kind));
    let kind = kind.ok_or_else(|| {
        ApiError::field(&field, format!("the secret `{name}` is new; say its kind, `setup` or `network`"))
    })?;
    let hosts = match &wanted.hosts {
        Some(hosts) => hosts.iter().map(|host| parsed(&field, host)).collect::<Result<Vec<HostName>, _>>()?,
        None => before.filter(|before| before.kind == kind).map(|before| before.hosts.clone()).unwrap_or_default(),
    };
    match kind {
        SecretKind::Setup if !hosts.is_empty() => {
            return Err(ApiError::field(
                &field,
                format!("the setup secret `{name}` has hosts; only network secrets do"),
            ));
        }
        SecretKind::Network if hosts.is_empty() => {
            let message = format!("the network secret `{name}` needs at least one host that its value may be sent to");
            return Err(ApiError::field(&field, message));
        }
        SecretKind::Setup | SecretKind::Network => {}
    }
    at_most(&field, "hosts of one secret", hosts.len(), MAX_SECRET_HOSTS)?;
    match (wanted.value, before) {
        (Some(value), _) => {
            let value = value_of(name, kind, value.0)?;
            Ok(Wanted::Value(NewSecret { name: name.clone(), kind, hosts, value }))
        }
        (None, Some(before)) if before.kind == kind => Ok(Wanted::Hosts(hosts)),
        (None, _) => Err(ApiError::field(&field, format!("the secret `{name}` needs a value"))),
    }
}

fn value_of(name: &VariableName, kind: SecretKind, value: String) -> Result<Secret, ApiError> {
    let (field, what) = (field_of(name), format!("the value of the secret `{name}`"));
    if value.is_empty() {
        return Err(ApiError::field(&field, format!("{what} is empty; give it one, or remove the secret")));
    }
    // A shorter one cannot be told from ordinary words, and so not be kept out of logs and snapshots.
    if value.trim().len() < SHORTEST_SECRET {
        let message = format!(
            "{what} has fewer than {SHORTEST_SECRET} characters and could not be kept out of logs; use a longer one, or a variable"
        );
        return Err(ApiError::field(&field, message));
    }
    plain_value(&field, &what, &value)?;
    if kind == SecretKind::Network && value.chars().any(char::is_control) {
        return Err(ApiError::field(
            &field,
            format!("{what} has a line break or another character that no request takes"),
        ));
    }
    Ok(Secret::new(value))
}

fn field_of(name: &VariableName) -> String {
    format!("secrets.{name}")
}

fn plain_value(field: &str, what: &str, value: &str) -> Result<(), ApiError> {
    if value.contains('\0') {
        return Err(ApiError::field(field, format!("{what} has a NUL character, which no program takes")));
    }
    if value.len() > MAX_VALUE_BYTES {
        let message = format!("{what} has {} bytes, and may have {MAX_VALUE_BYTES}; put it into a file", value.len());
        return Err(ApiError::field(field, message));
    }
    Ok(())
}

/// No name is the sandbox's own, and no value breaks every command. What was taken once is not judged again.
fn names_are_free(current: &EnvironmentSpec, spec: &EnvironmentSpec, values: &[NewSecret]) -> Result<(), ApiError> {
    for (name, value) in &spec.variables {
        if current.variables.get(name) != Some(value)
            && let Some(refusal) = environment::variables::refusal(name, value)
        {
            return Err(ApiError::field(&format!("variables.{name}"), refusal));
        }
    }
    for new in values {
        if let Some(refusal) = environment::variables::refusal_of_secret(&new.name) {
            return Err(ApiError::field(&field_of(&new.name), refusal));
        }
    }
    Ok(())
}

/// One name means one thing, and everything fits into what a program is given.
fn fits_together(spec: &EnvironmentSpec, values: &[NewSecret]) -> Result<(), ApiError> {
    let mut secrets = spec.secrets.iter().map(|secret| &secret.name).chain(values.iter().map(|new| &new.name));
    if let Some(name) = secrets.find(|name| spec.variables.contains_key(*name)) {
        let message = format!("`{name}` is a variable and a secret; remove one of them");
        return Err(ApiError::field(&field_of(name), message));
    }
    let of_variables = spec.variables.iter().map(|(name, value)| name.as_str().len() + value.len());
    let of_secrets = values.iter().map(|new| new.name.as_str().len() + new.value.expose().len());
    let total: usize = of_variables.chain(of_secrets).sum();
    if total > MAX_VALUES_BYTES {
        let message = format!("all values together have {total} bytes, and may have {MAX_VALUES_BYTES}");
        return Err(ApiError::field("variables", message));
    }
    Ok(())
}

fn network(
    field: &str,
    mut policy: NetworkPolicy,
    default: &NetworkPolicy,
    change: Option<NetworkChange>,
) -> Result<NetworkPolicy, ApiError> {
    let Some(change) = change else { return Ok(default.clone()) };
    let domains = format!("{field}.domains");
    if let Some(internet) = change.internet {
        policy.internet = internet.map_or(default.internet, Into::into);
    }
    if let Some(methods) = change.methods {
        policy.methods = methods.map_or(default.methods, Into::into);
    }
    if let Some(all) = change.domains {
        policy.domains.clear();
        add(&domains, &mut policy, &all.unwrap_or_default())?;
    }
    for text in &change.domains_remove {
        let rule: DomainRule = parsed(&domains, text)?;
        let before = policy.domains.len();
        policy.domains.retain(|known| *known != rule);
        if policy.domains.len() == before {
            return Err(ApiError::field(
                &domains,
                format!("`{rule}` is not among the domains, so it cannot be removed"),
            ));
        }
    }
    add(&domains, &mut policy, &change.domains_add)?;
    at_most(&domains, "domains", policy.domains.len(), MAX_DOMAINS)?;
    Ok(policy)
}

fn add(field: &str, policy: &mut NetworkPolicy, texts: &[String]) -> Result<(), ApiError> {
    // Before each is compared with all others.
    at_most(field, "domains", texts.len(), MAX_DOMAINS)?;
    for text in texts {
        let rule = parsed(field, text)?;
        if !policy.domains.contains(&rule) {
            policy.domains.push(rule);
        }
    }
    Ok(())
}

fn limits(current: ResourceLimits, change: LimitsChange) -> Result<ResourceLimits, ApiError> {
    let default = ResourceLimits::default();
    let mut limits = current;
    if let Some(millis) = change.cpu_millis {
        let bounded = |millis| unless_zero(millis, |millis| within("limits.cpu_millis", millis, 10, 1_024_000));
        limits.cpu_millis = millis.map_or(Ok(default.cpu_millis), bounded)?;
    }
    if let Some(bytes) = change.memory_bytes {
        let bounded = |bytes| unless_zero(bytes, |bytes| within("limits.memory_bytes", bytes, 64 << 20, 1 << 44));
        limits.memory_bytes = bytes.map_or(Ok(default.memory_bytes), bounded)?;
    }
    if let Some(processes) = change.processes {
        limits.processes = within("limits.processes", processes.unwrap_or(default.processes), 16, 1_000_000)?;
    }
    if let Some(bytes) = change.disk_bytes {
        let bounded = |bytes| unless_zero(bytes, |bytes| within("limits.disk_bytes", bytes, 16 << 20, 1 << 50));
        limits.disk_bytes = bytes.map_or(Ok(default.disk_bytes), bounded)?;
    }
    if let Some(seconds) = change.wall_clock_s {
        let bounded = |seconds| unless_zero(seconds, |seconds| within("limits.wall_clock_s", seconds, 10, 30 * DAY_S));
        limits.wall_clock_s = seconds.map_or(Ok(default.wall_clock_s), bounded)?;
    }
    if let Some(seconds) = change.setup_s {
        limits.setup_s = within("limits.setup_s", seconds.unwrap_or(default.setup_s), 1, DAY_S)?;
    }
    if let Some(bytes) = change.output_bytes {
        let bytes = bytes.unwrap_or(default.output_bytes);
        limits.output_bytes = within("limits.output_bytes", bytes, 64 << 10, 1 << 40)?;
    }
    Ok(limits)
}

/// 0 is no limit.
fn unless_zero<T: Copy + PartialEq + From<u8>>(
    number: T,
    bounded: impl Fn(T) -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    if number == T::from(0) { Ok(None) } else { bounded(number).map(Some) }
}

fn within<T: Copy + PartialOrd + std::fmt::Display + Into<u64>>(
    field: &str,
    number: T,
    least: T,
    most: T,
) -> Result<T, ApiError> {
    if number < least || number > most {
        let [least, most] = [least, most].map(|bound| with_unit(field, bound.into()));
        return Err(ApiError::field(field, format!("{field} is {number}, and may be {least} to {most}")));
    }
    Ok(number)
}

/// A bound in the field's unit, and in one that people think in.
fn with_unit(field: &str, bound: u64) -> String {
    let units: &[(u64, &str)] = if field.ends_with("_bytes") {
        &[(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")]
    } else if field.ends_with("_s") {
        &[(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")]
    } else {
        &[]
    };
    let fits = units.iter().find(|(each, _)| bound >= *each && bound.is_multiple_of(*each));
    fits.map_or_else(|| bound.to_string(), |(each, unit)| format!("{bound} ({}{unit})", bound / each))
}

fn at_most(field: &str, what: &str, count: usize, most: usize) -> Result<(), ApiError> {
    if count <= most {
        Ok(())
    } else {
        Err(ApiError::field(field, format!("there are {count} {what}, and may be {most}")))
    }
}

//! Which of several sources counts: the stored environment, then `.carrel/environment.toml`, then `devcontainer.json`,
//! then the default. Variables are merged name by name in that order, and a limit counts where it is lower.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use super::{RepositorySettings, RequestedLimits};
use crate::environment;
use crate::{DomainRule, EnvironmentSpec, Image, Internet, ResourceLimits, Setup, VariableName};

/// What of an environment was said nowhere.
const DEFAULT: &str = "default";
/// What the stored environment says.
const ENVIRONMENT: &str = "environment";

/// What counts, and where it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The image.
    pub image: Image,
    /// What is run before a snapshot is kept.
    pub setup: Setup,
    /// What is run when a snapshot is reused.
    pub maintenance_script: Option<String>,
    /// Variables of every command.
    pub variables: BTreeMap<VariableName, String>,
    /// What it may use: never more than the environment says.
    pub limits: ResourceLimits,
    /// Domains that the repository asks for and that the agent may not reach by name or by `all`.
    pub unmet_domains: Vec<DomainRule>,
    /// What was said and where: a key of the file's format, and `environment`, a file of the repository, or `default`.
    /// Variables and limits are listed where the repository said them.
    pub sources: Vec<(String, String)>,
    /// What of the repository's files does not count beside the environment, as sentences for a person.
    pub warnings: Vec<String>,
}

impl Settled {
    /// Whether the repository chose the image, or a variable of the commands in it. What programs say of themselves in
    /// such a sandbox is the repository's word, also before anything of it has run.
    #[must_use]
    pub fn is_shaped_by_repository(&self) -> bool {
        let decides = |key: &str| key == "image" || key.starts_with("variables.");
        self.sources.iter().any(|(key, source)| decides(key) && !matches!(source.as_str(), ENVIRONMENT | DEFAULT))
    }
}

/// Settles what counts.
#[must_use]
pub fn settle(
    stored: &EnvironmentSpec,
    file: Option<&RepositorySettings>,
    devcontainer: Option<&RepositorySettings>,
) -> Settled {
    let said: Vec<&RepositorySettings> = file.into_iter().chain(devcontainer).collect();
    let mut sources = Vec::new();
    let mut warnings = Vec::new();
    let image = first(&mut sources, "image", &stored.image, said.iter().map(|said| (&said.image, said.source)));
    let setup = first(&mut sources, "setup", &stored.setup, said.iter().map(|said| (&said.setup, said.source)));
    let scripts = said.iter().map(|said| (&said.maintenance_script, said.source));
    let maintenance_script = first(&mut sources, "maintenance_script", &stored.maintenance_script, scripts);
    let variables = variables(stored, &said, &mut sources, &mut warnings);
    let limits = said
        .iter()
        .fold(stored.limits, |limits, said| lowered(limits, said.limits, said.source, &mut sources, &mut warnings));
    let is_met = |rule: &DomainRule| {
        stored.agent_network.internet == Internet::All || stored.agent_network.domains.contains(rule)
    };
    let mut unmet_domains: Vec<DomainRule> = Vec::new();
    for rule in said.iter().flat_map(|said| &said.requested_domains) {
        if !is_met(rule) && !unmet_domains.contains(rule) {
            unmet_domains.push(rule.clone());
        }
    }
    Settled {
        image: image.unwrap_or_default(),
        setup: setup.unwrap_or_default(),
        maintenance_script,
        variables,
        limits,
        unmet_domains,
        sources,
        warnings,
    }
}

/// The first value that was said, and where.
fn first<'a, T: Clone + 'a>(
    sources: &mut Vec<(String, String)>,
    key: &str,
    stored: &'a Option<T>,
    said: impl Iterator<Item = (&'a Option<T>, &'static str)>,
) -> Option<T> {
    let mut all = std::iter::once((stored, ENVIRONMENT)).chain(said);
    let found = all.find_map(|(value, source)| Some((value.clone()?, source)));
    let (value, source) = found.map_or((None, DEFAULT), |(value, source)| (Some(value), source));
    sources.push((key.to_owned(), source.to_owned()));
    value
}

/// Variables by name. A name that is a secret's stays the secret's: a repository must not put its own value there.
fn variables(
    stored: &EnvironmentSpec,
    said: &[&RepositorySettings],
    sources: &mut Vec<(String, String)>,
    warnings: &mut Vec<String>,
) -> BTreeMap<VariableName, String> {
    let mut variables = stored.variables.clone();
    for said in said {
        for (name, value) in &said.variables {
            if stored.secrets.iter().any(|secret| secret.name == *name) {
                warnings.push(format!(
                    "`{}` sets {name}, which is the name of a secret of the environment; the secret counts",
                    said.source
                ));
            } else if let Some(refusal) = environment::variables::refusal(name, value) {
                warnings.push(format!("`{}` sets {name}, which does not count: {refusal}", said.source));
            } else if !variables.contains_key(name) {
                variables.insert(name.clone(), value.clone());
                sources.push((format!("variables.{name}"), said.source.to_owned()));
            }
        }
    }
    variables
}

/// The limits with those of a file, where they are lower.
fn lowered(
    limits: ResourceLimits,
    requested: RequestedLimits,
    source: &str,
    sources: &mut Vec<(String, String)>,
    warnings: &mut Vec<String>,
) -> ResourceLimits {
    let mut lower = |key: &str, stored: Option<u64>, asked: Option<u64>| -> Option<u64> {
        let Some(asked) = asked else { return stored };
        match stored {
            Some(stored) if stored < asked => {
                warnings.push(format!(
                    "`{source}` sets {key} to {asked}; the environment allows {stored}, and that counts"
                ));
                Some(stored)
            }
            Some(stored) if stored == asked => Some(stored),
            Some(_) | None => {
                sources.push((format!("limits.{key}"), source.to_owned()));
                Some(asked)
            }
        }
    };
    let narrow = |asked: Option<NonZeroU32>| asked.map(|asked| u64::from(asked.get()));
    let wide = |asked: Option<NonZeroU64>| asked.map(NonZeroU64::get);
    // Each result is one of its two inputs, so what came from 32 bits fits there again.
    let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    ResourceLimits {
        cpu_millis: small(lower("cpu_millis", limits.cpu_millis.map(u64::from), narrow(requested.cpu_millis))),
        memory_bytes: lower("memory_bytes", limits.memory_bytes, wide(requested.memory_bytes)),
        processes: small(lower("processes", Some(limits.processes.into()), narrow(requested.processes)))
            .unwrap_or(limits.processes),
        disk_bytes: lower("disk_bytes", limits.disk_bytes, wide(requested.disk_bytes)),
        wall_clock_s: small(lower("wall_clock_s", limits.wall_clock_s.map(u64::from), narrow(requested.wall_clock_s))),
        setup_s: small(lower("setup_s", Some(limits.setup_s.into()), narrow(requested.setup_s)))
            .unwrap_or(limits.setup_s),
        output_bytes: lower("output_bytes", Some(limits.output_bytes), wide(requested.output_bytes))
            .unwrap_or(limits.output_bytes),
    }
}

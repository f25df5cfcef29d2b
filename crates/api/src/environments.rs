//! `/environments`: how sandboxes are made ready, and what they may reach.

pub(crate) mod allow_domain;
mod change;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod edit;
mod env_text;
pub(crate) mod list;
pub(crate) mod reset_cache;
pub(crate) mod show;
pub(crate) mod terminal;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use carrel_domain::environment::InvalidEnvironment;
use carrel_domain::{Environment, EnvironmentName, SecretName};
use carrel_store::KeptSecret;
use carrel_wire as wire;

use crate::Shared;
use crate::problem::ApiError;

/// The `{name}` of a route. Text that is no name names nothing, so it is a 404 that says what is wrong with it.
pub(crate) struct Name(pub(crate) EnvironmentName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        let nothing = |error: InvalidEnvironment| ApiError::not_found("environment").detail(error.to_string());
        Ok(Self(text.parse().map_err(nothing)?))
    }
}

/// An environment as it goes out: its secrets without their values.
async fn shown(shared: &Shared, environment: Environment) -> Result<wire::Environment, ApiError> {
    let kept = shared.control.store().kept_secrets(environment.organization, environment.id).await?;
    Ok(view(environment, &kept))
}

fn view(environment: Environment, kept: &[KeptSecret]) -> wire::Environment {
    let Environment { id, name, version, spec, created_at, .. } = environment;
    let hints = spec.hints(&name);
    wire::Environment {
        hints,
        id: id.as_uuid(),
        name: name.into(),
        version,
        updated_at: created_at,
        repositories: spec.repositories.iter().map(ToString::to_string).collect(),
        image: spec.image.map(String::from),
        setup: spec.setup.map(Into::into),
        maintenance_script: spec.maintenance_script,
        variables: spec.variables.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        secrets: spec.secrets.into_iter().map(|named| secret(named, kept)).collect(),
        setup_network: spec.setup_network.into(),
        agent_network: spec.agent_network.into(),
        limits: spec.limits.into(),
        snapshot_life_s: spec.snapshot_life_s,
    }
}

fn secret(named: SecretName, kept: &[KeptSecret]) -> wire::EnvironmentSecret {
    let row = kept.iter().find(|row| row.is_meant_by(&named));
    wire::EnvironmentSecret {
        updated_at: row.map(|row| row.created_at),
        name: named.name.into(),
        kind: named.kind.into(),
        hosts: named.hosts.into_iter().map(String::from).collect(),
        version: named.version,
    }
}

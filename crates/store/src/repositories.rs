//! Repositories an organization works on, and the environments its attempts are pinned to.

use carrel_domain::{EnvironmentId, OrganizationId, RepositoryId, RepositoryLocation};

use crate::database::{Row, StoreError, Transaction, time};
use crate::{Store, fresh};

/// A repository's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Which one.
    pub id: RepositoryId,
    /// Where it is.
    pub location: RepositoryLocation,
}

/// An environment as it was at one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVersion {
    /// Which environment.
    pub id: EnvironmentId,
    /// Its name.
    pub name: String,
    /// The version.
    pub version: i64,
    /// What its sandboxes are made of; `host` is the host's own root file system.
    pub image: String,
}

impl Store {
    /// The repositories of an organization, the last used first, a hundred at most.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repositories(&self, organization: OrganizationId) -> Result<Vec<Repository>, StoreError> {
        let rows = self
            .database
            .all(
                "select id, location from repository where organization_id = $1 order by used_at desc limit 100",
                [organization.as_uuid().into()],
            )
            .await?;
        rows.iter().map(repository).collect()
    }

    /// One version of every environment that attempts of this organization are pinned to or may be.
    ///
    /// # Errors
    /// When there is none, or the database refuses.
    pub async fn environment_version(
        &self,
        organization: OrganizationId,
        id: EnvironmentId,
        version: i64,
    ) -> Result<EnvironmentVersion, StoreError> {
        let row = self
            .database
            .one(
                "select e.id, e.name, v.version, v.image
                 from environment e join environment_version v on v.environment_id = e.id
                 where e.organization_id = $1 and e.id = $2 and v.version = $3",
                [organization.as_uuid().into(), id.as_uuid().into(), version.into()],
            )
            .await?;
        environment(&row.ok_or(StoreError::NotFound { noun: "environment" })?)
    }
}

/// The repository's row, made when it is new.
pub(crate) async fn ensure_repository(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    location: &RepositoryLocation,
) -> Result<RepositoryId, StoreError> {
    let row = transaction
        .one(
            "insert into repository (id, organization_id, location, created_at, used_at) values ($1, $2, $3, $4, $4)
             on conflict (organization_id, location) do update set used_at = excluded.used_at returning id",
            [fresh().into(), organization.as_uuid().into(), location.to_string().into(), time(store.now())],
        )
        .await?;
    row.ok_or(StoreError::NotFound { noun: "repository" })?.id("id", RepositoryId::from_uuid)
}

/// The environment `default` at its current version.
pub(crate) async fn default_environment(
    transaction: &Transaction,
    organization: OrganizationId,
) -> Result<EnvironmentVersion, StoreError> {
    let row = transaction
        .one(
            "select e.id, e.name, v.version, v.image
             from environment e join environment_version v on v.environment_id = e.id and v.version = e.version
             where e.organization_id = $1 and e.name = 'default'",
            [organization.as_uuid().into()],
        )
        .await?;
    environment(&row.ok_or(StoreError::NotFound { noun: "environment" })?)
}

fn environment(row: &Row) -> Result<EnvironmentVersion, StoreError> {
    Ok(EnvironmentVersion {
        id: row.id("id", EnvironmentId::from_uuid)?,
        name: row.get("name")?,
        version: row.get("version")?,
        image: row.get("image")?,
    })
}

fn repository(row: &Row) -> Result<Repository, StoreError> {
    Ok(Repository { id: row.id("id", RepositoryId::from_uuid)?, location: row.parsed("location")? })
}

//! Repositories an organization works on.

use carrel_domain::{OrganizationId, RepositoryId, RepositoryLocation};

use crate::database::{Row, Scope, StoreError, Transaction, time};
use crate::{Store, fresh};

/// A repository's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Which one.
    pub id: RepositoryId,
    /// Where it is.
    pub location: RepositoryLocation,
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

    /// The id of a repository; one that was never used is known from now on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn know_repository(
        &self,
        organization: OrganizationId,
        location: &RepositoryLocation,
    ) -> Result<RepositoryId, StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        let id = ensure_repository(self, &transaction, organization, location).await?;
        transaction.commit().await?;
        Ok(id)
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

fn repository(row: &Row) -> Result<Repository, StoreError> {
    Ok(Repository { id: row.id("id", RepositoryId::from_uuid)?, location: row.parsed("location")? })
}

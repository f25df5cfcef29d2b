//! Environments and their versions: made, changed by making the next version, read, and deleted. Values of their
//! secrets are `secrets.rs`'s, their snapshots `snapshots.rs`'s.

use carrel_domain::environment::DEFAULT_ENVIRONMENT;
use carrel_domain::{
    Environment, EnvironmentId, EnvironmentName, EnvironmentSpec, OrganizationId, RepositoryLocation, UserId,
};
use jiff::Timestamp;
use sea_orm::Value;

use crate::database::{Row, Scope, StoreError, Transaction, json, time};
use crate::secrets::{self, NewSecret};
use crate::{Store, fresh, snapshots};

/// The most environments of one organization.
const MAX_ENVIRONMENTS: u32 = 500;

const COLUMNS: &str =
    "e.id, e.organization_id, coalesce(e.deleted_name, e.name) as name, v.version, v.spec, v.created_at";

/// An environment that is to be: everything about it has been checked.
#[derive(Debug, Clone)]
pub struct NewEnvironment {
    /// Whose it will be.
    pub organization: OrganizationId,
    /// Who asks.
    pub created_by: UserId,
    /// What it is called.
    pub name: EnvironmentName,
    /// What its first version says, and its secrets.
    pub content: EnvironmentContent,
}

/// What a version of an environment is to say.
#[derive(Debug, Clone)]
pub struct EnvironmentContent {
    /// What it says. Of its secrets it names those that keep the value they have.
    pub spec: EnvironmentSpec,
    /// The secrets that get a value with it.
    pub values: Vec<NewSecret>,
}

impl Store {
    /// Makes an environment with its first version and the values of its secrets, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::EnvironmentExists`] when the name is taken.
    pub async fn create_environment(&self, new: NewEnvironment) -> Result<Environment, StoreError> {
        let NewEnvironment { organization, created_by, name, content } = new;
        let id = EnvironmentId::from_uuid(fresh());
        let transaction = self.write(Scope::Organization(organization)).await?;
        require_room(&transaction, organization).await?;
        let made = transaction
            .run(
                "insert into environment (id, organization_id, name, version) values ($1, $2, $3, 1)
                 on conflict (organization_id, name) do nothing",
                [id.as_uuid().into(), organization.as_uuid().into(), name.as_str().into()],
            )
            .await?;
        if made == 0 {
            return Err(StoreError::EnvironmentExists { name });
        }
        let environment =
            Environment { id, organization, name, version: 1, spec: content.spec, created_at: stored(self.now()) };
        let environment = insert_version(self, &transaction, environment, content.values, created_by).await?;
        transaction.commit().await?;
        Ok(environment)
    }

    /// Makes the next version of an environment. Values that no version in use names any more are gone with it. When
    /// nothing would change, there is no next version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer as `current` says.
    pub async fn edit_environment(
        &self,
        current: &Environment,
        content: EnvironmentContent,
        by: UserId,
    ) -> Result<Environment, StoreError> {
        if content.values.is_empty() && content.spec == current.spec {
            return Ok(current.clone());
        }
        let transaction = self.write(Scope::Organization(current.organization)).await?;
        let changed = transaction
            .run(
                "update environment set version = version + 1
                 where id = $1 and organization_id = $2 and version = $3 and deleted_at is null",
                [current.id.as_uuid().into(), current.organization.as_uuid().into(), current.version.into()],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::Conflict { noun: "environment" });
        }
        let next = Environment {
            version: current.version + 1,
            spec: content.spec,
            created_at: stored(self.now()),
            ..current.clone()
        };
        let next = insert_version(self, &transaction, next, content.values, by).await?;
        purge_values(&transaction, next.organization, next.id).await?;
        transaction.commit().await?;
        Ok(next)
    }

    /// The environments of an organization by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn environments(&self, organization: OrganizationId) -> Result<Vec<Environment>, StoreError> {
        let rows = self
            .database
            .all(
                &format!(
                    "select {COLUMNS} from environment e
                     join environment_version v on v.environment_id = e.id and v.version = e.version
                     where e.organization_id = $1 and e.deleted_at is null order by e.name limit $2"
                ),
                [organization.as_uuid().into(), i64::from(MAX_ENVIRONMENTS).into()],
            )
            .await?;
        rows.iter().map(environment).collect()
    }

    /// An environment by its name, at its current version.
    ///
    /// # Errors
    /// [`StoreError::UnknownEnvironment`] when the organization has none of that name.
    pub async fn environment(
        &self,
        organization: OrganizationId,
        name: &EnvironmentName,
    ) -> Result<Environment, StoreError> {
        let (sql, values) = by_name(organization, name);
        let row = self.database.one(&sql, values).await?;
        environment(&row.ok_or_else(|| StoreError::UnknownEnvironment { name: name.clone() })?)
    }

    /// An environment at one of its versions, also when it was deleted since.
    ///
    /// # Errors
    /// When there is none, or the database refuses.
    pub async fn environment_version(
        &self,
        organization: OrganizationId,
        id: EnvironmentId,
        version: i64,
    ) -> Result<Environment, StoreError> {
        let row = self
            .database
            .one(
                &format!(
                    "select {COLUMNS} from environment e join environment_version v on v.environment_id = e.id
                     where e.organization_id = $1 and e.id = $2 and v.version = $3"
                ),
                [organization.as_uuid().into(), id.as_uuid().into(), version.into()],
            )
            .await?;
        environment(&row.ok_or(StoreError::NotFound { noun: "environment" })?)
    }

    /// Deletes an environment with the values of its secrets; its snapshots are never used again. Attempts that have
    /// ended go on showing what they ran with.
    ///
    /// # Errors
    /// [`StoreError::DefaultEnvironment`] and [`StoreError::EnvironmentInUse`], which leave it as it is.
    pub async fn delete_environment(
        &self,
        organization: OrganizationId,
        name: &EnvironmentName,
    ) -> Result<(), StoreError> {
        if name.as_str() == DEFAULT_ENVIRONMENT {
            return Err(StoreError::DefaultEnvironment);
        }
        let transaction = self.write(Scope::Organization(organization)).await?;
        let found = living(&transaction, organization, name).await?;
        let row = transaction
            .one(
                "select count(*) as attempts from attempt
                 where environment_id = $1 and organization_id = $2 and ended_at is null",
                [found.id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        let attempts = row.ok_or(StoreError::NotFound { noun: "environment" })?.number("attempts")?;
        if attempts > 0 {
            return Err(StoreError::EnvironmentInUse { name: name.clone(), attempts });
        }
        transaction
            .run(
                "update environment set deleted_at = $3, deleted_name = name, name = $4
                 where id = $1 and organization_id = $2",
                [
                    found.id.as_uuid().into(),
                    organization.as_uuid().into(),
                    time(self.now()),
                    format!("{name} (deleted, {})", found.id).into(),
                ],
            )
            .await?;
        purge_values(&transaction, organization, found.id).await?;
        snapshots::reset(self, &transaction, organization, found.id).await?;
        transaction.commit().await
    }
}

/// A time as it will be read back: rows hold milliseconds.
fn stored(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

async fn require_room(transaction: &Transaction, organization: OrganizationId) -> Result<(), StoreError> {
    let row = transaction
        .one(
            "select count(*) as living from environment where organization_id = $1 and deleted_at is null",
            [organization.as_uuid().into()],
        )
        .await?;
    let living = row.map_or(Ok(0), |row| row.number("living"))?;
    if living < MAX_ENVIRONMENTS { Ok(()) } else { Err(StoreError::TooManyEnvironments { most: MAX_ENVIRONMENTS }) }
}

/// Writes down a version. A secret that gets a value with it has the version's number: so no two values of a name ever
/// share one, also when the name was gone in between.
async fn insert_version(
    store: &Store,
    transaction: &Transaction,
    mut environment: Environment,
    values: Vec<NewSecret>,
    by: UserId,
) -> Result<Environment, StoreError> {
    let named = secrets::insert(store, transaction, &environment, values).await?;
    environment.spec.secrets.retain(|kept| named.iter().all(|new| new.name != kept.name));
    environment.spec.secrets.extend(named);
    environment.spec.secrets.sort_by(|one, other| one.name.cmp(&other.name));
    transaction
        .run(
            "insert into environment_version (environment_id, version, organization_id, image, created_at, spec,
                 created_by) values ($1, $2, $3, $4, $5, $6, $7)",
            [
                environment.id.as_uuid().into(),
                environment.version.into(),
                environment.organization.as_uuid().into(),
                // What stood here before there was a spec.
                environment.spec.image.clone().unwrap_or_default().to_string().into(),
                time(environment.created_at),
                json(&environment.spec),
                by.as_uuid().into(),
            ],
        )
        .await?;
    Ok(environment)
}

/// Deletes the values that neither the current version of an environment names nor one that an attempt under way is
/// pinned to.
pub(crate) async fn purge_values(
    transaction: &Transaction,
    organization: OrganizationId,
    id: EnvironmentId,
) -> Result<(), StoreError> {
    let scope = || -> [Value; 2] { [id.as_uuid().into(), organization.as_uuid().into()] };
    let kept = secrets::rows_of(transaction, organization, id).await?;
    if kept.is_empty() {
        return Ok(());
    }
    let in_use = transaction
        .all(
            "select v.spec from environment e join environment_version v on v.environment_id = e.id
             where e.id = $1 and e.organization_id = $2
               and ((v.version = e.version and e.deleted_at is null)
                 or exists (select 1 from attempt a where a.environment_id = e.id
                     and a.environment_version = v.version and a.ended_at is null))",
            scope(),
        )
        .await?;
    let in_use = in_use.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
    for row in kept {
        let is_named = in_use.iter().flat_map(|spec| &spec.secrets).any(|named| row.is_meant_by(named));
        if !is_named {
            secrets::delete(transaction, organization, row.id).await?;
        }
    }
    Ok(())
}

/// The environment a new task is to run in: the one that is named, or the default one, if it covers the repository.
pub(crate) async fn for_new_task(
    transaction: &Transaction,
    organization: OrganizationId,
    name: Option<&EnvironmentName>,
    repository: &RepositoryLocation,
) -> Result<Environment, StoreError> {
    let default = || DEFAULT_ENVIRONMENT.parse().expect("the default environment's name is one");
    let chosen = name.cloned().unwrap_or_else(default);
    let found = living(transaction, organization, &chosen).await?;
    if found.spec.covers(repository) {
        return Ok(found);
    }
    Err(StoreError::NotCovered { name: name.cloned(), repository: repository.clone() })
}

/// The environment of a task that goes on, at its current version.
pub(crate) async fn for_next_turn(
    transaction: &Transaction,
    organization: OrganizationId,
    id: EnvironmentId,
    repository: &RepositoryLocation,
) -> Result<Environment, StoreError> {
    let row = transaction
        .one(
            &format!(
                "select {COLUMNS}, e.deleted_at from environment e
                 join environment_version v on v.environment_id = e.id and v.version = e.version
                 where e.organization_id = $1 and e.id = $2"
            ),
            [organization.as_uuid().into(), id.as_uuid().into()],
        )
        .await?;
    let row = row.ok_or(StoreError::NotFound { noun: "environment" })?;
    let found = environment(&row)?;
    if row.maybe_time("deleted_at")?.is_some() {
        return Err(StoreError::EnvironmentDeleted { name: found.name });
    }
    if found.spec.covers(repository) {
        return Ok(found);
    }
    Err(StoreError::NotCovered { name: Some(found.name), repository: repository.clone() })
}

/// An environment that is not deleted, by its name, inside a transaction.
pub(crate) async fn living(
    transaction: &Transaction,
    organization: OrganizationId,
    name: &EnvironmentName,
) -> Result<Environment, StoreError> {
    let (sql, values) = by_name(organization, name);
    let row = transaction.one(&sql, values).await?;
    environment(&row.ok_or_else(|| StoreError::UnknownEnvironment { name: name.clone() })?)
}

fn by_name(organization: OrganizationId, name: &EnvironmentName) -> (String, [Value; 2]) {
    let sql = format!(
        "select {COLUMNS} from environment e
         join environment_version v on v.environment_id = e.id and v.version = e.version
         where e.organization_id = $1 and e.name = $2 and e.deleted_at is null"
    );
    (sql, [organization.as_uuid().into(), name.as_str().into()])
}

fn environment(row: &Row) -> Result<Environment, StoreError> {
    Ok(Environment {
        id: row.id("id", EnvironmentId::from_uuid)?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        name: row.parsed("name")?,
        version: row.get("version")?,
        spec: spec(row)?,
        created_at: row.time("created_at")?,
    })
}

/// Versions from before environments could be made have none: they are the default environment as it was.
fn spec(row: &Row) -> Result<EnvironmentSpec, StoreError> {
    Ok(row.maybe_json("spec")?.unwrap_or_else(EnvironmentSpec::of_default))
}

//! Values of environments' secrets: sealed before they are written, opened only for whoever uses them, deleted as soon as
//! nobody means them. How they are sealed is `seal.rs`'s.

use carrel_domain::{
    Environment, EnvironmentId, HostName, OrganizationId, Secret, SecretKind, SecretName, VariableName,
};
use jiff::Timestamp;
use sea_orm::Value;
use uuid::Uuid;

use crate::database::{Row, Scope, StoreError, Transaction, time, unreadable};
use crate::seal::{KeyId, Place, SealError, kind_word};
use crate::{Store, fresh};

/// Rows that are read at once when all are gone through.
const PAGE: u32 = 100;

/// Bytes of values that are held until the redactor learns them together.
const LEARNED_AT_ONCE_BYTES: usize = 4 << 20;

const COLUMNS: &str = "s.id, s.organization_id, s.environment_id, s.name, s.kind, s.version, s.created_at";

/// A secret that gets a value.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// The variable it is seen as.
    pub name: VariableName,
    /// How it reaches programs.
    pub kind: SecretKind,
    /// The hosts a network secret's value is sent to.
    pub hosts: Vec<HostName>,
    /// The value.
    pub value: Secret,
}

/// A value that is kept and does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedSecret {
    /// What its environment is called.
    pub environment: String,
    /// The variable it is seen as.
    pub name: VariableName,
    /// The key it is sealed under, when it is that key that is missing.
    pub missing_key: Option<KeyId>,
    /// What is wrong, in words.
    pub problem: String,
}

/// A value that is kept, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSecret {
    pub(crate) id: Uuid,
    organization: OrganizationId,
    environment: EnvironmentId,
    /// The variable it is seen as.
    pub name: VariableName,
    /// How it reaches programs.
    pub kind: SecretKind,
    /// Which value.
    pub version: i64,
    /// When it was given.
    pub created_at: Timestamp,
}

impl KeptSecret {
    /// Whether this is the value that a version of an environment names so.
    #[must_use]
    pub fn is_meant_by(&self, named: &SecretName) -> bool {
        (&self.name, self.kind, self.version) == (&named.name, named.kind, named.version)
    }

    fn place(&self) -> Place<'_> {
        let Self { organization, environment, ref name, kind, version, .. } = *self;
        Place { organization, environment, name, kind, version }
    }
}

impl Store {
    /// The values of the secrets that a version of an environment names. They go to where they are used, and nowhere
    /// else.
    ///
    /// # Errors
    /// [`StoreError::SecretGone`] when a value is no longer kept, [`StoreError::SecretClosed`] when it does not open.
    pub async fn secret_values(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
        names: &[SecretName],
    ) -> Result<Vec<(SecretName, Secret)>, StoreError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.database.all(&of_environment("s.sealed"), scope(organization, environment)).await?;
        let kept = rows.iter().map(|row| Ok((kept(row)?, row.get::<String>("sealed")?)));
        let kept = kept.collect::<Result<Vec<_>, StoreError>>()?;
        let values = names.iter().map(|named| {
            let gone = || StoreError::SecretGone { name: named.name.clone() };
            let (row, sealed) = kept.iter().find(|(row, _)| row.is_meant_by(named)).ok_or_else(gone)?;
            Ok((named.clone(), self.opened(row, sealed)?))
        });
        let values = values.collect::<Result<Vec<_>, StoreError>>()?;
        // They may have been given to another process, which is the only one that knows not to tell them.
        self.shared.redactor.learn(values.iter().map(|(_, value): &(SecretName, Secret)| value));
        Ok(values)
    }

    /// The values that are kept for an environment, without them, by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn kept_secrets(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
    ) -> Result<Vec<KeptSecret>, StoreError> {
        let rows = self.database.all(&of_environment("1 as there"), scope(organization, environment)).await?;
        rows.iter().map(kept).collect()
    }

    /// Goes through all values at the start: the redactor learns them, and those sealed under an older key are sealed
    /// under the first one. Gives those that do not open.
    pub(crate) async fn take_custody(&self) -> Result<Vec<ClosedSecret>, StoreError> {
        let mut closed: Vec<ClosedSecret> = Vec::new();
        let mut behind = Uuid::nil();
        let mut values: Vec<Secret> = Vec::new();
        loop {
            let rows = self.page_behind(behind).await?;
            let mut rewrapped = Vec::new();
            for row in &rows {
                let secret = kept(row)?;
                behind = secret.id;
                match self.taken(&secret, row) {
                    Ok((value, moved)) => {
                        values.push(value);
                        rewrapped.extend(moved.map(|moved| (secret.id, secret.organization, moved)));
                    }
                    Err(error) => closed.push(ClosedSecret {
                        environment: row.get("environment_name")?,
                        name: secret.name,
                        problem: error.to_string(),
                        missing_key: match error {
                            SealError::UnknownKey(key) => Some(key),
                            SealError::Damaged | SealError::Random(_) => None,
                        },
                    }),
                }
            }
            self.reseal(rewrapped).await?;
            let is_last = rows.len() < PAGE as usize;
            // Learning costs as much as all that is known: it is done seldom.
            if is_last || values.iter().map(|value| value.expose().len()).sum::<usize>() > LEARNED_AT_ONCE_BYTES {
                self.shared.redactor.learn(&values);
                values.clear();
            }
            if is_last {
                break;
            }
        }
        Ok(closed)
    }

    async fn page_behind(&self, behind: Uuid) -> Result<Vec<Row>, StoreError> {
        self.database
            .all(
                &format!(
                    "select {COLUMNS}, s.sealed, s.sealed_under, coalesce(e.deleted_name, e.name) as environment_name
                     from secret s join environment e on e.id = s.environment_id and e.organization_id = s.organization_id
                     where s.id > $1 order by s.id limit $2"
                ),
                [behind.into(), i64::from(PAGE).into()],
            )
            .await
    }

    fn taken(&self, secret: &KeptSecret, row: &Row) -> Result<(Secret, Option<crate::seal::Sealed>), SealError> {
        let text = |column| row.get::<String>(column).map_err(|_| SealError::Damaged);
        let (sealed, under) = (text("sealed")?, KeyId::from_stored(text("sealed_under")?));
        let keys = &self.shared.keys;
        let value = keys.open(&secret.place(), &sealed)?;
        let moved = if under == *keys.sealing() { None } else { Some(keys.rewrap(&secret.place(), &sealed)?) };
        Ok((value, moved))
    }

    async fn reseal(&self, moved: Vec<(Uuid, OrganizationId, crate::seal::Sealed)>) -> Result<(), StoreError> {
        if moved.is_empty() {
            return Ok(());
        }
        let transaction = self.write(Scope::OneStatement).await?;
        for (id, organization, sealed) in moved {
            transaction
                .run(
                    "update secret set sealed = $3, sealed_under = $4 where id = $1 and organization_id = $2",
                    [id.into(), organization.as_uuid().into(), sealed.text.into(), sealed.key.as_str().into()],
                )
                .await?;
        }
        transaction.commit().await
    }

    fn opened(&self, row: &KeptSecret, sealed: &str) -> Result<Secret, StoreError> {
        let closed = |error: SealError| StoreError::SecretClosed { name: row.name.clone(), reason: error.to_string() };
        self.shared.keys.open(&row.place(), sealed).map_err(closed)
    }
}

/// Seals and writes the values that a version of an environment comes with. The redactor knows them before anybody can
/// use them.
pub(crate) async fn insert(
    store: &Store,
    transaction: &Transaction,
    environment: &Environment,
    values: Vec<NewSecret>,
) -> Result<Vec<SecretName>, StoreError> {
    store.shared.redactor.learn(values.iter().map(|new| &new.value));
    let mut named = Vec::with_capacity(values.len());
    for NewSecret { name, kind, hosts, value } in values {
        let version = environment.version;
        let (organization, id) = (environment.organization, environment.id);
        let place = Place { organization, environment: id, name: &name, kind, version };
        let closed = |error: SealError| StoreError::SecretClosed { name: name.clone(), reason: error.to_string() };
        let sealed = store.shared.keys.seal(&place, &value).map_err(closed)?;
        transaction
            .run(
                "insert into secret (id, organization_id, environment_id, name, kind, version, sealed_under, sealed,
                     created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                [
                    fresh().into(),
                    organization.as_uuid().into(),
                    id.as_uuid().into(),
                    name.as_str().into(),
                    kind_word(kind).into(),
                    version.into(),
                    sealed.key.as_str().into(),
                    sealed.text.into(),
                    time(environment.created_at),
                ],
            )
            .await?;
        named.push(SecretName { name, kind, version, hosts });
    }
    Ok(named)
}

pub(crate) async fn rows_of(
    transaction: &Transaction,
    organization: OrganizationId,
    environment: EnvironmentId,
) -> Result<Vec<KeptSecret>, StoreError> {
    let rows = transaction.all(&of_environment("1 as there"), scope(organization, environment)).await?;
    rows.iter().map(kept).collect()
}

pub(crate) async fn delete(
    transaction: &Transaction,
    organization: OrganizationId,
    id: Uuid,
) -> Result<(), StoreError> {
    let values: [Value; 2] = [id.into(), organization.as_uuid().into()];
    transaction.run("delete from secret where id = $1 and organization_id = $2", values).await.map(drop)
}

/// Few: a version names a hundred at most, and only versions in use have some.
fn of_environment(also: &str) -> String {
    format!(
        "select {COLUMNS}, {also} from secret s where s.environment_id = $1 and s.organization_id = $2
         order by s.name, s.version"
    )
}

fn scope(organization: OrganizationId, environment: EnvironmentId) -> [Value; 2] {
    [environment.as_uuid().into(), organization.as_uuid().into()]
}

fn kept(row: &Row) -> Result<KeptSecret, StoreError> {
    let kind = match row.get::<String>("kind")?.as_str() {
        "setup" => SecretKind::Setup,
        "network" => SecretKind::Network,
        other => return Err(unreadable(&format!("a secret's kind `{other}`"))),
    };
    Ok(KeptSecret {
        id: row.get("id")?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        environment: row.id("environment_id", EnvironmentId::from_uuid)?,
        name: row.parsed("name")?,
        kind,
        version: row.get("version")?,
        created_at: row.time("created_at")?,
    })
}

//! Snapshots: prepared environments that are kept as layers, found by their key. The layers themselves, and when one is
//! removed, are `carrel-control`'s.

mod packed;

use std::collections::BTreeMap;

use carrel_domain::{DomainRule, EnvironmentId, OrganizationId, RepositoryId, SnapshotId};
use jiff::Timestamp;
use sea_orm::Value;

use crate::database::{Row, Scope, StoreError, Transaction, json, time, unreadable};

use crate::{Artifact, Store};

/// The most that one question of the database is answered with.
const MOST: i64 = 1000;

const COLUMNS: &str = "id, organization_id, environment_id, repository_id, snapshot_key, parts, layer, image_digest,
    package_hosts, size_bytes, state, created_at, expires_at, last_used_at";

/// A prepared environment that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Which one.
    pub id: SnapshotId,
    /// Whose.
    pub organization: OrganizationId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// With which repository's code.
    pub repository: RepositoryId,
    /// What it was made from, as one hash.
    pub key: String,
    /// The same part by part: from a part's name to its hash.
    pub parts: BTreeMap<String, String>,
    /// The name of its layer.
    pub layer: String,
    /// The digest of the OCI image beneath it, if there is one.
    pub image_digest: Option<String>,
    /// The hosts that its package managers use.
    pub package_hosts: Vec<DomainRule>,
    /// Bytes of its layer, if they were counted.
    pub size_bytes: Option<u64>,
    /// When it was made, if that was not now: what another worker made does not become younger by being taken over.
    pub made_at: Option<Timestamp>,
    /// Until when it is reused.
    pub expires_at: Timestamp,
    /// What it was made from, and which machines can use it, as one hash; nothing where no other machine can.
    pub pack_key: Option<String>,
    /// The artifact that it is packed as, if it is already.
    pub packed: Option<Artifact>,
}

/// A prepared environment that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which one.
    pub id: SnapshotId,
    /// Whose.
    pub organization: OrganizationId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// With which repository's code.
    pub repository: RepositoryId,
    /// What it was made from, as one hash.
    pub key: String,
    /// The same part by part: from a part's name to its hash.
    pub parts: BTreeMap<String, String>,
    /// The name of its layer.
    pub layer: String,
    /// The digest of the OCI image beneath it, if there is one.
    pub image_digest: Option<String>,
    /// The hosts that its package managers use.
    pub package_hosts: Vec<DomainRule>,
    /// Bytes of its layer, if they were counted.
    pub size_bytes: Option<u64>,
    /// Whether somebody has thrown it away by hand.
    pub was_reset: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is reused.
    pub expires_at: Timestamp,
    /// When an attempt last started on it.
    pub last_used_at: Timestamp,
}

impl Store {
    /// Writes down a snapshot.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_snapshot(&self, new: NewSnapshot) -> Result<Snapshot, StoreError> {
        let now = self.now();
        let (packed_sha256, packed_bytes) = new.packed.map(|packed| (packed.sha256, bytes(packed.size_bytes))).unzip();
        let transaction = self.write(Scope::OneStatement).await?;
        let row = transaction
            .one(
                &format!(
                    "insert into snapshot (id, organization_id, environment_id, repository_id, snapshot_key, parts, layer,
                         image_digest, package_hosts, size_bytes, state, created_at, expires_at, last_used_at, worker_id, pack_key,
                         packed_sha256, packed_bytes)
                     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'kept', $11, $12, $13, $14, $15, $16, $17)
                     returning {COLUMNS}"
                ),
                [
                    new.id.as_uuid().into(),
                    new.organization.as_uuid().into(),
                    new.environment.as_uuid().into(),
                    new.repository.as_uuid().into(),
                    new.key.into(),
                    json(&new.parts),
                    new.layer.into(),
                    new.image_digest.into(),
                    json(&new.package_hosts),
                    new.size_bytes.map(bytes).into(),
                    time(new.made_at.unwrap_or(now)),
                    time(new.expires_at),
                    time(now),
                    self.worker().as_uuid().into(),
                    new.pack_key.into(),
                    packed_sha256.into(),
                    packed_bytes.into(),
                ],
            )
            .await?;
        let snapshot = snapshot(&row.ok_or(StoreError::NotFound { noun: "snapshot" })?)?;
        transaction.commit().await?;
        Ok(snapshot)
    }

    /// The snapshot with this key that this worker has and that has not expired, the newest if there are several.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn find_snapshot(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
        repository: RepositoryId,
        key: &str,
    ) -> Result<Option<Snapshot>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from snapshot
             where organization_id = $1 and environment_id = $2 and repository_id = $3 and snapshot_key = $4
               and expires_at > $5 and (worker_id = $6 or worker_id is null)
             order by created_at desc, id desc limit 1"
        );
        let values = [
            organization.as_uuid().into(),
            environment.as_uuid().into(),
            repository.as_uuid().into(),
            key.into(),
            time(self.now()),
            self.worker().as_uuid().into(),
        ];
        self.database.one(&sql, values).await?.as_ref().map(snapshot).transpose()
    }

    /// The newest snapshot that this worker has, whatever its key, expired or not: it tells why there is none to be reused.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn latest_snapshot(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
        repository: RepositoryId,
    ) -> Result<Option<Snapshot>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from snapshot
             where organization_id = $1 and environment_id = $2 and repository_id = $3
               and (worker_id = $4 or worker_id is null) order by created_at desc, id desc limit 1"
        );
        let values = [
            organization.as_uuid().into(),
            environment.as_uuid().into(),
            repository.as_uuid().into(),
            self.worker().as_uuid().into(),
        ];
        self.database.one(&sql, values).await?.as_ref().map(snapshot).transpose()
    }

    /// The newest snapshot with this key that this worker has, expired or not: it tells why it is not reused.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn latest_snapshot_with(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
        repository: RepositoryId,
        key: &str,
    ) -> Result<Option<Snapshot>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from snapshot
             where organization_id = $1 and environment_id = $2 and repository_id = $3 and snapshot_key = $4
               and (worker_id = $5 or worker_id is null) order by created_at desc, id desc limit 1"
        );
        let values = [
            organization.as_uuid().into(),
            environment.as_uuid().into(),
            repository.as_uuid().into(),
            key.into(),
            self.worker().as_uuid().into(),
        ];
        self.database.one(&sql, values).await?.as_ref().map(snapshot).transpose()
    }

    /// The snapshots of an environment, newest first, a thousand at most.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn snapshots_of(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
    ) -> Result<Vec<Snapshot>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from snapshot where organization_id = $1 and environment_id = $2
             order by created_at desc, id desc limit $3"
        );
        let values = [organization.as_uuid().into(), environment.as_uuid().into(), MOST.into()];
        self.database.all(&sql, values).await?.iter().map(snapshot).collect()
    }

    /// All snapshots that this worker has, by their ids: what a disk budget goes through, which takes a layer without one
    /// for a leftover. There may be any number of them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn all_snapshots(&self) -> Result<Vec<Snapshot>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from snapshot where id > $1 and (worker_id = $3 or worker_id is null)
             order by id limit $2"
        );
        let mut all: Vec<Snapshot> = Vec::new();
        loop {
            // By what never changes: one that is used meanwhile is not passed over.
            let after = all.last().map_or(uuid::Uuid::nil(), |last| last.id.as_uuid());
            let page = self.database.all(&sql, [after.into(), MOST.into(), self.worker().as_uuid().into()]).await?;
            let is_last = page.is_empty();
            for row in &page {
                all.push(snapshot(row)?);
            }
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Snapshots that this worker has and that are reused no more, a thousand at most.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn expired_snapshots(&self) -> Result<Vec<Snapshot>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from snapshot where expires_at <= $1 and (worker_id = $3 or worker_id is null)
             order by expires_at limit $2"
        );
        self.database
            .all(&sql, [time(self.now()), MOST.into(), self.worker().as_uuid().into()])
            .await?
            .iter()
            .map(snapshot)
            .collect()
    }

    /// Writes down that an attempt starts on a snapshot.
    ///
    /// # Errors
    /// When it is not there any more, or the database refuses.
    pub async fn touch_snapshot(&self, organization: OrganizationId, id: SnapshotId) -> Result<(), StoreError> {
        self.set(organization, id, "last_used_at", time(self.now())).await
    }

    /// Writes down how large a snapshot's layer is.
    ///
    /// # Errors
    /// When it is not there any more, or the database refuses.
    pub async fn set_snapshot_size(
        &self,
        organization: OrganizationId,
        id: SnapshotId,
        size_bytes: u64,
    ) -> Result<(), StoreError> {
        self.set(organization, id, "size_bytes", bytes(size_bytes).into()).await
    }

    /// Forgets a snapshot, if it is known.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn delete_snapshot(&self, organization: OrganizationId, id: SnapshotId) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                "delete from snapshot where id = $1 and organization_id = $2",
                [id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        transaction.commit().await
    }

    /// Forgets a snapshot whosever it is, if it is known: its layer is gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_snapshot(&self, id: SnapshotId) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction.run("delete from snapshot where id = $1", [id.as_uuid().into()]).await?;
        transaction.commit().await
    }

    /// Lets every snapshot of an environment expire now, and says how many there were.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn reset_snapshots(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
    ) -> Result<u64, StoreError> {
        let transaction = self.write(Scope::Organization(organization)).await?;
        let count = reset(self, &transaction, organization, environment).await?;
        transaction.commit().await?;
        Ok(count)
    }

    async fn set(
        &self,
        organization: OrganizationId,
        id: SnapshotId,
        column: &'static str,
        value: Value,
    ) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        let sql = format!("update snapshot set {column} = $3 where id = $1 and organization_id = $2");
        let changed = transaction.run(&sql, [id.as_uuid().into(), organization.as_uuid().into(), value]).await?;
        transaction.commit().await?;
        if changed == 1 { Ok(()) } else { Err(StoreError::NotFound { noun: "snapshot" }) }
    }
}

/// Lets every snapshot of an environment expire now.
pub(crate) async fn reset(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    environment: EnvironmentId,
) -> Result<u64, StoreError> {
    transaction
        .run(
            "update snapshot set state = 'reset', expires_at = $3
             where organization_id = $1 and environment_id = $2 and expires_at > $3",
            [organization.as_uuid().into(), environment.as_uuid().into(), time(store.now())],
        )
        .await
}

/// A size as the column holds it; more than it holds is shown as the most it holds.
fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn snapshot(row: &Row) -> Result<Snapshot, StoreError> {
    let was_reset = match row.get::<String>("state")?.as_str() {
        "kept" => false,
        "reset" => true,
        other => return Err(unreadable(&format!("a snapshot's state `{other}`"))),
    };
    Ok(Snapshot {
        id: row.id("id", SnapshotId::from_uuid)?,
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        environment: row.id("environment_id", EnvironmentId::from_uuid)?,
        repository: row.id("repository_id", RepositoryId::from_uuid)?,
        key: row.get("snapshot_key")?,
        parts: row.json("parts")?,
        layer: row.get("layer")?,
        image_digest: row.get("image_digest")?,
        package_hosts: row.json("package_hosts")?,
        size_bytes: row.get::<Option<i64>>("size_bytes")?.map(i64::unsigned_abs),
        was_reset,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.time("last_used_at")?,
    })
}

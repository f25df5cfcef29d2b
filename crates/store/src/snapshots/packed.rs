//! Snapshots as artifacts: what one worker has built, others that share the artifacts take over.

use std::path::Path;

use carrel_domain::{EnvironmentId, OrganizationId, RepositoryId, SnapshotId};

use super::{COLUMNS, Snapshot, bytes, snapshot};
use crate::database::{Scope, StoreError, time};
use crate::{Artifact, Store};

/// As many as are looked at in one go.
const MOST: i64 = 100;

impl Store {
    /// Whether other processes read and write the same artifacts.
    #[must_use]
    pub fn shares_artifacts(&self) -> bool {
        self.is_shared() && self.shared.objects.are_shared()
    }

    /// Snapshots of this worker that others could use, and that are not packed yet, a hundred at most.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn snapshots_to_pack(&self) -> Result<Vec<Snapshot>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from snapshot
             where expires_at > $1 and worker_id = $2 and pack_key is not null and packed_sha256 is null
             order by expires_at desc limit $3"
        );
        let values = [time(self.now()), self.worker().as_uuid().into(), MOST.into()];
        self.database.all(&sql, values).await?.iter().map(snapshot).collect()
    }

    /// Keeps a packed snapshot as an artifact. It stays for as long as the snapshot is good.
    ///
    /// # Errors
    /// When the bytes cannot be kept, the snapshot is not there any more, or the database refuses.
    pub async fn keep_packed(&self, packed: &Snapshot, file: &Path) -> Result<Artifact, StoreError> {
        let (put, size_bytes) = self.shared.objects.put_file(file).await?;
        let transaction = self.write(Scope::OneStatement).await?;
        // What had been there for a while may have been collected until now; after this row it is not.
        let sql = "update snapshot set packed_sha256 = $3, packed_bytes = $4 where id = $1 and organization_id = $2";
        let values = [
            packed.id.as_uuid().into(),
            packed.organization.as_uuid().into(),
            put.sha256.as_str().into(),
            bytes(size_bytes).into(),
        ];
        let changed = transaction.run(sql, values).await?;
        transaction.commit().await?;
        if changed == 0 {
            return Err(StoreError::NotFound { noun: "snapshot" });
        }
        if put.was_there && self.shared.objects.find(&put.sha256).await?.is_none() {
            self.shared.objects.put_file(file).await?;
        }
        Ok(Artifact { sha256: put.sha256, size_bytes })
    }

    /// Writes down that a snapshot is of no use elsewhere: nobody tries to pack it, or to take it over, any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn leave_unpacked(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.set_unpacked(id, "pack_key = null, packed_sha256 = null, packed_bytes = null").await
    }

    /// Writes down that the artifact of a packed snapshot is lost: whoever has its layer packs it anew.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_pack(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.set_unpacked(id, "packed_sha256 = null, packed_bytes = null").await
    }

    async fn set_unpacked(&self, id: SnapshotId, set: &'static str) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction.run(&format!("update snapshot set {set} where id = $1"), [id.as_uuid().into()]).await?;
        transaction.commit().await
    }

    /// The newest packed snapshot with this key that has not expired, whichever worker packed it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn find_packed(
        &self,
        organization: OrganizationId,
        environment: EnvironmentId,
        repository: RepositoryId,
        pack_key: &str,
    ) -> Result<Option<(Snapshot, Artifact)>, StoreError> {
        let sql = format!(
            "select {COLUMNS}, packed_sha256, packed_bytes from snapshot
             where organization_id = $1 and environment_id = $2 and repository_id = $3 and pack_key = $4
               and expires_at > $5 and packed_sha256 is not null
             order by created_at desc, id desc limit 1"
        );
        let values = [
            organization.as_uuid().into(),
            environment.as_uuid().into(),
            repository.as_uuid().into(),
            pack_key.into(),
            time(self.now()),
        ];
        let Some(row) = self.database.one(&sql, values).await? else { return Ok(None) };
        let size_bytes = row.get::<i64>("packed_bytes")?.unsigned_abs();
        Ok(Some((snapshot(&row)?, Artifact { sha256: row.get("packed_sha256")?, size_bytes })))
    }
}

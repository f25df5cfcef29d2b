//! Snapshots for other workers: what was prepared here is packed and kept as an artifact, and what another has packed is
//! unpacked here, where both share the artifacts.
//!
//! Only what was prepared on an OCI image: the root of this machine, or a folder of it, is another elsewhere. And nothing in
//! which our certificate authority stands: each worker has one of its own.

use std::io::ErrorKind;
use std::time::Duration;

use carrel_sandbox::{LayerName, SandboxError};
use carrel_store::{Artifact, Snapshot, StoreError};
use tokio_util::sync::CancellationToken;

use crate::Control;

/// How often it is looked whether there is something to pack, when nobody asks: what failed is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

/// Why a snapshot was not packed.
#[derive(Debug, thiserror::Error)]
enum Unpacked {
    /// No other machine could use it.
    #[error("{0}")]
    OfNoUse(String),
    /// It may work later.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Control {
    /// Asks for a look at what can be packed, in the background.
    pub(crate) fn pack_soon(&self) {
        self.packs_wanted.notify_one();
    }

    /// Packs snapshots for other workers, one after the other, until told to stop.
    pub(crate) async fn tend_packs(&self, stop: &CancellationToken) {
        if !self.inner.store.shares_artifacts() {
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                packed = self.pack_all() => if let Err(error) = packed {
                    tracing::warn!(%error, "could not look for snapshots to pack; trying again later");
                },
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.packs_wanted.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn pack_all(&self) -> Result<(), StoreError> {
        let store = &self.inner.store;
        for snapshot in store.snapshots_to_pack().await? {
            match self.pack(&snapshot).await {
                Ok(artifact) => {
                    tracing::info!(snapshot = %snapshot.id, bytes = artifact.size_bytes, "packed a snapshot for other workers");
                }
                Err(Unpacked::OfNoUse(reason)) => {
                    tracing::info!(snapshot = %snapshot.id, reason, "a snapshot stays with this worker");
                    store.leave_unpacked(snapshot.id).await?;
                }
                Err(Unpacked::Store(error)) => {
                    tracing::warn!(snapshot = %snapshot.id, %error, "could not pack a snapshot for other workers; trying again later");
                }
            }
        }
        Ok(())
    }

    async fn pack(&self, snapshot: &Snapshot) -> Result<Artifact, Unpacked> {
        let sandboxes = &self.inner.sandboxes;
        let layer: LayerName = snapshot.layer.parse().map_err(of_no_use)?;
        let marks = self.inner.egress.authority_marks().to_vec();
        if let Some(path) = sandboxes.find_in_layer(&layer, marks).await.map_err(of_no_use)? {
            let reason = format!("the certificate authority of this worker is in `{path}`");
            return Err(Unpacked::OfNoUse(reason));
        }
        let packed = sandboxes.pack_layer(&layer).await.map_err(|error| match error {
            SandboxError::Host { source, .. }
                if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                Unpacked::Store(source.into())
            }
            error => of_no_use(error),
        })?;
        Ok(self.inner.store.keep_packed(snapshot, packed.file()).await?)
    }
}

fn of_no_use(error: SandboxError) -> Unpacked {
    use std::error::Error as _;
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    Unpacked::OfNoUse(format!("{error}{cause}"))
}

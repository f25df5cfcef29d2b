//! What a caller does with kept layers: keep one, list them, look into them, remove them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use carrel_domain::SandboxId;
use carrel_runner::protocol::UPPER_FOLDER;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Local, Sandboxes, end, hold};
use crate::keeper::Work;
use crate::search::Needles;
use crate::tree::{Waiting, total_bytes};
use crate::{Layer, LayerName, Removed, SandboxError};

impl Sandboxes {
    /// Ends a sandbox and keeps its writable layer under this name; the sandbox is gone then. It is a rename, whatever
    /// the layer's size: what becomes of its files on the disk is waited for in the background.
    pub async fn keep(&self, id: SandboxId, name: &LayerName) -> Result<(), SandboxError> {
        let (folder, kept) = (self.local.folder_of(id), name.clone());
        self.local.connections().remove(&id);
        self.blocking(move |local| {
            let launched = local.layers.launched(&folder).filter(|_| folder.join(UPPER_FOLDER).is_dir());
            let launched = launched.ok_or(SandboxError::Gone(id))?;
            let remains = hold(&folder);
            end(&folder).map_err(SandboxError::host(format!("cannot end sandbox {id}")))?;
            local.layers.keep(&folder, &kept, launched.layers)?;
            if let Err(error) = local.layers.strip(&kept, &local.trash) {
                tracing::warn!(%error, layer = %kept, "cannot remove what a kept layer's sandbox left beside it");
            }
            local.bury(remains);
            Ok(())
        })
        .await?;
        self.local.disks.ended(id);
        self.settle(name.clone());
        self.local.sweep();
        Ok(())
    }

    /// The kept layers, by name.
    pub async fn layers(&self) -> Result<Vec<Layer>, SandboxError> {
        self.blocking(|local| local.layers.list().map_err(SandboxError::host("cannot list kept layers"))).await
    }

    /// Removes a kept layer, unless a sandbox stands on it, whether its runner lives or not.
    pub async fn remove_layer(&self, name: &LayerName) -> Result<Removed, SandboxError> {
        let removed = name.clone();
        let removed = self
            .blocking(move |local| {
                let failed = SandboxError::host(format!("cannot remove the kept layer `{removed}`"));
                local.layers.remove(&removed, &local.trash).map_err(failed)
            })
            .await?;
        self.local.sweep();
        Ok(removed)
    }

    /// The bytes a kept layer takes on the disk. The first time all of it is walked, after that it is known.
    pub async fn layer_size(&self, name: &LayerName) -> Result<u64, SandboxError> {
        let (waiting, name) = (Waiting::default(), name.clone());
        let abandoned = waiting.abandoned();
        self.blocking(move |local| {
            if let Some(size_bytes) = local.layers.size_of(&name)? {
                return Ok(size_bytes);
            }
            let failed = || SandboxError::host(format!("cannot measure the kept layer `{name}`"));
            let upper = local.layers.upper(&name);
            let work = || Work::Size { folder: upper.clone() };
            let size_bytes = local.keepers.or_keeper(|| total_bytes(&upper, &abandoned), work, &abandoned);
            let size_bytes = size_bytes.map_err(failed())?;
            local.layers.note_size(&name, size_bytes).map_err(failed())?;
            Ok(size_bytes)
        })
        .await
    }

    /// The first file, link or folder in a kept layer whose content, target or name holds one of these byte strings
    /// (of 1 byte to 64 KiB each), by its path in the layer. A layer that cannot be looked through is an error.
    pub async fn find_in_layer(&self, name: &LayerName, needles: Vec<Vec<u8>>) -> Result<Option<String>, SandboxError> {
        self.local.layers.size_of(name)?;
        self.find(self.local.layers.upper(name), format!("the kept layer `{name}`"), needles).await
    }

    /// The same for the writable layer of a sandbox. What runs in there may change it meanwhile: to be sure, look after
    /// its processes have ended, or after it was kept.
    pub async fn find_in_sandbox(&self, id: SandboxId, needles: Vec<Vec<u8>>) -> Result<Option<String>, SandboxError> {
        let upper = self.local.folder_of(id).join(UPPER_FOLDER);
        if !upper.is_dir() {
            return Err(SandboxError::Gone(id));
        }
        self.find(upper, format!("sandbox {id}"), needles).await
    }

    async fn find(&self, root: PathBuf, what: String, needles: Vec<Vec<u8>>) -> Result<Option<String>, SandboxError> {
        if needles.is_empty() {
            return Ok(None);
        }
        let prepared = Needles::new(&needles).map_err(SandboxError::Invalid)?;
        let waiting = Waiting::default();
        let abandoned = waiting.abandoned();
        self.blocking(move |local| {
            let work = || Work::Find { folder: root.clone(), needles };
            let found = local.keepers.or_keeper(|| prepared.find(&root, &abandoned), work, &abandoned);
            found.map_err(SandboxError::host(format!("cannot look through {what}")))
        })
        .await
    }

    /// Brings a layer to the disk, in the background.
    pub(super) fn settle(&self, name: LayerName) {
        let local = Arc::clone(&self.local);
        self.local.tasks.spawn_blocking(move || {
            if let Err(error) = local.layers.sync(&name) {
                tracing::warn!(%error, layer = %name, "cannot bring a kept layer to the disk; the next start tries again");
            }
        });
    }

    /// Goes on to its end, whether somebody waits for it or not.
    pub(crate) fn track<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.local.tasks.spawn(work)
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Local) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let local = Arc::clone(&self.local);
        let done = spawn_blocking(move || work(&local)).await;
        done.unwrap_or_else(|panicked| {
            Err(SandboxError::host("work on kept layers broke off")(io::Error::other(panicked)))
        })
    }
}

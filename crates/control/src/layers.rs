//! Kept layers: the files of snapshots and of attempts that have ended. They are collected when they are no longer good
//! for anything, and, the least recently used first, when all of them together pass the disk budget. Never one in use.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use carrel_domain::{AttemptId, SnapshotId};
use carrel_sandbox::{Layer, LayerName, Removed, SandboxError};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{Control, ControlError};

/// How often it is looked whether layers can go, when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

/// How long a layer may be there before the row that tells of it.
const SETTLES_WITHIN: Duration = Duration::from_secs(10 * 60);

/// What a layer is, by its name.
enum Kind {
    Snapshot(SnapshotId),
    Attempt,
    /// Made from what is on this machine: it can be made again.
    Trust,
    Unknown,
}

impl Control {
    /// Asks for a look at the layers in the background.
    pub(crate) fn tend_layers_soon(&self) {
        self.layers_wanted.notify_one();
    }

    /// Collects layers now and then, until told to stop.
    pub(crate) async fn tend_layers(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = self.collect_layers().await {
                tracing::warn!(%error, "could not look through the kept layers; trying again later");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.layers_wanted.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn collect_layers(&self) -> Result<(), ControlError> {
        let store = &self.inner.store;
        let now = self.inner.clock.now();
        let layers = self.inner.sandboxes.layers().await.map_err(refused)?;
        let mut used: HashMap<SnapshotId, Timestamp> = HashMap::new();
        for snapshot in store.all_snapshots().await? {
            if snapshot.expires_at > now {
                used.insert(snapshot.id, snapshot.last_used_at);
            }
        }
        let mut needed: HashSet<&LayerName> = HashSet::new();
        let mut keepable: Vec<(Timestamp, &Layer)> = Vec::new();
        for layer in &layers {
            match kind(&layer.name) {
                Kind::Snapshot(id) => match used.get(&id) {
                    Some(at) => keepable.push((*at, layer)),
                    // Its row may be about to be written.
                    None if layer.kept_at > now - SETTLES_WITHIN => keepable.push((layer.kept_at, layer)),
                    None => keepable.push((Timestamp::MIN, layer)),
                },
                Kind::Attempt => {
                    needed.extend(&layer.over);
                    keepable.push((layer.kept_at, layer));
                }
                Kind::Trust => {}
                Kind::Unknown => self.remove(&layer.name).await?,
            }
        }
        keepable.sort_by_key(|(at, _)| *at);
        let mut total: u64 = 0;
        for (_, layer) in &keepable {
            total = total.saturating_add(self.size(layer).await);
        }
        for (at, layer) in keepable {
            let is_needed = needed.contains(&layer.name);
            let is_stale = at == Timestamp::MIN;
            if is_needed || !(is_stale || total > self.inner.limits.layer_bytes) {
                continue;
            }
            let size = self.size(layer).await;
            self.remove(&layer.name).await?;
            if let Kind::Snapshot(id) = kind(&layer.name) {
                store.forget_snapshot(id).await?;
            }
            total = total.saturating_sub(size);
        }
        Ok(())
    }

    async fn size(&self, layer: &Layer) -> u64 {
        match layer.size_bytes {
            Some(bytes) => bytes,
            None => self.inner.sandboxes.layer_size(&layer.name).await.unwrap_or(0),
        }
    }

    async fn remove(&self, name: &LayerName) -> Result<(), ControlError> {
        match self.inner.sandboxes.remove_layer(name).await.map_err(refused)? {
            Removed::Removed => tracing::info!(layer = %name, "collected a kept layer"),
            Removed::InUse | Removed::Absent => {}
        }
        Ok(())
    }
}

fn kind(name: &LayerName) -> Kind {
    let name = name.as_str();
    if let Some(id) = name.strip_prefix("snapshot-").and_then(|id| id.parse().ok()) {
        return Kind::Snapshot(id);
    }
    if name.strip_prefix("attempt-").is_some_and(|id| id.parse::<AttemptId>().is_ok()) {
        return Kind::Attempt;
    }
    if name.starts_with("trust-") { Kind::Trust } else { Kind::Unknown }
}

fn refused(error: SandboxError) -> ControlError {
    ControlError::NotNow(error.to_string())
}

//! Kept layers: the files of snapshots and of attempts that have ended. They are collected when they are no longer good
//! for anything, and, the least recently used first, when all of them together pass the disk budget. Never one in use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::{AttemptId, EnvironmentId, RepositoryId, SnapshotId};
use carrel_sandbox::{Layer, LayerName, Removed, SandboxError};
use carrel_store::Snapshot;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::OwnedRwLockReadGuard;
use tokio_util::sync::CancellationToken;

use crate::{Control, ControlError};

/// How often it is looked whether layers can go, when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

/// How long it is remembered what a snapshot was made of that is reused no more, and is not the last one.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What a layer counts that is too deep or too odd to be measured.
const UNMEASURABLE_BYTES: u64 = 20 << 30;

/// How long is waited until nobody is about to stand on a layer; the next look tries again.
const ALONE_WITHIN: Duration = Duration::from_secs(2);

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

    /// As long as this is held no layer goes: what was found, or just built, can be launched on.
    pub(crate) async fn hold_layers(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.layers_turn).read_owned().await
    }

    /// Collects layers now and then, until told to stop.
    pub(crate) async fn tend_layers(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = self.collect_layers().await {
                tracing::warn!(%error, "could not look through the kept layers; trying again later");
            }
            if let Err(error) = self.collect_images().await {
                tracing::warn!(%error, "could not look through the images; trying again later");
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
        let snapshots = store.all_snapshots().await?;
        let good = snapshots.iter().filter(|snapshot| snapshot.expires_at > now);
        let used: HashMap<SnapshotId, Timestamp> = good.map(|good| (good.id, good.last_used_at)).collect();
        let told = told(&snapshots, now);
        let mut needed: HashSet<&LayerName> = HashSet::new();
        let mut keepable: Vec<(Timestamp, &Layer)> = Vec::new();
        for layer in &layers {
            match kind(&layer.name) {
                Kind::Snapshot(id) => match used.get(&id) {
                    Some(at) => keepable.push((*at, layer)),
                    // Where its row is about to be written it is held, and in use after that.
                    None => keepable.push((Timestamp::MIN, layer)),
                },
                Kind::Attempt => {
                    needed.extend(&layer.over);
                    keepable.push((layer.kept_at, layer));
                }
                Kind::Trust => {}
                Kind::Unknown => drop(self.remove(&layer.name).await?),
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
            if !self.remove(&layer.name).await? {
                continue;
            }
            match kind(&layer.name) {
                // What it was is told when the next is built.
                Kind::Snapshot(id) if is_stale && told.contains(&id) => {}
                Kind::Snapshot(id) => store.forget_snapshot(id).await?,
                // What it stood on may go now, too: look again.
                Kind::Attempt => self.tend_layers_soon(),
                Kind::Trust | Kind::Unknown => {}
            }
            total = total.saturating_sub(size);
        }
        // Rows that nothing is left of, and nobody is told of.
        for snapshot in &snapshots {
            let has_layer = layers.iter().any(|layer| layer.name.as_str() == snapshot.layer);
            if !has_layer && snapshot.expires_at <= now && !told.contains(&snapshot.id) {
                store.forget_snapshot(snapshot.id).await?;
            }
        }
        Ok(())
    }

    /// Removes images that nothing stands on any more, the longest unused first, when all of them pass the budget.
    async fn collect_images(&self) -> Result<(), ControlError> {
        let images = &self.inner.images;
        let mut kept = images.list().map_err(|error| ControlError::NotNow(error.to_string()))?;
        let mut total: u64 = kept.iter().map(|image| image.size_bytes).sum();
        if total <= self.inner.limits.layer_bytes {
            return Ok(());
        }
        let needed: HashSet<String> = self.inner.store.digests_in_use().await?.into_iter().collect();
        kept.sort_by_key(|image| image.last_used);
        for image in kept {
            if total <= self.inner.limits.layer_bytes || needed.contains(image.digest.as_str()) {
                continue;
            }
            let removed =
                images.remove(&image.digest).await.map_err(|error| ControlError::NotNow(error.to_string()))?;
            if removed {
                tracing::info!(image = %image.reference, digest = %image.digest, "collected an image");
                total = total.saturating_sub(image.size_bytes);
            }
        }
        Ok(())
    }

    async fn size(&self, layer: &Layer) -> u64 {
        match layer.size_bytes {
            Some(bytes) => bytes,
            // One that cannot be measured is taken for a large one: it must not hide from the budget.
            None => self.inner.sandboxes.layer_size(&layer.name).await.unwrap_or(UNMEASURABLE_BYTES),
        }
    }

    /// Removes a layer, unless it is in use; whether it is gone.
    async fn remove(&self, name: &LayerName) -> Result<bool, ControlError> {
        // Whoever holds layers may be telling a slow viewer, and while this waits nobody else can begin to hold them.
        let Ok(_alone) = tokio::time::timeout(ALONE_WITHIN, self.layers_turn.write()).await else { return Ok(false) };
        match self.inner.sandboxes.remove_layer(name).await.map_err(refused)? {
            Removed::Removed => {
                tracing::info!(layer = %name, "collected a kept layer");
                Ok(true)
            }
            Removed::Absent => Ok(true),
            Removed::InUse => Ok(false),
        }
    }
}

/// The snapshots that a person may be told of when the next is built: the one that was built last for each environment and
/// repository, and, for a while, the last with the same parts, which may be wanted again.
fn told(snapshots: &[Snapshot], now: Timestamp) -> HashSet<SnapshotId> {
    let mut last: HashMap<(EnvironmentId, RepositoryId, &str), &Snapshot> = HashMap::new();
    for snapshot in snapshots {
        let is_recent = now.duration_since(snapshot.expires_at) < TOLD_FOR;
        let keys = is_recent.then_some(snapshot.key.as_str()).into_iter().chain([""]);
        for key in keys {
            let known = last.entry((snapshot.environment, snapshot.repository, key)).or_insert(snapshot);
            if snapshot.created_at >= known.created_at {
                *known = snapshot;
            }
        }
    }
    last.into_values().map(|snapshot| snapshot.id).collect()
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

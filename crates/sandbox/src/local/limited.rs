//! What sandboxes are held to: what came of it, and what the machine offers for it.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::SandboxId;
use tokio::task::spawn_blocking;

use super::{Local, Sandboxes};
use crate::disk::{Watcher, measure_sandbox};
use crate::{Fact, FactState, LimitCounters, Sandbox, SandboxError, facts, limits};

/// How long a runner may take to end its commands; one that does not is ended itself.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What counts on a full disk: so much, or so great a part of it.
const HEAVY_BYTES: u64 = 256 << 20;
const HEAVY_PART: u64 = 20;

impl Sandboxes {
    /// How often a sandbox ran into its limits since it was last launched or restarted. Reads a few small files; made
    /// to be asked again and again while an attempt runs, to see what has risen.
    pub async fn limit_hits(&self, id: SandboxId) -> Result<LimitCounters, SandboxError> {
        let folder = self.local.folder_of(id);
        let failed = || SandboxError::host(format!("cannot read the limits of sandbox {id}"));
        let record = limits::record(&folder).map_err(failed())?.ok_or(SandboxError::Gone(id))?;
        Ok(self.local.disks.add_to(id, limits::count(&record.groups)))
    }

    /// Whether the end of a sandbox would give a full disk room that matters: a twentieth of it, or 256 MiB. One that cannot
    /// be measured may have any size.
    pub async fn is_heavy(&self, id: SandboxId) -> bool {
        let measured = self.blocking(move |local| {
            let folder = local.folder_of(id);
            let failed = || SandboxError::host(format!("cannot measure sandbox {id}"));
            match measure_sandbox(&folder, &local.keepers) {
                Ok((found, disk)) => Ok(!found.is_whole || found.bytes >= HEAVY_BYTES.min(disk.size / HEAVY_PART)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(failed()(error)),
            }
        });
        measured.await.unwrap_or_else(|error| {
            tracing::warn!(sandbox = %id, %error, "what a sandbox takes of the full disk is not known");
            true
        })
    }

    /// What this machine offers sandboxes, and what to do where that is not enough.
    pub fn facts(&self) -> Vec<Fact> {
        let local = facts::gather(&self.local.folder, self.local.limits.free_disk_bytes);
        self.local.offered.facts.iter().cloned().chain(local).collect()
    }

    /// Says once what does not hold as it should, and begins to watch the disk for the sandboxes there are and come.
    pub(super) fn watch(&self, watcher: Watcher) {
        for fact in self.facts().iter().filter(|fact| fact.state != FactState::Ok) {
            let advice = fact.advice.as_deref().unwrap_or("nothing can be done about it");
            tracing::warn!("{}: {}; to change that: {advice}", fact.name, fact.words);
        }
        let entries = fs::read_dir(&self.local.folder).into_iter().flatten().flatten();
        let sandboxes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<SandboxId>().ok());
        for id in sandboxes {
            if let Ok(Some(record)) = limits::record(&self.local.folder_of(id)) {
                self.local.disks.launched(id, record.disk_bytes);
            }
        }
        // The watcher ends when the backend is dropped, so it must not keep it.
        let local = Arc::downgrade(&self.local);
        let stop = move |id| {
            let local = local.upgrade();
            async move {
                if let Some(local) = local {
                    local.stop(id).await;
                }
            }
        };
        self.local.tasks.spawn(watcher.run(stop));
    }
}

impl Local {
    /// Ends the commands of a sandbox; if its runner does not do that, the runner with them.
    async fn stop(&self, id: SandboxId) {
        let asked = async {
            let sandbox = match self.connected(id) {
                Some(connection) => Sandbox::new(id, connection),
                None => self.connect(id).await?,
            };
            sandbox.kill_all().await
        };
        match tokio::time::timeout(STOP_WITHIN, asked).await {
            Ok(Ok(()) | Err(SandboxError::Gone(_))) => return,
            Ok(Err(error)) => tracing::warn!(sandbox = %id, %error, "a runner did not end its commands; it is ended"),
            Err(_) => tracing::warn!(sandbox = %id, "a runner did not end its commands in time; it is ended"),
        }
        let folder = self.folder_of(id);
        let ended = spawn_blocking(move || super::kill(&folder)).await;
        if let Ok(Err(error)) = ended {
            tracing::error!(sandbox = %id, %error, "cannot end a sandbox that fills the disk");
        }
    }
}

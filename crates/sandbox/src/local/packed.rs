//! Kept layers as files, to bring them from one machine to another.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use carrel_runner::protocol::UPPER_FOLDER;
use uuid::Uuid;

use super::{Local, MAKING, Sandboxes};
use crate::keeper::Work;
use crate::pack::{pack, unpack};
use crate::tree::Waiting;
use crate::{LayerName, Root, SandboxError};

/// A packed layer, in a file that is removed with this; or with the next start, if this process dies before.
#[derive(Debug)]
pub struct PackedLayer {
    file: PathBuf,
}

impl PackedLayer {
    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for PackedLayer {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let _removed = fs::remove_file(&self.file);
    }
}

impl Sandboxes {
    /// What packed layers of this machine are good for: programs of its processor, and owners as ids are given out here.
    /// On a machine where this is another, they cannot be unpacked.
    pub fn packed_for(&self) -> String {
        let ids = match self.lent_ids() {
            Some(ids) => format!("ids {ids}"),
            None if self.can_layer(&Root::Host) => format!("ids from {}", self.local.limits.host_id),
            None => format!("id {}", nix::unistd::getuid()),
        };
        format!("{} {ids}", std::env::consts::ARCH)
    }

    /// Writes a kept layer into a file of its own. What the layer stands on is not part of it.
    ///
    /// # Errors
    /// When it has what cannot be packed (a device, more than 64 GiB of files), or was removed meanwhile.
    pub async fn pack_layer(&self, name: &LayerName) -> Result<PackedLayer, SandboxError> {
        let (waiting, name) = (Waiting::default(), name.clone());
        let abandoned = waiting.abandoned();
        self.blocking(move |local| {
            let failed = || SandboxError::host(format!("cannot pack the kept layer `{name}`"));
            local.layers.size_of(&name)?;
            let (folder, file) = (local.layers.upper(&name), local.folder.join(format!("{MAKING}{}", Uuid::now_v7())));
            File::options().write(true).create_new(true).mode(0o600).open(&file).map_err(failed())?;
            let packed = PackedLayer { file: file.clone() };
            // By whoever counts the owners as they are counted where it is unpacked.
            let written = if local.keepers.are_there() {
                local.keepers.ask(&Work::Pack { folder, file }, &abandoned)
            } else {
                pack(&folder, &file, &abandoned)
            };
            // It goes by being moved away before it is taken apart: still there, it was whole all the time.
            local.layers.size_of(&name)?;
            written.map_err(failed())?;
            Ok(packed)
        })
        .await
    }

    /// Keeps a layer that was packed where [`Sandboxes::packed_for`] is the same, over these layers.
    ///
    /// # Errors
    /// When there is one of that name, or the file is not what was packed.
    pub async fn unpack_layer(&self, name: &LayerName, over: Vec<LayerName>, file: &Path) -> Result<(), SandboxError> {
        let (waiting, kept, file) = (Waiting::default(), name.clone(), file.to_path_buf());
        let abandoned = waiting.abandoned();
        self.blocking(move |local| {
            let folder = local.folder.join(format!("{MAKING}{}", Uuid::now_v7()));
            let unpacked = fill(local, &folder, &file, &abandoned);
            let unpacked = unpacked.map_err(SandboxError::host(format!("cannot unpack the layer `{kept}`")));
            let made = unpacked.and_then(|()| local.layers.keep(&folder, &kept, over));
            if made.is_err() {
                let _swept_at_the_next_start = local.trash.take(&folder);
            }
            made
        })
        .await
        .inspect_err(|_| self.local.sweep())?;
        self.settle(name.clone());
        Ok(())
    }
}

fn fill(local: &Local, folder: &Path, file: &Path, abandoned: &std::sync::atomic::AtomicBool) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    let upper = folder.join(UPPER_FOLDER);
    if local.keepers.are_there() {
        return local.keepers.ask(&Work::Unpack { file: file.to_path_buf(), folder: upper }, abandoned);
    }
    unpack(file, &upper, abandoned)
}

//! Kept layers: writable layers of sandboxes that others are launched on.
//!
//! `<folder>/layers/<name>/` is one: the folder of the sandbox it was, renamed, with `layer.json` in it. So keeping is
//! one rename, whatever the size, and nothing in the layer changes by it. Its files reach the disk later, in the
//! background; until that is written down, the layer is worth nothing to a machine that started anew, and is removed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use carrel_domain::SandboxId;
use carrel_runner::protocol::{LAYERS_FOLDER, Root, UPPER_FOLDER};
use jiff::Timestamp;
use nix::unistd::syncfs;
use serde::{Deserialize, Serialize};

use crate::SandboxError;
use crate::trash::Trash;

/// What is known of a layer, in its folder.
const LAYER_FILE: &str = "layer.json";
/// What a sandbox was launched on, in its folder.
const LAUNCH_FILE: &str = "sandbox.json";
/// Where the kernel tells when it started from when it started before.
const BOOT_FILE: &str = "/proc/sys/kernel/random/boot_id";
/// The longest name.
const NAME_LETTERS: usize = 80;

/// The name of a kept layer: letters, digits and `-`, at most 80, the first no `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerName(String);

impl LayerName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for LayerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LayerName {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, SandboxError> {
        let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if text.is_empty() || text.len() > NAME_LETTERS || text.starts_with('-') || !letters {
            return Err(SandboxError::Invalid(format!(
                "`{}` is no name for a kept layer: use up to {NAME_LETTERS} letters, digits and `-`",
                text.escape_debug()
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LayerName {
    type Error = SandboxError;

    fn try_from(text: String) -> Result<Self, SandboxError> {
        text.parse()
    }
}

impl From<LayerName> for String {
    fn from(name: LayerName) -> Self {
        name.0
    }
}

/// A kept layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: LayerName,
    /// When it was kept.
    pub kept_at: Timestamp,
    /// The layers its sandbox was launched on, topmost first: without them it makes no sense.
    pub over: Vec<LayerName>,
    /// What it takes on the disk, once that was asked for.
    pub size_bytes: Option<u64>,
    /// Whether it outlives the machine's loss of power.
    pub is_on_disk: bool,
}

/// What became of a layer that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone; its files are removed in the background.
    Removed,
    /// A sandbox stands on it: it stays.
    InUse,
    /// There was none of that name.
    Absent,
}

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    kept_at: Timestamp,
    /// In which run of the machine.
    boot: String,
    synced: bool,
    over: Vec<LayerName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// `sandbox.json`: what a sandbox was launched on, and in which run of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launched {
    boot: String,
    pub(crate) root: Root,
    pub(crate) layers: Vec<LayerName>,
}

/// The layers of one folder of sandboxes. Blocking: for threads that may wait.
#[derive(Debug)]
pub(crate) struct Layers {
    sandboxes: PathBuf,
    folder: PathBuf,
    boot: String,
    /// Held while it is decided whether a layer goes or is used, and while a record changes.
    changing: Mutex<()>,
}

impl Layers {
    /// Opens the folder, and takes away what the machine's last end has spoilt; the layers that are not on disk yet.
    pub(crate) fn open(sandboxes: &Path, trash: &Trash) -> io::Result<(Self, Vec<LayerName>)> {
        let folder = sandboxes.join(LAYERS_FOLDER);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let boot = fs::read_to_string(BOOT_FILE)?.trim().to_owned();
        let layers = Self { sandboxes: sandboxes.to_path_buf(), folder, boot, changing: Mutex::default() };
        let mut unsynced = Vec::new();
        for entry in fs::read_dir(&layers.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()?.parse::<LayerName>().ok());
            match name.and_then(|name| Some((layers.record(&name)?, name))) {
                Some((record, _)) if record.synced => {}
                Some((record, name)) if record.boot == layers.boot => unsynced.push(name),
                _ => {
                    tracing::warn!(layer = %path.display(), "removing a kept layer that was not on disk when the machine stopped");
                    trash.take(&path)?;
                }
            }
        }
        Ok((layers, unsynced))
    }

    /// Makes the folder of a new sandbox that stands on these layers: from now on they stay.
    pub(crate) fn reserve(
        &self,
        folder: &Path,
        id: SandboxId,
        root: &Root,
        layers: &[LayerName],
    ) -> Result<(), SandboxError> {
        let _changing = self.change();
        if let Some(name) = layers.iter().find(|name| !self.upper(name).is_dir()) {
            return Err(SandboxError::NoSuchLayer(name.clone()));
        }
        DirBuilder::new().mode(0o700).create(folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => SandboxError::Exists(id),
            _ => SandboxError::Host { what: format!("cannot make `{}`", folder.display()), source: error },
        })?;
        let launched = Launched { boot: self.boot.clone(), root: root.clone(), layers: layers.to_vec() };
        let text = serde_json::to_vec(&launched).map_err(io::Error::other);
        text.and_then(|text| fs::write(folder.join(LAUNCH_FILE), text))
            .map_err(SandboxError::host(format!("cannot write down what sandbox {id} stands on")))
    }

    /// What the sandbox in this folder was launched on; nothing if there is none, or it ended with the machine and
    /// what it wrote last may not have come to the disk.
    pub(crate) fn launched(&self, folder: &Path) -> Option<Launched> {
        launched(folder).ok().filter(|launched| launched.boot == self.boot)
    }

    /// The same whichever run of the machine it was launched in: what it wrote last before the machine stopped may be missing.
    pub(crate) fn launched_ever(&self, folder: &Path) -> Option<Launched> {
        launched(folder).ok()
    }

    /// Writes down that the sandbox in this folder was launched again, in this run of the machine.
    pub(crate) fn note_relaunched(&self, folder: &Path, launched: &Launched) -> io::Result<()> {
        let text =
            serde_json::to_vec(&Launched { boot: self.boot.clone(), ..launched.clone() }).map_err(io::Error::other)?;
        let new = folder.join("sandbox.json.new");
        fs::write(&new, text)?;
        fs::rename(new, folder.join(LAUNCH_FILE))
    }

    /// Makes the folder of an ended sandbox a layer. Afterwards there is no such sandbox.
    pub(crate) fn keep(&self, folder: &Path, name: &LayerName, over: Vec<LayerName>) -> Result<(), SandboxError> {
        let failed = || SandboxError::host(format!("cannot keep the layer `{name}`"));
        let _changing = self.change();
        let place = self.folder.join(name.as_str());
        if place.exists() {
            return Err(SandboxError::LayerExists(name.clone()));
        }
        let record =
            Record { kept_at: Timestamp::now(), boot: self.boot.clone(), synced: false, over, size_bytes: None };
        // Not waited for: if this is not on disk when the machine stops, nor is the layer.
        let text = serde_json::to_vec(&record).map_err(io::Error::other).map_err(failed())?;
        fs::write(folder.join(LAYER_FILE), text).map_err(failed())?;
        fs::rename(folder, &place).map_err(failed())
    }

    /// Takes from a kept layer what was the sandbox's and is not the layer's.
    pub(crate) fn strip(&self, name: &LayerName, trash: &Trash) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.join(name.as_str()))? {
            let entry = entry?;
            if entry.file_name() != UPPER_FOLDER && entry.file_name() != LAYER_FILE {
                trash.take(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Brings a layer to the disk, and writes down that it is there. May take as long as the disk does.
    pub(crate) fn sync(&self, name: &LayerName) -> io::Result<()> {
        // Not the files themselves: their top may have been closed, or be another user's. They are on the same file system.
        match File::open(self.folder.join(name.as_str())) {
            Ok(folder) => syncfs(folder)?,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        self.update(name, |record| record.synced = true)
    }

    /// Writes down how large a layer is.
    pub(crate) fn note_size(&self, name: &LayerName, size_bytes: u64) -> io::Result<()> {
        self.update(name, |record| record.size_bytes = Some(size_bytes))
    }

    /// The layers there are, by name.
    pub(crate) fn list(&self) -> io::Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let Some(name) = entry?.file_name().to_str().and_then(|name| name.parse::<LayerName>().ok()) else {
                continue;
            };
            if let Some(Record { kept_at, synced, over, size_bytes, .. }) = self.record(&name) {
                layers.push(Layer { name, kept_at, over, size_bytes, is_on_disk: synced });
            }
        }
        layers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(layers)
    }

    /// One layer.
    pub(crate) fn size_of(&self, name: &LayerName) -> Result<Option<u64>, SandboxError> {
        match self.record(name) {
            Some(record) => Ok(record.size_bytes),
            None => Err(SandboxError::NoSuchLayer(name.clone())),
        }
    }

    /// Takes a layer away, unless the folder of a sandbox says that it stands on it.
    pub(crate) fn remove(&self, name: &LayerName, trash: &Trash) -> io::Result<Removed> {
        let _changing = self.change();
        let place = self.folder.join(name.as_str());
        if !place.exists() {
            return Ok(Removed::Absent);
        }
        for entry in fs::read_dir(&self.sandboxes)? {
            let entry = entry?;
            if entry.file_name().to_str().and_then(|name| name.parse::<SandboxId>().ok()).is_none() {
                continue;
            }
            let is_user = match launched(&entry.path()) {
                Ok(launched) => launched.layers.contains(name),
                // Made before layers were, or gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                // It may stand on anything.
                Err(_) => true,
            };
            if is_user {
                return Ok(Removed::InUse);
            }
        }
        trash.take(&place)?;
        Ok(Removed::Removed)
    }

    /// Where a layer's files are.
    pub(crate) fn upper(&self, name: &LayerName) -> PathBuf {
        self.folder.join(name.as_str()).join(UPPER_FOLDER)
    }

    fn record(&self, name: &LayerName) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.folder.join(name.as_str()).join(LAYER_FILE)).ok()?).ok()
    }

    fn update(&self, name: &LayerName, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let _changing = self.change();
        let Some(mut record) = self.record(name) else { return Ok(()) };
        change(&mut record);
        let folder = self.folder.join(name.as_str());
        let (new, place) = (folder.join("layer.json.new"), folder.join(LAYER_FILE));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&record).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&new, &place)?;
        File::open(&folder)?.sync_all()
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn launched(folder: &Path) -> io::Result<Launched> {
    serde_json::from_slice(&fs::read(folder.join(LAUNCH_FILE))?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_path_could_misread_is_no_layers() {
        for text in ["", "-a", ".", "..", "a/b", "a.b", "a b", "é", "a\n", &"a".repeat(81)] {
            assert!(text.parse::<LayerName>().is_err(), "{text:?}");
        }
        for text in ["a", "0-Z", &"a".repeat(80)] {
            assert_eq!(text.parse::<LayerName>().map(String::from).ok().as_deref(), Some(text));
        }
    }
}

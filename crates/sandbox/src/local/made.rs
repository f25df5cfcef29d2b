//! Layers made from files of ours, to lie beneath all others: what an image needs beside what is in it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path};

use carrel_runner::protocol::{FactState, UPPER_FOLDER};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use uuid::Uuid;

use super::{Local, MAKING, Sandboxes};
use crate::resolve::open_inside;
use crate::{LayerName, Root, SandboxError};

impl Sandboxes {
    /// Whether a layer can be laid over everything in this root. An ordinary user can lay none over the host's.
    pub fn can_layer(&self, root: &Root) -> bool {
        let is_root = self.local.offered.facts.iter().any(|fact| fact.name == "user" && fact.state == FactState::Ok);
        is_root || matches!(root, Root::Folder { .. })
    }

    /// Makes a layer of these files (absolute path and content, readable to everybody, the root user's), unless there is
    /// one of that name.
    pub async fn make_layer(
        &self,
        name: &LayerName,
        root: &Root,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<(), SandboxError> {
        if self.local.layers.upper(name).is_dir() {
            return Ok(());
        }
        let owner = match root {
            Root::Host => None,
            Root::Folder { .. } => self.can_layer(&Root::Host).then_some(self.local.limits.host_id),
        };
        let kept = name.clone();
        let made = self.blocking(move |local| make(local, &kept, owner, &files)).await;
        match made {
            // Somebody else was faster.
            Err(SandboxError::LayerExists(_)) => return Ok(()),
            other => other?,
        }
        self.settle(name.clone());
        Ok(())
    }
}

impl Root {
    /// The content of a regular file in the root, its links followed as they would be inside; nothing when there is none.
    ///
    /// # Errors
    /// When it is longer than `max_bytes`, or cannot be read.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, SandboxError> {
        let failed = || SandboxError::host(format!("cannot read `{path}` of the image"));
        let folder = match self {
            Self::Host => Path::new("/"),
            Self::Folder { path, .. } => path,
        };
        let folder = fs::File::open(folder).map_err(failed())?;
        let file = match open_inside(&folder, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(file) => fs::File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(error) => return Err(failed()(error.into())),
        };
        let data = file.metadata().map_err(failed())?;
        if !data.is_file() {
            return Ok(None);
        }
        if data.len() > max_bytes {
            return Err(SandboxError::TooLarge { path: path.to_owned(), size_bytes: data.len(), max_bytes });
        }
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes).map_err(failed())?;
        Ok(Some(bytes))
    }
}

fn make(local: &Local, name: &LayerName, owner: Option<u32>, files: &[(String, Vec<u8>)]) -> Result<(), SandboxError> {
    let folder = local.folder.join(format!("{MAKING}{}", Uuid::now_v7()));
    let filled = fill(&folder, owner, files).map_err(SandboxError::host(format!("cannot make the layer `{name}`")));
    let kept = filled.and_then(|()| local.layers.keep(&folder, name, Vec::new()));
    if kept.is_err() {
        let _swept_at_the_next_start = local.trash.take(&folder);
    }
    kept
}

fn fill(folder: &Path, owner: Option<u32>, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    let upper = folder.join(UPPER_FOLDER);
    let make_folder = |path: &Path| {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        chown(path, owner, owner)
    };
    make_folder(&upper)?;
    for (path, bytes) in files {
        let mut place = upper.clone();
        let parts: Vec<Component> = Path::new(path).components().collect();
        for part in parts.iter().take(parts.len().saturating_sub(1)) {
            if let Component::Normal(part) = part {
                place.push(part);
                make_folder(&place)?;
            }
        }
        let Some(Component::Normal(last)) = parts.last() else { continue };
        place.push(last);
        fs::write(&place, bytes)?;
        fs::set_permissions(&place, Permissions::from_mode(0o644))?;
        chown(&place, owner, owner)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use carrel_runner::protocol::FolderIds;

    use super::*;

    #[test]
    fn a_link_in_an_image_leads_nowhere_outside_it() {
        let place = tempfile::tempdir().expect("a temporary folder");
        fs::write(place.path().join("outside"), "host").expect("written");
        let image = place.path().join("image");
        fs::create_dir_all(image.join("etc")).expect("made");
        fs::write(image.join("etc/real"), "image").expect("written");
        std::os::unix::fs::symlink("/etc/real", image.join("etc/good")).expect("linked");
        std::os::unix::fs::symlink("../../outside", image.join("etc/evil")).expect("linked");
        let root = Root::Folder { path: image, ids: FolderIds::Plain };

        assert_eq!(root.read("/etc/good", 10).expect("read"), Some(b"image".to_vec()));
        assert_eq!(root.read("/etc/evil", 10).expect("looked"), None);
        assert!(matches!(root.read("/etc/real", 2), Err(SandboxError::TooLarge { .. })));
    }
}

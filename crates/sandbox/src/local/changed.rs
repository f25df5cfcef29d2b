//! What was changed below a folder of a sandbox, found in its writable layer: as much work as there are changes, however
//! large what lies beneath.
//!
//! Overlays say it plainly. What was written lies in the layer, what was removed is a device 0/0 there, and a folder that
//! hides or has moved what is beneath it carries an attribute. Everything else shows what the layers beneath have.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use carrel_domain::SandboxId;
use carrel_runner::protocol::{Root, UPPER_FOLDER};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag};

use super::Sandboxes;
use crate::tree::{Step, Waiting, walk_from};
use crate::{LayerName, SandboxError};

/// How many things in a layer are looked at before it is given up.
const LOOKED_AT: usize = 50_000;
/// How many bytes the names of a folder's attributes may have. An overlay's own need 50.
const ATTRIBUTE_BYTES: usize = 4096;
/// The attributes by which an overlay's folder shows something else than the folders of the same path beneath it do.
const OF_ITS_OWN: [&[u8]; 4] =
    [b"trusted.overlay.opaque", b"trusted.overlay.redirect", b"user.overlay.opaque", b"user.overlay.redirect"];
/// Where an ordinary user's sandbox on the host's root shows the folder `home` of its layer.
const HOME: &str = "/home/carrel";

/// What was changed below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Nothing but these, relative to that folder, sorted: what was written or removed, and as a whole each folder that is
    /// new or came from elsewhere. Some of them may be as they were.
    Paths(Vec<Vec<u8>>),
    /// Perhaps everything: the folder itself is another, or too much was changed.
    Everything,
}

impl Sandboxes {
    /// What the sandbox has changed below an absolute folder, and what those of its layers have that were `also` kept of
    /// the same work; at most `max` paths. To be sure, look after its processes have ended.
    pub async fn changed_in_sandbox(
        &self,
        id: SandboxId,
        below: &str,
        also: &[LayerName],
        max: usize,
    ) -> Result<Changed, SandboxError> {
        let folder = self.local.folder_of(id);
        let launched = self.local.layers.launched(&folder).ok_or(SandboxError::Gone(id))?;
        let is_in_parts = launched.root == Root::Host && !self.can_layer(&crate::Root::Host);
        let Some(inside) = place(below, is_in_parts) else { return Ok(Changed::Paths(Vec::new())) };
        let tops: Vec<PathBuf> = std::iter::once(folder.join(UPPER_FOLDER))
            .chain(also.iter().map(|name| self.local.layers.upper(name)))
            .collect();
        let waiting = Waiting::default();
        let abandoned = waiting.abandoned();
        let what = format!("cannot look for what changed in sandbox {id}");
        self.blocking(move |_| look(&tops, &inside, max, &abandoned).map_err(SandboxError::host(what))).await
    }
}

/// Where in a layer a folder of the sandbox is; nothing if it can only be read. An ordinary user's sandbox on the host's
/// root has a few writable folders, each with a part of the layer of its own.
fn place(below: &str, is_in_parts: bool) -> Option<PathBuf> {
    let below = Path::new(below);
    if is_in_parts {
        if let Ok(rest) = below.strip_prefix(HOME) {
            return Some(Path::new("home").join(rest));
        }
        if !["/workspace", "/tmp", "/var"].iter().any(|part| below.starts_with(part)) {
            return None;
        }
    }
    below.strip_prefix("/").ok().map(Path::to_path_buf)
}

fn look(tops: &[PathBuf], inside: &Path, max: usize, abandoned: &AtomicBool) -> io::Result<Changed> {
    let mut paths = Vec::new();
    for top in tops {
        let folder = match enter(top, inside)? {
            Found::Nothing => continue,
            Found::Another => return Ok(Changed::Everything),
            Found::Folder(folder) => folder,
        };
        let mut looked_at = 0;
        let given_up = walk_from(folder, abandoned, |entry, path| {
            looked_at += 1;
            let is_folder = entry.kind() == SFlag::S_IFDIR;
            if looked_at > LOOKED_AT || paths.len() >= max {
                return Ok(Step::Stop(()));
            }
            if is_folder {
                // What lies in a folder that nobody may read is another matter than what is in its layer.
                if entry.stat.st_mode & 0o500 != 0o500 {
                    return Ok(Step::Stop(()));
                }
                let name = std::ffi::OsStr::from_bytes(entry.name.to_bytes());
                if !is_of_its_own(&Path::new(&format!("/proc/self/fd/{}", entry.folder.as_raw_fd())).join(name))? {
                    return Ok(Step::Into);
                }
            }
            paths.push(path.strip_prefix(b"/").unwrap_or(path).to_vec());
            Ok(Step::Past)
        });
        match given_up {
            Ok(None) => {}
            Ok(Some(())) => return Ok(Changed::Everything),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "cannot tell from a layer what was changed; everything may be");
                return Ok(Changed::Everything);
            }
        }
    }
    paths.sort_unstable();
    paths.dedup();
    Ok(Changed::Paths(paths))
}

/// What a layer has at a path.
enum Found {
    /// Nothing: what lies beneath shows.
    Nothing,
    /// Something that hides what lies beneath, on the way or there.
    Another,
    /// A folder, merged with those beneath.
    Folder(OwnedFd),
}

/// Goes down to a folder of a layer, following no link.
fn enter(top: &Path, inside: &Path) -> io::Result<Found> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut folder = match open(top, flags, Mode::empty()) {
        Ok(folder) => folder,
        // Whoever had the sandbox gave its `/` away, or closed it: what is in there cannot be told.
        Err(Errno::EACCES) => return Ok(Found::Another),
        Err(error) => return Err(error.into()),
    };
    for name in inside {
        folder = match openat(&folder, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::ENOENT) => return Ok(Found::Nothing),
            Err(Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES | Errno::ENXIO) => return Ok(Found::Another),
            Err(error) => return Err(error.into()),
        };
        if is_of_its_own(Path::new(&format!("/proc/self/fd/{}/.", folder.as_raw_fd()))).unwrap_or(true) {
            return Ok(Found::Another);
        }
    }
    Ok(Found::Folder(folder))
}

/// Whether a folder of a layer shows something else than the folders of the same path beneath it.
fn is_of_its_own(folder: &Path) -> io::Result<bool> {
    let mut names = [0; ATTRIBUTE_BYTES];
    // With more attributes than that it cannot be told.
    let length = rustix::fs::llistxattr(folder, &mut names)?;
    Ok(names[..length].split(|byte| *byte == 0).any(|name| OF_ITS_OWN.contains(&name)))
}

//! Roots made of a folder that holds a root file system: an image that was unpacked, or somebody's own.
//!
//! The sandbox's layers lie over a small mask, which lies over the folder. Nothing of the folder is hidden but what the
//! machine itself provides; the mask adds the mount points and the files that name the host. Everything belongs to the
//! ids of root's namespace inside, which are the host's only by a shift: root's sandboxes have 65,536 of them, and so have
//! those of an ordinary user with subordinate ids. Without, they have the one it has itself, and nothing can be given to
//! anybody else there.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::chdir;

use super::base::{Power, make_folder, name_files};
use super::stack::{Stack, explain, make_upper, open_folder, open_layers};
use crate::protocol::{FolderIds, INSIDE_IDS, UPPER_FOLDER, WORK_FOLDER};
use crate::sys::mount::{Notes, attach, clone_with_ids, set_opaque};
use crate::sys::process::{Cloned, clone_into, exit_now};

/// The mask's folders, their permission bits, and whether what an image has there is hidden.
const MASK_FOLDERS: &[(&str, u32, bool)] = &[
    ("proc", 0o755, true),
    ("sys", 0o755, true),
    ("dev", 0o755, true),
    ("run", 0o755, false),
    ("tmp", 0o1777, false),
    ("root", 0o700, false),
    ("workspace", 0o755, false),
    ("etc", 0o755, false),
];

/// What all roots made of folders share.
pub(super) struct Folders {
    mask: PathBuf,
    root: PathBuf,
    translated: PathBuf,
    notes: Notes,
    /// The launcher's number for root inside, if it may give files away.
    owner: Option<u32>,
    /// The user namespace that translates the owners of plain folders, or why there is none.
    ids: Result<OwnedFd, String>,
}

impl Folders {
    /// Prepares the mask in `shared`.
    pub(super) fn prepare(shared: &Path, power: &Power) -> Result<Self, String> {
        let owner = power.first_id();
        let (notes, ids) = match power {
            Power::Host(first) => (Notes::Trusted, translation(*first)),
            Power::Lent(_) | Power::Own(_) => {
                (Notes::User, Err("only root can show a folder's files under other owners".to_owned()))
            }
        };
        let [mask, root, translated] = ["folder-mask", "folder-root", "folder-base"].map(|name| shared.join(name));
        for folder in [&mask, &root, &translated] {
            make_folder(folder, 0o755)?;
        }
        let own = |path: &Path| match owner {
            Some(id) => chown(path, Some(id), Some(id))
                .map_err(|error| format!("cannot give away `{}`: {error}", path.display())),
            None => Ok(()),
        };
        own(&mask)?;
        for (name, mode, is_hidden) in MASK_FOLDERS {
            let folder = mask.join(name);
            make_folder(&folder, *mode)?;
            own(&folder)?;
            if *is_hidden {
                set_opaque(&folder, notes).map_err(|error| no_notes(&folder, error))?;
            }
        }
        for file in name_files(&mask.join("etc"))? {
            own(&file)?;
        }
        Ok(Self { mask, root, translated, notes, owner, ids })
    }

    /// The launcher's number for root inside, if it may give files away.
    pub(super) fn owner(&self) -> Option<u32> {
        self.owner
    }

    /// What a parked child must keep open.
    pub(super) fn kept_open(&self) -> Option<RawFd> {
        self.ids.as_ref().ok().map(AsRawFd::as_raw_fd)
    }

    /// Mounts the root of the sandbox in `folder` and goes there.
    pub(super) fn enter(
        &self,
        folder: &Path,
        sandboxes: &Path,
        path: &Path,
        ids: FolderIds,
        layers: &[String],
    ) -> Result<(), String> {
        chdir(folder).map_err(|error| format!("cannot go to `{}`: {error}", folder.display()))?;
        let mut lower = open_layers(sandboxes, layers, None)?;
        make_upper(Path::new(UPPER_FOLDER), lower.first(), 0o755, self.owner)?;
        make_folder(Path::new(WORK_FOLDER), 0o755)?;
        let mask = open_folder(&self.mask).map_err(|error| format!("cannot open the mask layer: {error}"))?;
        lower.extend([mask, self.open(path, ids)?]);
        let stack = Stack { lower: &lower, writable: Some((UPPER_FOLDER, WORK_FOLDER)), notes: self.notes };
        stack.show_at(&self.root).map_err(|error| explain(folder, error))?;
        chdir(&self.root).map_err(|error| format!("cannot enter the root of `{}`: {error}", folder.display()))
    }

    /// Opens the folder as the lowest layer.
    fn open(&self, path: &Path, ids: FolderIds) -> Result<File, String> {
        let missing = |error: std::io::Error| format!("cannot open the root folder `{}`: {error}", path.display());
        let shown = match (ids, self.notes) {
            // An ordinary user's own files are root's inside, those of its subordinate ids theirs, all others nobody's.
            (FolderIds::Shifted, _) | (FolderIds::Plain, Notes::User) => path,
            (FolderIds::Plain, Notes::Trusted) => {
                open_folder(path).map_err(missing)?;
                self.translate(path)?;
                &self.translated
            }
        };
        open_folder(shown).map_err(missing)
    }

    /// Shows the folder under the owners it has inside.
    fn translate(&self, path: &Path) -> Result<(), String> {
        let ids = self.ids.as_ref().map_err(|reason| format!("cannot use `{}` as a root: {reason}", path.display()))?;
        let shown = clone_with_ids(path, ids.as_fd()).and_then(|tree| attach(tree.as_fd(), &self.translated));
        shown.map_err(|error| match error {
            Errno::EINVAL | Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP => format!(
                "cannot show `{}` under other owners ({error}): that takes Linux 5.19 and a file system with idmapped \
                 mounts (ext4, xfs, btrfs, f2fs, squashfs, erofs); put the folder on one, or use it as an OCI image, which is unpacked",
                path.display()
            ),
            error => format!("cannot show `{}` under other owners: {error}", path.display()),
        })
    }
}

fn no_notes(folder: &Path, error: Errno) -> String {
    format!(
        "cannot mark `{}` as hiding what lies beneath ({error}): the file system of the data folder needs extended attributes",
        folder.display()
    )
}

/// A user namespace in which 0 and up stand for `owner` and up.
fn translation(owner: u32) -> Result<OwnedFd, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} a user namespace: {error}");
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed("prepare", &error))?;
    let pid = match clone_into(CloneFlags::CLONE_NEWUSER).map_err(|error| failed("make", &error))? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            // Lives until the stream ends: it holds the namespace while nothing else does.
            drop(ours);
            let _ended = (&theirs).read(&mut [0]);
            exit_now(0)
        }
    };
    for map in ["gid_map", "uid_map"] {
        let path = format!("/proc/{pid}/{map}");
        fs::write(&path, ids_of_root(owner)).map_err(|error| failed("fill", &error))?;
    }
    let ids = File::open(format!("/proc/{pid}/ns/user")).map_err(|error| failed("open", &error))?;
    drop(ours);
    Ok(ids.into())
}

/// The ids of a sandbox that has its own root, as the kernel reads them.
pub(super) fn ids_of_root(owner: u32) -> String {
    format!("0 {owner} {INSIDE_IDS}")
}

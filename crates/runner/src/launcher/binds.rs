//! The root of a sandbox made by an ordinary user: a tmpfs with the host's top folders in it, read-only.
//!
//! An overlay over the host's root needs root. `/var` is not shown at all (it holds data and sockets, hardly
//! programs) but made new and writable, as are `/workspace`, `/tmp` and the home folder.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::chdir;

use super::base::{make_folder, write_replaced_files};
use super::paths::{HIDDEN_FILES, HIDDEN_FOLDERS, REPLACED_FILES};
use super::stack::{Stack, explain, make_upper, open_folder, open_layers};
use crate::protocol::{UPPER_FOLDER, WORK_FOLDER};
use crate::sys::mount::{Attributes, Notes, attach, clone_tree};

/// The host's devices that are shown.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Writable folders: the name of its layer, where it is shown, permission bits.
const WRITABLE: &[(&str, &str, u32)] =
    &[("workspace", "workspace", 0o755), ("home", "home/carrel", 0o755), ("tmp", "tmp", 0o1777), ("var", "var", 0o755)];

/// What is made in the new `/var`.
const VAR_FOLDERS: &[(&str, u32)] = &[("tmp", 0o1777), ("log", 0o755), ("lib", 0o755), ("cache", 0o755)];

/// What is empty in every root. An overlay takes no fewer than two layers, and none that lies in another: so not a
/// folder of the service's own, which may lie in a folder that is shown.
const EMPTY: &str = "sys";

/// What the roots of all sandboxes share.
pub(super) struct Binds {
    files: PathBuf,
    empty: PathBuf,
    devices: PathBuf,
    root: PathBuf,
    folders: Vec<PathBuf>,
    /// Those of the folders with other file systems mounted in them, which an overlay would not show.
    split: HashSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    private: Vec<PathBuf>,
}

impl Binds {
    /// Prepares replaced files, an empty folder and a `/dev` in `shared`.
    pub(super) fn prepare(shared: &Path, private: &[PathBuf]) -> Result<Self, String> {
        let [files, empty, devices, root] = ["etc", "empty", "dev", "root"].map(|name| shared.join(name));
        for folder in [&files, &empty, &devices, &root] {
            make_folder(folder, 0o755)?;
        }
        write_replaced_files(&files)?;
        for name in DEVICES {
            fs::write(devices.join(name), "").map_err(|error| format!("cannot make a place for `{name}`: {error}"))?;
        }
        super::child::make_device_links(&devices)?;
        let (mut folders, mut links) = (Vec::new(), Vec::new());
        let entries = fs::read_dir("/").map_err(|error| format!("cannot list the host's root: {error}"))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let hidden = path == Path::new("/var") || HIDDEN_FOLDERS.iter().any(|folder| path == Path::new(folder));
            if let Ok(target) = fs::read_link(&path) {
                links.push((target, path));
            } else if path.is_dir() && !hidden && fs::read_dir(&path).is_ok() {
                folders.push(path);
            }
        }
        let hidden = HIDDEN_FILES.iter().map(PathBuf::from).chain(private.iter().cloned());
        // What is not there yet may be there at the next launch.
        let private = hidden.map(|path| fs::canonicalize(&path).unwrap_or(path)).collect();
        let split = with_mounts_inside(&folders);
        Ok(Self { files, empty, devices, root, folders, split, links, private })
    }

    /// Builds the root of the sandbox in `folder`, over the kept `layers` of `sandboxes`, and goes there.
    pub(super) fn enter(&self, folder: &Path, sandboxes: &Path, layers: &[String]) -> Result<(), String> {
        let at = |path: &Path, error: Errno| format!("cannot show `{}`: {error}", path.display());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("carrel"), &self.root, Some("tmpfs"), flags, Some("mode=755,size=1m"))
            .map_err(|error| at(&self.root, error))?;
        // Before the host's folders: under them lies one that is empty.
        make_folder(&self.root.join(EMPTY), 0o755)?;
        for path in &self.folders {
            self.show_host(path).map_err(|error| at(path, error))?;
        }
        for (target, path) in &self.links {
            symlink(target, self.inside(path)).map_err(|error| format!("cannot make `{}`: {error}", path.display()))?;
        }
        for name in ["root", "home", "run", "proc", "sys", "dev"] {
            make_folder(&self.root.join(name), if name == "root" { 0o700 } else { 0o755 })?;
        }
        chdir(folder).map_err(|error| at(folder, error))?;
        for folder in [UPPER_FOLDER, WORK_FOLDER] {
            make_folder(Path::new(folder), 0o755)?;
        }
        for (name, target, mode) in WRITABLE {
            self.show_writable(folder, sandboxes, layers, (name, Path::new(target), *mode))?;
        }
        self.mask().map_err(|error| format!("cannot mask private files: {error}"))?;
        chdir(&self.root).map_err(|error| at(&self.root, error))?;
        Ok(())
    }

    /// `/dev` with the host's devices in it, as a tree to attach, and by name the trees to attach in it.
    pub(super) fn device_trees(&self) -> Result<(OwnedFd, Vec<(PathBuf, OwnedFd)>), Errno> {
        let folder = clone_tree(&self.devices, Attributes::ReadOnly)?;
        let device = |name: &&str| {
            let tree = clone_tree(&Path::new("/dev").join(name), Attributes::ReadOnlyDevices);
            tree.map(|tree| (PathBuf::from(name), tree))
        };
        Ok((folder, DEVICES.iter().map(device).collect::<Result<_, _>>()?))
    }

    /// Shows a writable folder, over those of the same name in the layers.
    fn show_writable(
        &self,
        folder: &Path,
        sandboxes: &Path,
        layers: &[String],
        (name, target, mode): (&str, &Path, u32),
    ) -> Result<(), String> {
        let lower = open_layers(sandboxes, layers, Some(name))?;
        let (upper, work) = (format!("{UPPER_FOLDER}/{name}"), format!("{WORK_FOLDER}/{name}"));
        let is_first = fs::symlink_metadata(&upper).is_err() && lower.is_empty();
        make_upper(Path::new(&upper), lower.first(), mode, None)?;
        if is_first && name == "var" {
            // Only while nobody else was here: a link in it would lead out.
            self.fill_var(Path::new(&upper))?;
        }
        if lower.is_empty() {
            return self
                .show(Path::new(&upper), target, Attributes::Writable)
                .map_err(|error| format!("cannot show `{upper}`: {error}"));
        }
        make_folder(Path::new(&work), 0o755)?;
        let shown = self.inside(target);
        fs::create_dir_all(&shown).map_err(|error| format!("cannot make `{}`: {error}", shown.display()))?;
        let stack = Stack { lower: &lower, writable: Some((&upper, &work)), notes: Notes::User };
        stack.show_at(&shown).map_err(|error| explain(folder, error))
    }

    fn fill_var(&self, var: &Path) -> Result<(), String> {
        for (name, mode) in VAR_FOLDERS {
            make_folder(&var.join(name), *mode)?;
        }
        match symlink("/run", var.join("run")) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(format!("cannot make `/var/run`: {error}"))
            }
            _ => Ok(()),
        }
    }

    /// Covers private paths and replaced files wherever they show.
    fn mask(&self) -> Result<(), Errno> {
        for path in &self.private {
            let shown = self.inside(path);
            if shown.is_dir() {
                attach(clone_tree(&self.empty, Attributes::ReadOnly)?.as_fd(), &shown)?;
            } else if shown.exists() {
                attach(clone_tree(Path::new("/dev/null"), Attributes::ReadOnlyDevices)?.as_fd(), &shown)?;
            }
        }
        for name in REPLACED_FILES {
            let shown = self.root.join("etc").join(name);
            // A link of the host's leads into `/run`, which is empty inside: there is nothing to cover.
            if fs::symlink_metadata(&shown).is_ok_and(|data| data.is_file()) {
                attach(clone_tree(&self.files.join(name), Attributes::ReadOnly)?.as_fd(), &shown)?;
            }
        }
        Ok(())
    }

    /// Shows a folder of the host. Through an overlay, where that is possible: the sockets in one are copies, which
    /// lead nowhere, while a program could connect to those in the folder itself.
    fn show_host(&self, path: &Path) -> Result<(), Errno> {
        if !self.split.contains(path)
            && let (Ok(folder), Ok(empty)) = (open_folder(path), open_folder(&self.root.join(EMPTY)))
        {
            let shown = self.inside(path);
            fs::create_dir_all(&shown).map_err(|_| Errno::EIO)?;
            let stack = Stack { lower: &[folder, empty], writable: None, notes: Notes::User };
            if stack.show_at(&shown).is_ok() {
                return Ok(());
            }
        }
        self.show(path, path, Attributes::ReadOnly)
    }

    fn show(&self, source: &Path, target: &Path, attributes: Attributes) -> Result<(), Errno> {
        let tree = clone_tree(source, attributes)?;
        let target = self.inside(target);
        fs::create_dir_all(&target).map_err(|_| Errno::EIO)?;
        attach(tree.as_fd(), &target)
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Those of the folders in which something else is mounted.
fn with_mounts_inside(folders: &[PathBuf]) -> HashSet<PathBuf> {
    // Without a table to read all of them may be.
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else { return folders.iter().cloned().collect() };
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let inside = |folder: &Path, place: &Path| place != folder && place.starts_with(folder);
    let split = places.flat_map(|place| folders.iter().filter(move |folder| inside(folder, place)));
    split.cloned().collect()
}

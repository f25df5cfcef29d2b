//! The root of a sandbox made by root: one overlay of the sandbox's own layer, a mask layer, and the host's root.
//!
//! The mask layer is a folder on a tmpfs only the launcher sees, made once: whiteouts and opaque folders over what is
//! private, replaced files, mount points. Host files keep their owners, which are nobody inside: they can be read as
//! far as any stranger may read them, and never changed. Other file systems mounted below the host's root (`/usr`,
//! `/nix`) are shown through read-only overlays of their own, under the same mask; sockets in them lead nowhere.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::chdir;

use super::base::{make_folder, write_replaced_files};
use super::paths::{HIDDEN_FILES, HIDDEN_FOLDERS, OWN_FOLDERS, REPLACED_FILES};
use super::stack::{Stack, explain, make_upper, open_folder, open_layers};
use crate::protocol::{UPPER_FOLDER, WORK_FOLDER};
use crate::sys::mount::{Attributes, Notes, clone_tree, set_opaque};

/// File systems whose mounts are shown inside; others (tmpfs, cgroup, network drives of people) are not.
const SHOWN_FILE_SYSTEMS: &[&str] =
    &["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "squashfs", "erofs", "overlay", "virtiofs"];

/// The devices every program may expect: name, major, minor.
const DEVICES: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What the overlays of all sandboxes share.
pub(super) struct Overlay {
    mask: PathBuf,
    devices: PathBuf,
    root: PathBuf,
    base: PathBuf,
    /// Whether kept layers lie below the host's root in one file system: they cannot be layers beside it then.
    is_around_layers: bool,
    mounts: Vec<PathBuf>,
}

impl Overlay {
    /// Prepares mask and devices on a tmpfs at `shared`, in a mount namespace of the launcher's own.
    pub(super) fn prepare(shared: &Path, private: &[PathBuf], host_id: u32) -> Result<Self, String> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("cannot make a mount namespace as root ({error}): give the service CAP_SYS_ADMIN, or run it as an ordinary user"))?;
        // Unmounts on the host still arrive here; nothing of ours ever goes back.
        let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .map_err(|error| format!("cannot leave the host's mounts: {error}"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("carrel"), shared, Some("tmpfs"), flags, Some("mode=755,size=4m"))
            .map_err(|error| format!("cannot mount a tmpfs: {error}"))?;
        umask(Mode::empty());

        let [mask, devices, root, base] = ["mask", "dev", "root", "host"].map(|name| shared.join(name));
        for folder in [&mask, &devices, &root, &base] {
            make_folder(folder, 0o755)?;
        }
        let mounts = shown_mounts(private)?;
        Mask { folder: mask.clone(), host_id }.fill(private)?;
        make_devices(&devices)?;
        let is_around_layers = is_around(shared, &base)?;
        Ok(Self { mask, devices, root, base, is_around_layers, mounts })
    }

    /// Mounts the root of the sandbox in `folder`, over the kept `layers` of `sandboxes`, and goes there.
    pub(super) fn enter(&self, folder: &Path, sandboxes: &Path, layers: &[String]) -> Result<(), String> {
        let at = |what: &str, error: Errno| format!("cannot {what} in `{}`: {error}", folder.display());
        chdir(folder).map_err(|error| at("go", error))?;
        let mut lower = open_layers(sandboxes, layers, None)?;
        make_upper(Path::new(UPPER_FOLDER), lower.first(), 0o755, None)?;
        make_folder(Path::new(WORK_FOLDER), 0o755)?;
        for path in [&self.mask, Path::new("/")] {
            let opened = open_folder(path);
            lower.push(opened.map_err(|error| format!("cannot open the layer `{}`: {error}", path.display()))?);
        }
        self.show_root(lower).map_err(|error| explain(folder, error))?;
        for path in &self.mounts {
            self.show(path).map_err(|error| at(&format!("show `{}`", path.display()), error))?;
        }
        chdir(&self.root).map_err(|error| at("enter the root", error))
    }

    /// Shows the writable folder over these, the last two of which are the mask and the host's root.
    fn show_root(&self, mut lower: Vec<File>) -> Result<(), Errno> {
        if self.is_around_layers && lower.len() > 2 {
            // The host's files then come from an overlay of their own. Not without layers, where it would only cost,
            // and not once for all sandboxes: it would go on showing what the host has replaced since.
            let host = lower.split_off(lower.len() - 2);
            Stack { lower: &host, writable: None, notes: Notes::Trusted }.show_at(&self.base)?;
            lower.push(open_folder(&self.base).map_err(|_| Errno::EIO)?);
        }
        let writable = Some((UPPER_FOLDER, WORK_FOLDER));
        Stack { lower: &lower, writable, notes: Notes::Trusted }.show_at(&self.root)
    }

    /// The shared `/dev`, as a tree to attach.
    pub(super) fn device_tree(&self) -> Result<OwnedFd, Errno> {
        clone_tree(&self.devices, Attributes::ReadOnlyDevices)
    }

    fn show(&self, path: &Path) -> Result<(), Errno> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let lower = [&self.mask.join(relative), path].map(open_folder);
        let [Ok(mask), Ok(lower)] = lower else { return Err(Errno::ENOENT) };
        let stack = Stack { lower: &[mask, lower], writable: None, notes: Notes::Trusted };
        stack.show_at(&self.root.join(relative))
    }
}

/// Whether the kernel takes folders beside the one that `shared` is in for a part of the host's root; tried at `place`.
fn is_around(shared: &Path, place: &Path) -> Result<bool, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot try out an overlay of the host's root: {error}");
    let folder = shared.parent().unwrap_or(shared);
    let lower = [
        open_folder(folder).map_err(|error| failed(&error))?,
        open_folder(Path::new("/")).map_err(|error| failed(&error))?,
    ];
    match (Stack { lower: &lower, writable: None, notes: Notes::Trusted }).show_at(place) {
        Ok(()) => umount2(place, MntFlags::MNT_DETACH).map(|()| false).map_err(|error| failed(&error)),
        Err(Errno::ELOOP) => Ok(true),
        Err(error) => Err(explain(&folder.join("."), error)),
    }
}

/// Mount points below the host's root that a sandbox should see, parents first.
fn shown_mounts(private: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let table =
        fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("cannot read the mount table: {error}"))?;
    let hidden = |path: &Path| {
        HIDDEN_FOLDERS.iter().any(|folder| path.starts_with(folder))
            || private.iter().any(|folder| path.starts_with(folder))
    };
    let mut shown: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let kind = right.split(' ').next()?;
            let path = PathBuf::from(unescape(left.split(' ').nth(4)?));
            let is_folder = fs::metadata(&path).is_ok_and(|data| data.is_dir());
            (SHOWN_FILE_SYSTEMS.contains(&kind) && path != Path::new("/") && is_folder && !hidden(&path))
                .then_some(path)
        })
        .collect();
    shown.sort();
    shown.dedup();
    Ok(shown)
}

/// Undoes the octal escapes of the mount table.
fn unescape(field: &str) -> String {
    let mut text = field.to_owned();
    for (escape, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escape, plain);
    }
    text
}

fn make_devices(folder: &Path) -> Result<(), String> {
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&folder.join(name), SFlag::S_IFCHR, mode, makedev(*major, *minor)).map_err(|error| {
            format!(
                "cannot make the device `{name}` ({error}): give the service CAP_MKNOD, or run it as an ordinary user"
            )
        })?;
    }
    super::child::make_device_links(folder)
}

/// The mask layer while it is made.
struct Mask {
    folder: PathBuf,
    host_id: u32,
}

impl Mask {
    fn fill(&self, private: &[PathBuf]) -> Result<(), String> {
        for path in HIDDEN_FOLDERS.iter().chain(HIDDEN_FILES).map(Path::new).chain(private.iter().map(PathBuf::as_path))
        {
            if let Ok(real) = fs::canonicalize(path) {
                self.hide(&real)?;
            }
        }
        for path in HIDDEN_FILES.iter().map(Path::new).chain(private.iter().map(PathBuf::as_path)) {
            self.hide_absent(path)?;
        }
        for path in
            ["/home", "/root", "/run", "/tmp", "/proc", "/sys", "/dev", "/workspace", "/attachments", "/home/carrel"]
        {
            self.own(Path::new(path))?;
        }
        for path in ["/tmp", "/var/tmp"] {
            let shown = self.folder.join(path.trim_start_matches('/'));
            if shown.exists() {
                make_folder(&shown, 0o1777)?;
            }
        }
        for (path, mode) in OWN_FOLDERS {
            let shown = self.folder.join(path.trim_start_matches('/'));
            make_folder(&shown, *mode)?;
            chown(&shown, Some(self.host_id), Some(self.host_id))
                .map_err(|error| format!("cannot give away `{path}`: {error}"))?;
        }
        let etc = self.like_host(Path::new("/etc"))?;
        for name in REPLACED_FILES {
            // A link of the host's (to `/run`, often) must not be written through.
            let _absent = fs::remove_file(etc.join(name));
        }
        write_replaced_files(&etc)
    }

    /// An empty folder, or nothing, in place of what the host has there.
    fn hide(&self, real: &Path) -> Result<(), String> {
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err("the host's whole root cannot be private".to_owned());
        };
        if parent.ancestors().any(|above| HIDDEN_FOLDERS.iter().any(|hidden| Path::new(hidden) == above)) {
            return Ok(());
        }
        let shown = self.like_host(parent)?.join(name);
        if real.is_dir() {
            make_folder(&shown, 0o755)?;
            return set_opaque(&shown, Notes::Trusted)
                .map_err(|error| format!("cannot hide `{}`: {error}", real.display()));
        }
        // A character device 0/0 is an overlay's word for "not here".
        match mknod(&shown, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(format!("cannot hide `{}`: {error}", real.display())),
        }
    }

    /// Nothing in place of what the host does not have yet, and may have later: a file of credentials that is written
    /// once the service runs.
    fn hide_absent(&self, path: &Path) -> Result<(), String> {
        let mut missing = path;
        while let (Some(parent), Some(name)) = (missing.parent(), missing.file_name()) {
            if fs::symlink_metadata(missing).is_ok() {
                // There already, and hidden; or a link that leads nowhere yet, which is followed.
                return Ok(());
            }
            if let Ok(real) = fs::canonicalize(parent) {
                return self.hide(&real.join(name));
            }
            missing = parent;
        }
        Ok(())
    }

    /// A real, empty folder at this very path, whatever the host has there.
    fn own(&self, path: &Path) -> Result<(), String> {
        let shown = self.folder.join(path.strip_prefix("/").unwrap_or(path));
        make_folder(&shown, if path == Path::new("/root") { 0o700 } else { 0o755 })?;
        set_opaque(&shown, Notes::Trusted).map_err(|error| format!("cannot prepare `{}`: {error}", path.display()))
    }

    /// The folder in the mask, with its parents, each looking as the host's does.
    fn like_host(&self, path: &Path) -> Result<PathBuf, String> {
        let (mut shown, mut host) = (self.folder.clone(), PathBuf::from("/"));
        for part in path.components() {
            let Component::Normal(part) = part else { continue };
            shown.push(part);
            host.push(part);
            if shown.is_dir() {
                continue;
            }
            let like =
                fs::symlink_metadata(&host).map_err(|error| format!("cannot look at `{}`: {error}", host.display()))?;
            make_folder(&shown, like.permissions().mode() & 0o7777)?;
            chown(&shown, Some(like.uid()), Some(like.gid()))
                .map_err(|error| format!("cannot copy the owner of `{}`: {error}", host.display()))?;
        }
        Ok(shown)
    }
}

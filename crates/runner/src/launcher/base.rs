//! What all sandboxes of a launcher share, prepared once: the way their root is made, the filters, the limits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};

use super::binds::Binds;
use super::cgroup::Groups;
use super::folder::Folders;
use super::overlay::Overlay;
use crate::ids::{IdMap, NotLent};
use crate::protocol::{LentIds, Setup};
use crate::seccomp::Filters;

/// The shared base.
pub(super) struct Base {
    /// The folder with one sub-folder for each sandbox.
    pub(super) folder: PathBuf,
    /// What sandboxes share, and the mount points of what they do not.
    pub(super) shared: PathBuf,
    /// How a sandbox's root is made.
    pub(super) mode: Mode,
    /// How roots are made of folders.
    pub(super) folders: Folders,
    /// What the launcher may do with ids.
    pub(super) power: Power,
    /// The launcher's own user and group id.
    pub(super) own_ids: (u32, u32),
    /// The compiled system call filters.
    pub(super) filters: Filters,
    /// What holds sandboxes to their limits.
    pub(super) groups: Groups,
    /// Open files of a process.
    pub(super) open_files: u64,
    /// Bytes of `/dev/shm`.
    pub(super) shared_memory_bytes: u64,
    /// Seconds a runner lives without a controller.
    pub(super) orphan_after_s: u64,
}

/// What the launcher may do with ids, and so who owns the namespaces of its sandboxes.
pub(super) enum Power {
    /// It is the host's root: sandboxes get this id, and those of images 65,536 from it on.
    Host(u32),
    /// It is root of a user namespace of subordinate ids, from 0 on.
    Lent(IdMap),
    /// It is an ordinary user with one id, and each sandbox makes its namespaces by itself. Here is why.
    Own(NotLent),
}

impl Power {
    /// The launcher's number for root of an image's sandbox, if it may give files away.
    pub(super) fn first_id(&self) -> Option<u32> {
        match self {
            Self::Host(first) => Some(*first),
            Self::Lent(_) => Some(0),
            Self::Own(_) => None,
        }
    }

    /// Finds out what it is, and takes what there is of it.
    fn take(setup: &Setup) -> Result<Self, String> {
        if is_root_of_the_host() {
            return Ok(Self::Host(setup.host_id));
        }
        let found = match &setup.lent_ids {
            LentIds::Found => IdMap::find(),
            LentIds::These(map) => Ok(map.clone()),
            LentIds::None { reason } => Err(NotLent {
                words: format!("not used: {reason}"),
                advice: "put that right and restart the service".to_owned(),
            }),
        };
        match found {
            Ok(map) => map.enter().map(|()| Self::Lent(map)),
            Err(missing) => Ok(Self::Own(missing)),
        }
    }
}

/// How a sandbox's root is made.
pub(super) enum Mode {
    /// By root: one overlay over the host's root, in a mount namespace the sandbox's user has no power over.
    Overlay(Overlay),
    /// By an ordinary user: the host's folders, read-only, in a namespace of its own.
    Binds(Binds),
}

impl Base {
    /// Prepares it. An error says what to change.
    pub(super) fn prepare(setup: &Setup) -> Result<Self, String> {
        let folder =
            fs::canonicalize(&setup.folder).map_err(|error| format!("cannot find `{}`: {error}", setup.folder))?;
        let shared = folder.join(".base");
        make_folder(&shared, 0o755)?;
        let mut private: Vec<PathBuf> = setup.private_paths.iter().map(PathBuf::from).collect();
        private.push(folder.clone());
        private.extend(super::paths::unknown_at_the_top());
        let private = super::paths::outermost(private);
        let (own_ids, is_root) = ((geteuid().as_raw(), getegid().as_raw()), is_root_of_the_host());
        let power = Power::take(setup)?;
        let mode = match power {
            Power::Host(host_id) => Mode::Overlay(Overlay::prepare(&shared, &private, host_id)?),
            Power::Lent(_) | Power::Own(_) => Mode::Binds(Binds::prepare(&shared, &private)?),
        };
        let folders = Folders::prepare(&shared, &power)?;
        super::stage::prepare(&shared)?;
        Ok(Self {
            folder,
            shared,
            mode,
            folders,
            power,
            own_ids,
            filters: Filters::compile()?,
            groups: Groups::prepare(is_root),
            open_files: setup.open_files,
            shared_memory_bytes: setup.shared_memory_bytes,
            orphan_after_s: setup.orphan_after_s,
        })
    }

    /// The namespaces a sandbox is cloned into, but that of control groups, which it enters once it is in its own
    /// group. Where the launcher has power over ids, sandboxes enter their user namespace later, when all that needs
    /// power over the others is done; those then belong to the launcher's, and nobody inside has a say in them.
    pub(super) fn namespaces(&self) -> CloneFlags {
        let all = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        match self.power {
            Power::Host(_) | Power::Lent(_) => all,
            Power::Own(_) => all | CloneFlags::CLONE_NEWUSER,
        }
    }
}

/// Whether this is the host's root and not one that a user namespace made up (as in a rootless container), who may
/// neither make device nodes nor give files away, and is an ordinary user for our purposes.
fn is_root_of_the_host() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Makes a folder with these permission bits, whatever the umask; one that exists is fine.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<(), String> {
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
    };
    made.map_err(|error| format!("cannot make `{}`: {error}", path.display()))
}

/// Writes the files of `/etc` that have a content of ours into `folder`.
pub(super) fn write_replaced_files(folder: &Path) -> Result<(), String> {
    name_files(folder)?;
    let passwd = system_accounts("/etc/passwd", "carrel:x:1000:1000::/home/carrel:/bin/bash");
    let group = system_accounts("/etc/group", "carrel:x:1000:");
    write_files(folder, &[("passwd", passwd.as_str()), ("group", &group)]).map(drop)
}

/// Writes the files of `/etc` that name the host and its neighbours into `folder`; their paths.
pub(super) fn name_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let files = [
        ("hostname", "carrel\n"),
        ("hosts", "127.0.0.1 localhost carrel\n::1 localhost\n"),
        ("resolv.conf", ""),
        ("machine-id", ""),
    ];
    write_files(folder, &files)
}

fn write_files(folder: &Path, files: &[(&str, &str)]) -> Result<Vec<PathBuf>, String> {
    let write = |(name, content): &(&str, &str)| {
        let path = folder.join(name);
        let written =
            fs::write(&path, content).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)));
        written.map(|()| path.clone()).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    };
    files.iter().map(write).collect()
}

/// The host's system accounts, which packages refer to by name, and ours; nobody's real name.
fn system_accounts(path: &str, ours: &str) -> String {
    let host = fs::read_to_string(path).unwrap_or_default();
    let is_system = |line: &&str| {
        let number = line.split(':').nth(2).and_then(|number| number.parse::<u32>().ok());
        !line.starts_with("carrel:") && number.is_some_and(|number| number < 1000 || number == 65_534)
    };
    let mut text: String = host.lines().filter(is_system).flat_map(|line| [line, "\n"]).collect();
    text.push_str(ours);
    text.push('\n');
    text
}

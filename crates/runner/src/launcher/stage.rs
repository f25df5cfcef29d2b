//! The parts of a root that are the same in every sandbox but cannot be shared: its processes and its devices.
//!
//! A parked child mounts them before it knows its sandbox, in the shared folder as its own mount namespace shows it;
//! once it has a root, they are moved there. An ordinary user may mount `/proc` only while the host's is in sight.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::base::{Base, Mode, make_folder};
use crate::sys::mount::{Attributes, attach, clone_tree, take_tree};

/// Parts of `/proc` that are shown read-only ...
const PROC_READ_ONLY: &[&str] = &["sys", "bus", "fs", "irq", "sysrq-trigger"];
/// ... and parts that are emptied: what tells of, or changes, the machine.
const PROC_EMPTY_FOLDERS: &[&str] = &["acpi", "asound", "scsi", "driver"];
const PROC_EMPTY_FILES: &[&str] = &[
    "kcore",
    "keys",
    "key-users",
    "timer_list",
    "latency_stats",
    "sched_debug",
    "kallsyms",
    "kmsg",
    "config.gz",
    "cmdline",
];

/// The most terminals of a sandbox. The kernel has some three thousand for all of them together.
const TERMINALS: u32 = 128;

/// The places the parts are mounted at before they are moved: under the shared folder, and in a root.
const PARTS: &[(&str, &str)] = &[("stage-proc", "proc"), ("stage-dev", "dev")];

/// Makes the mount points, once for all sandboxes.
pub(super) fn prepare(shared: &Path) -> Result<(), String> {
    PARTS
        .iter()
        .map(|(stage, _)| *stage)
        .chain(["stage-empty"])
        .try_for_each(|name| make_folder(&shared.join(name), 0o755))
}

/// Mounts the parts. To be called in the sandbox's own namespaces.
pub(super) fn mount_parts(base: &Base) -> Result<(), String> {
    let (proc, dev) = (base.shared.join("stage-proc"), base.shared.join("stage-dev"));
    mount_devices(base, &dev)?;
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &proc, Some("proc"), inert, None::<&str>).map_err(|error| match error {
        Errno::EPERM => {
            "cannot mount /proc: this machine's own is partly covered, as in a container; run the service as root"
                .to_owned()
        }
        error => format!("cannot mount /proc: {error}"),
    })?;
    let (empty, null) = (base.shared.join("stage-empty"), dev.join("null"));
    let read_only = PROC_READ_ONLY.iter().map(|name| (proc.join(name), proc.join(name), Attributes::ReadOnly));
    let folders = PROC_EMPTY_FOLDERS.iter().map(|name| (empty.clone(), proc.join(name), Attributes::ReadOnly));
    let files = PROC_EMPTY_FILES.iter().map(|name| (null.clone(), proc.join(name), Attributes::ReadOnlyDevices));
    for (source, target, attributes) in read_only.chain(folders).chain(files) {
        cover(&source, &target, attributes).map_err(|error| format!("cannot cover `{}`: {error}", target.display()))?;
    }
    Ok(())
}

/// Moves the parts into the root in the working folder.
pub(super) fn install(base: &Base) -> Result<(), String> {
    PARTS.iter().try_for_each(|(stage, place)| {
        let moved = take_tree(&base.shared.join(stage)).and_then(|tree| attach(tree.as_fd(), Path::new(place)));
        moved.map_err(|error| format!("cannot mount /{place}: {error}"))
    })
}

fn mount_devices(base: &Base, dev: &Path) -> Result<(), String> {
    let failed = |error: Errno| format!("cannot prepare /dev: {error}");
    let (folder, files) = match &base.mode {
        Mode::Overlay(overlay) => (overlay.device_tree().map_err(failed)?, Vec::new()),
        Mode::Binds(binds) => binds.device_trees().map_err(failed)?,
    };
    attach(folder.as_fd(), dev).map_err(failed)?;
    for (name, tree) in files {
        attach(tree.as_fd(), &dev.join(name)).map_err(failed)?;
    }
    let terminals = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = format!("newinstance,ptmxmode=0666,mode=620,max={TERMINALS}");
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), terminals, Some(options.as_str())).map_err(failed)?;
    let size = format!("mode=1777,size={}", base.shared_memory_bytes);
    let memory = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("shm"), &dev.join("shm"), Some("tmpfs"), memory, Some(size.as_str())).map_err(failed)
}

/// Shows `source` over `target`, if this kernel has a target to cover.
fn cover(source: &Path, target: &Path, attributes: Attributes) -> Result<(), Errno> {
    if fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    attach(clone_tree(source, attributes)?.as_fd(), target)
}

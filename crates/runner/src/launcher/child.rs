//! From the clone to process 1: builds the root, enters it, gives everything up, and serves.
//!
//! Every step names itself in its error, which goes back to the controller through the launcher.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode as Bits, umask};
use nix::unistd::{chdir, pivot_root, sethostname, setsid};

use super::base::{Base, Mode, make_folder};
use super::paths::ENVIRONMENT;
use crate::init;
use crate::privileges::{INSIDE_ID, become_inside_user, limit, seal};
use crate::protocol::Launch;
use crate::sys::mount::{Attributes, attach, clone_tree};
use crate::sys::privilege::loopback_up;
use crate::sys::process::{close_all_but, keep_ended_children, put_at};

/// The child's words to the launcher: it waits for its user and group ids ...
pub(super) const ASKS_FOR_IDS: u8 = b'i';
/// ... it listens ...
pub(super) const IS_READY: u8 = b'r';
/// ... it failed, and the reason follows.
pub(super) const FAILED: u8 = b'f';
/// The launcher's one word.
pub(super) const GO_ON: u8 = b'g';

/// What a sandbox is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To serve a controller.
    Serve,
    /// To find out whether one can be made.
    Probe,
}

/// Parts of `/proc` that are shown read-only, and parts that are emptied: what tells of, or changes, the machine.
const PROC_READ_ONLY: &[&str] = &["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"];
const PROC_EMPTY_FOLDERS: &[&str] = &["/proc/acpi", "/proc/asound", "/proc/scsi", "/proc/driver"];
const PROC_EMPTY_FILES: &[&str] = &[
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/kallsyms",
    "/proc/kmsg",
    "/proc/config.gz",
    "/proc/cmdline",
];

/// Becomes the sandbox's process 1; returns its exit code when it is done.
pub(super) fn become_runner(
    base: &Base,
    launch: &Launch,
    purpose: Purpose,
    listener: UnixListener,
    mut launcher: UnixStream,
) -> i32 {
    let made = prepare(base, launch, &listener, &mut launcher)
        .and_then(|()| launcher.write_all(&[IS_READY]).map_err(|error| format!("the launcher is gone: {error}")));
    if let Err(reason) = made {
        let mut words = vec![FAILED];
        words.extend(reason.bytes().take(4000));
        let _nobody_left_to_tell = launcher.write_all(&words);
        return 1;
    }
    drop(launcher);
    if purpose == Purpose::Probe {
        return 0;
    }
    let fixed = ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = fixed.chain(launch.environment.iter().cloned()).collect();
    let ended: Result<Infallible, _> = init::serve(listener, environment, Duration::from_secs(base.orphan_after_s));
    match ended {
        Err(init::End::Orphaned) => 0,
        Err(init::End::Broken(_)) => 1,
    }
}

fn prepare(base: &Base, launch: &Launch, listener: &UnixListener, launcher: &mut UnixStream) -> Result<(), String> {
    keep_ended_children();
    umask(Bits::from_bits_truncate(0o022));
    let _already_leader = setsid();
    prctl::set_name(c"carrel-runner").map_err(|error| format!("cannot set its name: {error}"))?;
    if let Mode::Binds(_) = base.mode {
        map_own_ids(base.own_ids)?;
    }
    let read_only = launch.mounts.iter().map(|(source, target)| {
        let kind = fs::metadata(source).map_err(|error| format!("cannot find `{source}` to mount: {error}"))?;
        let tree = clone_tree(Path::new(source), Attributes::ReadOnly)
            .map_err(|error| format!("cannot mount `{source}`: {error}"))?;
        Ok((PathBuf::from(target), kind.is_dir(), tree))
    });
    let read_only: Vec<(PathBuf, bool, OwnedFd)> = read_only.collect::<Result<_, String>>()?;
    let (devices, device_files) = match &base.mode {
        Mode::Overlay(overlay) => overlay.device_tree().map(|tree| (tree, Vec::new())),
        Mode::Binds(binds) => binds.device_trees(),
    }
    .map_err(|error| format!("cannot prepare /dev: {error}"))?;

    let folder = base.folder.join(&launch.name);
    match &base.mode {
        Mode::Overlay(overlay) => overlay.enter(&folder)?,
        Mode::Binds(binds) => binds.enter(&folder)?,
    }
    fill_root(base, devices, device_files)?;
    leave_old_root().map_err(|error| format!("cannot leave the host's root: {error}"))?;
    for (target, is_folder, tree) in read_only {
        show(&target, is_folder, &tree).map_err(|error| format!("cannot mount at `{}`: {error}", target.display()))?;
    }
    if let Mode::Binds(_) = base.mode {
        let flags =
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .map_err(|error| format!("cannot close the root: {error}"))?;
    }
    name_host(&launch.hostname, &base.mode)?;
    loopback_up().map_err(|error| format!("cannot bring the loopback device up: {error}"))?;
    give_up(base, listener, launcher)
}

/// Gives up the host, then every power over the sandbox.
fn give_up(base: &Base, listener: &UnixListener, launcher: &mut UnixStream) -> Result<(), String> {
    if let Mode::Overlay(_) = base.mode {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| match error {
            Errno::ENOSPC | Errno::EUSERS => {
                "user namespaces are switched off: raise the sysctl user.max_user_namespaces".to_owned()
            }
            Errno::EPERM => format!("this machine forbids user namespaces ({error}): allow them for the service"),
            error => format!("cannot make a user namespace: {error}"),
        })?;
    }
    launcher.write_all(&[ASKS_FOR_IDS]).map_err(|error| format!("the launcher is gone: {error}"))?;
    let mut word = [0];
    launcher.read_exact(&mut word).map_err(|error| format!("the launcher is gone: {error}"))?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| format!("cannot open /dev/null: {error}"))?;
    for place in 0..=2 {
        put_at(null.as_fd(), place).map_err(|error| format!("cannot replace the standard streams: {error}"))?;
    }
    drop(null);
    let keep_groups = matches!(base.mode, Mode::Binds(_));
    become_inside_user(keep_groups).map_err(|error| format!("cannot become the user inside: {error}"))?;
    let (processes, open_files) = base.limits;
    limit(processes, open_files).map_err(|error| format!("cannot set limits: {error}"))?;
    seal(&base.filters)?;
    close_all_but(&[listener.as_raw_fd(), launcher.as_raw_fd()])
        .map_err(|error| format!("cannot close what was inherited: {error}"))
}

/// Maps the launcher's own ids to the ones inside; more a kernel does not let an ordinary user do.
fn map_own_ids((user, group): (u32, u32)) -> Result<(), String> {
    let write =
        |file: &str, text: String| fs::write(file, text).map_err(|error| format!("cannot write `{file}`: {error}"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", format!("{INSIDE_ID} {group} 1"))?;
    write("/proc/self/uid_map", format!("{INSIDE_ID} {user} 1"))
}

/// Makes the working folder the root and lets the old one go, with everything mounted in it.
fn leave_old_root() -> Result<(), Errno> {
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// Mounts what every root needs: processes, devices, terminals, shared memory. The new root is the working folder
/// still: an ordinary user may mount `/proc` only while the host's is in sight.
fn fill_root(base: &Base, devices: OwnedFd, device_files: Vec<(PathBuf, OwnedFd)>) -> Result<(), String> {
    let size = format!("mode=1777,size={}", base.shared_memory_bytes);
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let at = |place: &'static str| move |error: Errno| format!("cannot mount /{place}: {error}");
    mount(Some("proc"), "proc", Some("proc"), inert, None::<&str>).map_err(|error| match error {
        Errno::EPERM => {
            "cannot mount /proc: this machine's own is partly covered, as in a container; run the service as root"
                .to_owned()
        }
        error => at("proc")(error),
    })?;
    attach(devices.as_fd(), Path::new("dev")).map_err(at("dev"))?;
    for (target, tree) in device_files {
        attach(tree.as_fd(), inside(&target))
            .map_err(|error| format!("cannot mount `{}`: {error}", target.display()))?;
    }
    let terminals = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), "dev/pts", Some("devpts"), terminals, Some("newinstance,ptmxmode=0666,mode=620"))
        .map_err(at("dev/pts"))?;
    mount(Some("shm"), "dev/shm", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(size.as_str()))
        .map_err(at("dev/shm"))?;
    let read_only = PROC_READ_ONLY.iter().map(|path| (*path, *path, Attributes::ReadOnly));
    let folders = PROC_EMPTY_FOLDERS.iter().map(|path| ("/sys", *path, Attributes::ReadOnly));
    let files = PROC_EMPTY_FILES.iter().map(|path| ("/dev/null", *path, Attributes::ReadOnlyDevices));
    for (source, target, attributes) in read_only.chain(folders).chain(files) {
        let covered = cover(inside(Path::new(source)), inside(Path::new(target)), attributes);
        covered.map_err(|error| format!("cannot cover `{target}`: {error}"))?;
    }
    Ok(())
}

/// A path of the new root, seen from its top.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Shows `source` over `target`, if this kernel has a target to cover.
fn cover(source: &Path, target: &Path, attributes: Attributes) -> Result<(), Errno> {
    if fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    attach(clone_tree(source, attributes)?.as_fd(), target)
}

fn show(target: &Path, is_folder: bool, tree: &OwnedFd) -> Result<(), String> {
    let folder = if is_folder { Some(target) } else { target.parent() };
    if let Some(folder) = folder {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    if !is_folder {
        OpenOptions::new().create(true).append(true).open(target).map_err(|error| error.to_string())?;
    }
    attach(tree.as_fd(), target).map_err(|error| error.to_string())
}

fn name_host(name: &str, mode: &Mode) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot set the host name: {error}");
    sethostname(OsStr::new(name)).map_err(|error| failed(&error))?;
    if let Mode::Overlay(_) = mode
        && name != "carrel"
    {
        fs::write("/etc/hostname", format!("{name}\n")).map_err(|error| failed(&error))?;
        fs::write("/etc/hosts", format!("127.0.0.1 localhost {name}\n::1 localhost\n"))
            .map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// The links and mount points of a `/dev`, the same however its devices come there.
pub(super) fn make_device_links(folder: &Path) -> Result<(), String> {
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        match symlink(target, folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make `/dev/{name}`: {error}"));
            }
            _ => {}
        }
    }
    make_folder(&folder.join("pts"), 0o755)?;
    make_folder(&folder.join("shm"), 0o1777)
}

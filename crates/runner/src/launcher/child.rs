//! From the clone to process 1: builds the root, enters it, gives everything up, and serves.
//!
//! Every step names itself in its error, which goes back to the controller through the launcher.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
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
use super::stage;
use crate::init;
use crate::privileges::{INSIDE_ID, become_inside_user, limit, seal};
use crate::protocol::{Decoder, Frame, Launch, SOCKET_FILE, message};
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

/// A child that has its namespaces and waits to be told which sandbox it is; returns its exit code when it is done.
pub(super) fn become_runner(base: &Base, mut launcher: UnixStream) -> i32 {
    let made = park(base, &launcher).and_then(|()| match next_launch(&mut launcher)? {
        Some(launch) => enter(base, &launch, &mut launcher).map(|listener| Some((launch, listener))),
        None => Ok(None),
    });
    let (launch, listener) = match made {
        Ok(Some(made)) => made,
        // The launcher ended, or needs no more sandboxes.
        Ok(None) => return 0,
        Err(reason) => {
            let mut words = vec![FAILED];
            words.extend(reason.bytes().take(4000));
            let _nobody_left_to_tell = launcher.write_all(&words);
            return 1;
        }
    };
    if launcher.write_all(&[IS_READY]).is_err() {
        return 1;
    }
    drop(launcher);
    let fixed = ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = fixed.chain(launch.environment).collect();
    let ended: Result<Infallible, _> = init::serve(listener, environment, Duration::from_secs(base.orphan_after_s));
    match ended {
        Err(init::End::Orphaned) => 0,
        Err(init::End::Broken(_)) => 1,
    }
}

/// Everything that can be done before it is known which sandbox this is.
fn park(base: &Base, launcher: &UnixStream) -> Result<(), String> {
    keep_ended_children();
    umask(Bits::from_bits_truncate(0o022));
    let _already_leader = setsid();
    // Above all the controller's stream: held open here, its end would never be seen.
    close_streams(&[launcher.as_raw_fd()])?;
    prctl::set_name(c"carrel-runner").map_err(|error| format!("cannot set its name: {error}"))?;
    if let Mode::Binds(_) = base.mode {
        map_own_ids(base.own_ids)?;
    }
    loopback_up().map_err(|error| format!("cannot bring the loopback device up: {error}"))?;
    stage::mount_parts(base)?;
    base.filters.apply_early()
}

/// Waits for the launcher's order; nothing when the launcher is gone.
fn next_launch(launcher: &mut UnixStream) -> Result<Option<Launch>, String> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(Frame::Control(payload)) = decoder.next_frame().map_err(|error| error.to_string())? {
            return message(&payload).map(Some).map_err(|error| error.to_string());
        }
        match launcher.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(bytes) => decoder.push(&buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(None),
        }
    }
}

/// Builds the sandbox's root, enters it, and gives everything up; the listener of its runner.
fn enter(base: &Base, launch: &Launch, launcher: &mut UnixStream) -> Result<UnixListener, String> {
    let folder = base.folder.join(&launch.name);
    let listener = listen(&folder).map_err(|error| format!("cannot listen at `{}`: {error}", folder.display()))?;
    let read_only = launch.mounts.iter().map(|(source, target)| {
        let kind = fs::metadata(source).map_err(|error| format!("cannot find `{source}` to mount: {error}"))?;
        let tree = clone_tree(Path::new(source), Attributes::ReadOnly)
            .map_err(|error| format!("cannot mount `{source}`: {error}"))?;
        Ok((PathBuf::from(target), kind.is_dir(), tree))
    });
    let read_only: Vec<(PathBuf, bool, OwnedFd)> = read_only.collect::<Result<_, String>>()?;
    match &base.mode {
        Mode::Overlay(overlay) => overlay.enter(&folder)?,
        Mode::Binds(binds) => binds.enter(&folder)?,
    }
    stage::install(base)?;
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
    give_up(base, &listener, launcher)?;
    Ok(listener)
}

/// Listens in the sandbox's folder, by way of its descriptor: the path may be longer than a socket address.
fn listen(folder: &Path) -> io::Result<UnixListener> {
    let folder = File::open(folder)?;
    let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd());
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
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
    close_streams(&[listener.as_raw_fd(), launcher.as_raw_fd()])?;
    let keep_groups = matches!(base.mode, Mode::Binds(_));
    become_inside_user(keep_groups).map_err(|error| format!("cannot become the user inside: {error}"))?;
    let (processes, open_files) = base.limits;
    limit(processes, open_files).map_err(|error| format!("cannot set limits: {error}"))?;
    seal(&base.filters)
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

/// Closes everything but these, and replaces the standard streams by the null device.
fn close_streams(keep: &[RawFd]) -> Result<(), String> {
    close_all_but(keep).map_err(|error| format!("cannot close what was inherited: {error}"))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| format!("cannot open /dev/null: {error}"))?;
    (0..=2).try_for_each(|place| {
        put_at(null.as_fd(), place).map_err(|error| format!("cannot replace the standard streams: {error}"))
    })
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

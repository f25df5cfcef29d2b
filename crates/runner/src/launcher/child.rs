//! From the clone to process 1: builds the root, enters it, gives everything up, and serves.
//!
//! Every step names itself in its error, which goes back to the controller through the launcher.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode as Bits, umask};
use nix::unistd::{chdir, pivot_root, sethostname, setsid};

use super::base::{Base, Mode, Power, make_folder};
use super::cgroup::{Controller, Group, Limiter};
use super::{inside, memory, paths, stack, stage};
use crate::init::{self, Score};
use crate::privileges::{Creator, INSIDE_ID, Inside, become_creator, become_inside_user, limit, seal};
use crate::protocol::{Decoder, Frame, Launch, Resources, Root, SOCKET_FILE, message};
use crate::sys::mount::{Attributes, attach_over, clone_tree};
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

/// How many more processes the user's own limit allows than the group's.
const PROCESSES_SLACK: u64 = 64;

/// A child that has its namespaces and waits to be told which sandbox it is; returns its exit code when it is done.
pub(super) fn become_runner(base: &Base, group: &Group, is_born_there: bool, mut launcher: UnixStream) -> i32 {
    let made = park(base, group, is_born_there, &launcher).and_then(|held| match next_launch(&mut launcher)? {
        Some(launch) => {
            let (listener, proxy, score) = enter(base, &launch, held, &mut launcher)?;
            Ok(Some((launch, listener, proxy, score)))
        }
        None => Ok(None),
    });
    let (launch, listener, proxy, score) = match made {
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
    let inside = Inside::of(&launch.root);
    let home = (inside == Inside::Root).then(inside::home_of_root).flatten();
    let environment = paths::environment(inside, home).into_iter().chain(launch.environment).collect();
    let ended: Result<Infallible, _> =
        init::serve(listener, proxy, environment, Duration::from_secs(base.orphan_after_s), score);
    match ended {
        Err(init::End::Orphaned) => 0,
        Err(init::End::Broken(_)) => 1,
    }
}

/// Everything that can be done before it is known which sandbox this is.
fn park(base: &Base, group: &Group, is_born_there: bool, launcher: &UnixStream) -> Result<Held, String> {
    keep_ended_children();
    umask(Bits::from_bits_truncate(0o022));
    let _already_leader = setsid();
    // Above all the controller's stream: held open here, its end would never be seen.
    let kept: Vec<RawFd> = base.folders.kept_open().into_iter().chain([launcher.as_raw_fd()]).collect();
    close_streams(&kept)?;
    prctl::set_name(c"carrel-runner").map_err(|error| format!("cannot set its name: {error}"))?;
    let (limiter, score) = (base.groups.enter(group, is_born_there)?, Score::open());
    if let Power::Own(_) = base.power {
        map_ids(&own_files()?, INSIDE_ID, base.own_ids)?;
    }
    // Now, so that its own group is all it sees of them.
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(|error| format!("cannot make a cgroup namespace: {error}"))?;
    loopback_up().map_err(|error| format!("cannot bring the loopback device up: {error}"))?;
    // As container engines do: whoever is alone on a network may have all its ports. A kernel without the switch
    // keeps the low ones for the machine's root, and nothing else depends on it.
    let _best_effort = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let proxy =
        init::listen_for_tunnels().map_err(|error| format!("cannot listen at the proxy address inside: {error}"))?;
    let number = own_number()?;
    stage::mount_parts(base)?;
    base.filters.apply_early()?;
    Ok(Held { limiter, score, proxy, number })
}

/// What a parked child has opened and its launch needs.
struct Held {
    limiter: Limiter,
    score: Score,
    proxy: TcpListener,
    /// Its process number on the host.
    number: u32,
}

/// Waits for the launcher's order; nothing when the launcher is gone.
fn next_launch(launcher: &mut UnixStream) -> Result<Option<Launch>, String> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(Frame::Control(payload)) = decoder.next_frame().map_err(|error| error.to_string())? {
            return message(payload).map(Some).map_err(|error| error.to_string());
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
fn enter(
    base: &Base,
    launch: &Launch,
    held: Held,
    launcher: &mut UnixStream,
) -> Result<(UnixListener, TcpListener, Score), String> {
    held.limiter.limit(&launch.resources)?;
    memory::bound_segments(&launch.resources);
    let folder = base.folder.join(&launch.name);
    let listener = listen(&folder).map_err(|error| format!("cannot listen at `{}`: {error}", folder.display()))?;
    let read_only = launch.mounts.iter().map(|(source, target)| {
        let kind = fs::metadata(source).map_err(|error| format!("cannot find `{source}` to mount: {error}"))?;
        let tree = clone_tree(Path::new(source), Attributes::ReadOnly)
            .map_err(|error| format!("cannot mount `{source}`: {error}"))?;
        Ok((PathBuf::from(target), kind.is_dir(), tree))
    });
    let read_only: Vec<(PathBuf, bool, OwnedFd)> = read_only.collect::<Result<_, String>>()?;
    match (&launch.root, &base.mode) {
        (Root::Host, Mode::Overlay(overlay)) => overlay.enter(&folder, &base.folder, &launch.layers)?,
        (Root::Host, Mode::Binds(binds)) => binds.enter(&folder, &base.folder, &launch.layers)?,
        (Root::Folder { path, ids }, _) => {
            base.folders.enter(&folder, &base.folder, Path::new(path), *ids, &launch.layers)?;
        }
    }
    stage::install(base)?;
    leave_old_root().map_err(|error| format!("cannot leave the host's root: {error}"))?;
    let inside = Inside::of(&launch.root);
    let owner = base.folders.owner().filter(|_| inside == Inside::Root);
    for (target, is_folder, tree) in read_only {
        let place = inside::place(&target, is_folder, owner);
        place
            .and_then(|place| attach_over(tree.as_fd(), place.as_fd()))
            .map_err(|error| format!("cannot mount at `{}`: {error}", target.display()))?;
    }
    let is_closed = matches!(base.mode, Mode::Binds(_)) && inside == Inside::User;
    if is_closed {
        let flags =
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .map_err(|error| format!("cannot close the root: {error}"))?;
    }
    name_host(&launch.hostname, !is_closed)?;
    memory::bound_files(base, &launch.resources)?;
    close_streams(&[listener.as_raw_fd(), held.proxy.as_raw_fd(), launcher.as_raw_fd(), held.score.as_raw_fd()])?;
    give_up(base, launch, held.number, launcher)?;
    Ok((listener, held.proxy, held.score))
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
fn give_up(base: &Base, launch: &Launch, number: u32, launcher: &mut UnixStream) -> Result<(), String> {
    let Resources { processes, disk_bytes, .. } = launch.resources;
    // Where a group counts processes it should be the first to refuse one, because it also counts refusals.
    let slack = if base.groups.found(Controller::Pids).is_ok() { PROCESSES_SLACK } else { 0 };
    // Before there is a user namespace, which takes the limit of processes over: so it holds for all users in there
    // together, and not only for each of them.
    limit(processes + slack, base.open_files, disk_bytes).map_err(|error| format!("cannot set limits: {error}"))?;
    let creator = match base.power {
        Power::Host(_) => Some(Creator::of_the_host(number)),
        Power::Lent(_) => Some(Creator::lent(number)),
        Power::Own(_) => None,
    };
    if let Some(creator) = creator {
        become_creator(creator).map_err(|error| format!("cannot become a user without rights: {error}"))?;
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
    let (keep_groups, inside) = (matches!(base.power, Power::Own(_)), Inside::of(&launch.root));
    if keep_groups && inside == Inside::Root {
        // A second namespace below the one that owns the mounts: root in there has no say in them. What it takes is
        // opened before, with the rights of the first: a sandbox may have closed its own root to everybody.
        let own = own_files()?;
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| format!("cannot make a second user namespace: {error}"))?;
        map_ids(&own, inside.id(), (INSIDE_ID, INSIDE_ID))?;
    }
    become_inside_user(inside, keep_groups).map_err(|error| format!("cannot become the user inside: {error}"))?;
    seal(&base.filters, inside)
}

/// This process's number on the host, whose `/proc` must be in sight: in its own process namespace it is always 1.
fn own_number() -> Result<u32, String> {
    let link = fs::read_link("/proc/self").map_err(|error| format!("cannot read `/proc/self`: {error}"))?;
    let number = link.to_str().and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("`/proc/self` leads to `{}`: mount the machine's own /proc", link.display()))
}

fn own_files() -> Result<File, String> {
    stack::open_folder(Path::new("/proc/self")).map_err(|error| format!("cannot open `/proc/self`: {error}"))
}

/// Maps this process's own ids to the one inside; more a kernel does not let an ordinary user do. `own` is what `/proc`
/// has of this process.
fn map_ids(own: &File, inside: u32, (user, group): (u32, u32)) -> Result<(), String> {
    let files = [
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("{inside} {group} 1")),
        ("uid_map", format!("{inside} {user} 1")),
    ];
    for (name, text) in files {
        let written = nix::fcntl::openat(own, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Bits::empty())
            .map_err(io::Error::from)
            .and_then(|file| File::from(file).write_all(text.as_bytes()));
        written.map_err(|error| format!("cannot write `{name}` of its user namespace: {error}"))?;
    }
    Ok(())
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

/// `is_open`: the files that hold the name can be written.
fn name_host(name: &str, is_open: bool) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot set the host name: {error}");
    sethostname(OsStr::new(name)).map_err(|error| failed(&error))?;
    if is_open && name != "carrel" {
        let hosts = format!("127.0.0.1 localhost {name}\n::1 localhost\n");
        for (path, text) in [("/etc/hostname", format!("{name}\n")), ("/etc/hosts", hosts)] {
            inside::overwrite(path, &text).map_err(|error| failed(&error))?;
        }
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

//! The way from a process that may do everything in its user namespace to one that may do nothing special.

use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::ids::creator_of;
use crate::landlock;
use crate::protocol::Root;
use crate::seccomp::Filters;
use crate::sys::privilege::{keep_capabilities, keep_capabilities_across_users};

/// The user and group id of everything in a sandbox of the host's root, as seen inside.
pub(crate) const INSIDE_ID: u32 = 1000;

/// Who runner and commands are, as seen inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    /// An ordinary user, on the host's root: it may do nothing special.
    User,
    /// Root, on a root of its own: it may do what installing packages takes.
    Root,
}

impl Inside {
    /// Who that is on this root.
    pub(crate) fn of(root: &Root) -> Self {
        match root {
            Root::Host => Self::User,
            Root::Folder { .. } => Self::Root,
        }
    }

    /// Its user and group id.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::User => INSIDE_ID,
            Self::Root => 0,
        }
    }

    /// Its capabilities in its own user namespace, by the numbers of `linux/capability.h`. All of them act on files,
    /// processes and ids of that namespace only. Not among them, beside what acts on machines: NET_ADMIN, NET_RAW,
    /// SYS_ADMIN, SYS_PTRACE, MKNOD.
    fn capabilities(self) -> &'static [u32] {
        const CHOWN: u32 = 0;
        const DAC_OVERRIDE: u32 = 1;
        const FOWNER: u32 = 3;
        const FSETID: u32 = 4;
        const KILL: u32 = 5;
        const SETGID: u32 = 6;
        const SETUID: u32 = 7;
        const SETPCAP: u32 = 8;
        const NET_BIND_SERVICE: u32 = 10;
        const SYS_CHROOT: u32 = 18;
        const SETFCAP: u32 = 31;
        const OF_ROOT: &[u32] = &[
            CHOWN,
            DAC_OVERRIDE,
            FOWNER,
            FSETID,
            KILL,
            SETGID,
            SETUID,
            SETPCAP,
            NET_BIND_SERVICE,
            SYS_CHROOT,
            SETFCAP,
        ];
        match self {
            Self::User => &[],
            Self::Root => OF_ROOT,
        }
    }
}

/// The first of the host's ids that make the user namespaces of root's sandboxes: one for each process number there can
/// be (2^22), in a range that nobody gives out, and apart from the ids that sandboxes themselves have on the host.
const CREATORS: u32 = 0x7000_0000;

/// Who makes the user namespace of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Creator {
    id: u32,
    is_lent: bool,
}

impl Creator {
    /// The user of the host for the sandbox whose first process has this number, where the launcher is the host's root.
    pub(crate) fn of_the_host(process: u32) -> Self {
        Self { id: CREATORS + process, is_lent: false }
    }

    /// The same among subordinate ids, where the launcher is root of those.
    pub(crate) fn lent(process: u32) -> Self {
        Self { id: creator_of(process), is_lent: true }
    }
}

/// Becomes the user that makes the user namespace of a sandbox. To be called by root, right before.
///
/// What is counted for each user (inotify instances, user namespaces, pending signals, locked memory, message queues)
/// the kernel also counts for whoever made the namespace: were that root, one sandbox could take what is root's, and its
/// neighbours'. The number is of a living process, so no two sandboxes share an id; of subordinate ids there are fewer,
/// and two that do share one share what is counted.
///
/// The maker of a namespace has every power over it, but only from the namespace above, which is the launcher's, and nobody
/// there has this id once this process has entered its own. To other sandboxes the id means nothing: they live in
/// namespaces beside this one, under ids of another range.
pub(crate) fn become_creator(creator: Creator) -> Result<(), Errno> {
    // Some distributions let only privileged processes make user namespaces, or take all power away from those that
    // others make. Without the permission to keep its own, a process may still make one elsewhere.
    let _as_others_do = keep_capabilities_across_users();
    let Creator { id, is_lent } = creator;
    let (group, user) = (Gid::from_raw(id), Uid::from_raw(id));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // A new user closes a process to all but the host's root, and a launcher that is not could not write its maps. It is
    // closed again before anything else runs in the sandbox.
    if is_lent { set_dumpable(true) } else { Ok(()) }
}

/// Becomes the user inside. `keep_groups` where the kernel denies changing them (an ordinary user's namespace).
pub(crate) fn become_inside_user(inside: Inside, keep_groups: bool) -> Result<(), Errno> {
    if !keep_groups {
        setgroups(&[])?;
    }
    let (group, user) = (Gid::from_raw(inside.id()), Uid::from_raw(inside.id()));
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

/// Limits that hold for each process, and for processes of this user namespace together.
pub(crate) fn limit(processes: u64, open_files: u64, file_bytes: Option<u64>) -> Result<(), Errno> {
    // Counted per user *and* user namespace: a fork bomb fills its own sandbox only.
    setrlimit(Resource::RLIMIT_NPROC, processes, processes)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let open_files = open_files.min(most);
    // Programs size tables by the soft limit, and `select` breaks above 1,024: they raise it themselves if they can.
    setrlimit(Resource::RLIMIT_NOFILE, open_files.min(1024), open_files)?;
    if let Some(file_bytes) = file_bytes {
        // Process 1 does not die of the signal that comes with this: the kernel spares it what it does not catch.
        setrlimit(Resource::RLIMIT_FSIZE, file_bytes, file_bytes)?;
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Gives up the capabilities the user inside has not, and the way back to them, closes the process to its peers, and
/// completes the filter that was begun while it was parked.
pub(crate) fn seal(filters: &Filters, inside: Inside) -> Result<(), String> {
    keep_capabilities(inside.capabilities()).map_err(|error| format!("cannot drop capabilities: {error}"))?;
    set_no_new_privs().map_err(|error| format!("cannot set no_new_privs: {error}"))?;
    landlock::restrict()?;
    // Commands run as the same user: this keeps them from tracing the runner and from reading its /proc entries. Root
    // inside, too: it would take SYS_PTRACE in the namespace this memory was made in, which is the host's, because
    // nothing was executed since.
    set_dumpable(false).map_err(|error| format!("cannot close the runner to its peers: {error}"))?;
    filters.apply_late(inside)
}

//! The way from a process that may do everything in its user namespace to one that may do nothing special.

use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::seccomp::Filters;
use crate::sys::privilege::drop_all_capabilities;

/// The user and group id of everything in a sandbox, as seen inside.
pub(crate) const INSIDE_ID: u32 = 1000;

/// Becomes the user inside. `keep_groups` where the kernel denies changing them (an ordinary user's namespace).
pub(crate) fn become_inside_user(keep_groups: bool) -> Result<(), Errno> {
    if !keep_groups {
        setgroups(&[])?;
    }
    let (group, user) = (Gid::from_raw(INSIDE_ID), Uid::from_raw(INSIDE_ID));
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

/// Limits that hold for each process, and for processes of this user namespace together.
pub(crate) fn limit(processes: u64, open_files: u64) -> Result<(), Errno> {
    // Counted per user *and* user namespace: a fork bomb fills its own sandbox only.
    setrlimit(Resource::RLIMIT_NPROC, processes, processes)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let open_files = open_files.min(most);
    // Programs size tables by the soft limit, and `select` breaks above 1,024: they raise it themselves if they can.
    setrlimit(Resource::RLIMIT_NOFILE, open_files.min(1024), open_files)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Gives up every capability and the way back to one, closes the process to its peers, and completes the filter that
/// was begun while it was parked.
pub(crate) fn seal(filters: &Filters) -> Result<(), String> {
    drop_all_capabilities().map_err(|error| format!("cannot drop capabilities: {error}"))?;
    set_no_new_privs().map_err(|error| format!("cannot set no_new_privs: {error}"))?;
    // Commands run as the same user: this keeps them from tracing the runner and from reading its /proc entries.
    set_dumpable(false).map_err(|error| format!("cannot close the runner to its peers: {error}"))?;
    filters.apply_late()
}

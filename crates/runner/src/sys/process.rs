//! Making processes: into new namespaces, and by plain fork; pidfds; terminals; closing what a child must not have.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Pid};

/// Which side of a [`clone_into`] this is.
pub(crate) enum Cloned {
    /// The one that called.
    Parent(Pid),
    /// The new process, first of its namespaces.
    Child,
}

/// Like fork, into new namespaces. The caller must be single-threaded: the child goes on with a copy of everything.
pub(crate) fn clone_into(namespaces: CloneFlags) -> Result<Cloned, Errno> {
    let flags = namespaces.bits() as libc::c_ulong | libc::SIGCHLD as libc::c_ulong;
    // SAFETY: without CLONE_VM the child has its own copy of the memory, and with no stack given it goes on with its
    // copy of this one, as after fork. The program has one thread, so no lock is held by a thread that is gone.
    // The unused pointer arguments are null, which the flags allow.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match Errno::result(result)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(Pid::from_raw(pid as libc::pid_t))),
    }
}

/// Like [`clone_into`], with the child in a control group of the second version from its first moment; `group` is that
/// group's folder. Linux 5.7 and newer; sandboxes around us may refuse the call as a whole.
pub(crate) fn clone_into_group(namespaces: CloneFlags, group: BorrowedFd<'_>) -> Result<Cloned, Errno> {
    /// `struct clone_args` of the kernel's `linux/sched.h`, as long as it was when it learned of groups.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    /// `CLONE_INTO_CGROUP`, which is above what the old call's flags can say.
    const INTO_GROUP: u64 = 1 << 33;

    let arguments = Arguments {
        flags: u64::from(namespaces.bits().cast_unsigned()) | INTO_GROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: group.as_raw_fd() as u64,
        ..Arguments::default()
    };
    // SAFETY: as for `clone_into`; the kernel reads a structure of this size from the pointer, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) };
    match Errno::result(result)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(Pid::from_raw(pid as libc::pid_t))),
    }
}

/// Forks. Only for single-threaded programs, as all of this crate are.
pub(crate) fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: the program has one thread, so the child may do whatever the parent may.
    unsafe { nix::unistd::fork() }
}

/// A descriptor that stands for a process and becomes readable when it has ended.
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends SIGKILL to the process a pidfd stands for.
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no signal information is passed, which the call allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// Makes the terminal on standard input the controlling one of this session.
pub(crate) fn take_terminal() -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop)
}

/// Gives a terminal another size; its foreground processes get `SIGWINCH` when it is.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> Result<(), Errno> {
    let size = nix::pty::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `terminal` is open, and the kernel reads a `winsize` from the pointer, which outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Closes every descriptor from 3 on, but these. Whoever owns one of the others must never use it again: the
/// processes that call this drop nothing, they run to their end or replace themselves.
pub(crate) fn close_all_but(keep: &[RawFd]) -> Result<(), Errno> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut from = 3;
    for fd in keep {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only; see `close_all_but` for the descriptors' owners.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Puts a descriptor in the place of standard input (0), output (1) or error (2); the copy survives an exec.
pub(crate) fn put_at(fd: BorrowedFd<'_>, place: RawFd) -> Result<(), Errno> {
    debug_assert!((0..=2).contains(&place), "only the standard streams are placed");
    if fd.as_raw_fd() == place {
        // SAFETY: `fd` is open; this only clears its close-on-exec flag.
        return Errno::result(unsafe { libc::fcntl(place, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: `fd` is open, and nothing in this crate owns 0, 1 or 2.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), place) }).map(drop)
}

/// Gives every signal its default action back and unblocks it: what a program expects at its start.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: setting the default action installs no handler; refused numbers (KILL, STOP) are ignored.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let unblocked = nix::sys::signal::SigSet::empty().thread_set_mask();
    debug_assert!(unblocked.is_ok(), "an empty mask is always valid");
}

/// Lets the kernel reap ended children by itself.
pub(crate) fn ignore_ended_children() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Keeps ended children until they are waited for.
pub(crate) fn keep_ended_children() {
    // SAFETY: the default action installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Ends this process at once, running nothing on the way out.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

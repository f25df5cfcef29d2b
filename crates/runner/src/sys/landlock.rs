//! Which Landlock this kernel has.
#![allow(unsafe_code)]

use nix::errno::Errno;

/// `LANDLOCK_CREATE_RULESET_VERSION` of `linux/landlock.h`.
const VERSION: u32 = 1;

/// The version of Landlock's interface; an error where it is not built in (ENOSYS) or not switched on (EOPNOTSUPP).
pub(crate) fn version() -> Result<i64, Errno> {
    // SAFETY: with this flag the call takes neither a structure nor a length, and makes nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0, VERSION) };
    Errno::result(version)
}

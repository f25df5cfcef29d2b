//! Giving up capabilities, bringing up the loopback device, wiping what was inherited.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the ambient and inheritable sets and leaves only these capabilities in the bounding, permitted and effective
/// sets, for good.
pub(crate) fn keep_capabilities(kept: &[u32]) -> Result<(), Errno> {
    for capability in (0..64).filter(|capability| !kept.contains(capability)) {
        // SAFETY: the call takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
        match Errno::result(result) {
            Ok(_) => {}
            // The first number past the last capability of this kernel.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0) };
    Errno::result(result)?;
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [CapabilitySet::default(); 2];
    for capability in kept {
        let set = &mut sets[*capability as usize / 32];
        set.permitted |= 1 << (capability % 32);
        set.effective = set.permitted;
    }
    // SAFETY: version 3 takes one header and two sets, both are initialised and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Lets this process have its capabilities still when it stops being user 0; a user namespace it enters forgets this.
pub(crate) fn keep_capabilities_across_users() -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECUREBITS, libc::SECBIT_NO_SETUID_FIXUP as libc::c_ulong, 0, 0, 0) };
    Errno::result(result).map(drop)
}

/// Brings the loopback device of this network namespace up: the only device there is.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is initialised, and the call reads name and flags of it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(result).map(drop)
}

/// Overwrites the environment this program was started with, so that no child of ours carries it in its memory.
pub(crate) fn wipe_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: the launcher is single-threaded and calls this first thing. `environ` is a null-terminated list of
    // writable C strings on our stack, made by the kernel; after the loop the list is empty, so that nothing
    // reads the wiped strings again.
    unsafe {
        if environ.is_null() {
            return;
        }
        let mut entry = environ;
        while !(*entry).is_null() {
            let length = libc::strlen(*entry);
            std::ptr::write_bytes(*entry, 0, length);
            entry = entry.add(1);
        }
        *environ = std::ptr::null_mut();
    }
}

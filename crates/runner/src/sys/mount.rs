//! Mounts by file descriptor: a tree is cloned, given its attributes while nobody sees it, and attached.
//!
//! So a source is named before the root changes and a target after it, and neither can be swapped in between.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

/// What a cloned tree may not do.
#[derive(Clone, Copy)]
pub(crate) enum Attributes {
    /// Read-only, and no devices, set-user-id programs.
    ReadOnly,
    /// Read-only, no set-user-id programs; its devices work.
    ReadOnlyDevices,
    /// Writable; no devices, no set-user-id programs.
    Writable,
}

impl Attributes {
    fn bits(self) -> u64 {
        match self {
            Self::ReadOnly => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            Self::ReadOnlyDevices => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
            Self::Writable => libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        }
    }
}

/// Clones what is mounted at `path`, with everything below it, as a tree nobody sees yet.
pub(crate) fn clone_tree(path: &Path, attributes: Attributes) -> Result<OwnedFd, Errno> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC as libc::c_uint | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: `path` is a valid C string that outlives the call; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd)? as libc::c_int;
    // SAFETY: the kernel just made this descriptor for us, nobody else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let attribute =
        libc::mount_attr { attr_set: attributes.bits(), attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    set_attributes(&tree, libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, &attribute).map(|()| tree)
}

/// Clones the one mount at `path` as a read-only tree nobody sees yet, in which the owners of all files are translated
/// as the user namespace `ids` says: what is 0 on disk is shown as the host's id of 0 in there.
pub(crate) fn clone_with_ids(path: &Path, ids: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC as libc::c_uint;
    // SAFETY: `path` is a valid C string that outlives the call; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd)? as libc::c_int;
    // SAFETY: the kernel just made this descriptor for us, nobody else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let attribute = libc::mount_attr {
        attr_set: Attributes::ReadOnly.bits() | libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: ids.as_raw_fd() as u64,
    };
    set_attributes(&tree, libc::AT_EMPTY_PATH, &attribute).map(|()| tree)
}

fn set_attributes(tree: &OwnedFd, flags: libc::c_int, attribute: &libc::mount_attr) -> Result<(), Errno> {
    // SAFETY: the path is an empty C string, the structure is initialised and its true size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags as libc::c_uint,
            std::ptr::from_ref(attribute),
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Takes what is mounted at `path`, with everything below it, to be attached elsewhere.
pub(crate) fn take_tree(path: &Path) -> Result<OwnedFd, Errno> {
    let path = c_path(path)?;
    // SAFETY: `path` is a valid C string that outlives the call; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), libc::OPEN_TREE_CLOEXEC) };
    let fd = Errno::result(fd)? as libc::c_int;
    // SAFETY: the kernel just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Shows a taken or cloned tree at `target`, which must exist.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: &Path) -> Result<(), Errno> {
    let target = c_path(target)?;
    // SAFETY: both paths are valid C strings that outlive the call, `tree` is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// Shows a taken or cloned tree over what `target` stands for, which no path names in between.
pub(crate) fn attach_over(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both paths are empty C strings, both descriptors are open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// Under whose attributes an overlay keeps its notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notes {
    /// `trusted.`: only the host's root reads and writes them.
    Trusted,
    /// `user.`: an ordinary user's overlay.
    User,
}

/// Marks a folder of an overlay layer as hiding what lies below it in other layers.
pub(crate) fn set_opaque(folder: &Path, notes: Notes) -> Result<(), Errno> {
    let folder = c_path(folder)?;
    let name = match notes {
        Notes::Trusted => c"trusted.overlay.opaque",
        Notes::User => c"user.overlay.opaque",
    };
    // SAFETY: all strings are valid and the value's length is passed.
    let result = unsafe { libc::lsetxattr(folder.as_ptr(), name.as_ptr(), c"y".as_ptr().cast(), 1, 0) };
    Errno::result(result).map(drop)
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

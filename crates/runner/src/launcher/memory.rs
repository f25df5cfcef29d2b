//! Memory that belongs to no process, so that ending processes does not free it.
//!
//! A sandbox full of it would lose its runner, the only process left to end. So each kind gets only a part of the
//! sandbox's memory.

use std::fs;

use nix::mount::{MsFlags, mount};

use super::base::Base;
use crate::protocol::Resources;

/// The kernel's unit of shared memory, at least; where pages are larger, more is allowed.
const PAGE_BYTES: u64 = 4096;

/// Bounds the files of `/dev/shm`, which must be mounted, to half of the memory.
pub(super) fn bound_files(base: &Base, resources: &Resources) -> Result<(), String> {
    let Some(most) = resources.memory_bytes.map(|bytes| bytes / 2) else { return Ok(()) };
    if most >= base.shared_memory_bytes {
        return Ok(());
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, "/dev/shm", None::<&str>, flags, Some(format!("size={most}").as_str()))
        .map_err(|error| format!("cannot limit /dev/shm: {error}"))
}

/// Bounds System V segments to a quarter of it. The number is one of this IPC namespace; to be written while the
/// host's `/proc` is in sight.
pub(super) fn bound_segments(resources: &Resources) {
    if let Some(bytes) = resources.memory_bytes {
        // An ordinary user may not; then only the runner of that sandbox is in danger.
        let _as_before = fs::write("/proc/sys/kernel/shmall", (bytes / 4 / PAGE_BYTES).to_string());
    }
}

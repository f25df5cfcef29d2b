//! A process by descriptor and by record, safe against reuse of its number: how a sandbox is ended.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::protocol::Record;
use crate::sys::process::{pidfd_kill, pidfd_open};

/// A process that cannot be mistaken for another one.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens the process a record names; `None` when it has ended.
    pub fn open(record: Record) -> io::Result<Option<Self>> {
        let fd = match pidfd_open(Pid::from_raw(record.pid)) {
            Ok(fd) => fd,
            Err(Errno::ESRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The number may have been given to another process since; the descriptor keeps it from changing now.
        Ok((start_time(record.pid) == Some(record.started)).then_some(Self(fd)))
    }

    /// Ends the process; when it is process 1 of a sandbox, everything in there ends with it.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_kill(self.0.as_fd()) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// When a process started, in ticks since boot; `None` when there is none of that number.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold spaces and brackets; after its last one comes field 3.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

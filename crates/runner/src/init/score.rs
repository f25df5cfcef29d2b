//! Who goes first when memory runs out: commands, never the runner that has to tell of it.
//!
//! A process may raise its own score at any time, but the runner's commands cannot open theirs before they run: they
//! are closed to their own user. So the runner, which holds its own open from before it was closed, takes the
//! commands' score for the moment in which it forks.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

/// Of the runner: above what programs of the host have, so that a host without memory ends sandboxes first.
const RUNNER: &str = "200";
/// Of commands.
const COMMANDS: &str = "700";

/// The score of this process, open to be changed.
#[derive(Debug)]
pub struct Score(Option<File>);

impl Score {
    /// Opens it and takes the runner's. Written by root, that is the lowest that anything in the sandbox can get to.
    pub fn open() -> Self {
        let file = File::options().write(true).open("/proc/self/oom_score_adj").ok();
        let mut score = Self(file);
        score.set(RUNNER);
        score
    }

    /// Does what starts a command.
    pub(super) fn of_commands<T>(&mut self, start: impl FnOnce() -> T) -> T {
        self.set(COMMANDS);
        let started = start();
        self.set(RUNNER);
        started
    }

    fn set(&mut self, value: &str) {
        if let Some(file) = &mut self.0 {
            // Where a kernel refuses, the scores are equal, and the largest process goes: that is a command's.
            let _equal = file.write_all(value.as_bytes());
        }
    }
}

impl AsRawFd for Score {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

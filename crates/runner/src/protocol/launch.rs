//! What controllers and launchers say to each other, and what they find in a sandbox's folder.

use serde::{Deserialize, Serialize};

/// The first message to a launcher, and the requests after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToLauncher {
    /// Prepare what all sandboxes share, and check that the kernel lets one be made.
    Setup(Setup),
    /// Make a sandbox.
    Launch(Launch),
}

/// What all sandboxes of a launcher share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The folder with one sub-folder for each sandbox.
    pub folder: String,
    /// Host paths that are hidden, beside the built-in ones.
    pub private_paths: Vec<String>,
    /// The host's user and group id sandboxes run as, when the launcher is root.
    pub host_id: u32,
    /// Processes and threads in one sandbox.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of `/dev/shm`.
    pub shared_memory_bytes: u64,
    /// A runner ends itself after this many seconds without a controller.
    pub orphan_after_s: u64,
}

/// One sandbox to make. Its folder exists already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Pairs the answer with the request.
    pub number: u32,
    /// The name of its sub-folder.
    pub name: String,
    /// Host folders or files shown read-only: source and target.
    pub mounts: Vec<(String, String)>,
    /// Variables of every command.
    pub environment: Vec<(String, String)>,
    /// Its host name.
    pub hostname: String,
}

/// What a launcher answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromLauncher {
    /// Sandboxes can be made.
    Ready,
    /// They cannot, and what to change.
    Unable {
        /// In words.
        reason: String,
    },
    /// The sandbox's runner listens.
    Launched {
        /// Of the request.
        number: u32,
    },
    /// The sandbox was not made.
    Failed {
        /// Of the request.
        number: u32,
        /// In words.
        reason: String,
    },
}

/// `runner.json`: which process a sandbox's runner is, safe against reuse of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number on the host.
    pub pid: i32,
    /// When it started, in ticks since boot (field 22 of `/proc/pid/stat`).
    pub started: u64,
}

/// The name of the [`Record`] in a sandbox's folder.
pub const RECORD_FILE: &str = "runner.json";
/// The name of the runner's socket in a sandbox's folder.
pub const SOCKET_FILE: &str = "runner.sock";

//! What a caller says about sandboxes: where they live, what they may use, what is shown in them.

use std::path::PathBuf;
use std::time::Duration;

use carrel_domain::SandboxId;

use crate::Launcher;

/// How the local backend is opened.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Where sandboxes live, one sub-folder each. Made with mode 0700; always hidden inside.
    pub folder: PathBuf,
    /// Host paths hidden inside, beside the built-in ones (homes, `/run`, logs, password hashes and their like).
    pub private_paths: Vec<PathBuf>,
    /// The program that makes sandboxes.
    pub launcher: Launcher,
    /// What one sandbox may use.
    pub limits: Limits,
}

/// What one sandbox may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Processes and threads at once. Default 1,024.
    pub processes: u64,
    /// Open files of one process. Default 65,536 (the host's own hard limit where that is lower).
    pub open_files: u64,
    /// Bytes of `/dev/shm`. Default 256 MiB.
    pub shared_memory_bytes: u64,
    /// A runner that hears no controller for so long ends itself. Default 15 minutes.
    pub orphan_after: Duration,
    /// The host's user and group id that sandboxes run as when the service is root. Default 1,878,982,656
    /// (0x6FFF0000: above every range that distributions give out, below the reserved end).
    pub host_id: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 1024,
            open_files: 65_536,
            shared_memory_bytes: 256 << 20,
            orphan_after: Duration::from_secs(15 * 60),
            host_id: 0x6FFF_0000,
        }
    }
}

/// One sandbox to launch.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Its id; launching an id that exists is an error.
    pub id: SandboxId,
    /// Host folders or files shown in it, never writable.
    pub mounts: Vec<ReadOnlyMount>,
    /// Variables of every command in it. Never a secret.
    pub environment: Vec<(String, String)>,
    /// Its host name: letters, digits, `-` and `.`, at most 63.
    pub hostname: String,
}

impl SandboxSpec {
    /// A sandbox with nothing mounted, no variables and the host name `carrel`.
    pub fn new(id: SandboxId) -> Self {
        Self { id, mounts: Vec::new(), environment: Vec::new(), hostname: "carrel".to_owned() }
    }
}

/// A host folder or file shown in a sandbox, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnlyMount {
    /// On the host.
    pub source: PathBuf,
    /// In the sandbox: absolute, without `..`.
    pub target: String,
}

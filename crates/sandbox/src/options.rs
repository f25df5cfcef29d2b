//! What a caller says about sandboxes: where they live, what they may use, what is shown in them.

use std::path::PathBuf;
use std::time::Duration;

use carrel_domain::{ResourceLimits, SandboxId};
use carrel_runner::protocol::FolderIds;

use crate::{Launcher, LayerName};

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

/// What no sandbox of this backend may exceed, and what all have alike.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Processes and threads at once, whatever a sandbox's own limits say. Default 32,768.
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
    /// Bytes of the disk that stay free: below, the sandbox that wrote most is stopped. Default: 1 GiB, or 2 % of the
    /// disk where that is less.
    pub free_disk_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 32_768,
            open_files: 65_536,
            shared_memory_bytes: 256 << 20,
            orphan_after: Duration::from_secs(15 * 60),
            host_id: 0x6FFF_0000,
            free_disk_bytes: None,
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
    /// What its root is made of.
    pub root: Root,
    /// The kept layers beneath its writable one, topmost first; at most 100.
    pub layers: Vec<LayerName>,
    /// What it may use. Wall clock, setup and output are the caller's to limit.
    pub limits: ResourceLimits,
}

impl SandboxSpec {
    /// A sandbox on the host's root, with nothing mounted, no variables, the host name `carrel`
    /// and the default limits.
    pub fn new(id: SandboxId) -> Self {
        Self {
            id,
            mounts: Vec::new(),
            environment: Vec::new(),
            hostname: "carrel".to_owned(),
            root: Root::Host,
            layers: Vec::new(),
            limits: ResourceLimits::default(),
        }
    }
}

/// What a sandbox's root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// The host's own root, with what is private masked. Commands are the ordinary user `carrel`, 1000.
    #[default]
    Host,
    /// The root file system in a folder. Commands are root inside, who may install packages and become other users,
    /// and may do nothing to the machine. (A service that is an ordinary user and was lent no subordinate ids
    /// has one id: there, root inside can give nothing to other users.)
    Folder {
        /// The folder, absolute; read only.
        path: PathBuf,
        /// Whose its files are.
        ids: FolderIds,
    },
}

/// A host folder or file shown in a sandbox, read-only. A socket in it can be connected to from inside: show no folder that
/// holds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnlyMount {
    /// On the host.
    pub source: PathBuf,
    /// In the sandbox: absolute, without `..`.
    pub target: String,
}

//! What controllers and launchers say to each other, and what they find in a sandbox's folder.

use serde::{Deserialize, Serialize};

use crate::ids::IdMap;

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
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of `/dev/shm`.
    pub shared_memory_bytes: u64,
    /// A runner ends itself after this many seconds without a controller.
    pub orphan_after_s: u64,
    /// What an ordinary user's launcher does with subordinate ids.
    pub lent_ids: LentIds,
}

/// What an ordinary user's launcher does with subordinate ids. Root's has no use for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LentIds {
    /// Uses what it finds.
    Found,
    /// Uses these.
    These(IdMap),
    /// Uses none.
    None {
        /// Why that is so, for the facts.
        reason: String,
    },
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
    /// What its root is made of.
    pub root: Root,
    /// The names of the kept layers beneath its writable one, topmost first; at most [`MAX_LAYERS`].
    pub layers: Vec<String>,
    /// What it may use.
    pub resources: Resources,
}

/// What a sandbox's root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// The host's own root, with what is private masked; commands are an ordinary user.
    Host,
    /// The root file system in a folder; commands are root inside.
    Folder {
        /// The folder, absolute.
        path: String,
        /// Whose its files are.
        ids: FolderIds,
    },
}

/// Whose the files of a root folder are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderIds {
    /// Every owner is shifted by [`Setup::host_id`]: carrel unpacked it. (An ordinary user's are its subordinate ids, or
    /// it owns all of it.)
    Shifted,
    /// Root's files are 0, as in any root file system.
    Plain,
}

/// What one sandbox may use; what is absent is without a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory and swap together.
    pub memory_bytes: Option<u64>,
    /// Processes and threads, the runner and the supervisors of its commands included.
    pub processes: u64,
    /// Bytes of the writable layer. The launcher limits a single file to it; the sum is the controller's to watch.
    pub disk_bytes: Option<u64>,
}

/// What a launcher answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromLauncher {
    /// Sandboxes can be made.
    Ready {
        /// What this machine offers them.
        facts: Vec<Fact>,
        /// The subordinate ids that images have.
        lent_ids: Option<IdMap>,
    },
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

/// What the same file says of a sandbox's limits. Absent in sandboxes that older launchers made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsRecord {
    /// The folders of its control group, to read counters from and to remove in the end.
    pub groups: Vec<String>,
    /// Bytes its writable layer may have.
    pub disk_bytes: Option<u64>,
}

/// One thing about this machine that decides how well sandboxes hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about, in a few words.
    pub name: String,
    /// How good it is.
    pub state: FactState,
    /// What was found.
    pub words: String,
    /// What to do about it, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How good a [`Fact`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactState {
    /// As it should be.
    Ok,
    /// It works, less well or less safely.
    Degraded,
    /// It is not there.
    Missing,
}

/// The most layers one sandbox stands on. Their names for the kernel must fit one page.
pub const MAX_LAYERS: usize = 100;
/// The ids that root inside a root folder has: from [`Setup::host_id`] on.
pub const INSIDE_IDS: u32 = 1 << 16;
/// The folder of kept layers, beside the folders of sandboxes.
pub const LAYERS_FOLDER: &str = "layers";
/// The writable layer in a sandbox's folder, and what is left of it in a kept layer's.
pub const UPPER_FOLDER: &str = "upper";
/// Where the kernel prepares changes of the writable layer.
pub const WORK_FOLDER: &str = "work";
/// The name of the [`Record`] in a sandbox's folder.
pub const RECORD_FILE: &str = "runner.json";
/// The name of the runner's socket in a sandbox's folder.
pub const SOCKET_FILE: &str = "runner.sock";
/// The `PATH` of commands where neither the image nor the environment says another.
pub const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

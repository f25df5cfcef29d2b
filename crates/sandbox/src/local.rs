//! Sandboxes of this machine: which exist, how they come and go.
//!
//! `<folder>/<id>/` is a sandbox: its writable layer, its runner's socket, and the record of its runner's process.
//! The folder alone says which exist, so a new controller finds what an old one left. Kept layers lie beside them.

mod changed;
mod kept;
mod limited;
mod made;
mod packed;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use carrel_domain::SandboxId;
use carrel_runner::ids::IdMap;
use carrel_runner::pidfd::Pidfd;
use carrel_runner::protocol::{
    self, Launch, LentIds, RECORD_FILE, Record, SOCKET_FILE, Setup, UPPER_FOLDER, WORK_FOLDER,
};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::disk::Disks;
use crate::keeper::{Keepers, Work};
use crate::launcher::{Client, LaunchError, Offered};
use crate::layers::Layers;
use crate::limits;
use crate::trash::Trash;
use crate::{Limits, LocalOptions, Root, Sandbox, SandboxError, SandboxSpec};

pub use changed::Changed;
pub use packed::PackedLayer;

/// How the folder of a layer begins while it is made.
const MAKING: &str = ".making-";

/// How long the end of a killed sandbox is waited for.
const DEATH_WITHIN_S: u16 = 20;

/// The handle of the sandbox backend.
#[derive(Clone)]
pub struct Sandboxes {
    local: Arc<Local>,
}

struct Local {
    folder: PathBuf,
    layers: Layers,
    launcher: Client,
    connections: Mutex<HashMap<SandboxId, Weak<Connection>>>,
    trash: Arc<Trash>,
    tasks: TaskTracker,
    disks: Disks,
    /// Who has what sandboxes gave to other ids.
    keepers: Keepers,
    /// What the launcher found at the start.
    offered: Offered,
    /// What holds for all sandboxes.
    limits: Limits,
}

impl Sandboxes {
    /// Prepares the folder, starts the launcher, and has it check what this kernel allows.
    pub async fn open(options: LocalOptions) -> Result<Self, SandboxError> {
        let folder = prepare(&options.folder)?;
        let (setup, tasks) = (setup(&options, &folder)?, TaskTracker::new());
        let (launcher, offered) = Client::start(options.launcher.clone(), setup, &tasks).await?;
        Self::assemble(options, folder, tasks, (launcher, offered))
    }

    /// For a process that makes none, and needs nothing of the kernel for it: there are none, and launching one is refused.
    pub fn absent(options: LocalOptions) -> Result<Self, SandboxError> {
        let folder = prepare(&options.folder)?;
        Self::assemble(options, folder, TaskTracker::new(), (Client::absent(), Offered::default()))
    }

    fn assemble(
        options: LocalOptions,
        folder: PathBuf,
        tasks: TaskTracker,
        (launcher, offered): (Client, Offered),
    ) -> Result<Self, SandboxError> {
        let trash = Trash::open(folder.join(".trash"))
            .map_err(SandboxError::host("cannot open the folder of removed sandboxes"))?;
        take_probes(&folder, &trash).map_err(SandboxError::host("cannot clear the folder of sandboxes"))?;
        let (layers, unsynced) =
            Layers::open(&folder, &trash).map_err(SandboxError::host("cannot open the folder of kept layers"))?;
        let keepers = Keepers::new(options.launcher.keeper, offered.lent_ids.as_ref());
        let (disks, watcher) = Disks::new(folder.clone(), options.limits.free_disk_bytes, keepers.clone());
        let local = Local {
            folder,
            layers,
            launcher,
            connections: Mutex::default(),
            trash: Arc::new(trash),
            tasks,
            disks,
            keepers,
            offered,
            limits: options.limits,
        };
        local.sweep();
        let sandboxes = Self { local: Arc::new(local) };
        sandboxes.watch(watcher);
        unsynced.into_iter().for_each(|name| sandboxes.settle(name));
        Ok(sandboxes)
    }

    /// The subordinate ids that images have, where the service is an ordinary user who was lent some: images are to be
    /// unpacked with these.
    pub fn lent_ids(&self) -> Option<&IdMap> {
        self.local.offered.lent_ids.as_ref()
    }

    /// Makes a new sandbox and connects to it.
    pub async fn launch(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        let (id, folder) = (spec.id, self.local.folder_of(spec.id));
        let layers = spec.layers.clone();
        let launch = request(spec, &self.local.limits)?;
        for is_last in [false, true] {
            self.local.layers.reserve(&folder, id, &launch.root, &layers)?;
            match self.local.launcher.launch(launch.clone()).await {
                Ok(()) => {
                    self.local.disks.launched(id, launch.resources.disk_bytes);
                    return self.local.connect(id).await;
                }
                Err(LaunchError::Died) if !is_last => self.destroy(id).await?,
                Err(LaunchError::Died) => {
                    self.destroy(id).await?;
                    break;
                }
                Err(LaunchError::Refused(reason)) => {
                    self.destroy(id).await?;
                    return Err(SandboxError::Launch(reason));
                }
            }
        }
        Err(SandboxError::Launch("the launcher died twice; see the service's standard error".to_owned()))
    }

    /// Ends every process of a sandbox and makes it anew over the same writable layer: of what it held in memory, and
    /// in `/dev/shm`, nothing is left. Root and layers must be those it was launched on. If it cannot be made, its files
    /// stay, and it can be restarted again, or kept, or destroyed. Also one whose runner has ended, with the machine or by
    /// itself: what was written last before a machine lost its power may be missing then.
    pub async fn restart(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        let (id, folder) = (spec.id, self.local.folder_of(spec.id));
        let launched = self.local.layers.launched_ever(&folder).filter(|_| folder.join(UPPER_FOLDER).is_dir());
        let launched = launched.ok_or(SandboxError::Gone(id))?;
        if launched.layers != spec.layers {
            return Err(SandboxError::Invalid(format!(
                "sandbox {id} was launched on other layers; restart it on those"
            )));
        }
        let launch = request(spec, &self.local.limits)?;
        if launched.root != launch.root {
            // What is a folder on one root may be a link on another.
            return Err(SandboxError::Invalid(format!(
                "sandbox {id} was launched on another root; restart it on that"
            )));
        }
        if let Some(name) = launched.layers.iter().find(|name| !self.local.layers.upper(name).is_dir()) {
            return Err(SandboxError::NoSuchLayer(name.clone()));
        }
        for is_last in [false, true] {
            let (folder, local) = (folder.clone(), Arc::clone(&self.local));
            local.connections().remove(&id);
            let cleared = spawn_blocking(move || end(&folder).and_then(|()| clear(&folder, &local.trash))).await;
            let cleared = cleared.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
            cleared.map_err(SandboxError::host(format!("cannot end sandbox {id}")))?;
            match self.local.launcher.launch(launch.clone()).await {
                Ok(()) => {
                    self.local.disks.launched(id, launch.resources.disk_bytes);
                    let noted = self.local.layers.note_relaunched(&self.local.folder_of(id), &launched);
                    noted.map_err(SandboxError::host(format!(
                        "cannot write down that sandbox {id} was launched again"
                    )))?;
                    self.local.sweep();
                    return self.local.connect(id).await;
                }
                Err(LaunchError::Died) if !is_last => {}
                Err(LaunchError::Died) => break,
                Err(LaunchError::Refused(reason)) => return Err(SandboxError::Launch(reason)),
            }
        }
        Err(SandboxError::Launch("the launcher died twice; see the service's standard error".to_owned()))
    }

    /// Connects to a sandbox that was launched before, by this process or an earlier one.
    pub async fn attach(&self, id: SandboxId) -> Result<Sandbox, SandboxError> {
        if let Some(connection) = self.local.connected(id) {
            return Ok(Sandbox::new(id, connection));
        }
        self.local.connect(id).await
    }

    /// Ends a sandbox: on return all its processes are dead and its id is free. Its files are removed in the
    /// background. One that is not there is fine.
    pub async fn destroy(&self, id: SandboxId) -> Result<(), SandboxError> {
        self.local.connections().remove(&id);
        let (folder, trash) = (self.local.folder_of(id), Arc::clone(&self.local.trash));
        let ended = spawn_blocking(move || {
            let remains = hold(&folder);
            end(&folder).and_then(|()| trash.take(&folder)).map(|()| remains)
        });
        let ended = ended.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        self.local.bury(ended.map_err(SandboxError::host(format!("cannot end sandbox {id}")))?);
        self.local.disks.ended(id);
        self.local.sweep();
        Ok(())
    }

    /// Whether there are files of this sandbox, its runner alive or not.
    pub fn has_files(&self, id: SandboxId) -> bool {
        let folder = self.local.folder_of(id);
        self.local.layers.launched_ever(&folder).is_some() && folder.join(UPPER_FOLDER).is_dir()
    }

    /// Whether all that was written in this sandbox is there: its files are, and the machine has not stopped since.
    pub fn is_whole(&self, id: SandboxId) -> bool {
        let folder = self.local.folder_of(id);
        self.local.layers.launched(&folder).is_some() && folder.join(UPPER_FOLDER).is_dir()
    }

    /// The sandboxes there are; of some the runner may have ended by itself.
    pub async fn list(&self) -> Result<Vec<SandboxId>, SandboxError> {
        let entries = fs::read_dir(&self.local.folder).map_err(SandboxError::host("cannot list sandboxes"))?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
    }
}

impl fmt::Debug for Sandboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandboxes").field("folder", &self.local.folder).finish_non_exhaustive()
    }
}

impl Local {
    fn folder_of(&self, id: SandboxId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<SandboxId, Weak<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, id: SandboxId) -> Option<Arc<Connection>> {
        let connection = self.connections().get(&id)?.upgrade()?;
        connection.is_open().then_some(connection)
    }

    async fn connect(&self, id: SandboxId) -> Result<Sandbox, SandboxError> {
        let stream = reach(&self.folder_of(id)).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SandboxError::Gone(id),
            _ => SandboxError::Host { what: format!("cannot reach sandbox {id}"), source: error },
        })?;
        let connection = Connection::open(stream, &self.tasks).await?;
        let mut connections = self.connections();
        connections.retain(|_, connection| connection.strong_count() > 0);
        connections.insert(id, Arc::downgrade(&connection));
        Ok(Sandbox::new(id, connection))
    }

    /// Lets go of what was held of an ended sandbox.
    fn bury(&self, remains: Option<File>) {
        if let Some(remains) = remains {
            self.tasks.spawn_blocking(move || drop(remains));
        }
    }

    /// Removes in the background what is in the trash.
    fn sweep(&self) {
        let (trash, keepers) = (Arc::clone(&self.trash), self.keepers.clone());
        self.tasks.spawn_blocking(move || {
            let work = || Work::Sweep { trash: trash.folder().to_path_buf() };
            if let Err(error) = keepers.or_keeper(|| trash.sweep(), work, &AtomicBool::new(false)) {
                tracing::warn!(%error, "cannot remove the files of a destroyed sandbox; the next sweep tries again");
            }
        });
    }
}

/// Connects by way of the folder's descriptor: the path may be longer than a socket address.
async fn reach(folder: &Path) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd())).await
}

/// Makes the folder of sandboxes, private to this user, and finds its real path.
fn prepare(folder: &Path) -> Result<PathBuf, SandboxError> {
    let failed = || SandboxError::host(format!("cannot prepare `{}`", folder.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed())?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed())?;
    folder.canonicalize().map_err(failed())
}

/// Takes away what launchers that were cut off left of their first try.
fn take_probes(folder: &Path, trash: &Trash) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if [".probe-", MAKING].iter().any(|left| name.to_string_lossy().starts_with(left)) {
            trash.take(&entry.path())?;
        }
    }
    Ok(())
}

fn setup(options: &LocalOptions, folder: &Path) -> Result<Setup, SandboxError> {
    let limits = &options.limits;
    Ok(Setup {
        folder: text(folder)?,
        private_paths: options.private_paths.iter().map(|path| text(path)).collect::<Result<_, _>>()?,
        host_id: limits.host_id,
        open_files: limits.open_files,
        shared_memory_bytes: limits.shared_memory_bytes,
        orphan_after_s: limits.orphan_after.as_secs(),
        lent_ids: LentIds::Found,
    })
}

fn request(spec: SandboxSpec, limits: &Limits) -> Result<Launch, SandboxError> {
    let mounts = spec.mounts.into_iter().map(|mount| Ok((text(&mount.source)?, mount.target)));
    Ok(Launch {
        // Given by the launcher's client.
        number: 0,
        name: spec.id.to_string(),
        mounts: mounts.collect::<Result<_, SandboxError>>()?,
        environment: spec.environment,
        hostname: spec.hostname,
        resources: limits::resources(&spec.limits, limits.processes),
        root: match spec.root {
            Root::Host => protocol::Root::Host,
            Root::Folder { path, ids } => protocol::Root::Folder { path: text(&path)?, ids },
        },
        layers: spec.layers.into_iter().map(String::from).collect(),
    })
}

fn text(path: &Path) -> Result<String, SandboxError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        SandboxError::Invalid(format!("`{}` is not UTF-8; sandboxes need paths that are", path.display()))
    })
}

/// Takes from an ended sandbox what its next runner makes anew: the kernel refuses a work folder that was used without
/// waiting for the disk.
fn clear(folder: &Path, trash: &Trash) -> io::Result<()> {
    [SOCKET_FILE, WORK_FOLDER].iter().try_for_each(|name| trash.take(&folder.join(name)))
}

/// Kills the runner of the sandbox in `folder`, and with it everything inside, waits until all of it is dead, and lets
/// its control group go.
fn end(folder: &Path) -> io::Result<()> {
    kill(folder)?;
    limits::remove(&limits::record(folder)?.unwrap_or_default().groups);
    Ok(())
}

/// Holds the file system of the sandbox in `folder`, so that the kernel takes it apart when this is dropped and not while
/// somebody waits for the sandbox's end: that takes the longer the more files were looked at in it. Nothing where this
/// process has no such right, as an ordinary user; then its end takes that long.
fn hold(folder: &Path) -> Option<File> {
    let record: Record = serde_json::from_slice(&fs::read(folder.join(RECORD_FILE)).ok()?).ok()?;
    let root = format!("/proc/{}/root", record.pid);
    let root = File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(root).ok()?;
    // It lives still: so what was opened before is its, and not another process's of that number.
    Pidfd::open(record).ok()?.map(|_runner| root)
}

fn kill(folder: &Path) -> io::Result<()> {
    let record: Record = match fs::read(folder.join(RECORD_FILE)) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(record) => record,
            // It is written whole before any process is let go on: this is what a machine that lost its power has left.
            Err(_) => return Ok(()),
        },
        // Never written: no process of it was let go on.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(runner) = Pidfd::open(record)? else { return Ok(()) };
    runner.kill()?;
    // Process 1 counts as ended only after all others of its namespace are.
    let mut ended = [PollFd::new(std::os::fd::AsFd::as_fd(&runner), PollFlags::POLLIN)];
    match poll(&mut ended, PollTimeout::from(DEATH_WITHIN_S * 1000)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "its processes did not die")),
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

//! The tool kit: git, bash and the small programs that every attempt is made of, for images that lack them.
//!
//! It is made once out of the host's own programs, with their libraries and their loader, so that it runs in any root,
//! whatever C library that has, or none. It is shown read-only at [`PLACE`] and stands at the end of `PATH`: what the image
//! has itself wins. It is kept by the digest of what is in it, and was seen to run in a sandbox with an empty root.

mod elf;
mod gather;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use carrel_domain::SandboxId;
use carrel_runner::protocol::FolderIds;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::syncfs;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::resolve::open_inside;
use crate::{Command, ReadOnlyMount, Root, SandboxError, SandboxSpec, Sandboxes};
use gather::{Entries, Entry};

/// Where the kit is in a sandbox. Its programs name it, in the room that their own loader's name left: it cannot be longer.
const PLACE: &str = "/opt/carrel";

/// The programs that an attempt cannot do without.
const NEEDED: &[&str] = &["sh", "bash", "git", "sed", "cat", "cp", "mkdir", "rm", "xargs", "stat", "sort", "head"];

/// The shell that programs start by its path, whatever `PATH` says.
const SHELL: &str = "/bin/sh";

/// Raised when kits are made another way.
const FORM: &str = "1";

/// How many kits are kept: sandboxes may run on those of before.
const KEPT: usize = 4;

/// How a kit's folder begins while it is made.
const MAKING: &str = ".making-";

/// How long what is tried in a new kit may take.
const TRY_WITHIN: Duration = Duration::from_secs(30);

/// What is tried: each needed program, a repository with a commit and a patch, and what git starts by itself.
const TRY: &str = r#"
set -eux
cd /tmp; git init --quiet tried; cd tried
git config user.name Carrel; git config user.email carrel@localhost
mkdir -p a; printf 'one\n' > a/b; cp a/b a/c; git add .; git commit --quiet -m tried; rm a/c
printf 'a/b\n' | xargs cat | sort | head -n 1 | sed s/one/two/ > a/d; stat a/d > /dev/null
git add .; git diff --cached --stat HEAD > /dev/null; [ "$(cat a/d)" = two ]
[ "$(git --exec-path)" = "$1/git" ]; /bin/sh -c 'exit 0'; : < .git/info/exclude
git -c alias.shell='!exit 0' shell; git clone --quiet . ../again; git submodule status
if [ -e "$1/git/git-remote-http" ]; then
  case $(git ls-remote http://127.0.0.1:1/ 2>&1) in *"unable to access"*) ;; *) exit 70 ;; esac
fi
"#;

/// The kits of an installation, and the one to use.
#[derive(Debug)]
pub struct Kits {
    maker: Arc<Maker>,
    /// The one to use. Held while it is made.
    made: Arc<Mutex<Option<Kit>>>,
}

#[derive(Debug)]
struct Maker {
    folder: PathBuf,
    search_path: OsString,
}

/// A kit that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kit {
    folder: PathBuf,
    digest: String,
    has_shell: bool,
}

impl Kits {
    /// Kits in `folder`, made of the host's programs in `search_path` (as in `PATH`). Nothing is made before it is needed.
    pub fn new(folder: PathBuf, search_path: OsString) -> Self {
        Self { maker: Arc::new(Maker { folder, search_path }), made: Arc::default() }
    }

    /// The kit for a root in which commands look for programs in `path`; nothing where all that is needed is there. The
    /// names are those of the programs that are not.
    ///
    /// # Errors
    /// When the host lacks what the kit is made of, or it does not run: the text says which and what to do.
    pub async fn for_root(
        &self,
        sandboxes: &Sandboxes,
        root: &Root,
        path: &str,
    ) -> Result<Option<(Kit, Vec<&'static str>)>, SandboxError> {
        let Root::Folder { path: root, .. } = root else { return Ok(None) };
        let (root, path) = (root.clone(), path.to_owned());
        let looked = spawn_blocking(move || {
            let root = File::open(root)?;
            Ok((lacks(&root, &path)?, has_program(&root, SHELL)?))
        });
        let looked = looked.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        let (lacks, has_shell) = looked.map_err(SandboxError::host("cannot look for programs in the image"))?;
        if lacks.is_empty() && has_shell {
            return Ok(None);
        }
        Ok(Some((Kit { has_shell, ..self.kit(sandboxes).await? }, lacks)))
    }

    /// The kit, made if need be.
    ///
    /// # Errors
    /// As [`Self::for_root`].
    pub async fn kit(&self, sandboxes: &Sandboxes) -> Result<Kit, SandboxError> {
        let (maker, made, own) = (Arc::clone(&self.maker), Arc::clone(&self.made), sandboxes.clone());
        // A task of its own: it ends the sandbox that it makes also when nobody waits for the kit any more.
        let task = sandboxes.track(async move {
            let mut made = made.lock().await;
            match &*made {
                Some(kit) => Ok(kit.clone()),
                // What failed is tried again: somebody may have installed what was missing.
                None => Ok(made.insert(maker.make(&own).await?).clone()),
            }
        });
        task.await.unwrap_or_else(|panicked| {
            Err(SandboxError::host("the making of the tool kit broke off")(io::Error::other(panicked)))
        })
    }
}

impl Maker {
    async fn make(&self, sandboxes: &Sandboxes) -> Result<Kit, SandboxError> {
        let gathered = gather::gather(&self.search_path).await;
        let entries = gathered.map_err(|reason| unusable(&reason))?;
        let folder = self.folder.clone();
        let written = spawn_blocking(move || -> io::Result<_> {
            let digest = digest(&entries);
            let kept = folder.join(&digest);
            if kept.is_dir() {
                // The least recently used go first.
                File::open(&kept)?.set_modified(SystemTime::now())?;
                return Ok((digest, None));
            }
            let making = folder.join(format!("{MAKING}{}", Uuid::now_v7()));
            clear(&folder)?;
            write(&making, &entries)?;
            Ok((digest, Some(making)))
        });
        let failed = || SandboxError::host(format!("cannot write the tool kit into `{}`", self.folder.display()));
        let written = written.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        let (digest, making) = written.map_err(failed())?;
        let kit = |folder| Kit { folder, digest: digest.clone(), has_shell: false };
        let kept = self.folder.join(&digest);
        if let Some(making) = making {
            let tried = self.try_out(sandboxes, &kit(making.clone())).await;
            if tried.is_err() {
                let _swept_next_time = fs::remove_dir_all(&making);
            }
            tried?;
            fs::rename(&making, &kept).map_err(failed())?;
        }
        Ok(kit(kept))
    }

    /// Runs it where there is nothing else.
    async fn try_out(&self, sandboxes: &Sandboxes, kit: &Kit) -> Result<(), SandboxError> {
        let empty = self.folder.join(".empty");
        make_folder(&empty).map_err(SandboxError::host("cannot make an empty folder"))?;
        let id = SandboxId::from_uuid(Uuid::now_v7());
        let spec = SandboxSpec {
            mounts: kit.mounts(),
            environment: vec![("PATH".to_owned(), kit.at_end_of("/bin"))],
            root: Root::Folder { path: empty, ids: FolderIds::Shifted },
            ..SandboxSpec::new(id)
        };
        let tried = async {
            let argv = ["bash", "-c", TRY, "try", PLACE];
            let command = Command::new("try", argv).directory("/").time_limit(TRY_WITHIN);
            sandboxes.launch(spec).await?.run(command).await
        };
        let tried = tried.await;
        sandboxes.destroy(id).await?;
        let finished = match tried {
            Ok(finished) => finished,
            Err(error @ SandboxError::CannotStart { .. }) => return Err(unusable(&error.to_string())),
            Err(error) => return Err(error),
        };
        if finished.status.is_success() {
            return Ok(());
        }
        let said = format!("{}\n{}", String::from_utf8_lossy(&finished.output), finished.stderr);
        Err(unusable(&format!("what was made does not run ({:?}): {}", finished.status, said.trim())))
    }
}

impl Kit {
    /// The digest of what is in it, and of how it is shown.
    pub fn digest(&self) -> String {
        if self.has_shell { self.digest.clone() } else { format!("{} with {SHELL}", self.digest) }
    }

    /// What is shown in a sandbox: the kit, and where there is no shell a shell.
    pub fn mounts(&self) -> Vec<ReadOnlyMount> {
        let kit = ReadOnlyMount { source: self.folder.clone(), target: PLACE.to_owned() };
        let shell = ReadOnlyMount { source: self.folder.join("bin/bash"), target: SHELL.to_owned() };
        std::iter::once(kit).chain((!self.has_shell).then_some(shell)).collect()
    }

    /// A `PATH` with the kit's programs behind all others.
    pub fn at_end_of(&self, path: &str) -> String {
        format!("{path}:{PLACE}/bin")
    }

    /// Bytes on the disk.
    pub fn size_bytes(&self) -> u64 {
        let folders = ["bin", "lib", "git"].map(|name| self.folder.join(name));
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|data| data.len()).sum()
    }
}

/// The programs of [`NEEDED`] that are in none of the folders of `path`.
fn lacks(root: &File, path: &str) -> io::Result<Vec<&'static str>> {
    let folders: Vec<&str> = path.split(':').filter(|folder| folder.starts_with('/')).collect();
    let mut lacks = Vec::new();
    for name in NEEDED {
        let mut is_there = false;
        for folder in &folders {
            is_there = is_there || has_program(root, &format!("{folder}/{name}"))?;
        }
        if !is_there {
            lacks.push(*name);
        }
    }
    Ok(lacks)
}

/// Whether a file that can be run is there, its links followed as they would be inside.
fn has_program(root: &File, path: &str) -> io::Result<bool> {
    match open_inside(root, path, OFlag::O_PATH) {
        Ok(file) => {
            let data = File::from(file).metadata()?;
            Ok(data.is_file() && data.permissions().mode() & 0o111 != 0)
        }
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES | Errno::ENAMETOOLONG) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn unusable(reason: &str) -> SandboxError {
    SandboxError::Unsupported(format!(
        "the tool kit for images without git or bash cannot be made of this machine's programs: {reason} \
         (`carrel doctor` tries it again; an image that has git and bash needs no tool kit)"
    ))
}

fn digest(entries: &Entries) -> String {
    let mut all = Sha256::new();
    all.update(FORM);
    for (path, entry) in entries {
        let (kind, content) = match entry {
            Entry::File(bytes) => ("file", Sha256::digest(bytes)),
            Entry::Link(target) => ("link", Sha256::digest(target)),
        };
        all.update(format!("\0{path}\0{kind}\0"));
        all.update(content);
    }
    all.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Takes away what was left half made, and the kits used longest ago.
fn clear(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(MAKING) {
            fs::remove_dir_all(entry.path())?;
        } else if !name.to_string_lossy().starts_with('.') {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    let too_many = (kept.len() + 1).saturating_sub(KEPT);
    kept.into_iter().take(too_many).try_for_each(|(_, kit)| fs::remove_dir_all(kit))
}

fn write(folder: &Path, entries: &Entries) -> io::Result<()> {
    make_folder(folder)?;
    for (path, entry) in entries {
        let place = folder.join(path);
        let mut above = folder.to_owned();
        for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
            above.push(part);
            make_folder(&above)?;
        }
        match entry {
            Entry::File(bytes) => {
                fs::write(&place, bytes)?;
                fs::set_permissions(&place, Permissions::from_mode(0o755))?;
            }
            Entry::Link(target) => symlink(target, &place)?,
        }
    }
    // Renamed, it counts as whole: after a power cut, too.
    syncfs(File::open(folder)?).map_err(io::Error::from)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

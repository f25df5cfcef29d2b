//! The kit's files, gathered from the host: programs, the libraries they name, their loader, and what git keeps beside
//! itself. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::elf::Elf;
use super::{NEEDED, PLACE};

/// What else is taken where the host has it: what people and agents type most.
const WELCOME: &[&str] = &[
    "awk",
    "basename",
    "chmod",
    "cmp",
    "comm",
    "cut",
    "date",
    "df",
    "diff",
    "dirname",
    "du",
    "env",
    "expr",
    "find",
    "grep",
    "gzip",
    "id",
    "install",
    "ln",
    "ls",
    "mktemp",
    "mv",
    "nl",
    "nproc",
    "od",
    "paste",
    "patch",
    "printf",
    "ps",
    "readlink",
    "realpath",
    "rmdir",
    "seq",
    "sha256sum",
    "sleep",
    "split",
    "tac",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "false",
    "uname",
    "uniq",
    "wc",
    "which",
    "whoami",
];

/// Libraries that others of the same folder load by themselves and do not name.
const UNNAMED: &[&str] = &["libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1"];

/// What is taken of git's own programs.
const GIT_PROGRAMS: &[&str] = &["git-remote-http", "git-sh-i18n--envsubst"];
/// And of its scripts, for a shell.
const GIT_SCRIPTS: &[&str] = &["git-sh-setup", "git-sh-i18n", "git-submodule"];
/// What git starts itself as.
const GIT_LINKS: &[&str] = &["git-upload-pack", "git-receive-pack", "git-upload-archive"];

/// Git as it is called. As a program of the kit's shell it needs none of the image; variables that are set stay, and none of
/// the shell's own (`-p`) come in between.
const GIT: &str = r#"#!/opt/carrel/bin/bash -p
export GIT_EXEC_PATH="${GIT_EXEC_PATH-/opt/carrel/git}" GIT_TEMPLATE_DIR="${GIT_TEMPLATE_DIR-/opt/carrel/git/templates}"
exec -a git /opt/carrel/git/git "$@"
"#;

/// The longest single file, and all of them together.
const FILE_BYTES: u64 = 64 << 20;
const KIT_BYTES: usize = 192 << 20;

/// How long a loader may take to say what a program needs, and git where its programs are.
const SAY_WITHIN: Duration = Duration::from_secs(20);

/// One entry of the kit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file that can be run.
    File(Vec<u8>),
    /// A link, relative to where it is.
    Link(String),
}

/// The entries by their paths in the kit.
pub(super) type Entries = BTreeMap<String, Entry>;

/// Gathers everything; in words what the host lacks.
pub(super) async fn gather(search_path: &OsStr) -> Result<Entries, String> {
    let mut gathered = Gathered::default();
    let mut known: BTreeMap<PathBuf, String> = BTreeMap::new();
    for name in NEEDED.iter().filter(|name| **name != "sh").chain(WELCOME) {
        let is_needed = NEEDED.contains(name);
        let Some(real) = find(search_path, name) else {
            if is_needed {
                return Err(format!("this machine has no `{name}` in its PATH; install it"));
            }
            continue;
        };
        // One program under several names (busybox, the one of uutils) stays one.
        if let Some(first) = known.get(&real) {
            gathered.entries.insert(format!("bin/{name}"), Entry::Link(first.clone()));
            continue;
        }
        let taken = if *name == "git" { gathered.git(&real).await } else { gathered.program(&real, name).await };
        match taken {
            Ok(()) => {
                known.insert(real, (*name).to_owned());
            }
            Err(reason) if is_needed => return Err(format!("`{}` cannot be used: {reason}", real.display())),
            Err(_a_script_mostly) => {}
        }
    }
    gathered.entries.insert("bin/sh".to_owned(), Entry::Link("bash".to_owned()));
    let libraries: Vec<PathBuf> = gathered.libraries.iter().cloned().collect();
    for folder in libraries.iter().filter_map(|library| library.parent()).collect::<BTreeSet<_>>() {
        for name in UNNAMED.iter().filter(|name| folder.join(name).is_file()) {
            gathered.library(name, &folder.join(name))?;
        }
    }
    let total: usize = gathered.entries.values().map(Entry::bytes).sum();
    if total > KIT_BYTES {
        return Err(format!("the programs make {total} bytes, more than the {KIT_BYTES} a tool kit may have"));
    }
    Ok(gathered.entries)
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::File(bytes) => bytes.len(),
            Self::Link(_) => 0,
        }
    }
}

#[derive(Default)]
struct Gathered {
    entries: Entries,
    loader: Option<PathBuf>,
    /// Where the libraries came from.
    libraries: BTreeSet<PathBuf>,
}

impl Gathered {
    async fn program(&mut self, path: &Path, name: &str) -> Result<(), String> {
        let bytes = read(path)?;
        self.add(path, bytes, format!("bin/{name}")).await
    }

    /// Git, and what it starts itself. It knows only its host's places, so it is told the kit's on its way.
    async fn git(&mut self, path: &Path) -> Result<(), String> {
        let own = asked(path, "--exec-path").await?;
        let own = Path::new(own.trim());
        self.add(path, read(path)?, "git/git".to_owned()).await?;
        self.entries.insert("bin/git".to_owned(), Entry::File(GIT.as_bytes().to_vec()));
        // What the host's templates put there, without the samples.
        self.entries.insert("git/templates/info/exclude".to_owned(), Entry::File(Vec::new()));
        for name in GIT_LINKS {
            self.entries.insert(format!("git/{name}"), Entry::Link("git".to_owned()));
        }
        for name in GIT_PROGRAMS {
            let Ok(path) = own.join(name).canonicalize() else { continue };
            self.add(&path, read(&path)?, format!("git/{name}")).await?;
        }
        if self.entries.contains_key("git/git-remote-http") {
            self.entries.insert("git/git-remote-https".to_owned(), Entry::Link("git-remote-http".to_owned()));
        }
        for name in GIT_SCRIPTS {
            if let Ok(path) = own.join(name).canonicalize() {
                self.entries.insert(format!("git/{name}"), Entry::File(read(&path)?));
            }
        }
        Ok(())
    }

    /// A program under this name, its loader, and its libraries.
    async fn add(&mut self, path: &Path, mut bytes: Vec<u8>, name: String) -> Result<(), String> {
        let mut elf = Elf::read(&mut bytes)?;
        if let Some(loader) = elf.loader()? {
            elf.settle(&format!("{PLACE}/lib/ld.so"), &format!("{PLACE}/lib"))?;
            self.loader(&loader)?;
            for (name, library) in needed(&loader, path).await? {
                self.library(&name, &library)?;
            }
        }
        self.entries.insert(name, Entry::File(bytes));
        Ok(())
    }

    fn loader(&mut self, path: &Path) -> Result<(), String> {
        let real = path.canonicalize().map_err(|error| format!("its loader `{}`: {error}", path.display()))?;
        match &self.loader {
            Some(known) if *known == real => Ok(()),
            Some(known) => Err(format!("its loader is `{}`, that of others `{}`", real.display(), known.display())),
            None => {
                self.entries.insert("lib/ld.so".to_owned(), Entry::File(read(&real)?));
                self.loader = Some(real);
                Ok(())
            }
        }
    }

    fn library(&mut self, name: &str, path: &Path) -> Result<(), String> {
        let place = format!("lib/{name}");
        if name.contains('/') || self.entries.contains_key(&place) {
            return Ok(());
        }
        let mut bytes = read(path)?;
        let forgotten = Elf::read(&mut bytes).and_then(|mut elf| elf.forget_paths());
        forgotten.map_err(|reason| format!("`{}`: {reason}", path.display()))?;
        self.libraries.insert(path.to_owned());
        self.entries.insert(place, Entry::File(bytes));
        Ok(())
    }
}

/// What a program loads, as its own loader says: names, and the files found for them.
async fn needed(loader: &Path, program: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let mut command = tokio::process::Command::new(loader);
    command.arg("--list").arg(program);
    listed(&said(command).await?)
}

/// What a program of the host says.
async fn asked(program: &Path, argument: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::new(program);
    command.arg(argument);
    said(command).await
}

async fn said(mut command: tokio::process::Command) -> Result<String, String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.env_clear().current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let said = match tokio::time::timeout(SAY_WITHIN, command.output()).await {
        Ok(said) => said.map_err(|error| format!("`{name}` cannot be started: {error}"))?,
        Err(_) => return Err(format!("`{name}` does not end")),
    };
    if !said.status.success() {
        return Err(format!("`{name}` says: {}", String::from_utf8_lossy(&said.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Reads lines such as `libc.so.6 => /lib/libc.so.6 (0x00007f…)`; those without an arrow are the loader and the kernel's.
fn listed(text: &str) -> Result<Vec<(String, PathBuf)>, String> {
    let mut libraries = Vec::new();
    for line in text.lines() {
        let Some((name, found)) = line.trim().split_once(" => ") else { continue };
        let path = found.rsplit_once(" (").map_or(found, |(path, _address)| path).trim();
        if !path.starts_with('/') {
            return Err(format!("its library `{name}` is not there"));
        }
        // Some name their loader here, too.
        if !name.contains('/') {
            libraries.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(libraries)
}

/// The real file of a program in a search path.
fn find(search_path: &OsStr, name: &str) -> Option<PathBuf> {
    let folders = std::env::split_paths(search_path).filter(|folder| folder.is_absolute());
    let mut files = folders.filter_map(|folder| folder.join(name).canonicalize().ok());
    files.find(|file| file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(format!("`{}` has more than {FILE_BYTES} bytes", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_loader_lists_is_read_and_what_is_missing_is_named() {
        let text = "\tlinux-vdso.so.1 (0x7ff)\n\tlibz.so.1 => /lib/libz.so.1 (0x7fe)\n\t/lib64/ld.so.2 (0x7f0)\n";

        assert_eq!(listed(text), Ok(vec![("libz.so.1".to_owned(), PathBuf::from("/lib/libz.so.1"))]));
        assert_eq!(listed("\tlibx.so.1 => not found\n"), Err("its library `libx.so.1` is not there".to_owned()));
    }

    #[tokio::test]
    async fn a_machine_without_git_is_told_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bash = find(OsStr::new("/usr/bin:/bin"), "bash").expect("this machine has bash");
        std::os::unix::fs::symlink(bash, folder.path().join("bash")).expect("linked");

        let gathered = gather(folder.path().as_os_str()).await;

        assert_eq!(gathered, Err("this machine has no `git` in its PATH; install it".to_owned()));
    }
}

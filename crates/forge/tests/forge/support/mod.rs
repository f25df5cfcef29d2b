//! Repositories to test with: made by git with a pinned identity and dates, and nobody's configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use carrel_domain::{BranchName, CommitOid, RepositoryId, RepositoryLocation, Revision};
use carrel_forge::{CommitRequest, Forge, ForgeError, GitOptions, Mirror};
use jiff::Timestamp;
use tempfile::TempDir;

/// A forge with an empty folder of mirrors, and one repository with a work tree to fetch from.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) source: Repository,
    pub(crate) forge: Forge,
    pub(crate) id: RepositoryId,
}

/// A repository on disk.
pub(crate) struct Repository {
    pub(crate) path: PathBuf,
}

impl World {
    /// With one commit on `main` in the source.
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        world.source.write("README.md", "# Acme\n");
        world.source.commit("first");
        world
    }

    /// Without a commit.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Other users must be able to come to what is theirs in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let source = Repository::init(&folder.path().join("source"), &[]);
        let forge = Forge::new(options(folder.path())).expect("a usable git");
        Self { folder, source, forge, id: RepositoryId::from_uuid(uuid::Uuid::from_u128(7)) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A bare repository beside the source, for pushing to: a clone of it.
    pub(crate) fn bare(&self) -> Repository {
        let path = self.path("bare.git");
        git(self.folder.path(), &["clone", "--quiet", "--bare", "source", "bare.git"]);
        Repository { path }
    }

    pub(crate) async fn fetch(&self) -> Result<Mirror, ForgeError> {
        self.forge.fetch(self.id, &self.source.location()).await
    }

    /// Fetches, and makes a commit that adds `file` to the tip of `main`.
    pub(crate) async fn made(&self, file: &str) -> (Mirror, CommitOid) {
        let mirror = self.fetch().await.expect("a mirror");
        let base = mirror.resolve(&branch("main")).await.expect("main").commit;
        let commit = self.commit_onto(&mirror, &base, file).await;
        (mirror, commit)
    }

    pub(crate) async fn commit_onto(&self, mirror: &Mirror, base: &CommitOid, file: &str) -> CommitOid {
        let patch = self.path("made.patch");
        let text = format!(
            "diff --git a/{file} b/{file}\nnew file mode 100644\n--- /dev/null\n+++ b/{file}\n@@ -0,0 +1 @@\n+x\n"
        );
        fs::write(&patch, text).expect("a patch");
        mirror.commit_patch(&request(base, &patch)).await.expect("a commit")
    }
}

impl Repository {
    pub(crate) fn init(path: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(path).expect("a folder");
        git(path, &[&["init", "--quiet", "--initial-branch=main"], arguments].concat());
        Self { path: path.to_owned() }
    }

    pub(crate) fn location(&self) -> RepositoryLocation {
        RepositoryLocation::Path(self.path.clone())
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("a path in the repository")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    pub(crate) fn commit(&self, message: &str) -> CommitOid {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.oid("HEAD")
    }

    pub(crate) fn oid(&self, name: &str) -> CommitOid {
        self.git(&["rev-parse", "--verify", name]).parse().expect("an object name")
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    /// A hook of the repository, as a shell script.
    pub(crate) fn hook(&self, name: &str, script: &str) {
        let hooks = self.path.join(self.git(&["rev-parse", "--git-path", "hooks"]));
        fs::create_dir_all(&hooks).expect("a folder");
        executable(&hooks.join(name), script);
    }
}

pub(crate) fn executable(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

pub(crate) fn options(folder: &Path) -> GitOptions {
    GitOptions::new(folder.join("mirrors"), folder.join("home"))
}

pub(crate) fn branch(name: &str) -> Revision {
    Revision::Branch(branch_name(name))
}

pub(crate) fn branch_name(name: &str) -> BranchName {
    name.parse().expect("a branch name")
}

pub(crate) fn commit(name: &str) -> Revision {
    Revision::Commit(name.parse().expect("the beginning of an object name"))
}

pub(crate) fn request<'a>(base: &'a CommitOid, patch: &'a Path) -> CommitRequest<'a> {
    CommitRequest {
        base,
        patch,
        message: "Add a thing\n\nBecause.",
        author_name: "Ada",
        author_email: "ada@example.com",
        at: Timestamp::from_second(1_790_000_000).expect("a time"),
    }
}

/// What git prints, without the last line end. Its failure is the test's.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder).args(arguments).stderr(Stdio::piped()).output().expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "Tester")
            .env(format!("GIT_{role}_EMAIL"), "tester@example.com")
            .env(format!("GIT_{role}_DATE"), "@1780000000 +0000");
    }
    command
}

/// Whether anything below the folder has this in its name or content.
pub(crate) fn holds(folder: &Path, needle: &str) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        let in_name = entry.file_name().to_string_lossy().contains(needle);
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let content = if is_folder { Vec::new() } else { fs::read(&path).unwrap_or_default() };
        in_name || content.windows(needle.len()).any(|bytes| bytes == needle.as_bytes()) || holds(&path, needle)
    })
}

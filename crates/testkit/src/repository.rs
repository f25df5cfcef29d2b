//! Git repositories for tests: made by the real git, with a pinned identity and dates and nobody's configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A repository in a folder.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Makes a repository with one commit of these files on `main`.
    ///
    /// # Panics
    /// When git or the disk does not do it: then no test can go on.
    #[must_use]
    pub fn make(path: &Path, files: &[(&str, &str)]) -> Self {
        let repository = Self::empty(path);
        repository.commit("first", files);
        repository
    }

    /// Makes a repository without a commit.
    ///
    /// # Panics
    /// When git or the disk does not do it.
    #[must_use]
    pub fn empty(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("the test's folder is writable");
        let repository = Self { path: path.to_owned() };
        repository.git(&["init", "--quiet", "--initial-branch=main", "."]);
        repository
    }

    /// Takes a repository that is there.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes files and commits everything.
    ///
    /// # Panics
    /// When git or the disk does not do it.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) {
        for (name, text) in files {
            let file = self.path.join(name);
            std::fs::create_dir_all(file.parent().expect("a file has a folder")).expect("the folder is writable");
            std::fs::write(&file, text).expect("the folder is writable");
            if text.starts_with("#!") {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("our own file");
            }
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
    }

    /// Runs git in the repository and gives what it printed, without the last line feed.
    ///
    /// # Panics
    /// When git fails.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self.try_git(arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?} in {}: {words}", self.path.display());
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Runs git in the repository, whatever comes of it.
    ///
    /// # Panics
    /// When there is no git.
    #[must_use]
    pub fn try_git(&self, arguments: &[&str]) -> Output {
        const DATE: &str = "2026-01-02T03:04:05Z";
        Command::new("git")
            .args(arguments)
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "Ada")))
            .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "ada@example.com")))
            .envs(["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"].map(|name| (name, DATE)))
            .output()
            .expect("git is installed")
    }

    /// The files and folders of a commit's tree, with their modes and names.
    #[must_use]
    pub fn tree(&self, revision: &str) -> String {
        self.git(&["ls-tree", "-r", revision])
    }
}

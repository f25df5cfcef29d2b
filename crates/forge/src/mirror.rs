//! One repository's bare copy, and finding the commit an attempt starts from in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::{BranchName, CommitOid, CommitPrefix, RepositoryLocation, Revision};

use crate::error::ForgeError;
use crate::fetch::{Shared, fetch_call, kept};
use crate::git::Call;
use crate::listing::nearest;
use crate::mend::mend;
use crate::objects::{Info, Objects};
use crate::remote::Remote;

/// How many commits an ambiguous name is told to fit.
const NAMED: usize = 5;

/// A repository's bare copy on this machine.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: PathBuf,
    /// Where it was just fetched from: a commit that no branch holds can be asked for there.
    location: Option<RepositoryLocation>,
    /// The git that is asked for its objects.
    pub(crate) objects: Arc<Objects>,
}

/// Where an attempt starts from, pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The commit. The mirror keeps it whatever happens to the branch.
    pub commit: CommitOid,
    /// The branch whose tip it is, when one was asked for or is the default.
    pub branch: Option<BranchName>,
}

impl Mirror {
    pub(crate) fn new(shared: Arc<Shared>, path: PathBuf, location: Option<RepositoryLocation>) -> Self {
        Self { shared, path, location, objects: Arc::default() }
    }

    /// The folder of its objects, which sandboxes mount read-only.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// The bare repository itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finds the commit, and keeps it from now on. A full object name that is not here is asked for at the remote,
    /// when this mirror came from [`Forge::fetch`](crate::Forge::fetch).
    ///
    /// # Errors
    /// [`ForgeError::UnknownBranch`] with a few that there are, [`ForgeError::UnknownCommit`],
    /// [`ForgeError::AmbiguousCommit`], [`ForgeError::NoDefaultBranch`], [`ForgeError::EmptyRepository`].
    pub async fn resolve(&self, revision: &Revision) -> Result<Base, ForgeError> {
        if !self.path.is_dir() {
            return Err(ForgeError::NotFound { location: self.path.display().to_string() });
        }
        let base = match revision {
            Revision::DefaultBranch => self.default_branch().await?,
            Revision::Branch(branch) => match self.commit_at(&branch.reference()).await? {
                Some(commit) => Base { commit, branch: Some(branch.clone()) },
                None => {
                    let known = nearest(branch.as_str(), self.branches().await?);
                    return Err(ForgeError::UnknownBranch { branch: branch.clone(), known });
                }
            },
            Revision::Commit(prefix) => Base { commit: self.commit(prefix).await?, branch: None },
        };
        self.keep(&kept(&base.commit), &base.commit).await?;
        Ok(base)
    }

    /// A local call of git on this mirror.
    pub(crate) fn git(&self, what: &'static str) -> Call {
        self.shared.git(Some(&self.path), what, self.local())
    }

    pub(crate) fn local(&self) -> Duration {
        self.shared.options.timeouts.local
    }

    /// Points a reference of ours at a commit, so that it is never lost.
    pub(crate) async fn keep(&self, reference: &str, commit: &CommitOid) -> Result<(), ForgeError> {
        // Mostly it does so already, and that is asked more cheaply than it is said again.
        if self.info(reference).await?.is_some_and(|info| info.object == commit.as_str()) {
            return Ok(());
        }
        let point = || self.git("update-ref").args(["--", reference, commit.as_str()]).run();
        match point().await?.local() {
            Err(ForgeError::Git { .. }) if self.is_mended()? => point().await?.local()?,
            pointed => pointed?,
        };
        Ok(())
    }

    /// Whether something stood in git's way that does not any more.
    pub(crate) fn is_mended(&self) -> Result<bool, ForgeError> {
        mend(&self.path).map_err(ForgeError::io(format!("mend the mirror at `{}`", self.path.display())))
    }

    /// The commit a reference or a full object name leads to, if there is one.
    pub(crate) async fn commit_at(&self, name: &str) -> Result<Option<CommitOid>, ForgeError> {
        let found = self.info(&format!("{name}^{{commit}}")).await?;
        Ok(found.filter(Info::is_commit).and_then(|info| info.object.parse().ok()))
    }

    /// What `HEAD` names, if it names something.
    async fn head(&self) -> Result<Option<String>, ForgeError> {
        let file = self.path.join("HEAD");
        let failed = || ForgeError::io(format!("read `{}`", file.display()));
        let said = tokio::fs::read_to_string(&file).await.map_err(failed())?;
        // Repositories that keep references in tables have a file that leads nowhere.
        if !said.contains("/.invalid") {
            return Ok(said.trim_end().strip_prefix("ref: ").map(str::to_owned));
        }
        let named = self.git("symbolic-ref").args(["--quiet", "HEAD"]).run().await?;
        Ok(named.succeeded().then(|| named.line()))
    }

    async fn default_branch(&self) -> Result<Base, ForgeError> {
        let named = self.head().await?.unwrap_or_default();
        let branch = named.strip_prefix("refs/heads/").and_then(|branch| branch.parse::<BranchName>().ok());
        // With a detached HEAD there is no name, and HEAD itself leads to the commit.
        if let Some(commit) = self.commit_at("HEAD").await? {
            return Ok(Base { commit, branch });
        }
        let known = nearest("main", self.branches().await?);
        if known.is_empty() {
            return Err(ForgeError::EmptyRepository { location: self.path.display().to_string() });
        }
        Err(ForgeError::NoDefaultBranch { known })
    }

    async fn branches(&self) -> Result<Vec<BranchName>, ForgeError> {
        let call = self.git("for-each-ref").args(["--format=%(refname:lstrip=2)", "refs/heads"]).stdout_bytes(64 << 20);
        let ended = call.run().await?.local()?;
        Ok(String::from_utf8_lossy(&ended.stdout).lines().filter_map(|name| name.parse().ok()).collect())
    }

    async fn commit(&self, prefix: &CommitPrefix) -> Result<CommitOid, ForgeError> {
        let unknown = || ForgeError::UnknownCommit { commit: prefix.clone() };
        if let Ok(full) = prefix.as_str().parse::<CommitOid>() {
            if let Some(commit) = self.commit_at(full.as_str()).await? {
                return Ok(commit);
            }
            return if self.ask_for(&full).await? { Ok(full) } else { Err(unknown()) };
        }
        let mut matches = self.commits_beginning(prefix).await?;
        match matches.len() {
            0 => Err(unknown()),
            1 => Ok(matches.remove(0)),
            _ => {
                matches.truncate(NAMED);
                Err(ForgeError::AmbiguousCommit { commit: prefix.clone(), matches })
            }
        }
    }

    /// The commits whose names begin so. Branches and tags of that very name do not count.
    async fn commits_beginning(&self, prefix: &CommitPrefix) -> Result<Vec<CommitOid>, ForgeError> {
        let listed = self.git("rev-parse").arg(format!("--disambiguate={prefix}")).run().await?.local()?;
        if listed.stdout.is_empty() {
            return Ok(Vec::new());
        }
        let call = self.git("cat-file").arg("--batch-check=%(objecttype) %(objectname)").stdin(listed.stdout);
        let ended = call.run().await?.local()?;
        let lines = String::from_utf8_lossy(&ended.stdout).into_owned();
        Ok(lines.lines().filter_map(|line| line.strip_prefix("commit ")?.parse().ok()).collect())
    }

    /// Asks the remote for a commit by its name. Many allow it, for commits that some reference of theirs reaches.
    async fn ask_for(&self, commit: &CommitOid) -> Result<bool, ForgeError> {
        let Some(location) = &self.location else {
            return Ok(false);
        };
        let remote = Remote::of(&self.shared.options, location)?;
        let call = fetch_call(&self.shared, &self.path, &remote)
            .arg("--")
            .arg(&remote.address)
            .arg(format!("+{commit}:{}", kept(commit)));
        let ended = call.run().await?;
        if ended.succeeded() {
            return Ok(self.commit_at(commit.as_str()).await?.as_ref() == Some(commit));
        }
        match remote.failure(&ended) {
            // It answered, and has no such thing or does not give it.
            ForgeError::Git { .. } => Ok(false),
            error if ended.words().contains("not our ref") => {
                tracing::debug!(%error, %commit, "the remote does not give the commit");
                Ok(false)
            }
            error => Err(error),
        }
    }
}

//! A quick look at a local path before a task is accepted: is it a repository, has it commits, is the wanted one there.

use std::path::Path;

use carrel_domain::{CommitPrefix, RepositoryLocation, Revision};

use crate::error::ForgeError;
use crate::fetch::Forge;
use crate::listing::{Head, Listing, nearest};
use crate::remote::Remote;

impl Forge {
    /// Looks at a local path; a few milliseconds. For URLs nothing is asked: `Ok` at once.
    ///
    /// # Errors
    /// What [`Forge::fetch`] and [`Mirror::resolve`](crate::Mirror::resolve) would say.
    pub async fn probe(&self, location: &RepositoryLocation, revision: &Revision) -> Result<(), ForgeError> {
        let RepositoryLocation::Path(path) = location else {
            return Ok(());
        };
        let options = &self.shared.options;
        let remote = Remote::of(options, location)?;
        let ask = self.shared.git(None, "ls-remote", options.timeouts.probe);
        let there = Listing::ask(&remote, ask, &[]).await?;
        if there.references.is_empty() && there.head == Head::Nowhere {
            return Err(ForgeError::EmptyRepository { location: remote.address });
        }
        match revision {
            Revision::DefaultBranch if there.head == Head::Nowhere => {
                Err(ForgeError::NoDefaultBranch { known: nearest("main", there.branches()) })
            }
            Revision::DefaultBranch => Ok(()),
            Revision::Branch(branch) if !there.references.contains_key(&branch.reference()) => {
                let known = nearest(branch.as_str(), there.branches());
                Err(ForgeError::UnknownBranch { branch: branch.clone(), known })
            }
            Revision::Branch(_) => Ok(()),
            Revision::Commit(commit) => self.probe_commit(path, &remote, commit).await,
        }
    }

    /// Asks the repository itself whether it has the commit. `rev-parse` reads the repository's configuration but runs
    /// nothing from it, and goes no further up than the path.
    async fn probe_commit(&self, path: &Path, remote: &Remote<'_>, commit: &CommitPrefix) -> Result<(), ForgeError> {
        let path = path.canonicalize().map_err(ForgeError::io(format!("look at `{}`", path.display())))?;
        let ceiling = path.parent().unwrap_or(&path);
        let call = self.shared.git(None, "rev-parse", self.shared.options.timeouts.probe);
        let ended = call
            .within(&path, remote.owner)
            .env("GIT_CEILING_DIRECTORIES", ceiling)
            // A partial clone must not go and fetch what it lacks.
            .env("GIT_ALLOW_PROTOCOL", "none")
            .args(["--verify", "--quiet", "--end-of-options"])
            .arg(format!("{commit}^{{commit}}"))
            .run()
            .await?;
        match ended.code() {
            Some(0) => Ok(()),
            Some(1) => Err(ForgeError::UnknownCommit { commit: commit.clone() }),
            _ if ended.words().contains("ambiguous") => {
                Err(ForgeError::AmbiguousCommit { commit: commit.clone(), matches: Vec::new() })
            }
            _ => Err(remote.failure(&ended)),
        }
    }
}

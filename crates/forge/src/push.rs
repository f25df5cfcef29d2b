//! Putting a commit on a branch of the remote, so that it may be tried again at any point with the same end.

use carrel_domain::{BranchName, CommitOid, RepositoryLocation};

use crate::commit::made;
use crate::error::ForgeError;
use crate::git::Ended;
use crate::listing::Listing;
use crate::mirror::Mirror;
use crate::remote::{Remote, Serving};

/// A branch of the remote that is at our commit, and the remote said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The branch.
    pub branch: BranchName,
    /// Where it is now.
    pub commit: CommitOid,
    /// Where it was before; the same commit when there was nothing to do, none when the branch is new.
    pub before: Option<CommitOid>,
}

impl Mirror {
    /// Puts the commit on the branch. Done already is done. A branch that is there at another commit is moved only
    /// when it is at `expected`, or at an ancestor that was made here; and only if it is still there by then.
    ///
    /// # Errors
    /// [`ForgeError::BranchTaken`], [`ForgeError::Rejected`] in the remote's words, and whatever the location answers.
    pub async fn push(
        &self,
        location: &RepositoryLocation,
        commit: &CommitOid,
        branch: &BranchName,
        expected: Option<&CommitOid>,
    ) -> Result<Pushed, ForgeError> {
        let remote = Remote::of(&self.shared.options, location)?;
        let before = self.ask(&remote, branch).await?;
        let pushed = Pushed { branch: branch.clone(), commit: commit.clone(), before: before.clone() };
        match &before {
            Some(at) if at == commit => return Ok(pushed),
            Some(at) if expected != Some(at) && !self.grew_from(commit, at).await? => {
                return Err(ForgeError::BranchTaken { branch: branch.clone(), at: at.clone() });
            }
            Some(_) | None => {}
        }
        let sent = self.send(&remote, commit, branch, before.as_ref()).await?;
        let after = self.ask(&remote, branch).await?;
        match after {
            // Whatever the push said: the remote has it.
            Some(at) if at == *commit => Ok(pushed),
            Some(at) if before.as_ref() != Some(&at) => Err(ForgeError::BranchTaken { branch: branch.clone(), at }),
            Some(_) | None if sent.succeeded() => Err(ForgeError::Rejected {
                words: format!("it took the push, but does not show the commit on `{branch}`"),
            }),
            Some(_) | None => Err(refusal(&remote, &sent)),
        }
    }

    /// Where the branch is at the remote.
    async fn ask(&self, remote: &Remote<'_>, branch: &BranchName) -> Result<Option<CommitOid>, ForgeError> {
        let call = self.shared.git(None, "ls-remote", self.shared.options.timeouts.listing);
        let reference = branch.reference();
        let there = Listing::ask(remote, call, &[&reference]).await?;
        Ok(there.references.get(&reference).and_then(|oid| oid.parse().ok()))
    }

    /// Whether `older` was made here and `commit` comes after it.
    async fn grew_from(&self, commit: &CommitOid, older: &CommitOid) -> Result<bool, ForgeError> {
        if self.commit_at(&made(older)).await?.is_none() {
            return Ok(false);
        }
        let ended = self.git("merge-base").args(["--is-ancestor", older.as_str(), commit.as_str()]).run().await?;
        match ended.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(ended.other(ended.words())),
        }
    }

    async fn send(
        &self,
        remote: &Remote<'_>,
        commit: &CommitOid,
        branch: &BranchName,
        before: Option<&CommitOid>,
    ) -> Result<Ended, ForgeError> {
        let reference = branch.reference();
        let before = before.map(CommitOid::as_str).unwrap_or_default();
        let call = self.shared.git(Some(&self.path), "push", self.shared.options.timeouts.push);
        remote
            .prepare(call, Serving::Receive)
            .args(["--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"])
            .arg(format!("--force-with-lease={reference}:{before}"))
            .arg("--")
            .arg(&remote.address)
            .arg(format!("{commit}:{reference}"))
            .run()
            .await
    }
}

/// Why a push did not work: the remote's words where it gave some, else what git made of it.
fn refusal(remote: &Remote<'_>, sent: &Ended) -> ForgeError {
    let said = sent.words();
    let porcelain = sent.clean(&sent.stdout);
    let Some(reason) = porcelain.lines().find_map(|line| line.strip_prefix("!\t")) else {
        return remote.failure(sent);
    };
    let reason = reason.split_once('\t').map_or(reason, |(_, reason)| reason);
    let mut words: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("remote:")).map(str::trim).collect();
    words.retain(|line| !line.is_empty());
    words.push(reason);
    ForgeError::Rejected { words: words.join("\n") }
}

//! The mirrors: making one, and bringing it up to date.
//!
//! A mirror is a bare repository `<mirrors>/<repository id>.git` with the remote's branches and tags under their own
//! names, `HEAD` naming the remote's default branch, and under `refs/carrel/` the commits we rely on. References that
//! the remote no longer has are removed, so that a branch that is gone is an error; objects never are: nothing collects
//! garbage, and every commit handed out is kept by a reference. No URL and no credential is written into it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use carrel_domain::{CommitOid, RepositoryId, RepositoryLocation};

use crate::error::ForgeError;
use crate::git::Call;
use crate::listing::{Head, Listing};
use crate::lock::Locks;
use crate::mend::settle;
use crate::mirror::Mirror;
use crate::options::GitOptions;
use crate::remote::{Remote, SCRATCH_PREFIX, Serving, scratch};

/// The oldest git that keeps `uploadpack.packObjectsHook` and `safe.directory` out of a repository's own hands, and
/// that distributions still mend (2.39.4 stopped `upload-pack` from fetching what a partial clone lacks).
const OLDEST_GIT: (u32, u32) = (2, 39);

/// Folders of operations that old were left by a process that was killed.
const LEFT_OVER_AFTER: Duration = Duration::from_hours(24);

/// What a mirror's `HEAD` names when the remote's names nothing.
pub(crate) const NOWHERE: &str = "refs/carrel/nowhere";

/// Git, and the folder of mirrors. Cheap to clone; all clones share their locks.
#[derive(Clone, Debug)]
pub struct Forge {
    pub(crate) shared: Arc<Shared>,
}

/// What a forge and its mirrors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: GitOptions,
    locks: Locks,
}

impl Shared {
    /// A call of git on a mirror, or on none.
    pub(crate) fn git(&self, git_dir: Option<&Path>, what: &'static str, deadline: Duration) -> Call {
        Call::new(&self.options, git_dir, what, deadline, None)
    }
}

impl Forge {
    /// Checks that git is there and new enough, and makes the folder of mirrors.
    ///
    /// # Errors
    /// [`ForgeError::Unusable`] without a usable git, [`ForgeError::Io`] when the folder cannot be made.
    pub fn new(options: GitOptions) -> Result<Self, ForgeError> {
        check_version(&options)?;
        let mirrors = &options.mirrors;
        let failed = || ForgeError::io(format!("make the mirrors' folder `{}`", mirrors.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(mirrors).map_err(failed())?;
        fs::set_permissions(mirrors, fs::Permissions::from_mode(0o700)).map_err(failed())?;
        let mirrors = fs::canonicalize(mirrors).map_err(failed())?;
        remove_left_over(&mirrors);
        let options = GitOptions { mirrors, ..options };
        Ok(Self { shared: Arc::new(Shared { options, locks: Locks::default() }) })
    }

    /// The mirror of a repository, as it stands now; [`Forge::fetch`] makes it.
    #[must_use]
    pub fn mirror(&self, id: RepositoryId) -> Mirror {
        Mirror::new(Arc::clone(&self.shared), self.path(id), None)
    }

    /// Makes the mirror, or brings it up to date. One at a time for each mirror; others wait.
    ///
    /// # Errors
    /// Whatever the location answers; [`ForgeError::is_retryable`] tells whether to try again.
    pub async fn fetch(&self, id: RepositoryId, location: &RepositoryLocation) -> Result<Mirror, ForgeError> {
        let options = &self.shared.options;
        let lock = options.mirrors.join(format!("{id}.lock"));
        let _held = self.shared.locks.hold(id, &lock, options.timeouts.fetch).await?;
        let remote = Remote::of(options, location)?;
        let ask = self.shared.git(None, "ls-remote", options.timeouts.listing);
        let there = Listing::ask(&remote, ask, &["HEAD", "refs/heads/*", "refs/tags/*"]).await?;
        let any = there.references.values().next().map(String::as_str).or(match &there.head {
            Head::Detached(commit) => Some(commit.as_str()),
            Head::Branch(_) | Head::Nowhere => None,
        });
        let Some(any) = any else {
            return Err(ForgeError::EmptyRepository { location: remote.address });
        };
        let path = self.path(id);
        if !path.is_dir() {
            self.make(&path, any.len()).await?;
        }
        let mirror = Mirror::new(Arc::clone(&self.shared), path, Some(location.clone()));
        match self.bring_up(&mirror.path, &remote, &there).await {
            // Git does not say in one word what is wrong with a repository.
            Err(ForgeError::Git { .. }) if mirror.is_mended()? => self.bring_up(&mirror.path, &remote, &there).await?,
            brought => brought?,
        }
        Ok(mirror)
    }

    /// Makes the mirror what the remote is.
    async fn bring_up(&self, path: &Path, remote: &Remote<'_>, there: &Listing) -> Result<(), ForgeError> {
        let here = self.references(path).await?;
        if here.references != there.references || matches!(there.head, Head::Detached(_)) {
            self.bring(path, remote, &there.head).await?;
        }
        // A head that is no branch cannot be told from the listing of ours.
        if here.head != there.head || !matches!(there.head, Head::Branch(_)) {
            self.set_head(path, &there.head).await?;
        }
        Ok(())
    }

    fn path(&self, id: RepositoryId) -> PathBuf {
        self.shared.options.mirrors.join(format!("{id}.git"))
    }

    /// Makes an empty mirror beside its place and renames it there, so that there is never half a one.
    async fn make(&self, path: &Path, oid_digits: usize) -> Result<(), ForgeError> {
        let local = self.shared.options.timeouts.local;
        let format = if oid_digits == 64 { "sha256" } else { "sha1" };
        let folder = scratch(&self.shared.options)?;
        let new = folder.path().join("mirror.git");
        let init = self.shared.git(None, "init", local);
        init.args(["--quiet", "--bare", "--template=", "--object-format", format, "--"])
            .arg(&new)
            .run()
            .await?
            .local()?;
        // For a person who runs git in there by hand.
        for (key, value) in [("gc.auto", "0"), ("gc.pruneExpire", "never"), ("core.hooksPath", "/dev/null")] {
            self.shared.git(Some(&new), "config", local).args([key, value]).run().await?.local()?;
        }
        let put = settle(&new).and_then(|()| fs::rename(&new, path));
        put.map_err(ForgeError::io(format!("put the mirror at `{}`", path.display())))
    }

    /// What the mirror has, in the form of what a remote says.
    async fn references(&self, path: &Path) -> Result<Listing, ForgeError> {
        let call = self.shared.git(Some(path), "for-each-ref", self.shared.options.timeouts.local);
        let ended = call
            .args(["--format=%(HEAD)%(objectname) %(refname)", "refs/heads", "refs/tags"])
            .stdout_bytes(64 << 20)
            .run()
            .await?
            .local()?;
        let mut listing = Listing::default();
        for line in String::from_utf8_lossy(&ended.stdout).lines() {
            let (mark, line) = line.split_at_checked(1).unwrap_or_default();
            let Some((oid, name)) = line.split_once(' ') else { continue };
            if mark == "*"
                && let Some(branch) = name.strip_prefix("refs/heads/").and_then(|branch| branch.parse().ok())
            {
                listing.head = Head::Branch(branch);
            }
            listing.references.insert(name.to_owned(), oid.to_owned());
        }
        Ok(listing)
    }

    async fn bring(&self, path: &Path, remote: &Remote<'_>, head: &Head) -> Result<(), ForgeError> {
        let mut references = vec!["+refs/heads/*:refs/heads/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()];
        if let Head::Detached(commit) = head {
            references.push(format!("+HEAD:{}", kept(commit)));
        }
        let call = fetch_call(&self.shared, path, remote).args(["--prune", "--"]).arg(&remote.address).args(references);
        let ended = call.run().await?;
        if ended.succeeded() { Ok(()) } else { Err(remote.failure(&ended)) }
    }

    async fn set_head(&self, path: &Path, head: &Head) -> Result<(), ForgeError> {
        let local = self.shared.options.timeouts.local;
        let point = |at: String| self.shared.git(Some(path), "symbolic-ref", local).args(["HEAD", &at]).run();
        match head {
            Head::Branch(branch) => point(branch.reference()).await?.local()?,
            Head::Nowhere => point(NOWHERE.to_owned()).await?.local()?,
            Head::Detached(commit) => {
                let call = self.shared.git(Some(path), "update-ref", local);
                call.args(["--no-deref", "HEAD", commit.as_str()]).run().await?.local()?
            }
        };
        Ok(())
    }
}

/// A `git fetch` that writes objects and references and nothing else.
pub(crate) fn fetch_call(shared: &Shared, mirror: &Path, remote: &Remote<'_>) -> Call {
    let call = shared.git(Some(mirror), "fetch", shared.options.timeouts.fetch);
    // References of the remote may be many thousands; see `mend`.
    let call = call.configure("core.fsync", "committed,loose-object");
    remote.prepare(call, Serving::Upload).args([
        "--quiet",
        "--force",
        "--no-tags",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--update-shallow",
    ])
}

/// The reference that keeps a commit an attempt starts from.
pub(crate) fn kept(commit: &CommitOid) -> String {
    format!("refs/carrel/base/{commit}")
}

fn check_version(options: &GitOptions) -> Result<(), ForgeError> {
    let unusable = |problem: String| ForgeError::Unusable { problem };
    let said = std::process::Command::new("git")
        .env_clear()
        .env("PATH", &options.search_path)
        .env("LC_ALL", "C")
        .arg("--version")
        .current_dir("/")
        .output()
        .map_err(|error| unusable(format!("it does not start ({error}); install git 2.39 or newer")))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.trim().strip_prefix("git version ").unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_GIT => Ok(()),
        (Some(_), Some(_)) => Err(unusable(format!("version {version} is too old; install git 2.39 or newer"))),
        (_, _) => Err(unusable("it does not tell its version; install git 2.39 or newer".to_owned())),
    }
}

/// Removes the folders of operations whose process was killed. What cannot be removed now is tried again next time.
fn remove_left_over(mirrors: &Path) {
    for entry in fs::read_dir(mirrors).into_iter().flatten().flatten() {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX);
        let changed = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or_else(|_| SystemTime::now());
        if is_scratch
            && changed.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), %error, "cannot remove a left-over folder");
        }
    }
}

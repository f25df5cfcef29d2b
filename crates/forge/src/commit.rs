//! From a patch to a commit in the mirror, without a work tree: the patch is applied to a temporary index.

use std::collections::HashSet;
use std::path::Path;

use carrel_domain::git::is_safe_repository_path;
use carrel_domain::{CommitOid, PatchSummary};
use jiff::Timestamp;

use crate::error::ForgeError;
use crate::git::{Call, Ended};
use crate::mirror::Mirror;
use crate::patch::{self, PatchError, PatchLimits};
use crate::remote::scratch;
use crate::words::{Meaning, meaning};

/// Address space of `git apply`: a few bytes of a binary delta can ask for any amount.
const APPLY_MEMORY_BYTES: u64 = 4 << 30;

/// The facts of a commit. The same facts make the same commit, whenever and wherever.
#[derive(Debug, Clone)]
pub struct CommitRequest<'a> {
    /// The commit the patch was made against, and the new one's parent.
    pub base: &'a CommitOid,
    /// A file with the output of `git diff --binary --full-index`.
    pub patch: &'a Path,
    /// The whole message; control characters are taken out.
    pub message: &'a str,
    /// Who wrote it.
    pub author_name: &'a str,
    /// Their address.
    pub author_email: &'a str,
    /// When; seconds count, in UTC.
    pub at: Timestamp,
}

impl Mirror {
    /// Commits a patch onto its base. The commit is kept by a reference of ours and is on no branch.
    ///
    /// # Errors
    /// [`ForgeError::PatchRefused`] for one that no honest diff looks like, [`ForgeError::PatchDoesNotApply`] in git's
    /// words, [`ForgeError::UnknownCommit`] for a base that is not here.
    pub async fn commit_patch(&self, request: &CommitRequest<'_>) -> Result<CommitOid, ForgeError> {
        let bytes = read(request.patch).await?;
        let parse = move || (patch::parse(&bytes), bytes);
        let parsed = tokio::task::spawn_blocking(parse).await;
        let (summary, bytes) = parsed.map_err(|error| ForgeError::io("read the patch")(error.into()))?;
        let summary = summary?;
        if summary.files.is_empty() {
            return Err(PatchError::Empty.into());
        }
        let folder = scratch(&self.shared.options)?;
        let index = folder.path().join("index");
        self.read_base(request.base, &index).await?;
        let options = &self.shared.options;
        let applied = Call::new(options, Some(&self.path), "apply", self.local(), Some(APPLY_MEMORY_BYTES))
            .configure("core.packedGitWindowSize", "64m")
            .configure("core.packedGitLimit", "512m")
            .env("GIT_INDEX_FILE", &index)
            .args(["--cached", "--binary", "--whitespace=nowarn", "-"])
            .stdin(bytes)
            .run()
            .await?;
        if !applied.succeeded() {
            return Err(does_not_apply(&applied));
        }
        self.check_changes(request.base, &index, &summary).await?;
        let tree = self.git("write-tree").env("GIT_INDEX_FILE", &index).run().await?.local()?.line();
        let commit = self.write_commit(request, &tree).await?;
        self.keep(&made(&commit), &commit).await?;
        Ok(commit)
    }

    async fn read_base(&self, base: &CommitOid, index: &Path) -> Result<(), ForgeError> {
        if self.commit_at(base.as_str()).await?.is_none() {
            let unknown = base.as_str().parse().map(|commit| ForgeError::UnknownCommit { commit });
            return Err(unknown.unwrap_or_else(|error| ForgeError::Git { what: "read-tree", words: error.to_string() }));
        }
        self.git("read-tree")
            .env("GIT_INDEX_FILE", index)
            .args(["--end-of-options", base.as_str()])
            .run()
            .await?
            .local()?;
        Ok(())
    }

    /// Holds what git made of the patch against what we read in it: no path that we did not see or would refuse, and
    /// no change of a submodule. It would take an error in our parser and one in git's for this to be needed.
    async fn check_changes(&self, base: &CommitOid, index: &Path, summary: &PatchSummary) -> Result<(), ForgeError> {
        let call = self.git("diff-index").env("GIT_INDEX_FILE", index);
        let ended = call
            .args(["--cached", "--raw", "-z", "--no-renames", "--end-of-options", base.as_str()])
            .stdout_bytes(256 << 20)
            .run()
            .await?
            .local()?;
        let seen: HashSet<&str> = summary
            .files
            .iter()
            .flat_map(|file| [Some(file.path.as_str()), file.old_path.as_deref()])
            .flatten()
            .collect();
        let mut fields = ended.stdout.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        while let (Some(change), Some(path)) = (fields.next(), fields.next()) {
            if !seen.contains(path.as_ref()) || !is_safe_repository_path(&path) {
                return Err(PatchError::UnsafePath { path: path.into_owned() }.into());
            }
            if change.split(' ').take(2).any(|mode| mode.ends_with("160000")) {
                return Err(PatchError::Submodule { path: path.into_owned() }.into());
            }
        }
        Ok(())
    }

    async fn write_commit(&self, request: &CommitRequest<'_>, tree: &str) -> Result<CommitOid, ForgeError> {
        let options = &self.shared.options;
        let date = format!("@{} +0000", request.at.as_second().max(0));
        let ended = self
            .git("commit-tree")
            .env("GIT_AUTHOR_NAME", name_of(request.author_name))
            .env("GIT_AUTHOR_EMAIL", name_of(request.author_email))
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", name_of(&options.committer_name))
            .env("GIT_COMMITTER_EMAIL", name_of(&options.committer_email))
            .env("GIT_COMMITTER_DATE", &date)
            .args(["-p", request.base.as_str(), "-F", "-", tree])
            .stdin(message_of(request.message).into_bytes())
            .run()
            .await?
            .local()?;
        let oid = ended.line();
        oid.parse().map_err(|error| ForgeError::Git { what: "commit-tree", words: format!("{error}") })
    }
}

/// The reference that keeps a commit made here.
pub(crate) fn made(commit: &CommitOid) -> String {
    format!("refs/carrel/made/{commit}")
}

/// The patch, if it is not larger than one may be.
async fn read(file: &Path) -> Result<Vec<u8>, ForgeError> {
    use tokio::io::AsyncReadExt;

    let failed = || ForgeError::io(format!("read the patch `{}`", file.display()));
    let most = PatchLimits::default().size_bytes;
    let mut bytes = Vec::new();
    let opened = tokio::fs::File::open(file).await.map_err(failed())?;
    opened.take(most.saturating_add(1)).read_to_end(&mut bytes).await.map_err(failed())?;
    Ok(bytes)
}

fn does_not_apply(applied: &Ended) -> ForgeError {
    let words = applied.words();
    match (meaning(&words), applied.code()) {
        (Meaning::DiskFull, _) => ForgeError::DiskFull { words },
        // It does not fit, or it is broken, or it asks for too much; other ends say nothing about the patch.
        (_, Some(1 | 128)) => ForgeError::PatchDoesNotApply { words },
        (_, _) => applied.other(words),
    }
}

/// A name or address as git takes it in a commit: not empty, on one line, without what delimits it.
fn name_of(text: &str) -> String {
    let name: String = text.chars().filter(|letter| !letter.is_control() && !matches!(letter, '<' | '>')).collect();
    // Git takes these off both ends, and refuses what is empty then.
    let plain = name.trim_matches(|letter: char| letter.is_whitespace() || ".,:;\"\\'".contains(letter));
    if plain.is_empty() { "unknown".to_owned() } else { plain.to_owned() }
}

/// A message that ends with one line end and has no control characters.
fn message_of(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let plain: String = text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect();
    match plain.trim() {
        "" => "Changes by an agent\n".to_owned(),
        plain => format!("{plain}\n"),
    }
}

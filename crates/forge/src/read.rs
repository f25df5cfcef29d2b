//! Reading single files of a commit, straight from the mirror: settings that a repository carries for us.

use carrel_domain::CommitOid;

use crate::error::ForgeError;
use crate::mirror::Mirror;

/// How much of a listing is read: some 40,000 names.
const LISTING_BYTES: usize = 4 << 20;

/// How many of the first folders are looked into.
const FOLDERS: usize = 100;

impl Mirror {
    /// The content of a regular file at this commit; nothing when there is none, or something else stands there.
    ///
    /// # Errors
    /// [`ForgeError::TooLarge`] when it is longer than `max_bytes`.
    pub async fn file(&self, commit: &CommitOid, path: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, ForgeError> {
        let listed = self.entries(commit, &[path.to_owned()]).await?;
        let Some(entry) = listed.into_iter().find(|entry| entry.path == path && entry.is_file) else { return Ok(None) };
        if entry.size_bytes > max_bytes as u64 {
            return Err(ForgeError::TooLarge { path: path.to_owned(), max_bytes: max_bytes as u64 });
        }
        let call = self.git("cat-file").args(["blob", entry.object.as_str()]).stdout_bytes(max_bytes + 1);
        Ok(Some(call.run().await?.local()?.stdout))
    }

    /// The names of the objects at these paths, so that it can be told whether any of them has changed.
    ///
    /// # Errors
    /// When git fails.
    pub async fn objects_at(&self, commit: &CommitOid, paths: &[String]) -> Result<Vec<(String, String)>, ForgeError> {
        let plain: Vec<String> = paths.iter().filter(|path| !path.starts_with(':')).cloned().collect();
        if plain.is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.entries(commit, &plain).await?;
        Ok(entries.into_iter().map(|entry| (entry.path, entry.object)).collect())
    }

    /// The paths of files at the root of this commit and in its first folders, as far as they are UTF-8.
    ///
    /// # Errors
    /// When git fails.
    pub async fn files_near_the_root(&self, commit: &CommitOid) -> Result<Vec<String>, ForgeError> {
        let root = self.entries(commit, &[]).await?;
        let folders: Vec<String> = root
            .iter()
            .filter(|entry| entry.is_folder && !entry.path.starts_with(':'))
            .take(FOLDERS)
            .map(|entry| format!("{}/", entry.path))
            .collect();
        let within = if folders.is_empty() { Vec::new() } else { self.entries(commit, &folders).await? };
        Ok(root.into_iter().chain(within).filter(|entry| entry.is_file).map(|entry| entry.path).collect())
    }

    /// What stands at these paths, or at the root.
    async fn entries(&self, commit: &CommitOid, paths: &[String]) -> Result<Vec<Entry>, ForgeError> {
        let call = self
            .git("ls-tree")
            .args(["-z", "-l", "--full-tree", commit.as_str(), "--"])
            .args(paths)
            .stdout_bytes(LISTING_BYTES);
        let ended = call.run().await?.local()?;
        Ok(ended.stdout.split(|byte| *byte == 0).filter_map(entry).collect())
    }
}

struct Entry {
    path: String,
    object: String,
    size_bytes: u64,
    is_file: bool,
    is_folder: bool,
}

/// Reads `<mode> SP <type> SP <object> SP+ <size or -> TAB <path>`.
fn entry(line: &[u8]) -> Option<Entry> {
    let (facts, path) = std::str::from_utf8(line).ok()?.split_once('\t')?;
    let mut facts = facts.split_ascii_whitespace();
    let (mode, kind, object, size) = (facts.next()?, facts.next()?, facts.next()?, facts.next()?);
    Some(Entry {
        path: path.to_owned(),
        object: object.to_owned(),
        size_bytes: size.parse().unwrap_or(0),
        is_file: mode.starts_with("100"),
        is_folder: kind == "tree",
    })
}

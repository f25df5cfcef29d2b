//! Reading single files of a commit, straight from the mirror: settings that a repository carries for us.

use carrel_domain::CommitOid;
use carrel_domain::repository_facts::Kind;

use crate::error::ForgeError;
use crate::mirror::Mirror;
use crate::objects::TreeEntry;

/// How much of one folder's listing is read where it must be: some 1,500,000 names; and where it can be done without.
const MOST_BYTES: u64 = 64 << 20;
const LISTING_BYTES: u64 = 4 << 20;

/// How many of the first folders are looked into.
const FOLDERS: usize = 100;

impl Mirror {
    /// The content of a regular file at this commit; nothing when there is none, or something else stands there.
    ///
    /// # Errors
    /// [`ForgeError::TooLarge`] when it is longer than `max_bytes`.
    pub async fn file(&self, commit: &CommitOid, path: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, ForgeError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        // Through the folder, because only that says whether it is a file or a link.
        let found = self.trees(&[format!("{commit}:{folder}")], MOST_BYTES).await?;
        let is_it = |entry: &TreeEntry| entry.kind == Kind::File && entry.name.as_deref() == Some(name);
        if !found.iter().flatten().flatten().any(is_it) {
            return Ok(None);
        }
        let Some(info) = self.info(&format!("{commit}:{path}")).await? else { return Ok(None) };
        if info.size_bytes > max_bytes as u64 {
            return Err(ForgeError::TooLarge { path: path.to_owned(), max_bytes: max_bytes as u64 });
        }
        Ok(self.contents(&[&info]).await?.pop())
    }

    /// The names of the objects at these paths, so that it can be told whether any of them has changed; by path.
    ///
    /// # Errors
    /// When git fails.
    pub async fn objects_at(&self, commit: &CommitOid, paths: &[String]) -> Result<Vec<(String, String)>, ForgeError> {
        let names: Vec<String> = paths.iter().map(|path| format!("{commit}:{path}")).collect();
        let infos = self.infos(&names).await?;
        let mut found: Vec<(String, String)> =
            paths.iter().zip(infos).filter_map(|(path, info)| Some((path.clone(), info?.object))).collect();
        found.sort();
        Ok(found)
    }

    /// The paths of files at the root of this commit and in its first folders, as far as they are UTF-8.
    ///
    /// # Errors
    /// When git fails.
    pub async fn files_near_the_root(&self, commit: &CommitOid) -> Result<Vec<String>, ForgeError> {
        let root = self.trees(&[format!("{commit}:")], MOST_BYTES).await?;
        let mut folders = Vec::new();
        let mut files = Vec::new();
        for entry in root.into_iter().flatten().flatten() {
            match (entry.kind, entry.name) {
                (Kind::Folder, Some(name)) if folders.len() < FOLDERS => folders.push(name),
                (Kind::File, Some(name)) => files.push(name),
                (_, _) => {}
            }
        }
        let names: Vec<String> = folders.iter().map(|folder| format!("{commit}:{folder}")).collect();
        // A folder of more names than that is no project that is set up.
        let trees = self.trees(&names, LISTING_BYTES).await?;
        for (folder, within) in folders.iter().zip(trees) {
            let within = within.into_iter().flatten().filter(|entry| entry.kind == Kind::File);
            files.extend(within.filter_map(|entry| entry.name).map(|name| format!("{folder}/{name}")));
        }
        Ok(files)
    }
}

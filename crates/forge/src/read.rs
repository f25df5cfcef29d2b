//! Reading single files of a commit, straight from the mirror: settings that a repository carries for us.

use carrel_domain::CommitOid;
use carrel_domain::repository_facts::Kind;

use crate::error::ForgeError;
use crate::mirror::Mirror;
use crate::objects::entries;

/// How much of one folder's listing is read where it must be, some 400,000 names; and how much of all others together.
const MOST_BYTES: u64 = 16 << 20;
const LISTINGS_BYTES: u64 = 4 << 20;

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
        let Some(tree) = self.trees(&[format!("{commit}:{folder}")], MOST_BYTES).await?.pop().flatten() else {
            return Ok(None);
        };
        let mut entries = entries(&tree, commit.as_str().len() / 2);
        if !entries.any(|entry| entry.kind == Kind::File && entry.name == Some(name)) {
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
        let object_bytes = commit.as_str().len() / 2;
        let root = self.trees(&[format!("{commit}:")], MOST_BYTES).await?.pop().flatten().unwrap_or_default();
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for entry in entries(&root, object_bytes) {
            match (entry.kind, entry.name) {
                (Kind::Folder, Some(name)) if folders.len() < FOLDERS => folders.push(name.to_owned()),
                (Kind::File, Some(name)) => files.push(name.to_owned()),
                (_, _) => {}
            }
        }
        let names: Vec<String> = folders.iter().map(|folder| format!("{commit}:{folder}")).collect();
        // Folders of more names than that are no projects that are set up.
        let trees = self.trees(&names, LISTINGS_BYTES).await?;
        for (folder, tree) in folders.iter().zip(trees) {
            let within = tree.iter().flat_map(|tree| entries(tree, object_bytes));
            let names = within.filter(|entry| entry.kind == Kind::File).filter_map(|entry| entry.name);
            files.extend(names.map(|name| format!("{folder}/{name}")));
        }
        Ok(files)
    }
}

//! Removing what a sandbox left on disk: hostile trees of any depth, in the background.
//!
//! Every folder is first moved up into one flat place, so no path grows long, nothing recurses, and few descriptors
//! are open; links are removed, never followed. Nothing of the sandbox lives any more at that point.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where things to remove are moved to.
#[derive(Debug)]
pub(crate) struct Trash {
    folder: PathBuf,
    /// How the names begin that this one gives.
    prefix: String,
    next: AtomicU64,
}

impl Trash {
    /// Uses (and makes) this folder; what an earlier process left in it is removed with the next sweep.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        // Numbers go on after those of an earlier process.
        let used = fs::read_dir(&folder)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let next = used.max().map_or(0, |last| last + 1);
        Ok(Self { folder, prefix: String::new(), next: AtomicU64::new(next) })
    }

    /// The same beside another process that uses the folder; no two of them may have the same prefix.
    pub(crate) fn open_beside(folder: PathBuf, prefix: String) -> io::Result<Self> {
        Ok(Self { prefix, ..Self::open(folder)? })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a folder here: from now on it is gone for everybody else. One that is not there is fine.
    pub(crate) fn take(&self, path: &Path) -> io::Result<()> {
        match self.adopt(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes everything that is here.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        loop {
            let folders: Vec<PathBuf> =
                fs::read_dir(&self.folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
            if folders.is_empty() {
                return Ok(());
            }
            for folder in folders {
                self.empty(&folder)?;
            }
        }
    }

    /// Removes the files of a folder, moves its folders up, and removes it.
    fn empty(&self, folder: &Path) -> io::Result<()> {
        match fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        // Two sweeps may meet: what is no longer there has been taken by the other.
                        self.take(&entry.path())?;
                    } else {
                        tolerate_absence(fs::remove_file(entry.path()))?;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return tolerate_absence(fs::remove_file(folder));
            }
            Err(error) => return Err(error),
        }
        tolerate_absence(fs::remove_dir(folder))
    }

    fn adopt(&self, path: &Path) -> io::Result<()> {
        // Whatever rights its owner took from it, we need: to move a folder is to change its `..`.
        if fs::symlink_metadata(path)?.is_dir() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        fs::rename(path, self.folder.join(format!("{}{number}", self.prefix)))
    }
}

/// Two sweeps may meet; what one has removed the other need not.
fn tolerate_absence(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let outside = place.path().join("outside");
        fs::write(&outside, "kept").expect("written");
        let tree = place.path().join("tree");
        // Grown at the root, so that the test itself needs no long path.
        fs::create_dir(&tree).expect("made");
        std::os::unix::fs::symlink(&outside, tree.join("link")).expect("linked");
        for _ in 0..3000 {
            let deeper = place.path().join("deeper");
            fs::create_dir(&deeper).expect("made");
            fs::rename(&tree, deeper.join("folder")).expect("moved");
            fs::rename(&deeper, &tree).expect("moved");
        }
        fs::set_permissions(tree.join("folder"), fs::Permissions::from_mode(0o000)).expect("closed");

        let trash = Trash::open(place.path().join("trash")).expect("opened");
        trash.take(&tree).expect("taken");
        trash.sweep().expect("swept");

        assert_eq!(fs::read_dir(place.path().join("trash")).expect("there").count(), 0);
        assert_eq!(fs::read_to_string(&outside).expect("there"), "kept");
        assert!(!tree.exists());
    }
}

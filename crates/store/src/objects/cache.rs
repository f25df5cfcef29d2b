//! Files named by the hash of their bytes, in a folder: what was used lately of a bucket. It is bounded; what was not used
//! for longest goes first.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::hex;
use crate::StoreError;
use crate::database::make_private_folder;
use crate::fresh;

/// Whoever was given a file has opened it by then. Files used since stay, even when there is too much.
const IN_USE: Duration = Duration::from_secs(600);

/// What is half written for so long was left by a process that died.
const STALE: Duration = Duration::from_hours(1);

/// As many bytes as are hashed at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// The files.
pub(super) struct Cache {
    folder: PathBuf,
    most_bytes: u64,
    /// Bytes that came since the folder was last looked through.
    came: AtomicU64,
}

/// What a file was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// What its name says.
    Good,
    /// Something else.
    Other,
    /// Not there.
    Missing,
}

/// A file that is on its way. Dropped before it is whole, it is removed.
pub(super) struct Coming<'a> {
    cache: &'a Cache,
    sha256: String,
    size_bytes: u64,
    beside: Beside,
    file: tokio::fs::File,
    hasher: Sha256,
    written: u64,
}

struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // Renamed by then if all went well.
        let _removed = std::fs::remove_file(&self.0);
    }
}

impl Cache {
    pub(super) fn open(folder: PathBuf, most_bytes: u64) -> Result<Self, StoreError> {
        make_private_folder(&folder)?;
        sweep(&folder)?;
        tidy(&folder, most_bytes);
        Ok(Self { folder, most_bytes, came: AtomicU64::new(0) })
    }

    /// The file of this name, if it is here and what it is to be.
    pub(super) async fn get(&self, sha256: &str) -> Result<Option<PathBuf>, StoreError> {
        let path = place(&self.folder, sha256);
        match check(&path, sha256).await? {
            Check::Good => {
                touch(&path, 0).await;
                Ok(Some(path))
            }
            Check::Missing => Ok(None),
            Check::Other => {
                tracing::warn!(path = %path.display(), "a copy of an artifact has other bytes by now; it is fetched again");
                self.forget(sha256).await;
                Ok(None)
            }
        }
    }

    /// Keeps bytes whose hash is known.
    pub(super) async fn keep(&self, sha256: &str, bytes: Bytes) -> Result<(), StoreError> {
        if touch(&place(&self.folder, sha256), bytes.len() as u64).await {
            return Ok(());
        }
        let mut coming = self.begin(sha256, bytes.len() as u64).await?;
        coming.write(&bytes).await?;
        coming.finish().await.map(|_| ())
    }

    /// Begins to write the file of this name.
    pub(super) async fn begin(&self, sha256: &str, size_bytes: u64) -> Result<Coming<'_>, StoreError> {
        let path = place(&self.folder, sha256);
        if let Some(parent) = path.parent() {
            make_private_folder(parent)?;
        }
        let beside = Beside(path.with_extension(fresh().to_string()));
        let file = tokio::fs::File::create(&beside.0).await?;
        let sha256 = sha256.to_owned();
        Ok(Coming { cache: self, sha256, size_bytes, beside, file, hasher: Sha256::new(), written: 0 })
    }

    pub(super) async fn forget(&self, sha256: &str) {
        // What cannot be removed takes room; it is checked before it is used again.
        let _removed = tokio::fs::remove_file(place(&self.folder, sha256)).await;
    }

    /// Looks the folder through once a tenth of what it may hold has come.
    async fn note(&self, bytes: u64) {
        if self.came.fetch_add(bytes, Ordering::Relaxed) + bytes < self.most_bytes / 10 {
            return;
        }
        self.came.store(0, Ordering::Relaxed);
        let (folder, most_bytes) = (self.folder.clone(), self.most_bytes);
        if let Err(error) = tokio::task::spawn_blocking(move || tidy(&folder, most_bytes)).await {
            tracing::warn!(%error, "the copies of artifacts could not be looked through");
        }
    }
}

impl Coming<'_> {
    /// Adds bytes, and says whether there may be more.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<bool, StoreError> {
        self.written += bytes.len() as u64;
        if self.written > self.size_bytes {
            return Ok(false);
        }
        for chunk in bytes.chunks(CHUNK_BYTES) {
            self.hasher.update(chunk);
            self.file.write_all(chunk).await?;
        }
        Ok(true)
    }

    /// Gives the file its name, if it is what the name says.
    pub(super) async fn finish(mut self) -> Result<Option<PathBuf>, StoreError> {
        self.file.flush().await?;
        if self.written != self.size_bytes || hex(&self.hasher.finalize()) != self.sha256 {
            return Ok(None);
        }
        self.file.sync_all().await?;
        let path = place(&self.cache.folder, &self.sha256);
        tokio::fs::rename(&self.beside.0, &path).await?;
        self.cache.note(self.size_bytes).await;
        Ok(Some(path))
    }
}

/// Where the file of this name lies in a folder.
pub(super) fn place(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(&sha256[..2.min(sha256.len())]).join(sha256)
}

/// Makes a file look as if it was written just now. Says whether it is there, and not shorter or longer than it is to be;
/// 0 when that does not matter.
pub(super) async fn touch(path: &Path, size_bytes: u64) -> bool {
    let path = path.to_owned();
    let touched = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::options().write(true).open(path)?;
        let fits = size_bytes == 0 || file.metadata()?.len() == size_bytes;
        if fits {
            file.set_modified(SystemTime::now())?;
        }
        Ok::<bool, std::io::Error>(fits)
    });
    matches!(touched.await, Ok(Ok(true)))
}

/// Compares a file with its name.
pub(super) async fn check(path: &Path, sha256: &str) -> Result<Check, StoreError> {
    match hash_file(path).await {
        Ok((found, _)) if found == sha256 => Ok(Check::Good),
        Ok(_) => Ok(Check::Other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Check::Missing),
        Err(error) => Err(error.into()),
    }
}

/// The SHA-256 of a file, and how long it is.
pub(super) async fn hash_file(path: &Path) -> std::io::Result<(String, u64)> {
    let path = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let (mut hasher, mut chunk, mut length) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                return Ok((hex(&hasher.finalize()), length));
            }
            hasher.update(&chunk[..read]);
            length += read as u64;
        }
    });
    hashed.await.map_err(std::io::Error::other)?
}

/// Removes what was half written when a process died. Younger ones may be somebody else's who is just writing.
pub(super) fn sweep(folder: &Path) -> Result<(), StoreError> {
    for (path, metadata) in files(folder)? {
        let is_half = path.file_name().is_some_and(|name| name.to_string_lossy().contains(['.', '#']));
        if is_half && unused(&metadata) > STALE {
            // Another process may sweep at the same time.
            let _removed = std::fs::remove_file(path);
        }
    }
    Ok(())
}

/// Removes files until the rest is within the bound, those not used for longest first.
fn tidy(folder: &Path, most_bytes: u64) {
    let mut files = files(folder).unwrap_or_default();
    files.sort_by_key(|(_, metadata)| std::cmp::Reverse(unused(metadata)));
    let mut bytes: u64 = files.iter().map(|(_, metadata)| metadata.len()).sum();
    for (path, metadata) in files {
        if bytes <= most_bytes || unused(&metadata) < IN_USE {
            return;
        }
        if std::fs::remove_file(path).is_ok() {
            bytes = bytes.saturating_sub(metadata.len());
        }
    }
}

fn unused(metadata: &std::fs::Metadata) -> Duration {
    metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, std::fs::Metadata)>> {
    let shelves = std::fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_dir());
    let lying = shelves.flat_map(|shelf| std::fs::read_dir(shelf.path()).into_iter().flatten().flatten());
    Ok(lying
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok().filter(std::fs::Metadata::is_file)?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    fn make_old(path: &Path, age: Duration) {
        let file = std::fs::File::options().write(true).open(path).expect("a file");
        file.set_modified(SystemTime::now() - age).expect("a time");
    }

    #[tokio::test]
    async fn what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path().to_owned(), 1000).expect("a cache");
        let kept: Vec<Bytes> = (0..4).map(|number| Bytes::from(vec![number; 400])).collect();
        for (bytes, hours) in kept.iter().zip([3, 2, 4, 0]) {
            cache.keep(&sha256(bytes), bytes.clone()).await.expect("kept");
            make_old(&place(folder.path(), &sha256(bytes)), Duration::from_hours(hours));
        }

        tidy(folder.path(), 1000);

        let mut left = Vec::new();
        for bytes in &kept {
            left.push(cache.get(&sha256(bytes)).await.expect("readable").is_some());
        }
        assert_eq!(left, [false, true, false, true]);
    }

    #[tokio::test]
    async fn a_copy_with_other_bytes_is_not_given_and_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path().to_owned(), 1000).expect("a cache");
        let name = sha256(b"right");
        cache.keep(&name, Bytes::from_static(b"right")).await.expect("kept");
        std::fs::write(place(folder.path(), &name), b"wrong").expect("written");

        let given = cache.get(&name).await.expect("readable");

        assert_eq!(given, None);
        assert!(!place(folder.path(), &name).exists());
    }

    #[tokio::test]
    async fn what_comes_wrong_too_long_or_not_whole_gets_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path().to_owned(), 1000).expect("a cache");
        let name = sha256(b"right");

        for bytes in [&b"wrong"[..], b"righ", b"right and more", b""] {
            let mut coming = cache.begin(&name, 5).await.expect("begun");
            coming.write(bytes).await.expect("written");
            assert_eq!(coming.finish().await.expect("no failure"), None, "{bytes:?}");
        }
        drop(cache.begin(&name, 5).await.expect("begun"));

        assert!(files(folder.path()).expect("a list").is_empty(), "nothing is left beside");
    }

    #[test]
    fn only_what_was_left_half_written_long_ago_is_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = folder.path().join("ab");
        std::fs::create_dir(&shelf).expect("a shelf");
        for (name, hours) in [("abc", 9), ("abc.new", 9), ("abc#1", 9), ("abd.new", 0), ("abd#1", 0)] {
            std::fs::write(shelf.join(name), "x").expect("written");
            make_old(&shelf.join(name), Duration::from_hours(hours));
        }

        sweep(folder.path()).expect("swept");

        let mut left: Vec<_> = files(folder.path()).expect("a list").into_iter().map(|(path, _)| path).collect();
        left.sort();
        assert_eq!(left, ["abc", "abd#1", "abd.new"].map(|name| shelf.join(name)));
    }
}

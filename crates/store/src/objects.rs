//! Where the bytes of artifacts are, named by their SHA-256: a folder, or a bucket of an S3-compatible store with a folder of
//! what was used lately in front. Which names somebody still needs is `artifacts`' matter.
//!
//! Bytes come whole or not at all, and what is handed out was checked against its name.

mod cache;
mod place;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig, WriteMultipart,
};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt as _;

pub use self::place::{ArtifactPlace, Bucket, InvalidPlace};

use self::cache::Cache;
use crate::StoreError;
use crate::database::make_private_folder;

/// What is longer is sent in parts of this length. S3 takes up to 10,000 of them, none but the last below 5 MiB.
const PART_BYTES: usize = 8 << 20;

/// Parts under way at the same time.
const PARTS: usize = 4;

/// A server that does not answer is given up on after so long. Whoever asked is told, and can ask again.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(60);
const RETRY_WITHIN: Duration = Duration::from_secs(15);
const RETRIES: usize = 4;

/// The longest an object may take to arrive.
const FETCH: Duration = Duration::from_secs(300);

/// The longest text of a server's that is passed on, in characters.
const MAX_REASON: usize = 300;

/// What is written to see whether anything can be.
const TRIED: &[u8] = b"Carrel tries whether artifacts can be kept here.\n";

/// The bytes of artifacts.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    kind: Kind,
}

enum Kind {
    /// The objects are files already; `is_own`: in the data folder, which no other machine has.
    Folder { path: PathBuf, is_own: bool },
    /// The objects are elsewhere, below this prefix; those used lately are here, too.
    Bucket { url: String, prefix: String, cache: Cache },
}

/// What was put.
pub(crate) struct Put {
    pub(crate) sha256: String,
    /// Whether it had been there for a while: then somebody else may be about to collect it, see `artifacts`.
    pub(crate) was_there: bool,
}

/// An object that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) size_bytes: u64,
    /// How long ago it was written, by the clock of whoever keeps it.
    pub(crate) age: Duration,
}

impl Objects {
    /// Opens the place. `folder` is that of the data folder: the place itself, or what stands before a bucket.
    pub(crate) fn open(place: ArtifactPlace, folder: PathBuf) -> Result<Self, StoreError> {
        match place {
            ArtifactPlace::DataFolder => Self::in_folder(folder, true),
            ArtifactPlace::Folder(folder) => Self::in_folder(folder, false),
            ArtifactPlace::Bucket(bucket) => {
                let url = bucket.url();
                let store = connect(&bucket).map_err(|error| StoreError::Artifacts {
                    place: url.clone(),
                    problem: format!("cannot be used: {error}"),
                })?;
                let cache = Cache::open(folder, bucket.cache_bytes)?;
                Ok(Self { store, kind: Kind::Bucket { url, prefix: bucket.prefix, cache } })
            }
        }
    }

    fn in_folder(folder: PathBuf, is_own: bool) -> Result<Self, StoreError> {
        make_private_folder(&folder)?;
        cache::sweep(&folder)?;
        // Staged beside and renamed, and on the disk before its name is: a name always has the whole content.
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| StoreError::Folder {
            path: folder.display().to_string(),
            source: std::io::Error::other(error),
        })?;
        Ok(Self { store: Arc::new(store.with_fsync(true)), kind: Kind::Folder { path: folder, is_own } })
    }

    /// Writes an object as any other, always the same one: nobody refers to it, so it is collected like any other.
    pub(crate) async fn try_out(&self) -> Result<(), StoreError> {
        let put = self.put(&Bytes::from_static(TRIED)).await?;
        match self.find(&put.sha256).await? {
            Some(_) => Ok(()),
            None => Err(self.unavailable("does not keep what it is given".to_owned())),
        }
    }

    /// Keeps bytes under the name of their hash. Once is enough: the same bytes again only make them young.
    pub(crate) async fn put(&self, bytes: &Bytes) -> Result<Put, StoreError> {
        let sha256 = hash(bytes.clone()).await?;
        let length = bytes.len() as u64;
        let was_there = match &self.kind {
            Kind::Folder { path: folder, .. } => {
                let path = cache::place(folder, &sha256);
                let was_there = cache::touch(&path, length).await;
                if !was_there {
                    self.upload(&sha256, bytes).await?;
                }
                was_there
            }
            Kind::Bucket { cache, .. } => {
                let was_there = self.find(&sha256).await?.is_some();
                // A bucket has no way to make an object young but to write it again.
                self.upload(&sha256, bytes).await?;
                if let Err(error) = cache.keep(&sha256, bytes.clone()).await {
                    tracing::warn!(%error, "an artifact is kept in the bucket only; no copy of it could be kept here");
                }
                was_there
            }
        };
        Ok(Put { sha256, was_there })
    }

    /// The same for the bytes of a file, which nobody changes meanwhile, however long it is; and how long that is.
    pub(crate) async fn put_file(&self, file: &std::path::Path) -> Result<(Put, u64), StoreError> {
        let (sha256, size_bytes) = cache::hash_file(file).await?;
        let was_there = match &self.kind {
            Kind::Folder { path, .. } => cache::touch(&cache::place(path, &sha256), size_bytes).await,
            Kind::Bucket { .. } => self.find(&sha256).await?.is_some(),
        };
        // A bucket has no way to make an object young but to write it again.
        if !was_there || matches!(self.kind, Kind::Bucket { .. }) {
            let mut file = tokio::fs::File::open(file).await?;
            let mut parts = self.begin_upload(&sha256).await?;
            let mut part = vec![0; PART_BYTES];
            loop {
                let read = match read_part(&mut file, &mut part).await {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => {
                        let _aborted = parts.abort().await;
                        return Err(error.into());
                    }
                };
                parts = self.add_part(parts, Bytes::copy_from_slice(&part[..read])).await?;
            }
            parts.finish().await.map_err(|error| self.failed(&error))?;
        }
        Ok((Put { sha256, was_there }, size_bytes))
    }

    /// Whether processes with other data folders have the same objects.
    pub(crate) const fn are_shared(&self) -> bool {
        !matches!(self.kind, Kind::Folder { is_own: true, .. })
    }

    /// Puts bytes that were put before once more, if they have been collected meanwhile.
    pub(crate) async fn put_back_if_gone(&self, sha256: &str, bytes: &Bytes) -> Result<(), StoreError> {
        match self.find(sha256).await? {
            Some(found) if found.size_bytes == bytes.len() as u64 => Ok(()),
            _ => self.upload(sha256, bytes).await,
        }
    }

    async fn upload(&self, sha256: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let name = self.name(sha256);
        if bytes.len() <= PART_BYTES {
            let put = self.store.put(&name, PutPayload::from_bytes(bytes.clone())).await;
            return put.map(|_| ()).map_err(|error| self.failed(&error));
        }
        let mut parts = self.begin_upload(sha256).await?;
        for start in (0..bytes.len()).step_by(PART_BYTES) {
            parts = self.add_part(parts, bytes.slice(start..bytes.len().min(start + PART_BYTES))).await?;
        }
        parts.finish().await.map(|_| ()).map_err(|error| self.failed(&error))
    }

    async fn begin_upload(&self, sha256: &str) -> Result<WriteMultipart, StoreError> {
        let upload = self.store.put_multipart(&self.name(sha256)).await.map_err(|error| self.failed(&error))?;
        Ok(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))
    }

    async fn add_part(&self, mut parts: WriteMultipart, part: Bytes) -> Result<WriteMultipart, StoreError> {
        if let Err(error) = parts.wait_for_capacity(PARTS).await {
            // Nothing is seen of it before it is complete; what cannot be taken back takes room.
            let _aborted = parts.abort().await;
            return Err(self.failed(&error));
        }
        parts.put(part);
        Ok(parts)
    }

    /// What is there of this name, if something is.
    pub(crate) async fn find(&self, sha256: &str) -> Result<Option<Found>, StoreError> {
        match self.store.head(&self.name(sha256)).await {
            Ok(meta) => Ok(Some(Found { size_bytes: meta.size, age: age(meta.last_modified.timestamp_millis()) })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// A file on this machine with the bytes of this name, all of them and none but them.
    pub(crate) async fn file(&self, sha256: &str, size_bytes: u64) -> Result<PathBuf, StoreError> {
        match &self.kind {
            Kind::Folder { path: folder, .. } => {
                let path = cache::place(folder, sha256);
                match cache::check(&path, sha256).await? {
                    cache::Check::Good => Ok(path),
                    cache::Check::Other => Err(self.lost(sha256, OTHER_BYTES)),
                    cache::Check::Missing => Err(self.lost(sha256, GONE)),
                }
            }
            Kind::Bucket { cache, .. } => {
                if let Some(path) = cache.get(sha256).await? {
                    return Ok(path);
                }
                let fetched = tokio::time::timeout(FETCH, self.fetch(cache, sha256, size_bytes)).await;
                fetched.unwrap_or_else(|_| {
                    Err(self.unavailable(format!("does not answer: no whole file came in {} s", FETCH.as_secs())))
                })
            }
        }
    }

    async fn fetch(&self, cache: &Cache, sha256: &str, size_bytes: u64) -> Result<PathBuf, StoreError> {
        let found = match self.store.get(&self.name(sha256)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(self.lost(sha256, GONE)),
            Err(error) => return Err(self.failed(&error)),
        };
        if found.meta.size != size_bytes {
            return Err(self.lost(sha256, OTHER_BYTES));
        }
        let mut stream = found.into_stream();
        let mut coming = cache.begin(sha256, size_bytes).await?;
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| self.failed(&error))?;
            if !coming.write(&part).await? {
                break;
            }
        }
        coming.finish().await?.ok_or_else(|| self.lost(sha256, OTHER_BYTES))
    }

    /// The first bytes of an object, at most so many. Good enough to tell a picture by, and nothing else: they are not checked.
    pub(crate) async fn beginning(&self, sha256: &str, bytes: u64) -> Result<Bytes, StoreError> {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        match self.store.get_range(&self.name(sha256), 0..bytes).await {
            Ok(beginning) => Ok(beginning),
            Err(object_store::Error::NotFound { .. }) => Err(self.lost(sha256, GONE)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What is there of those whose names begin with these two digits, at most so many.
    pub(crate) async fn shelf(&self, digits: &str, most: usize) -> Result<Vec<(String, Found)>, StoreError> {
        let listed = self.store.list(Some(&self.shelf_name(digits)));
        let mut found = Vec::new();
        let mut objects = listed.take(most);
        while let Some(meta) = objects.try_next().await.map_err(|error| self.failed(&error))? {
            let name = meta.location.filename().unwrap_or_default();
            // Whatever else lies there is somebody else's.
            if name.len() == 64 && name.starts_with(digits) && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let object = Found { size_bytes: meta.size, age: age(meta.last_modified.timestamp_millis()) };
                found.push((name.to_owned(), object));
            }
        }
        Ok(found)
    }

    /// Removes an object.
    pub(crate) async fn remove(&self, sha256: &str) -> Result<(), StoreError> {
        match self.store.delete(&self.name(sha256)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed(&error)),
        }
        if let Kind::Bucket { cache, .. } = &self.kind {
            cache.forget(sha256).await;
        }
        Ok(())
    }

    /// The place, as people know it.
    pub(crate) fn words(&self) -> String {
        match &self.kind {
            Kind::Folder { path, .. } => path.display().to_string(),
            Kind::Bucket { url, .. } => url.clone(),
        }
    }

    fn name(&self, sha256: &str) -> Path {
        self.shelf_name(&sha256[..2.min(sha256.len())]).join(sha256)
    }

    fn shelf_name(&self, digits: &str) -> Path {
        match &self.kind {
            Kind::Folder { .. } => Path::from(digits),
            Kind::Bucket { prefix, .. } => Path::from(format!("{prefix}/{digits}")),
        }
    }

    fn lost(&self, sha256: &str, how: &'static str) -> StoreError {
        StoreError::ArtifactLost { place: self.words(), sha256: sha256.to_owned(), how }
    }

    fn unavailable(&self, problem: String) -> StoreError {
        StoreError::Artifacts { place: self.words(), problem }
    }

    fn failed(&self, error: &object_store::Error) -> StoreError {
        if let Some(error) = input_output(error) {
            return error;
        }
        let Kind::Bucket { .. } = &self.kind else { return StoreError::File(std::io::Error::other(brief(error))) };
        let reason = brief(error);
        let problem = match error {
            object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. } => {
                format!("refuses: {reason}; look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy")
            }
            object_store::Error::NotFound { .. } => format!("is not there: {reason}; make the bucket"),
            _ => format!("does not answer: {}", one_line(&root(error).to_string())),
        };
        self.unavailable(problem)
    }
}

/// Reads until the part is full or the file ends.
async fn read_part(file: &mut tokio::fs::File, part: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < part.len() {
        match file.read(&mut part[filled..]).await? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

const GONE: &str = "is not there any more";
const OTHER_BYTES: &str = "has other bytes than were kept";

fn connect(bucket: &Bucket) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::new().with_bucket_name(&bucket.name);
    let mut is_plain = false;
    for (variable, value) in &bucket.settings {
        if let Ok(key) = variable.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value.expose());
        }
        is_plain |= value.expose().starts_with("http://");
    }
    let client = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST).with_allow_http(is_plain);
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(3), base: 2.0 };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_WITHIN };
    Ok(Arc::new(builder.with_client_options(client).with_retry(retry).build()?))
}

/// What the operating system said, where that is the reason.
fn input_output(error: &object_store::Error) -> Option<StoreError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if let Some(kind @ (std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) = kind {
            return Some(std::io::Error::from(kind).into());
        }
        cause = error.source();
    }
    None
}

/// What is at the bottom of an error, such as that a connection was refused: above it is said which request it was, and how
/// often it was made.
fn root(error: &object_store::Error) -> &dyn std::error::Error {
    let mut root: &dyn std::error::Error = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root
}

fn brief(error: &object_store::Error) -> String {
    one_line(&error.to_string())
}

/// What an error says, some of which is the server's, on one line.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_REASON {
        return line;
    }
    line.chars().take(MAX_REASON).chain("…".chars()).collect()
}

fn age(modified_ms: i64) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(u64::try_from(modified_ms).unwrap_or(0)))
}

/// The SHA-256 of bytes, worked out beside whatever else this process does.
async fn hash(bytes: Bytes) -> Result<String, StoreError> {
    let hashed = tokio::task::spawn_blocking(move || hex(&Sha256::digest(&bytes))).await;
    hashed.map_err(|error| StoreError::File(std::io::Error::other(error)))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

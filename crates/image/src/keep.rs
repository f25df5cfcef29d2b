//! The cache: unpacked images by digest, in one folder.
//!
//! `<folder>/<digest>-<owner>/` holds `root/`, `config.json` (the image's own, as it was served) and `image.json` (what
//! is known of it here). A folder gets that name when everything in it is on disk, so what has the name is whole; what
//! a crash left has another, and is removed at the next start.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::{ImageConfig, read_config};
use crate::options::Owner;
use crate::unpack::{Notes, Unpacked};
use crate::unpacker::{self, Unpacker};

const PARTIAL: &str = "partial-";
const REMOVING: &str = "removing-";
const LOCK: &str = "lock";
const CONFIG: &str = "config.json";
const ABOUT: &str = "image.json";
/// The folder that becomes a sandbox's `/`.
pub(crate) const ROOT: &str = "root";

/// An image on this machine. While one of these is around, [`crate::Images::remove`] leaves it alone.
#[derive(Debug, Clone)]
pub struct UnpackedImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its files. The folders above it have mode 0700.
    pub root: PathBuf,
    /// How it wants its programs to be run.
    pub config: ImageConfig,
    /// What of it was left out.
    pub notes: Notes,
    /// Keeps it from being removed.
    _use: Arc<Use>,
}

/// An image in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The name it was pulled under.
    pub reference: String,
    /// About how much disk it takes, with what was unpacked of it for other owners of files.
    pub size_bytes: u64,
    /// When it was last asked for.
    pub last_used: SystemTime,
    /// Whether an [`UnpackedImage`] of it is around.
    pub is_used: bool,
}

/// Stands for one use of an image.
#[derive(Debug)]
struct Use;

#[derive(Serialize, Deserialize)]
struct About {
    digest: String,
    reference: String,
    size_bytes: u64,
    files: u64,
    notes: Notes,
}

/// The folder.
pub(crate) struct Keep {
    folder: PathBuf,
    owner: String,
    unpacker: Option<Unpacker>,
    uses: Mutex<HashMap<Digest, Weak<Use>>>,
    counter: AtomicU64,
    /// Held for as long as the process uses the folder.
    _lock: File,
}

impl Keep {
    /// Takes the folder, and removes what a crash left in it.
    pub(crate) fn open(folder: &Path, owner: Owner, unpacker: Option<Unpacker>) -> Result<Self, ImageError> {
        // The last number of users stands for none, and chown takes it to mean that nothing shall change.
        if matches!(owner, Owner::Shifted { start } if start > u32::MAX - 65_536) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the range of users ends after the last user");
            return Err(ImageError::Io { what: "give files to users", source });
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(ImageError::io("make it"))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(ImageError::io("set its mode"))?;
        let lock = File::options().create(true).append(true).open(folder.join(LOCK));
        let lock = lock.map_err(ImageError::io("make its lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ImageError::Locked { folder: folder.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(ImageError::Io { what: "take its lock", source }),
        }
        // Numbers go on after those of what cannot be removed.
        let mut counter = 0;
        for entry in fs::read_dir(folder).map_err(ImageError::io("look around"))? {
            let path = entry.map_err(ImageError::io("look around"))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(number) = name.strip_prefix(PARTIAL).or_else(|| name.strip_prefix(REMOVING)) {
                counter = counter.max(number.parse().map_or(0, |number: u64| number.saturating_add(1)));
                remove_left(&path, unpacker.as_ref());
            }
        }
        let owner = match (&unpacker, owner) {
            (Some(unpacker), _) => unpacker.ids.clone(),
            (None, Owner::Own) => "own".to_owned(),
            (None, Owner::Shifted { start }) => start.to_string(),
        };
        let (uses, counter) = (Mutex::default(), AtomicU64::new(counter));
        Ok(Self { folder: folder.to_owned(), owner, unpacker, uses, counter, _lock: lock })
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}-{}", digest.file_name(), self.owner))
    }

    fn uses(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Use>>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image, when it is here; using it is noted.
    pub(crate) fn find(&self, digest: &Digest) -> Result<Option<UnpackedImage>, ImageError> {
        let path = self.path_of(digest);
        let read = ImageError::io("read an image");
        // Within the lock, so that nobody removes it between the look and the use.
        let mut uses = self.uses();
        let bytes = match fs::read(path.join(CONFIG)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let about = self.about(&path)?;
        let config = read_config(&bytes).map_err(|problem| ImageError::invalid(&about.reference, problem))?;
        let used = uses.get(digest).and_then(Weak::upgrade).unwrap_or_else(|| Arc::new(Use));
        uses.retain(|_, used| used.strong_count() > 0);
        uses.insert(digest.clone(), Arc::downgrade(&used));
        drop(uses);
        touch(&path.join(ABOUT)).map_err(ImageError::io("note the use of an image"))?;
        Ok(Some(UnpackedImage {
            digest: digest.clone(),
            root: path.join(ROOT),
            config: config.runs_as,
            notes: about.notes,
            _use: used,
        }))
    }

    fn about(&self, path: &Path) -> Result<About, ImageError> {
        let bytes = fs::read(path.join(ABOUT)).map_err(ImageError::io("read about an image"))?;
        serde_json::from_slice(&bytes).map_err(|error| ImageError::Io {
            what: "read about an image",
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }

    /// A folder to unpack an image in.
    pub(crate) fn begin(&self) -> Result<Partial, ImageError> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{PARTIAL}{number}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(ImageError::io("begin an image"))?;
        Ok(Partial { path, unpacker: self.unpacker.clone() })
    }

    /// Removes what was taken out.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        unpacker::remove(path, self.unpacker.as_ref())
    }

    /// Where an image stands when it is whole.
    pub(crate) fn destination(&self, digest: &Digest) -> PathBuf {
        self.path_of(digest)
    }

    /// What is here, in no order. What cannot be read is passed over. What other owners of files left counts with the
    /// image of the same digest, or is one that nobody uses.
    pub(crate) fn list(&self) -> Result<Vec<KeptImage>, ImageError> {
        let mut found: HashMap<Digest, KeptImage> = HashMap::new();
        let uses = self.uses();
        for (digest, owner, path) in self.folders()? {
            let (Ok(about), Ok(meta)) = (self.about(&path), path.join(ABOUT).metadata()) else { continue };
            let last_used = meta.modified().map_err(ImageError::io("look around"))?;
            let is_used = owner == self.owner && uses.get(&digest).is_some_and(|used| used.strong_count() > 0);
            let About { reference, size_bytes, .. } = about;
            let image = found.entry(digest.clone()).or_insert_with(|| {
                let size_bytes = 0;
                KeptImage { digest, reference, size_bytes, last_used, is_used }
            });
            image.size_bytes += size_bytes;
            image.last_used = image.last_used.max(last_used);
            image.is_used |= is_used;
        }
        Ok(found.into_values().collect())
    }

    /// The folders of images, of every owner of files: the digest, the owner, the path.
    fn folders(&self) -> Result<Vec<(Digest, String, PathBuf)>, ImageError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(ImageError::io("look around"))? {
            let path = entry.map_err(ImageError::io("look around"))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((digest, owner)) = name.rsplit_once('-') else { continue };
            if let Some(digest) = Digest::from_file_name(digest) {
                found.push((digest, owner.to_owned(), path));
            }
        }
        Ok(found)
    }

    /// Takes an image out of the cache, whosever files it has, unless it is used. What is left to do is to remove the
    /// trees.
    pub(crate) fn take_out(&self, digest: &Digest) -> Result<Vec<PathBuf>, ImageError> {
        let uses = self.uses();
        if uses.get(digest).is_some_and(|used| used.strong_count() > 0) {
            return Ok(Vec::new());
        }
        let mut taken = Vec::new();
        for (_, _, path) in self.folders()?.into_iter().filter(|(found, _, _)| found == digest) {
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            let to = self.folder.join(format!("{REMOVING}{number}"));
            match fs::rename(path, &to) {
                Ok(()) => taken.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ImageError::Io { what: "take an image out", source: error }),
            }
        }
        Ok(taken)
    }
}

/// An image that is not whole. Dropping it removes it.
pub(crate) struct Partial {
    path: PathBuf,
    unpacker: Option<Unpacker>,
}

impl Partial {
    /// Where its files go.
    pub(crate) fn root(&self) -> PathBuf {
        self.path.join(ROOT)
    }

    /// Makes it last, and gives it its place. An image that is there already stays.
    pub(crate) fn finish(
        self,
        to: &Path,
        digest: &Digest,
        reference: &str,
        config: &[u8],
        unpacked: &Unpacked,
    ) -> Result<(), ImageError> {
        let about = About {
            digest: digest.to_string(),
            reference: reference.to_owned(),
            size_bytes: unpacked.size_bytes,
            files: unpacked.files,
            notes: unpacked.notes,
        };
        let about = serde_json::to_vec(&about).expect("plain fields are always JSON");
        fs::write(self.path.join(ABOUT), about).map_err(ImageError::io("write about an image"))?;
        fs::write(self.path.join(CONFIG), config).map_err(ImageError::io("write an image's config"))?;
        match crate::unpack::keep(&self.path, to) {
            Err(_) if to.is_dir() => Ok(()),
            result => result.map_err(ImageError::io("give an image its name")),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = unpacker::remove(&self.path, self.unpacker.as_ref()) {
            tracing::warn!(folder = %self.path.display(), %error, "an unfinished image could not be removed");
        }
    }
}

/// Removes what a crash left. What cannot be removed is no reason not to start: ids that were lent are no more, or an
/// unpacker whose service was killed has not ended yet.
fn remove_left(path: &Path, unpacker: Option<&Unpacker>) {
    if let Err(error) = unpacker::remove(path, unpacker) {
        tracing::warn!(
            folder = %path.display(), %error,
            "what is left of an image cannot be removed; the next start tries again, but what belongs to ids that the service's user is not lent any more only root can remove"
        );
    }
}

/// Sets a file's time to now.
fn touch(path: &Path) -> io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_unpacker_can_remove_either_is_no_reason_not_to_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A way there that nobody goes.
        std::os::unix::fs::symlink("/proc/self", folder.path().join("elsewhere")).expect("linked");
        let unpacker = Unpacker {
            program: "/bin/sh".into(),
            arguments: vec![
                "-c".to_owned(),
                r#"cat > /dev/null; echo '{"Err":[1,{"io":"Permission denied (os error 13)"}]}'"#.to_owned(),
            ],
            ids: "lent1".to_owned(),
        };

        let refused = unpacker.remove(&folder.path().join("x")).expect_err("refused");
        remove_left(&folder.path().join("elsewhere/fd"), Some(&unpacker));

        assert_eq!(refused.to_string(), "Permission denied (os error 13)", "said once, and of removing");
        assert!(Keep::open(folder.path(), Owner::Own, Some(unpacker)).is_ok());
    }
}

//! Images as the rest of the service sees them: a reference becomes a digest, a digest becomes a folder.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::keep::{Keep, KeptImage, Partial, UnpackedImage};
use crate::manifest::{self, Config, Document, Manifest};
use crate::options::ImageOptions;
use crate::reference::ImageReference;
use crate::registry::{Registry, Served};
use crate::unpack::{Layer, Problem, Unpacked, unpack};

/// Pieces of a layer that wait to be unpacked: a few hundred kilobytes, so that neither side waits for each one.
const WAITING_PIECES: usize = 32;

/// Pulls images and keeps them. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    options: ImageOptions,
    registry: Registry,
    keep: Arc<Keep>,
    /// Who pulls what, so that two who want the same image pull it once.
    pulls: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// What a reference stands for at one time, on this kind of machine.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The reference, complete.
    pub reference: ImageReference,
    /// The digest of this machine's image.
    pub digest: Digest,
    /// The manifest, where the way to the digest led past it.
    manifest: Option<Manifest>,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The layer that arrives, from 1.
    pub layer: usize,
    /// How many there are.
    pub layers: usize,
    /// Bytes of all layers that have come.
    pub received_bytes: u64,
    /// Bytes of all layers.
    pub total_bytes: u64,
}

impl Images {
    /// Takes the cache's folder and removes what a crash left in it. Reads and removes files, so call it where blocking
    /// is fine.
    ///
    /// # Errors
    /// When another process uses the folder, it cannot be written, or TLS cannot be set up.
    pub fn open(options: ImageOptions) -> Result<Self, ImageError> {
        let registry = Registry::new(&options)?;
        let keep = Arc::new(Keep::open(&options.folder, options.owner, options.unpacker.clone())?);
        Ok(Self { inner: Arc::new(Inner { options, registry, keep, pulls: Mutex::default() }) })
    }

    /// Asks the registry what the reference stands for now. One with a digest that is in the cache is not asked for.
    ///
    /// # Errors
    /// When the registry cannot be asked, knows no such image, or has none for this machine.
    pub async fn resolve(&self, reference: &ImageReference) -> Result<ResolvedImage, ImageError> {
        if let Some(digest) = reference.digest()
            && self.inner.keep.destination(digest).is_dir()
        {
            return Ok(ResolvedImage { reference: reference.clone(), digest: digest.clone(), manifest: None });
        }
        let within = self.inner.options.pull_within;
        let late = |_| ImageError::Late { image: reference.to_string(), within };
        timeout(within, self.inner.resolve(reference)).await.map_err(late)?
    }

    /// The image, from the cache or pulled. Two calls for the same image pull it once. Dropping the future ends the
    /// pull and leaves nothing behind.
    ///
    /// # Errors
    /// When it cannot be pulled, is not what was promised, or cannot be unpacked safely. Nothing is kept of it then.
    pub async fn ensure(
        &self,
        image: &ResolvedImage,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<UnpackedImage, ImageError> {
        if let Some(found) = self.find(&image.digest).await? {
            return Ok(found);
        }
        let pull = self.inner.pull_of(&image.digest);
        let _alone = pull.lock().await;
        if let Some(found) = self.find(&image.digest).await? {
            return Ok(found);
        }
        self.inner.pull(image, &progress).await?;
        let gone = || ImageError::invalid(&image.reference, "it was removed while it was pulled; try again");
        self.find(&image.digest).await?.ok_or_else(gone)
    }

    /// Where the files of an image are, once it is in the cache.
    #[must_use]
    pub fn root_of(&self, digest: &Digest) -> std::path::PathBuf {
        self.inner.keep.destination(digest).join(crate::keep::ROOT)
    }

    /// What is in the cache: for a disk budget. Blocks for a moment.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<KeptImage>, ImageError> {
        self.inner.keep.list()
    }

    /// Removes an image, unless an [`UnpackedImage`] of it is around. `false` when it stayed, or was not there.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub async fn remove(&self, digest: &Digest) -> Result<bool, ImageError> {
        let (keep, digest) = (self.inner.keep.clone(), digest.clone());
        blocking(move || {
            let taken = keep.take_out(&digest)?;
            // Each is tried, whatever comes of the others. What stays is tried again at the next start.
            let removed: Vec<io::Result<()>> = taken.iter().map(|path| keep.remove(path)).collect();
            removed.into_iter().collect::<io::Result<()>>().map_err(ImageError::io("remove an image"))?;
            Ok(!taken.is_empty())
        })
        .await
    }

    async fn find(&self, digest: &Digest) -> Result<Option<UnpackedImage>, ImageError> {
        let (keep, digest) = (self.inner.keep.clone(), digest.clone());
        blocking(move || keep.find(&digest)).await
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Images").field("folder", &self.inner.options.folder).finish_non_exhaustive()
    }
}

/// Runs what blocks where that is fine.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    spawn_blocking(work).await.expect("work on files does not panic, and is not aborted")
}

impl Inner {
    async fn resolve(&self, reference: &ImageReference) -> Result<ResolvedImage, ImageError> {
        let served = self.registry.manifest(reference, reference.selector()).await?;
        let offers = match read(reference, &served)? {
            Document::Manifest(manifest) => {
                // A pinned one was checked against its name, which may be of the longer kind.
                let digest = reference.digest().cloned().unwrap_or_else(|| Digest::of(&served.bytes));
                return Ok(ResolvedImage { reference: reference.clone(), digest, manifest: Some(manifest) });
            }
            Document::Index(offers) => offers,
        };
        let wanted = &self.options.platform;
        let fitting = offers.iter().filter_map(|(offered, digest)| Some((wanted.fits(offered)?, digest)));
        match fitting.min_by_key(|(fit, _)| *fit) {
            Some((_, digest)) => {
                Ok(ResolvedImage { reference: reference.clone(), digest: digest.clone(), manifest: None })
            }
            None => Err(ImageError::WrongPlatform {
                image: reference.to_string(),
                found: shown_offers(&offers),
                wanted: wanted.to_string(),
            }),
        }
    }

    /// The lock that whoever pulls this image holds.
    fn pull_of(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, pull| pull.strong_count() > 0);
        if let Some(pull) = pulls.get(digest).and_then(Weak::upgrade) {
            return pull;
        }
        let pull = Arc::new(tokio::sync::Mutex::new(()));
        pulls.insert(digest.clone(), Arc::downgrade(&pull));
        pull
    }

    async fn pull(&self, image: &ResolvedImage, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<(), ImageError> {
        let within = self.options.pull_within;
        let reference = &image.reference;
        let late = |_| ImageError::Late { image: reference.to_string(), within };
        let begun = tokio::time::Instant::now();
        let asked = timeout(within, self.ask(image)).await.map_err(late)?;
        let (manifest, config_bytes, config) = asked?;

        let (feeds, mut fed) = mpsc::channel::<Layer>(1);
        let keep = self.keep.clone();
        let partial = blocking(move || keep.begin()).await?;
        let work = Work {
            partial,
            options: self.options.clone(),
            keep: self.keep.clone(),
            image: image.clone(),
            config: config_bytes,
            layers: manifest.layers.len(),
        };
        let unpacking = spawn_blocking(move || work.run(|| fed.blocking_recv()));
        let sending = self.send_layers(reference, &manifest, &config, feeds, progress);
        let sent = timeout(within.saturating_sub(begun.elapsed()), sending).await.map_err(late);
        // The sending side is closed now, so this ends soon, whatever became of it.
        let unpacked = unpacking.await.map_err(|_| ImageError::invalid(reference, "unpacking it broke off"))?;
        // What the download says explains why the unpacking ended early, unless it was the unpacking that was at fault:
        // then the download just stopped.
        sent??;
        unpacked
    }

    /// What is to be pulled, checked for what can be checked before.
    async fn ask(&self, image: &ResolvedImage) -> Result<(Manifest, Vec<u8>, Config), ImageError> {
        let reference = &image.reference;
        let manifest = match &image.manifest {
            Some(manifest) => manifest.clone(),
            None => {
                let served = self.registry.manifest(reference, image.digest.as_str()).await?;
                match read(reference, &served)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => {
                        return Err(ImageError::invalid(reference, "its index leads to an index, and not to an image"));
                    }
                }
            }
        };
        let limits = &self.options.limits;
        let too_large =
            |what: String, limit: String| ImageError::TooLarge { image: reference.to_string(), what, limit };
        if manifest.layers.len() > limits.layers {
            return Err(too_large(format!("{} layers", manifest.layers.len()), limits.layers.to_string()));
        }
        let total = total_bytes(&manifest);
        if total > limits.compressed_bytes {
            return Err(too_large(
                format!("{total} bytes in its layers"),
                format!("{} bytes", limits.compressed_bytes),
            ));
        }
        let bytes = self.registry.small_blob(reference, &manifest.config).await?;
        let config = manifest::read_config(&bytes).map_err(|problem| ImageError::invalid(reference, problem))?;
        if config.diff_ids.len() != manifest.layers.len() {
            return Err(ImageError::invalid(reference, "its config and its manifest differ in how many layers it has"));
        }
        if self.options.platform.fits(&config.platform).is_none() {
            return Err(ImageError::WrongPlatform {
                image: reference.to_string(),
                found: config.platform.to_string(),
                wanted: self.options.platform.to_string(),
            });
        }
        Ok((manifest, bytes, config))
    }

    /// Downloads one layer after the other into what unpacks them.
    async fn send_layers(
        &self,
        reference: &ImageReference,
        manifest: &Manifest,
        config: &Config,
        feeds: mpsc::Sender<Layer>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), ImageError> {
        let (received, layer) = (AtomicU64::new(0), AtomicUsize::new(0));
        let (layers, total_bytes) = (manifest.layers.len(), total_bytes(manifest));
        let arrived = |bytes: u64| {
            let received_bytes = received.fetch_add(bytes, Ordering::Relaxed) + bytes;
            progress(Progress { layer: layer.load(Ordering::Relaxed), layers, received_bytes, total_bytes });
        };
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            layer.fetch_add(1, Ordering::Relaxed);
            let (to, pieces) = mpsc::channel::<Bytes>(WAITING_PIECES);
            let feed = Layer { descriptor: descriptor.clone(), diff_id: diff_id.clone(), pieces };
            if feeds.send(feed).await.is_err() {
                return Ok(());
            }
            self.registry.blob(reference, descriptor, &to, &arrived).await?;
        }
        Ok(())
    }
}

fn total_bytes(manifest: &Manifest) -> u64 {
    manifest.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size_bytes))
}

fn read(reference: &ImageReference, served: &Served) -> Result<Document, ImageError> {
    let read = manifest::read(&served.bytes, served.content_type.as_deref());
    read.map_err(|problem| ImageError::invalid(reference, problem))
}

/// The platforms of an index, a few of them.
fn shown_offers(offers: &[(crate::platform::Platform, Digest)]) -> String {
    let shown: Vec<String> = offers.iter().take(8).map(|(platform, _)| platform.to_string()).collect();
    if shown.is_empty() { "no machine at all".to_owned() } else { shown.join(", ") }
}

/// The part of a pull that blocks.
struct Work {
    partial: Partial,
    options: ImageOptions,
    keep: Arc<Keep>,
    image: ResolvedImage,
    config: Vec<u8>,
    layers: usize,
}

impl Work {
    /// Unpacks layers as they come, and keeps the image when all of them came and are right.
    fn run(self, mut next: impl FnMut() -> Option<Layer>) -> Result<(), ImageError> {
        let mut came = 0;
        let next = || {
            let layer = next();
            came += usize::from(layer.is_some());
            layer
        };
        let (owner, limits) = (self.options.owner, self.options.limits);
        let unpacked = match &self.options.unpacker {
            Some(unpacker) => unpacker.unpack(&self.partial.root(), owner, limits, next),
            None => unpack(&self.partial.root(), owner, limits, next),
        };
        let unpacked = unpacked.map_err(|(layer, problem)| self.error(layer, problem))?;
        if came < self.layers {
            return Err(ImageError::invalid(&self.image.reference, "its download broke off"));
        }
        self.finish(&unpacked)
    }

    fn finish(self, unpacked: &Unpacked) -> Result<(), ImageError> {
        let digest = &self.image.digest;
        let to = self.keep.destination(digest);
        self.partial.finish(&to, digest, &self.image.reference.to_string(), &self.config, unpacked)
    }

    fn error(&self, layer: usize, problem: Problem) -> ImageError {
        let image = self.image.reference.to_string();
        match problem {
            Problem::TooLarge { what, limit } => ImageError::TooLarge { image, what: what.into_owned(), limit },
            Problem::Bad(problem) => ImageError::Layer { image, layer, problem },
            Problem::Io { what, source } => ImageError::Io { what, source },
        }
    }
}

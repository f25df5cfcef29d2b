//! Images, pulled and unpacked: from a registry of ours that misbehaves as it is told, and from Debian's, with images
//! that Debian's tools made.

mod fake;
mod hostile;
mod layers;
mod limits;
mod pull;
mod real;
mod tars;
mod tree;
mod unhappy;
mod unpacker;

use std::path::Path;

use carrel_image::{ImageError, ImageOptions, ImageReference, Images, Owner, UnpackedImage};

/// Whether files can be given to others here.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Options for a registry on loopback, in a hurry.
fn options(folder: &Path, registry: &str) -> ImageOptions {
    let mut options = ImageOptions::new(folder, Owner::Own);
    options.plain_http = vec![registry.to_owned()];
    options.first_pause = std::time::Duration::from_millis(1);
    options
}

fn reference(text: &str) -> ImageReference {
    text.parse().expect("a reference")
}

/// Resolves and pulls.
async fn pulled(images: &Images, name: &str) -> Result<UnpackedImage, ImageError> {
    let resolved = images.resolve(&reference(name)).await?;
    images.ensure(&resolved, |_| {}).await
}

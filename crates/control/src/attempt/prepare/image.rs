//! The image that a recipe names: pulled and kept by its digest, or, where its registry does not answer, as it was before.

use std::time::Instant;

use carrel_domain::{EventBody, Image, Recipe};
use carrel_image::{Digest, ImageError, ImageReference, Progress, ResolvedImage};
use tokio::sync::mpsc;

use super::folder;
use crate::attempt::{Halt, Site};

/// Settles which image it is exactly, and makes sure that it is here.
pub(super) async fn settle(site: &Site<'_>, recipe: &mut Recipe) -> Result<(), Halt> {
    match recipe.image.clone() {
        Image::Host => Ok(()),
        Image::Folder(path) => {
            let root = site.control.image_folder(&path)?;
            let state = tokio::task::spawn_blocking(move || folder::state(&root)).await;
            let state = state.map_err(Halt::failed)?;
            let state = state.map_err(|error| Halt::failed(format!("cannot look into the image `{path}`: {error}")))?;
            recipe.digest = Some(state);
            Ok(())
        }
        Image::Oci(reference) => pull(site, &reference, recipe).await,
    }
}

/// Makes sure that the image is unpacked here.
async fn pull(site: &Site<'_>, reference: &str, recipe: &mut Recipe) -> Result<(), Halt> {
    let images = &site.control.inner.images;
    let since = Instant::now();
    let resolved = resolve(site, reference).await?;
    let (progress, mut heard) = mpsc::channel(64);
    let ensure = images.ensure(&resolved, move |step: Progress| {
        // Who does not listen fast enough misses a number, nothing more.
        let _full = progress.try_send(step);
    });
    let tell = async {
        let mut told_tenths = None;
        while let Some(step) = heard.recv().await {
            // Now and then is enough.
            let tenths = step.received_bytes.saturating_mul(10) / step.total_bytes.max(1);
            if told_tenths.replace(tenths) == Some(tenths) {
                continue;
            }
            site.tell(EventBody::Progress { message: arrived(step), duration_ms: None }).await?;
        }
        Ok::<_, Halt>(())
    };
    let (unpacked, told) = tokio::join!(ensure, tell);
    told?;
    let unpacked = unpacked.map_err(|error| Halt::from_image(&error))?;
    site.progress(format!("the image {reference} is there ({})", unpacked.digest), since).await?;
    recipe.image_variables = unpacked.config.env.into_iter().collect();
    recipe.digest = Some(unpacked.digest.to_string());
    Ok(())
}

/// What the reference stands for now; or what it last stood for, where its registry cannot say.
async fn resolve(site: &Site<'_>, reference: &str) -> Result<ResolvedImage, Halt> {
    let images = &site.control.inner.images;
    let named: ImageReference = reference.parse().map_err(Halt::failed)?;
    let error = match images.resolve(&named).await {
        Ok(resolved) => return Ok(resolved),
        Err(error) => error,
    };
    // A registry that says no, or that there is no such image, is heard.
    let is_down =
        matches!(error, ImageError::Unreachable { .. } | ImageError::RateLimited { .. } | ImageError::Late { .. });
    let Some(digest) = (if is_down { kept(site, reference).await? } else { None }) else {
        return Err(Halt::from_image(&error));
    };
    // With its digest in the cache nobody is asked.
    let pinned = format!("{}/{}@{digest}", named.registry(), named.repository());
    let pinned: ImageReference = pinned.parse().map_err(Halt::failed)?;
    let resolved = images.resolve(&pinned).await.map_err(|_| Halt::from_image(&error))?;
    let message = format!("{error}; going on with the image {reference} as it was last time ({digest})");
    site.tell(EventBody::Warning { message }).await?;
    Ok(resolved)
}

/// The digest that the reference last stood for in an attempt of this organization, if that image is still here.
async fn kept(site: &Site<'_>, reference: &str) -> Result<Option<Digest>, Halt> {
    let image = Image::Oci(reference.to_owned());
    let digest = site.store().last_digest(site.organization, &image).await?;
    let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
    Ok(digest.filter(|digest| site.control.inner.images.root_of(digest).is_dir()))
}

/// How far a pull is, for people.
fn arrived(step: Progress) -> String {
    let Progress { layer, layers, received_bytes, total_bytes } = step;
    format!(
        "pulling the image: layer {layer} of {layers}, {} of {} MB",
        received_bytes / 1_000_000,
        total_bytes / 1_000_000
    )
}

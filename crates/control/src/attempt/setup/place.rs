//! What a sandbox is launched with: its root, the layers beneath its own, what is shown in it, and its variables.

use std::collections::BTreeMap;

use carrel_domain::{AttemptId, Image, Recipe, SandboxId, SnapshotId};
use carrel_forge::Mirror;
use carrel_sandbox::{FolderIds, Kit, LayerName, ReadOnlyMount, Root, Sandbox, SandboxError, SandboxSpec};

use super::tools;
use crate::attempt::{Halt, OBJECTS, Site, network};
use crate::trust;

/// The layer that an attempt's files are kept as when it has ended.
pub(crate) fn kept_layer(attempt: AttemptId) -> LayerName {
    format!("attempt-{attempt}").parse().expect("an id is a name")
}

/// The layer of a snapshot.
pub(super) fn snapshot_layer(snapshot: SnapshotId) -> LayerName {
    format!("snapshot-{snapshot}").parse().expect("an id is a name")
}

/// Layers as they were written down.
pub(super) fn layer_names(written: &[String]) -> Result<Vec<LayerName>, Halt> {
    written.iter().map(|name| name.parse().map_err(Halt::failed)).collect()
}

/// The layers beneath a sandbox's own, topmost first: the snapshot, and what makes our certificate authority trusted.
pub(super) async fn beneath(
    site: &Site<'_>,
    recipe: &Recipe,
    snapshot: Option<&LayerName>,
) -> Result<Vec<String>, Halt> {
    let trust = trust::layer(site.control, &root(site, recipe)?).await?;
    Ok(snapshot.into_iter().chain(trust.as_ref()).map(ToString::to_string).collect())
}

/// Launches the site's sandbox.
pub(super) async fn launch(site: &Site<'_>, mirror: &Mirror, recipe: &Recipe) -> Result<Sandbox, SandboxError> {
    let spec = spec(site, site.sandbox, mirror, recipe).await?;
    site.control.inner.sandboxes.launch(spec).await
}

/// Ends every process of the site's sandbox and goes on with its files.
pub(super) async fn restart(site: &Site<'_>, mirror: &Mirror, recipe: &Recipe) -> Result<Sandbox, SandboxError> {
    let spec = spec(site, site.sandbox, mirror, recipe).await?;
    site.control.inner.sandboxes.restart(spec).await
}

pub(super) async fn spec(
    site: &Site<'_>,
    id: SandboxId,
    mirror: &Mirror,
    recipe: &Recipe,
) -> Result<SandboxSpec, SandboxError> {
    let layers = recipe.layers.iter().map(|name| name.parse()).collect::<Result<Vec<LayerName>, _>>()?;
    let root = root(site, recipe)?;
    let trust = trust::files(site.control, &root).await?;
    let objects = ReadOnlyMount { source: mirror.objects(), target: OBJECTS.to_owned() };
    // What the environment says wins over what we say, and that over the image, but for the placeholders, which are all
    // there is to say.
    let mut variables: BTreeMap<String, String> = recipe.image_variables.clone();
    variables.extend(trust.variables);
    for (name, value) in recipe.variables.clone() {
        // In place of ours, memory given to Java would cost it the network.
        let ours = variables.get(&name).filter(|_| name == trust::JAVA_OPTIONS);
        let value = ours.map_or_else(|| value.clone(), |ours| format!("{ours} {value}"));
        variables.insert(name, value);
    }
    let kit = tools::kit(site, recipe).await?.map(|(kit, _)| kit);
    if let Some(kit) = &kit {
        variables.insert("PATH".to_owned(), kit.at_end_of(&tools::path(recipe)));
    }
    variables.extend(network::placeholders(site));
    if let Some(path) = variables.get("PATH").cloned() {
        variables.insert("CARREL_PATH".to_owned(), path);
    }
    let guest = site.guest().and_then(|name| site.control.inner.agents.get(name));
    let guest = guest.into_iter().flat_map(crate::Agent::mounts);
    Ok(SandboxSpec {
        mounts: std::iter::once(objects)
            .chain(trust.mounts)
            .chain(kit.iter().flat_map(Kit::mounts))
            .chain(guest)
            .collect(),
        environment: variables.into_iter().collect(),
        root,
        layers,
        limits: recipe.limits,
        ..SandboxSpec::new(id)
    })
}

/// What the root is made of.
pub(super) fn root(site: &Site<'_>, recipe: &Recipe) -> Result<Root, SandboxError> {
    match (&recipe.image, &recipe.digest) {
        (Image::Host, _) => Ok(Root::Host),
        (Image::Folder(path), _) => Ok(Root::Folder { path: site.control.image_folder(path)?, ids: FolderIds::Plain }),
        (Image::Oci(_), Some(digest)) => {
            let digest = digest
                .parse()
                .map_err(|error: carrel_image::InvalidDigest| SandboxError::Invalid(error.to_string()))?;
            Ok(Root::Folder { path: site.control.inner.images.root_of(&digest), ids: FolderIds::Shifted })
        }
        (Image::Oci(name), None) => Err(SandboxError::Invalid(format!("the image `{name}` was never resolved"))),
    }
}

//! Taking over a snapshot that another worker has built and packed, where that is possible. What goes wrong with it is told,
//! and costs no more than building.

use std::time::Instant;

use carrel_domain::{EventBody, Recipe, SnapshotId};
use carrel_sandbox::LayerName;
use carrel_store::{Artifact, NewSnapshot, Snapshot, StoreError};
use tokio::sync::OwnedRwLockReadGuard;
use uuid::Uuid;

use super::{Found, Wanted, age_if_good, place, words};
use crate::attempt::{Halt, Site};

/// The wanted snapshot, if another worker has packed it and it could be brought here.
pub(super) async fn take_over(site: &Site<'_>, recipe: &Recipe, wanted: &Wanted) -> Result<Option<Found>, Halt> {
    let Some(pack_key) = &wanted.pack_key else { return Ok(None) };
    let (organization, environment, repository) = (site.organization, site.environment.id, site.repository_id);
    let packed = site.store().find_packed(organization, environment, repository, pack_key).await?;
    let Some((theirs, artifact)) = packed else { return Ok(None) };
    let Some(age_s) = age_if_good(site, &theirs) else { return Ok(None) };
    let since = Instant::now();
    let (snapshot, hold) = match bring(site, recipe, wanted, theirs, artifact).await? {
        Ok(brought) => brought,
        Err(reason) => {
            let message =
                format!("another worker has prepared the environment, and it could not be brought here: {reason}");
            site.tell(EventBody::Warning { message }).await?;
            return Ok(None);
        }
    };
    let reason = format!("reusing the environment as another worker prepared it {} ago", words(age_s));
    site.tell(EventBody::SnapshotLookedUp { snapshot_id: Some(snapshot.id), reason }).await?;
    site.progress("brought the prepared environment to this worker".to_owned(), since).await?;
    Ok(Some(Found { snapshot, is_fresh: false, hold }))
}

type Brought = (Snapshot, OwnedRwLockReadGuard<()>);

/// Fetches and unpacks it; or why that is not possible.
async fn bring(
    site: &Site<'_>,
    recipe: &Recipe,
    wanted: &Wanted,
    theirs: Snapshot,
    artifact: Artifact,
) -> Result<Result<Brought, String>, Halt> {
    let file = match site.store().artifact_path(&artifact).await {
        Ok(file) => file,
        Err(error @ StoreError::ArtifactLost { .. }) => {
            // Whoever has the layer packs it anew.
            site.store().forget_pack(theirs.id).await?;
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    let over = place::beneath(site, recipe, None).await?;
    let over: Vec<LayerName> = place::layer_names(&over)?;
    let id = SnapshotId::from_uuid(Uuid::now_v7());
    let layer = place::snapshot_layer(id);
    let sandboxes = &site.control.inner.sandboxes;
    let hold = site.control.hold_layers().await;
    if let Err(error) = sandboxes.unpack_layer(&layer, over, &file).await {
        use std::error::Error as _;
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        return Ok(Err(format!("{error}{cause}")));
    }
    let new = NewSnapshot {
        id,
        organization: theirs.organization,
        environment: theirs.environment,
        repository: theirs.repository,
        key: wanted.key.clone(),
        parts: wanted.parts.clone(),
        layer: layer.to_string(),
        image_digest: theirs.image_digest,
        package_hosts: theirs.package_hosts,
        size_bytes: theirs.size_bytes,
        made_at: Some(theirs.created_at),
        expires_at: theirs.expires_at,
        pack_key: wanted.pack_key.clone(),
        packed: Some(artifact),
    };
    Ok(Ok((site.store().insert_snapshot(new).await?, hold)))
}

//! Finding the snapshot an attempt stands on, or building it: once, however many attempts need it.

use std::time::Instant;

use carrel_domain::{EventBody, Recipe};
use carrel_forge::Mirror;
use carrel_store::Snapshot;
use tokio::sync::OwnedRwLockReadGuard;

use super::{build, key, place, tools};
use crate::attempt::{Halt, Site};

/// A snapshot to stand on.
pub(super) struct Found {
    pub(super) snapshot: Snapshot,
    /// Whether it was built just now, by this attempt.
    pub(super) is_fresh: bool,
    /// Its layer stays as long as this does: it is held until a sandbox stands on it.
    pub(super) hold: OwnedRwLockReadGuard<()>,
}

/// The snapshot of the environment and the repository as the recipe settles them.
pub(super) async fn find_or_build(site: &Site<'_>, mirror: &Mirror, recipe: &Recipe) -> Result<Found, Halt> {
    let kit = tools::kit(site, recipe).await?.map(|(kit, _)| kit.digest());
    let parts = key::parts(site, recipe, &build::lock_files(mirror, recipe).await?, kit.as_deref());
    let wanted = key::key(&parts);
    if let Some(found) = find(site, &wanted, "").await? {
        return Ok(found);
    }
    // What others build is not ours, however alike it is.
    let ours = format!("{} {} {} {wanted}", site.organization, site.environment.id, site.repository_id);
    let builds = site.control.builds.of(&ours);
    let _turn = match builds.try_lock() {
        Ok(turn) => turn,
        Err(_) => {
            let message = "another attempt is preparing the same environment; waiting for it".to_owned();
            site.tell(EventBody::Progress { message, duration_ms: None }).await?;
            builds.lock().await
        }
    };
    if let Some(found) = find(site, &wanted, "; another attempt has just built it").await? {
        return Ok(found);
    }
    let reason = why_not(site, &wanted, &parts).await?;
    site.tell(EventBody::SnapshotLookedUp { snapshot_id: None, reason }).await?;
    let since = Instant::now();
    let (snapshot, hold) = Box::pin(build::build(site, mirror, recipe, wanted, parts)).await?;
    let event =
        EventBody::SnapshotKept { snapshot_id: Some(snapshot.id), size_bytes: snapshot.size_bytes, reason: None };
    site.tell(event).await?;
    site.progress("prepared the environment and kept it for the attempts to come".to_owned(), since).await?;
    Ok(Found { snapshot, is_fresh: true, hold })
}

/// A snapshot that is good still, and whose layer is there.
async fn find(site: &Site<'_>, wanted: &str, how: &str) -> Result<Option<Found>, Halt> {
    let (organization, repository) = (site.organization, site.repository_id);
    let found = site.store().find_snapshot(organization, site.environment.id, repository, wanted).await?;
    let Some(snapshot) = found else { return Ok(None) };
    // What counts is how long the environment lets it be reused now.
    let age = site.control.inner.clock.now().duration_since(snapshot.created_at);
    if age.as_secs() >= i64::from(site.environment.spec.snapshot_life_s) {
        return Ok(None);
    }
    let layer = place::snapshot_layer(snapshot.id);
    let hold = site.control.hold_layers().await;
    if !site.control.inner.sandboxes.layers().await?.iter().any(|known| known.name == layer) {
        site.store().delete_snapshot(organization, snapshot.id).await?;
        return Ok(None);
    }
    site.store().touch_snapshot(organization, snapshot.id).await?;
    let reason = format!("reusing the environment as it was prepared {} ago{how}", words(age.as_secs()));
    site.tell(EventBody::SnapshotLookedUp { snapshot_id: Some(snapshot.id), reason }).await?;
    Ok(Some(Found { snapshot, is_fresh: false, hold }))
}

/// Why nothing could be reused, for people. What has the very same parts counts before what was built last.
async fn why_not(site: &Site<'_>, wanted: &str, parts: &key::Parts) -> Result<String, Halt> {
    let (organization, environment, repository) = (site.organization, site.environment.id, site.repository_id);
    let same = site.store().latest_snapshot_with(organization, environment, repository, wanted).await?;
    let latest = match same {
        Some(same) => Some(same),
        None => site.store().latest_snapshot(organization, environment, repository).await?,
    };
    let because = match latest {
        None => "nothing is kept for this environment and repository".to_owned(),
        Some(latest) => {
            let changed = key::changed(&latest.parts, parts);
            if !changed.is_empty() {
                format!("since it was last prepared there is another {}", changed.join(", another "))
            } else if latest.was_reset {
                "its cache was reset".to_owned()
            } else {
                let age = site.control.inner.clock.now().duration_since(latest.created_at);
                format!("what was prepared {} ago is no longer good", words(age.as_secs()))
            }
        }
    };
    Ok(format!("preparing the environment: {because}"))
}

/// A time span for people.
fn words(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

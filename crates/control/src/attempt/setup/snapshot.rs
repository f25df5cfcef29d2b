//! Finding the snapshot an attempt stands on, or building it: once, however many attempts need it.

mod packed;

use std::time::Instant;

use carrel_domain::{EventBody, Image, Recipe};
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

/// What is looked for, or built.
pub(super) struct Wanted {
    /// All that it is made from, as one hash.
    pub(super) key: String,
    /// The same part by part.
    pub(super) parts: key::Parts,
    /// By what other workers find it; nothing where none could use it.
    pub(super) pack_key: Option<String>,
}

impl Wanted {
    async fn of(site: &Site<'_>, mirror: &Mirror, recipe: &Recipe) -> Result<Self, Halt> {
        let kit = tools::kit(site, recipe).await?.map(|(kit, _)| kit.digest());
        let parts = key::parts(site, recipe, &build::lock_files(mirror, recipe).await?, kit.as_deref());
        // What lies beneath is the same on each machine only where it came from a registry.
        let is_same_elsewhere = recipe.digest.is_some() && matches!(recipe.image, Image::Oci(_));
        let pack_key = (is_same_elsewhere && site.store().shares_artifacts())
            .then(|| key::pack_key(&parts, &site.control.inner.sandboxes.packed_for()));
        Ok(Self { key: key::key(&parts), parts, pack_key })
    }
}

/// The snapshot of the environment and the repository as the recipe settles them.
pub(super) async fn find_or_build(site: &Site<'_>, mirror: &Mirror, recipe: &Recipe) -> Result<Found, Halt> {
    let wanted = Wanted::of(site, mirror, recipe).await?;
    if let Some(found) = find(site, &wanted.key, "").await? {
        return Ok(found);
    }
    // What others build is not ours, however alike it is.
    let ours = format!("{} {} {} {}", site.organization, site.environment.id, site.repository_id, wanted.key);
    let builds = site.control.builds.of(&ours);
    let _turn = match builds.try_lock() {
        Ok(turn) => turn,
        Err(_) => {
            let message = "another attempt is preparing the same environment; waiting for it".to_owned();
            site.tell(EventBody::Progress { message, duration_ms: None }).await?;
            builds.lock().await
        }
    };
    if let Some(found) = find(site, &wanted.key, "; another attempt has just built it").await? {
        return Ok(found);
    }
    if let Some(found) = packed::take_over(site, recipe, &wanted).await? {
        return Ok(found);
    }
    let reason = why_not(site, &wanted.key, &wanted.parts).await?;
    site.tell(EventBody::SnapshotLookedUp { snapshot_id: None, reason }).await?;
    let since = Instant::now();
    let (snapshot, hold) = Box::pin(build::build(site, mirror, recipe, wanted)).await?;
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
    let Some(age_s) = age_if_good(site, &snapshot) else { return Ok(None) };
    let layer = place::snapshot_layer(snapshot.id);
    let hold = site.control.hold_layers().await;
    if !site.control.inner.sandboxes.layers().await?.iter().any(|known| known.name == layer) {
        site.store().delete_snapshot(organization, snapshot.id).await?;
        return Ok(None);
    }
    site.store().touch_snapshot(organization, snapshot.id).await?;
    let reason = format!("reusing the environment as it was prepared {} ago{how}", words(age_s));
    site.tell(EventBody::SnapshotLookedUp { snapshot_id: Some(snapshot.id), reason }).await?;
    Ok(Some(Found { snapshot, is_fresh: false, hold }))
}

/// How many seconds ago it was made, if the environment lets it be reused as it is now.
fn age_if_good(site: &Site<'_>, snapshot: &Snapshot) -> Option<i64> {
    let age_s = site.control.inner.clock.now().duration_since(snapshot.created_at).as_secs();
    (age_s < i64::from(site.environment.spec.snapshot_life_s)).then_some(age_s)
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

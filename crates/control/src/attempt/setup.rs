//! Setting up: the sandbox stands on a prepared snapshot (found, or built here once for everybody who waits for it), or
//! on the files of the attempt it goes on from; the commit is checked out; the maintenance script has run.
//!
//! Entered again after a crash it begins with a new sandbox: nothing of worth is in the old one yet.

mod build;
mod checkout;
mod key;
mod place;
mod script;
mod snapshot;

use std::time::{Duration, Instant};

use carrel_domain::{EventBody, Recipe, Revision, SecretKind};
use carrel_egress::Phase;
use carrel_forge::{Base, Mirror};
use carrel_sandbox::{LayerName, Sandbox, SandboxError};

use super::network;
use super::{Halt, Scene, Site, Step, prepare};
use carrel_domain::AttemptState;
pub(crate) use place::kept_layer;
use script::Script;

pub(super) async fn set_up(scene: &Scene<'_>) -> Result<Step, Halt> {
    let mut recipe = scene.recipe().await?;
    let base = scene.base()?;
    let mirror = scene.control.inner.forge.mirror(scene.thread.task.repository_id);
    scene.control.inner.sandboxes.destroy(scene.attempt.id.sandbox()).await?;
    if follow_on(scene, &mirror, &mut recipe).await? {
        return Ok(Step::to(AttemptState::Running));
    }
    let (sandbox, is_fresh) = on_a_snapshot(scene, &mirror, &mut recipe).await?;
    let since = Instant::now();
    checkout::check_out(scene, &sandbox, &base).await?;
    scene.progress(format!("checked out the commit at {}", scene.workspace()), since).await?;
    checkout::put_on_top(scene, &sandbox).await?;
    if !is_fresh {
        maintain(scene, &sandbox, &recipe, &mirror).await?;
    }
    Ok(Step::to(AttemptState::Running))
}

/// Prepares the site's sandbox for somebody who tries the environment, from the repository to the maintenance script, as
/// it would be for an attempt on the default branch.
pub(crate) async fn try_out(site: &Site<'_>) -> Result<(Sandbox, Recipe), Halt> {
    let since = Instant::now();
    let mirror = site.control.inner.forge.fetch(site.repository_id, site.repository).await?;
    let base = mirror.resolve(&Revision::DefaultBranch).await?;
    site.progress(format!("fetched the repository at commit {}", base.commit.short()), since).await?;
    let mut recipe = prepare::settle(site, &mirror, &base.commit).await?;
    let (sandbox, is_fresh) = on_a_snapshot(site, &mirror, &mut recipe).await?;
    checkout::check_out(site, &sandbox, &base).await?;
    if !is_fresh {
        maintain(site, &sandbox, &recipe, &mirror).await?;
    }
    // The maintenance script may have needed the sandbox to be started anew.
    Ok((site.control.inner.sandboxes.attach(site.sandbox).await?, recipe))
}

/// Starts on the files that the attempt this one goes on from has left, if they are still kept.
async fn follow_on(scene: &Scene<'_>, mirror: &Mirror, recipe: &mut Recipe) -> Result<bool, Halt> {
    let Some(from) = scene.turn.from_attempt else { return Ok(false) };
    let Some(before) = scene.store().recipe(scene.attempt.organization, from).await? else { return Ok(false) };
    let since = Instant::now();
    let own = kept_layer(from);
    let there = scene.control.inner.sandboxes.layers().await?;
    let is_there = |layer: &LayerName| there.iter().any(|known| known.name == *layer);
    // A question leaves no files of its own: it was asked on those beneath.
    let own = is_there(&own).then(|| own.to_string());
    let asked = scene.thread.attempt(from).is_some_and(|(turn, _)| turn.mode == carrel_domain::Mode::Ask);
    let beneath: Vec<LayerName> = place::layer_names(&before.layers)?;
    if (own.is_none() && !asked) || before.layers.is_empty() || !beneath.iter().all(is_there) {
        let message = "the files of the attempt before are no longer kept: starting from the base commit, with its changes \
                       put on top";
        scene.tell(EventBody::Warning { message: message.to_owned() }).await?;
        return Ok(false);
    }
    if (&recipe.image, &recipe.digest) != (&before.image, &before.digest) {
        let message = "the environment has another image now: starting from the base commit, with the changes of the attempt \
                       before put on top";
        scene.tell(EventBody::Warning { message: message.to_owned() }).await?;
        return Ok(false);
    }
    let layers = own.into_iter().chain(before.layers.iter().cloned()).collect();
    let (snapshot, package_hosts) = (before.snapshot, before.package_hosts);
    let settled = Recipe { layers, snapshot, package_hosts, ..recipe.clone() };
    match place::launch(scene, mirror, &settled).await {
        Ok(_) => {}
        Err(SandboxError::NoSuchLayer(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    *recipe = settled;
    scene.store().pin_recipe(scene.attempt, recipe).await?;
    scene.progress("launched the sandbox on the files of the attempt before".to_owned(), since).await?;
    Ok(true)
}

/// Launches the sandbox on a snapshot; whether that was built just now for this very attempt.
async fn on_a_snapshot(site: &Site<'_>, mirror: &Mirror, recipe: &mut Recipe) -> Result<(Sandbox, bool), Halt> {
    loop {
        let found = snapshot::find_or_build(site, mirror, recipe).await?;
        let since = Instant::now();
        recipe.snapshot = Some(found.snapshot.id);
        let layer = found.snapshot.layer.parse().map_err(Halt::failed)?;
        recipe.layers = place::beneath(site, recipe, Some(&layer)).await?;
        recipe.package_hosts.clone_from(&found.snapshot.package_hosts);
        site.pin(recipe).await?;
        match place::launch(site, mirror, recipe).await {
            Ok(sandbox) => {
                site.progress("launched the sandbox".to_owned(), since).await?;
                return Ok((sandbox, found.is_fresh));
            }
            // It was collected a moment ago; its row leads nowhere now.
            Err(SandboxError::NoSuchLayer(_)) => {
                site.store().delete_snapshot(site.organization, found.snapshot.id).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs the maintenance script, and makes sure that no setup secret stays behind.
async fn maintain(site: &Site<'_>, sandbox: &Sandbox, recipe: &Recipe, mirror: &Mirror) -> Result<(), Halt> {
    let Some(text) = &recipe.maintenance_script else { return Ok(()) };
    let secrets = build::setup_secrets(site).await?;
    let script = Script {
        what: "maintenance",
        number: 1,
        shown: "maintenance script".to_owned(),
        text,
        directory: site.workspace(),
        secrets: &secrets,
        limit: Duration::from_secs(recipe.limits.setup_s.into()),
        output_bytes: recipe.limits.output_bytes,
    };
    let packages = &recipe.package_hosts;
    let work = Box::pin(script::run(site, sandbox, script));
    network::during(site, sandbox, Phase::Setup, packages, work).await??;
    sandbox.kill_all().await?;
    if site.environment.spec.secrets(SecretKind::Setup).next().is_none() {
        return Ok(());
    }
    if let Some(leak) = build::leak(site, site.sandbox, &secrets).await? {
        return Err(Halt::failed(format!("the maintenance script {leak}")));
    }
    // What its processes left in memory goes with them.
    place::restart(site, mirror, recipe).await?;
    Ok(())
}

/// The commit the attempt starts from, and the branch it is on.
impl Scene<'_> {
    fn base(&self) -> Result<Base, Halt> {
        let commit = self.attempt.base.clone().ok_or_else(|| Halt::failed("the attempt has no base commit"))?;
        Ok(Base { commit, branch: self.branch() })
    }
}

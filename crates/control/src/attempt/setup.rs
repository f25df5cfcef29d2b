//! Setting up: the sandbox stands on a prepared snapshot (found, or built here once for everybody who waits for it), or
//! on the files of the attempt it goes on from; the commit is checked out; the maintenance script has run.
//!
//! Entered again after a crash it begins with a new sandbox: nothing of worth is in the old one yet.

pub(crate) mod attachments;
mod build;
mod checkout;
mod key;
mod place;
mod script;
mod snapshot;
mod tools;

use std::time::{Duration, Instant};

use carrel_domain::{EventBody, Recipe, Revision, SecretKind};
use carrel_egress::Phase;
use carrel_forge::{Base, Mirror};
use carrel_sandbox::{FactState, LayerName, Sandbox, SandboxError};

use super::{Halt, Scene, Site, Step, limits, network, prepare};
use carrel_domain::AttemptState;
pub(crate) use place::kept_layer;
use script::Script;

/// How many kept layers a follow-up stands on at most: what a sandbox takes, less some for those of other kinds.
const DEEPEST: usize = 90;

/// Told where a follow-up cannot start on files.
const NO_LONGER_KEPT: &str = "the files of the attempt before are no longer kept: starting from the base commit, with its \
                              changes put on top";

pub(super) async fn set_up(scene: &Scene<'_>) -> Result<Step, Halt> {
    let mut recipe = scene.recipe().await?;
    let base = scene.base()?;
    let mirror = scene.control.inner.forge.mirror(scene.thread.task.repository_id);
    scene.control.inner.sandboxes.destroy(scene.attempt.id.sandbox()).await?;
    warn_of_limits(scene, &recipe).await?;
    if let Some(sandbox) = follow_on(scene, &mirror, &mut recipe).await? {
        attachments::put(scene, &sandbox).await?;
        return Ok(Step::to(AttemptState::Running));
    }
    if scene.attempt.retry.is_some_and(|retry| retry.resumes) {
        // Its conversation tells of files: without them it would go on from what is not there.
        return Err(Halt::failed(
            "the files of the attempt that was to be resumed are not kept any more; retry it without resuming",
        ));
    }
    let (sandbox, is_fresh) = on_a_snapshot(scene, &mirror, &mut recipe).await?;
    let since = Instant::now();
    checkout::move_to(scene, &sandbox, &base).await?;
    scene.progress(format!("checked out the commit at {}", scene.workspace()), since).await?;
    // Before the agent's earlier changes are there: what it wrote must not run with the secrets and the network of setup.
    let sandbox = if is_fresh { sandbox } else { maintain(scene, sandbox, &recipe, &mirror, &base).await? };
    checkout::put_on_top(scene, &sandbox).await?;
    super::collect::note_before(scene, &sandbox).await?;
    attachments::put(scene, &sandbox).await?;
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
    checkout::move_to(site, &sandbox, &base).await?;
    let sandbox = if is_fresh { sandbox } else { maintain(site, sandbox, &recipe, &mirror, &base).await? };
    Ok((sandbox, recipe))
}

/// Tells of the limits that this machine does not let be enforced: who set them must not believe in them.
async fn warn_of_limits(site: &Site<'_>, recipe: &Recipe) -> Result<(), Halt> {
    let limits = &recipe.limits;
    let most = site.control.inner.limits.agent.wall_clock;
    if let Some(wanted) = limits.wall_clock_s.filter(|wanted| u64::from(*wanted) > most.as_secs()) {
        let message = format!(
            "the environment gives an attempt {wanted} s, and the service no more than {} s: an administrator raises that \
             with CARREL_MAX_ATTEMPT_SECONDS",
            most.as_secs()
        );
        site.tell(EventBody::Warning { message }).await?;
    }
    for fact in site.control.inner.sandboxes.facts() {
        let is_set = match fact.name.as_str() {
            "limit of processor time" => limits.cpu_millis.is_some(),
            "limit of memory" => limits.memory_bytes.is_some(),
            "limit of processes" => true,
            _ => false,
        };
        if is_set && fact.state != FactState::Ok {
            let message = format!(
                "the environment's {} is not enforced here: {} (`carrel doctor` says more)",
                fact.name, fact.words
            );
            site.tell(EventBody::Warning { message }).await?;
        }
    }
    Ok(())
}

/// Starts on the files that the attempt this one goes on from has left, if they are still kept.
async fn follow_on(scene: &Scene<'_>, mirror: &Mirror, recipe: &mut Recipe) -> Result<Option<Sandbox>, Halt> {
    let Some(from) = scene.goes_on_from() else { return Ok(None) };
    let Some(before) = scene.store().recipe(scene.attempt.organization, from).await? else { return Ok(None) };
    let since = Instant::now();
    let own = kept_layer(from);
    let asked = scene.thread.attempt(from).is_some_and(|(turn, _)| turn.mode == carrel_domain::Mode::Ask);
    if !asked {
        // Its end is told before its files are kept, and this may have begun in between.
        match scene.control.inner.sandboxes.keep(from.sandbox(), &own).await {
            Ok(()) | Err(SandboxError::Gone(_) | SandboxError::LayerExists(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let _hold = scene.control.hold_layers().await;
    let there = scene.control.inner.sandboxes.layers().await?;
    let is_there = |layer: &LayerName| there.iter().any(|known| known.name == *layer);
    // A question leaves no files of its own: it was asked on those beneath.
    let own = is_there(&own).then(|| own.to_string());
    let beneath: Vec<LayerName> = place::layer_names(&before.layers)?;
    if (own.is_none() && !asked) || before.layers.is_empty() || !beneath.iter().all(is_there) {
        scene.tell(EventBody::Warning { message: NO_LONGER_KEPT.to_owned() }).await?;
        return Ok(None);
    }
    if (&recipe.image, &recipe.digest) != (&before.image, &before.digest) {
        let message = "the environment has another image now: starting from the base commit, with the changes of the attempt \
                       before put on top";
        scene.tell(EventBody::Warning { message: message.to_owned() }).await?;
        return Ok(None);
    }
    let layers: Vec<String> = own.into_iter().chain(before.layers.iter().cloned()).collect();
    if layers.len() > DEEPEST {
        let message = format!(
            "{} kept layers lie beneath, which is as deep as it goes: starting from the base commit, with the changes of the \
             attempt before put on top",
            layers.len()
        );
        scene.tell(EventBody::Warning { message }).await?;
        return Ok(None);
    }
    let (snapshot, package_hosts) = (before.snapshot, before.package_hosts);
    let settled = Recipe { layers, snapshot, package_hosts, ..recipe.clone() };
    let sandbox = match place::launch(scene, mirror, &settled).await {
        Ok(sandbox) => sandbox,
        // Collected a moment ago.
        Err(SandboxError::NoSuchLayer(_)) => {
            scene.tell(EventBody::Warning { message: NO_LONGER_KEPT.to_owned() }).await?;
            return Ok(None);
        }
        // The files may be at fault, or the machine: if it is the machine, a start without them fails as well, and says so.
        Err(SandboxError::Launch(reason) | SandboxError::Invalid(reason)) => {
            scene.control.inner.sandboxes.destroy(scene.attempt.id.sandbox()).await?;
            let message = format!(
                "cannot start on the files of the attempt before ({reason}): starting from the base commit, with its \
                 changes put on top"
            );
            scene.tell(EventBody::Warning { message }).await?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    *recipe = settled;
    scene.store().pin_recipe(scene.attempt, recipe).await?;
    scene.progress("launched the sandbox on the files of the attempt before".to_owned(), since).await?;
    Ok(Some(sandbox))
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
        let launched = place::launch(site, mirror, recipe).await;
        drop(found.hold);
        if found.is_fresh {
            site.control.tend_layers_soon();
            site.control.pack_soon();
        }
        match launched {
            Ok(sandbox) => {
                site.progress("launched the sandbox".to_owned(), since).await?;
                return Ok((sandbox, found.is_fresh));
            }
            // It was removed from outside; its row leads nowhere now.
            Err(SandboxError::NoSuchLayer(_)) => {
                site.store().delete_snapshot(site.organization, found.snapshot.id).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The sandbox of an attempt that goes on. One that has ended, with the machine or by itself, is launched again on its files;
/// that is written down before, so that whatever happens no command of before is taken for one that runs.
pub(super) async fn attach(scene: &Scene<'_>, recipe: &Recipe) -> Result<Sandbox, Halt> {
    let (sandboxes, id) = (&scene.control.inner.sandboxes, scene.attempt.id.sandbox());
    match sandboxes.attach(id).await {
        Err(SandboxError::Gone(_)) if sandboxes.has_files(id) => {}
        Err(SandboxError::Gone(_)) => {
            let reason =
                "the sandbox is gone, and its files with it: the machine has lost its power, or it was removed \
                          from outside"
                    .to_owned();
            return Err(Halt::Lost { reason });
        }
        attached => return Ok(attached?),
    }
    let since = Instant::now();
    let message = "the sandbox has ended, with the machine or from outside, and is launched again on its files; commands that \
                   ran in it were cut off";
    scene.tell(EventBody::SandboxRelaunched { message: message.to_owned() }).await?;
    let mirror = scene.control.inner.forge.mirror(scene.thread.task.repository_id);
    let sandbox = place::restart(scene, &mirror, recipe).await.map_err(|error| Halt::Failed {
        reason: format!("the sandbox has ended, and could not be launched again on its files: {error}"),
        retryable: true,
    })?;
    scene.progress("launched the sandbox again on its files".to_owned(), since).await?;
    Ok(sandbox)
}

/// Runs the maintenance script, and makes sure that no setup secret stays behind. The sandbox to go on with may be
/// another: it is started anew after a script that had secrets.
async fn maintain(
    site: &Site<'_>,
    sandbox: Sandbox,
    recipe: &Recipe,
    mirror: &Mirror,
    base: &Base,
) -> Result<Sandbox, Halt> {
    let Some(text) = &recipe.maintenance_script else { return Ok(sandbox) };
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
    let work = Box::pin(script::run(site, &sandbox, script));
    let work = Box::pin(async { limits::during(site, &sandbox, &recipe.limits, work).await? });
    network::during(site, &sandbox, Phase::Setup, packages, work).await??;
    sandbox.kill_all().await?;
    checkout::take_back(site, &sandbox, base).await?;
    if site.environment.spec.secrets(SecretKind::Setup).next().is_none() {
        return Ok(sandbox);
    }
    // Git may have run what the script left in its configuration: nothing may write while it is looked for secrets.
    sandbox.kill_all().await?;
    if let Some(leak) = build::leak(site, site.sandbox, &secrets).await? {
        return Err(Halt::failed(format!("the maintenance script {leak}")));
    }
    // What its processes left in memory goes with them.
    Ok(place::restart(site, mirror, recipe).await?)
}

/// The commit the attempt starts from, and the branch it is on.
impl Scene<'_> {
    fn base(&self) -> Result<Base, Halt> {
        let commit = self.attempt.base.clone().ok_or_else(|| Halt::failed("the attempt has no base commit"))?;
        Ok(Base { commit, branch: self.branch() })
    }
}

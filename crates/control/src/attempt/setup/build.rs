//! Building a snapshot: the default branch checked out in a sandbox of its own, the setup run in it, what it left looked
//! through for secrets, and the layer kept. A build that fails leaves nothing behind.

use std::time::Duration;

use carrel_domain::automatic_setup::{self, Step};
use carrel_domain::{EventBody, Internet, Recipe, Redactor, Revision, SandboxId, SecretKind, Setup, SnapshotId};
use carrel_egress::Phase;
use carrel_egress::packages::Found;
use carrel_forge::Mirror;
use carrel_sandbox::{Command, Sandbox, SandboxError};
use carrel_store::{NewSnapshot, Snapshot};
use tokio::sync::OwnedRwLockReadGuard;
use uuid::Uuid;

use super::script::{self, Script};
use super::snapshot::Wanted;
use super::{checkout, place, tools};
use crate::attempt::{Halt, Site};
use crate::attempt::{limits, network};
use crate::packages;

/// How long it may take to ask whether a program is there.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// How much of a secret is looked for in files.
const NEEDLE_BYTES: usize = 1024;

/// Builds the snapshot that the recipe wants; its layer stays as long as what is given beside it.
pub(super) async fn build(
    site: &Site<'_>,
    mirror: &Mirror,
    recipe: &Recipe,
    wanted: Wanted,
) -> Result<(Snapshot, OwnedRwLockReadGuard<()>), Halt> {
    let builder = site.builder;
    let sandboxes = &site.control.inner.sandboxes;
    sandboxes.destroy(builder).await?;
    let layers = place::beneath(site, recipe, None).await?;
    let bare = Recipe { layers, ..recipe.clone() };
    let sandbox = sandboxes.launch(place::spec(site, builder, mirror, &bare).await?).await?;
    let built = Box::pin(fill(site, mirror, &bare, &sandbox)).await;
    let kept = match built {
        Ok(package_hosts) => keep(site, builder, recipe, wanted, package_hosts).await,
        Err(halt) => Err(halt),
    };
    if kept.is_err() {
        sandboxes.destroy(builder).await?;
    }
    kept
}

/// Puts everything into the builder's sandbox; the hosts of its package managers.
async fn fill(
    site: &Site<'_>,
    mirror: &Mirror,
    recipe: &Recipe,
    sandbox: &Sandbox,
) -> Result<Vec<carrel_domain::DomainRule>, Halt> {
    tools::are_there(site, sandbox, recipe).await?;
    let base = mirror.resolve(&Revision::DefaultBranch).await?;
    checkout::check_out(site, sandbox, &base).await?;
    let spec = &site.environment.spec;
    let wants = |internet: Internet| matches!(internet, Internet::Packages | Internet::Common);
    let is_wanted = wants(spec.setup_network.internet) || wants(spec.agent_network.internet);
    // An image or variables that the repository chose have no say either in what is reached.
    let nothing = Found::default();
    let earlier = recipe.is_shaped_by_repository.then_some(&nothing);
    let (before, said) = if is_wanted { packages::find(site, sandbox, earlier).await? } else { <_>::default() };
    let secrets = setup_secrets(site).await?;
    let setup = Box::pin(run_setup(site, mirror, recipe, sandbox, &secrets));
    let setup = Box::pin(async { limits::during(site, sandbox, &recipe.limits, setup).await? });
    network::during(site, sandbox, Phase::Setup, &before, setup).await??;
    // Nothing that setup has started lives on, in the snapshot or beside it.
    sandbox.kill_all().await?;
    // Setup may have installed further tools.
    let ran = recipe.setup != Setup::Nothing;
    let after = if ran && wants(spec.agent_network.internet) {
        packages::find(site, sandbox, Some(&said)).await?.0
    } else {
        before
    };
    let is_ready = checkout::tidy_up(site, sandbox, &base).await?;
    // Git may have run what setup left in its configuration: nothing may write while it is looked for secrets, or after.
    sandbox.kill_all().await?;
    if is_ready {
        checkout::note_ready(site, sandbox, &base).await?;
    }
    if let Some(leak) = leak(site, sandbox.id(), &secrets).await? {
        let reason = format!("setup {leak}");
        let event = EventBody::SnapshotKept { snapshot_id: None, size_bytes: None, reason: Some(reason.clone()) };
        site.tell(event).await?;
        return Err(Halt::failed(reason));
    }
    Ok(after)
}

async fn run_setup(
    site: &Site<'_>,
    mirror: &Mirror,
    recipe: &Recipe,
    sandbox: &Sandbox,
    secrets: &[(String, String)],
) -> Result<(), Halt> {
    let limit = Duration::from_secs(recipe.limits.setup_s.into());
    match &recipe.setup {
        Setup::Nothing => Ok(()),
        Setup::Script(text) => {
            let script = Script {
                what: "setup",
                number: 1,
                shown: "setup script".to_owned(),
                text,
                directory: site.workspace(),
                secrets,
                limit,
                output_bytes: recipe.limits.output_bytes,
            };
            script::run(site, sandbox, script).await
        }
        Setup::Automatic => {
            for (index, planned) in plan(site, mirror).await?.into_iter().enumerate() {
                let there = which_are_there(sandbox, &planned).await?;
                let Some(step) = planned.with(|tool| there.iter().any(|known| known == tool)) else {
                    let message = format!(
                        "automatic setup: `{}` calls for {}, which is not in the image; skipped",
                        planned.because, planned.tool
                    );
                    site.tell(EventBody::Warning { message }).await?;
                    continue;
                };
                let directory = match step.directory.as_str() {
                    "" | "." => site.workspace(),
                    folder => format!("{}/{folder}", site.workspace()),
                };
                let text = step.command;
                let script = Script {
                    what: "setup",
                    number: index + 1,
                    shown: text.clone(),
                    text: &text,
                    directory,
                    secrets,
                    limit,
                    output_bytes: recipe.limits.output_bytes,
                };
                script::run(site, sandbox, script).await.map_err(|halt| {
                    halt.with_way_out(
                        "give the environment a setup script of its own (--setup-script FILE), or none (--no-setup)",
                    )
                })?;
            }
            Ok(())
        }
    }
}

/// The files by which automatic setup runs, as they are on the default branch; none where it does not run.
pub(super) async fn lock_files(mirror: &Mirror, recipe: &Recipe) -> Result<Vec<(String, String)>, Halt> {
    if recipe.setup != Setup::Automatic {
        return Ok(Vec::new());
    }
    let base = mirror.resolve(&Revision::DefaultBranch).await?;
    let files = mirror.files_near_the_root(&base.commit).await?;
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let named: Vec<String> = automatic_setup::plan(&files).into_iter().map(|step| step.because).collect();
    Ok(mirror.objects_at(&base.commit, &named).await?)
}

/// What the lock files of the default branch call for.
async fn plan(site: &Site<'_>, mirror: &Mirror) -> Result<Vec<Step>, Halt> {
    let base = mirror.resolve(&Revision::DefaultBranch).await?;
    let files = mirror.files_near_the_root(&base.commit).await?;
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let steps = automatic_setup::plan(&files);
    if steps.is_empty() {
        let message = "automatic setup: no lock file of a known package manager, nothing to do".to_owned();
        site.tell(EventBody::Progress { message, duration_ms: None }).await?;
    }
    Ok(steps)
}

/// Which of the programs that a step may need are in the image.
async fn which_are_there(sandbox: &Sandbox, step: &Step) -> Result<Vec<String>, Halt> {
    let id = format!("setup.look-for.{}", Uuid::now_v7());
    let script = "for tool; do command -v -- \"$tool\" >/dev/null 2>&1 && printf '%s\\n' \"$tool\"; done; true";
    let argv = ["bash", "-lc", script, "look"].into_iter().chain(step.tools());
    let finished = sandbox.run(Command::new(id, argv).directory("/").time_limit(LOOK_LIMIT)).await?;
    Ok(String::from_utf8_lossy(&finished.output).lines().map(str::to_owned).collect())
}

/// The setup secrets as variables.
pub(super) async fn setup_secrets(site: &Site<'_>) -> Result<Vec<(String, String)>, Halt> {
    let environment = site.environment;
    let names: Vec<_> = environment.spec.secrets(SecretKind::Setup).cloned().collect();
    let values = site.store().secret_values(environment.organization, environment.id, &names).await?;
    Ok(values.into_iter().map(|(secret, value)| (secret.name.to_string(), value.expose().to_owned())).collect())
}

/// What of a secret a script has left in the files of the sandbox, in words.
pub(super) async fn leak(
    site: &Site<'_>,
    sandbox: SandboxId,
    secrets: &[(String, String)],
) -> Result<Option<String>, SandboxError> {
    for (name, value) in secrets {
        let forms = Redactor::new([&carrel_domain::Secret::new(value.clone())]).forms();
        // Where the beginning of a long one is, the rest is not far; all of it would cost a state for each byte.
        let needles: Vec<Vec<u8>> =
            forms.into_iter().map(|form| form.into_bytes().into_iter().take(NEEDLE_BYTES).collect()).collect();
        if let Some(path) = site.control.inner.sandboxes.find_in_sandbox(sandbox, needles).await? {
            return Ok(Some(format!(
                "left the value of the secret {name} in `{path}`, where the agent would see it, so nothing of it is kept; \
                 have the script remove it at its end"
            )));
        }
    }
    Ok(None)
}

async fn keep(
    site: &Site<'_>,
    builder: SandboxId,
    recipe: &Recipe,
    wanted: Wanted,
    package_hosts: Vec<carrel_domain::DomainRule>,
) -> Result<(Snapshot, OwnedRwLockReadGuard<()>), Halt> {
    let sandboxes = &site.control.inner.sandboxes;
    let id = SnapshotId::from_uuid(Uuid::now_v7());
    let layer = place::snapshot_layer(id);
    let hold = site.control.hold_layers().await;
    sandboxes.keep(builder, &layer).await?;
    let size_bytes = sandboxes.layer_size(&layer).await.ok();
    let now = site.control.inner.clock.now();
    let life = Duration::from_secs(site.environment.spec.snapshot_life_s.into());
    let new = NewSnapshot {
        id,
        organization: site.organization,
        environment: site.environment.id,
        repository: site.repository_id,
        key: wanted.key,
        parts: wanted.parts,
        layer: layer.to_string(),
        image_digest: recipe.digest.clone(),
        package_hosts,
        size_bytes,
        made_at: None,
        expires_at: now.checked_add(life).unwrap_or(jiff::Timestamp::MAX),
        pack_key: wanted.pack_key,
        packed: None,
    };
    let snapshot = site.store().insert_snapshot(new).await?;
    Ok((snapshot, hold))
}

//! Preparing: the mirror is fetched, the base commit pinned, and what the sandbox is made of is settled and written down:
//! the environment's version, what the repository says of itself, and the digest of the image.

mod diffs;
mod folder;
mod image;
pub(crate) mod local_changes;

use std::time::Instant;

use carrel_domain::environment_file::{self, RepositorySettings};
use carrel_domain::{AttemptState, CommitOid, EventBody, Image, Recipe, ResourceLimits, Revision, devcontainer};
use carrel_forge::{Base, Mirror};

use super::{Halt, Scene, Site, Step};
use crate::base;
use crate::elsewhere::{self, Elsewhere};

/// The longest file of settings, and the longest script, that is taken from a repository.
const FILE_BYTES: usize = 1 << 20;

pub(super) async fn prepare(scene: &Scene<'_>) -> Result<Step, Halt> {
    let since = Instant::now();
    let task = &scene.thread.task;
    if !scene.control.inner.forge.mirror(task.repository_id).path().exists() {
        let message = "fetching the repository; the first time takes as long as cloning it".to_owned();
        scene.tell(EventBody::Progress { message, duration_ms: None }).await?;
    }
    let mirror = fetch(scene).await?;
    let base = pin(scene, &mirror).await?;
    let from = base.branch.as_ref().map_or_else(String::new, |branch| format!(" of `{branch}`"));
    scene
        .progress(format!("fetched the repository; starting from commit {}{from}", base.commit.short()), since)
        .await?;
    let recipe = settle(scene, &mirror, &base.commit).await?;
    scene.store().pin_recipe(scene.attempt, &recipe).await?;
    Box::pin(diffs::provide(scene)).await?;
    Ok(Step::to(AttemptState::SettingUp))
}

/// Brings the mirror up to date. A path that leads nowhere here may be one of another worker's machine, which goes on then.
async fn fetch(scene: &Scene<'_>) -> Result<Mirror, Halt> {
    let (control, task) = (scene.control, &scene.thread.task);
    match control.inner.forge.fetch(task.repository_id, &task.repository).await {
        Ok(mirror) => {
            elsewhere::is_here(control, scene.store(), task.organization, &task.repository).await?;
            Ok(mirror)
        }
        Err(error) if elsewhere::is_not_here(&task.repository, &error) => {
            match elsewhere::pass_on(control, scene.store(), task, scene.attempt.id, &error).await? {
                Elsewhere::PassedOn => Err(Halt::PassedOn),
                Elsewhere::Nowhere { reason, retryable } => Err(Halt::Failed { reason, retryable }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The commit this attempt starts from: the one of the attempt it goes on from, or of its siblings, or else the one
/// the task's revision names now.
async fn pin(scene: &Scene<'_>, mirror: &Mirror) -> Result<Base, Halt> {
    let branch = scene.branch();
    let known = scene.attempt.base.clone().or_else(|| inherited(scene));
    let base = match known {
        Some(commit) => {
            base::bring(scene.control, scene.store(), scene.thread, mirror, &commit).await?;
            Base { commit, branch }
        }
        None => {
            let named = mirror.resolve(&scene.thread.task.revision).await?;
            Box::pin(local_changes::onto(scene, mirror, named)).await?
        }
    };
    if scene.attempt.base.is_some() {
        return Ok(base);
    }
    let commit = scene.store().pin_base(scene.attempt, base.commit.clone()).await?;
    if commit != base.commit {
        // A sibling was first, on another machine perhaps, and the branch has moved in between.
        base::bring(scene.control, scene.store(), scene.thread, mirror, &commit).await?;
    }
    Ok(Base { commit, ..base })
}

fn inherited(scene: &Scene<'_>) -> Option<CommitOid> {
    if let Some(from) = scene.goes_on_from() {
        return scene.thread.attempt(from).and_then(|(_, attempt)| attempt.base.clone());
    }
    let siblings = scene.thread.turns.iter().filter(|thread| thread.turn.id == scene.turn.id);
    siblings.flat_map(|thread| &thread.attempts).find_map(|sibling| sibling.base.clone())
}

/// Settles what the sandbox is made of. `base` is the commit to start from.
pub(super) async fn settle(site: &Site<'_>, mirror: &Mirror, base: &CommitOid) -> Result<Recipe, Halt> {
    let environment = site.environment;
    let (file, container) = repository_settings(site, mirror, base).await?;
    for warning in file.iter().chain(&container).flat_map(|settings| &settings.warnings) {
        site.tell(EventBody::Warning { message: warning.clone() }).await?;
    }
    let settled = environment_file::settle(&environment.spec, file.as_ref(), container.as_ref());
    for message in settled.warnings.clone() {
        site.tell(EventBody::Warning { message }).await?;
    }
    if !settled.unmet_domains.is_empty() {
        let names: Vec<String> = settled.unmet_domains.iter().map(ToString::to_string).collect();
        let flags: Vec<String> = names.iter().map(|name| format!("--allow-domain {name}")).collect();
        let message = format!(
            "the repository asks for {}, which the environment does not allow; to allow it: carrel environment edit {} {}",
            names.join(", "),
            environment.name,
            flags.join(" ")
        );
        site.tell(EventBody::Warning { message }).await?;
    }
    least(&settled.limits)?;
    let is_shaped_by_repository = settled.is_shaped_by_repository();
    let mut recipe = Recipe {
        image: settled.image,
        digest: None,
        image_variables: std::collections::BTreeMap::new(),
        setup: settled.setup,
        maintenance_script: settled.maintenance_script,
        variables: settled.variables.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
        limits: settled.limits,
        is_shaped_by_repository,
        snapshot: None,
        layers: Vec::new(),
        package_hosts: Vec::new(),
    };
    image::settle(site, &mut recipe).await?;
    let image = match (&recipe.image, &recipe.digest) {
        (Image::Oci(_), Some(digest)) => format!("{} ({digest})", recipe.image),
        (Image::Host | Image::Folder(_) | Image::Oci(_), _) => recipe.image.to_string(),
    };
    let resolved = EventBody::EnvironmentResolved {
        name: environment.name.to_string(),
        version: environment.version,
        image,
        sources: settled.sources,
    };
    site.tell(resolved).await?;
    Ok(recipe)
}

/// What the repository says of its environment, on its default branch: what counts there has been accepted there, whatever
/// the branch of the task says.
async fn repository_settings(
    site: &Site<'_>,
    mirror: &Mirror,
    base: &CommitOid,
) -> Result<(Option<RepositorySettings>, Option<RepositorySettings>), Halt> {
    let commit = match mirror.resolve(&Revision::DefaultBranch).await {
        Ok(base) => base.commit,
        // A repository may have no default branch, and tasks name another.
        Err(carrel_forge::ForgeError::NoDefaultBranch { .. }) => base.clone(),
        Err(error) => return Err(error.into()),
    };
    let (mirror, commit) = (&mirror, &commit);
    let text = |path: &'static str| async move {
        let Some(bytes) = mirror.file(commit, path, FILE_BYTES).await? else { return Ok(None) };
        let text =
            String::from_utf8(bytes).map_err(|_| Halt::failed(format!("the repository's `{path}` is not UTF-8")))?;
        Ok::<_, Halt>(Some(text))
    };
    let mut file = None;
    if let Some(found) = text(environment_file::PATH).await? {
        let parsed = environment_file::parse(&found).map_err(Halt::failed)?;
        let mut scripts = Vec::new();
        for path in parsed.script_files() {
            let bytes = mirror.file(commit, path, FILE_BYTES).await?.ok_or_else(|| {
                Halt::failed(format!(
                    "`{}` names the script `{path}`, which is not in the repository",
                    environment_file::PATH
                ))
            })?;
            let script = String::from_utf8(bytes)
                .map_err(|_| Halt::failed(format!("the script `{path}` of the repository is not UTF-8")))?;
            scripts.push((path.to_owned(), script));
        }
        file = Some(parsed.with_scripts(&scripts));
    }
    let mut container = None;
    for path in devcontainer::PATHS {
        if let Some(found) = text(path).await? {
            container = Some(devcontainer::parse(path, &found, &site.workspace()).map_err(Halt::failed)?);
            break;
        }
    }
    Ok((file, container))
}

/// Refuses limits under which nothing could run. Those of stored environments were checked when they were given.
fn least(limits: &ResourceLimits) -> Result<(), Halt> {
    let asked = [
        ("memory_bytes", limits.memory_bytes, 64 << 20),
        ("disk_bytes", limits.disk_bytes, 16 << 20),
        ("processes", Some(u64::from(limits.processes)), 16),
        ("cpu_millis", limits.cpu_millis.map(u64::from), 50),
        ("setup_s", Some(u64::from(limits.setup_s)), 1),
    ];
    let too_low = asked.into_iter().find(|(_, asked, least)| asked.is_some_and(|asked| asked < *least));
    match too_low {
        None => Ok(()),
        Some((name, asked, least)) => Err(Halt::failed(format!(
            "the repository's environment.toml sets limits.{name} to {}; at least {least} is needed to run anything",
            asked.unwrap_or_default()
        ))),
    }
}

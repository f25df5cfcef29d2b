//! Real bug fixes of real projects, each played by a scripted model through the whole product: a test seen failing, the
//! fix applied by `apply_patch`, the test seen passing, an answer with citations, the patch taken out and applied to a
//! clean clone, where the test failed before and passes after. All of them have to work.
//!
//! The cases are files of `bench/replay/`; `docs/benchmarks.md` says what is in one.

mod archive;
mod case;
mod host;
mod patch;
mod play;
mod program;
mod report;
mod script;
#[cfg(test)]
mod tests;
mod tree;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use carrel_testkit::model::Script;
use carrel_testkit::{Repository, World};
use clap::Parser;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use case::{Case, Language};
use host::Place;
use play::Played;
use script::Chunks;

/// The cases that `cargo xtask test` plays: crates that this workspace is built with, so nothing is fetched for them.
const SEED: &[&str] = &["arrayvec-extend-zero-sized", "glob-symlinked-folder", "semver-less-partial"];

/// Plays real bug fixes through the whole product.
#[derive(Parser)]
#[command(name = "bench replay", no_binary_name = true)]
struct Options {
    /// Only cases whose names contain this; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// How many at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only see, without the product, that each case's test fails with the bug and passes without it
    #[arg(long)]
    check: bool,
    /// Only the few that `cargo xtask test` plays
    #[arg(long)]
    seed: bool,
}

/// A case that is ready to be played.
struct Ready {
    case: Case,
    repository: Repository,
    environment: String,
}

/// Plays or checks the cases and prints a table; any that does not work is an error.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse_from(arguments);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the crate lies in a checkout")?;
    let seed = options.seed.then(|| SEED.iter().map(ToString::to_string));
    let cases = case::load(&root.join("bench/replay"), &seed.map_or(options.only, Iterator::collect))?;
    let rust = cases.iter().any(|case| case.language == Language::Rust);
    let place = match Place::make(&root.join("target"), rust) {
        Ok(place) => Arc::new(place),
        // Whoever only tests need not have what benches need.
        Err(error) if options.seed => {
            report::passed_over(&error);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if options.check {
        runtime.block_on(check(cases, place, options.jobs))
    } else {
        runtime.block_on(play_all(cases, place, options.jobs))
    }
}

async fn check(cases: Vec<Case>, place: Arc<Place>, jobs: usize) -> Result<()> {
    let work = |case: Case| {
        let place = Arc::clone(&place);
        async move { (case.clone(), blocking(move || host::check(&case, &place)).await) }
    };
    report::checked(&side_by_side(cases, jobs, work).await?)
}

async fn play_all(cases: Vec<Case>, place: Arc<Place>, jobs: usize) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let program = program()?;
    let [plain, instructed] = rehearse(&program).await?;
    let count = cases.len();
    let setups: Vec<String> = cases.iter().filter_map(|case| case.test.setup.clone()).collect();
    let setups: Vec<&str> = setups.iter().map(String::as_str).collect();
    let mut script = Script::default();
    let (mut ready, mut environments) = (Vec::new(), std::collections::BTreeMap::new());
    for case in cases {
        let at = folder.path().join(&case.name).join(&case.project);
        let repository =
            play::repository(&case, &place, &at).with_context(|| format!("the repository of {}", case.name))?;
        let chunks = if at.join("AGENTS.md").is_file() { &instructed } else { &plain };
        script = script::add(script, &case, &at, chunks).with_context(|| format!("the script of {}", case.name))?;
        let (environment, arguments) = play::environment(&case, &place, &setups, folder.path())?;
        environments.insert(environment.clone(), arguments);
        ready.push(Ready { case, repository, environment });
    }
    let world = World::new(&program.to_string_lossy(), script).await;
    for (name, arguments) in &environments {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let made = world.carrel(&[&["environment", "create", name], arguments.as_slice()].concat()).await;
        ensure!(made.code == 0, "the environment {name} is refused: {}", made.stderr);
    }
    let world = Arc::new(world);
    let work = |ready: Ready| {
        let (world, place) = (Arc::clone(&world), Arc::clone(&place));
        async move { (ready.case.clone(), one(&world, place, ready).await) }
    };
    let played = side_by_side(ready, jobs, work).await?;
    ensure!(played.len() == count, "{} of {count} cases were played", played.len());
    report::played(&played)
}

async fn one(world: &World, place: Arc<Place>, ready: Ready) -> Result<Played> {
    let Ready { case, repository, environment } = ready;
    let (played, patch) = play::play(world, &case, &repository, &environment).await?;
    let verified = move || {
        let folder = tempfile::tempdir()?;
        play::verify(&case, &place, &repository, &patch, folder.path())
    };
    blocking(verified).await?;
    Ok(played)
}

/// Learns what the pieces of output are called in conversations like these, from two about nothing: in a repository
/// without instructions for agents, and in one with them, which the conversation begins with.
async fn rehearse(program: &Path) -> Result<[Chunks; 2]> {
    let world = World::new(&program.to_string_lossy(), script::rehearsal()).await;
    let plain = world.repository("plain", &[("a.txt", "a\n")]);
    let instructed = world.repository("instructed", &[("AGENTS.md", "Be brief.\n")]);
    Ok([learn(&world, &plain).await?, learn(&world, &instructed).await?])
}

async fn learn(world: &World, repository: &Repository) -> Result<Chunks> {
    world.run(repository, "Rehearse").await;
    let last = world.model().requests().pop().context("the model was asked nothing")?;
    let name = |number| {
        let output = last.output(number)?;
        output.strip_prefix("Chunk ID: ")?.lines().next().map(str::to_owned)
    };
    let (before, after) = (name(0), name(3));
    Ok(Chunks { before: before.context("no chunk ID")?, after: after.context("no chunk ID")? })
}

/// Does the same to each, so many at once, and gives the results sorted by the cases' names.
async fn side_by_side<I, T, F>(items: Vec<I>, jobs: usize, work: impl Fn(I) -> F) -> Result<Vec<(Case, Result<T>)>>
where
    T: Send + 'static,
    F: Future<Output = (Case, Result<T>)> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(jobs.max(1)));
    let mut running = JoinSet::new();
    for item in items {
        let (places, work) = (Arc::clone(&places), work(item));
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let (case, outcome) = work.await;
            report::done(&case, outcome.as_ref().err());
            (case, outcome)
        });
    }
    let mut results = Vec::new();
    while let Some(joined) = running.join_next().await {
        results.push(joined.map_err(|error| anyhow!("a case broke off: {error}"))?);
    }
    results.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    Ok(results)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| anyhow!("it broke off: {error}"))?
}

/// The service beside this program.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("carrel");
    if !program.is_file() {
        bail!("there is no `carrel` beside this program; build it with `cargo build -p carrel -p carrel-runner`");
    }
    Ok(program)
}

//! `cargo xtask up`: from a fresh checkout to a running service.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{self, TO_BUILD};
use crate::root;
use crate::run::{cargo, program, run, say, step};

/// How long the service may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Variables of which one is enough to have a model.
const MODEL_VARIABLES: [&str; 6] = [
    "CARREL_MODEL_URL",
    "CARREL_MODEL_KEY",
    "CARREL_MODELS_FILE",
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
];

/// Builds, starts the service, and plays the demo when no model is configured. Runs until it is interrupted.
pub(crate) fn up() -> Result<()> {
    machine::ensure(&TO_BUILD.iter().collect::<Vec<_>>())?;
    step("1/3  building the web app");
    build_web()?;
    step("2/3  building the service (the first time takes some minutes)");
    run(&mut cargo(&["build", "--profile", "up", "--package", "carrel"]))?;
    let carrel = target().join("up/carrel");
    step("3/3  starting the service (stop it with Ctrl-C)");
    if answers(&carrel) {
        say("a service is running already with this data folder; the new build takes over when that one is stopped");
        return if has_model() { Ok(()) } else { run(&mut program(&carrel, &["demo"])) };
    }
    let mut service = Command::new(&carrel).arg("serve").spawn().context("cannot start the service")?;
    let outcome = wait(&carrel, &mut service).and_then(|()| show(&carrel));
    if let Err(error) = outcome {
        stop(&mut service)?;
        return Err(error);
    }
    let status = service.wait()?;
    if status.success() { Ok(()) } else { bail!("the service ended with {status}") }
}

/// Installs the web app's packages as locked, and builds it.
pub(crate) fn build_web() -> Result<()> {
    machine::ensure_node()?;
    let web = root().join("web");
    let (lock, installed) = (web.join("package-lock.json"), web.join("node_modules/.package-lock.json"));
    if is_newer(&lock, &installed) {
        run(program("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&web))?;
    }
    run(program("npm", &["run", "--silent", "build"]).current_dir(&web))
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|meta| meta.modified());
    match (time(file), time(than)) {
        (Ok(file), Ok(than)) => file > than,
        _ => true,
    }
}

fn show(carrel: &Path) -> Result<()> {
    if has_model() {
        return Ok(());
    }
    step("no model is configured: playing the demo with a recorded one");
    // A demo that fails is told by its own words; the service is of use all the same.
    if run(&mut program(carrel, &["demo"])).is_err() {
        say("the demo did not work; its last lines say why. The service runs on.");
    }
    step("look at it in a browser");
    run(&mut program(carrel, &["owner-link"]))
}

fn wait(carrel: &Path, service: &mut Child) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = service.try_wait()? {
            bail!("the service ended with {status}; its last lines say why");
        }
        if answers(carrel) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the service did not answer within {} s", PATIENCE.as_secs())
}

fn answers(carrel: &Path) -> bool {
    let mut command = program(carrel, &["task", "list", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn stop(service: &mut Child) -> Result<()> {
    if service.try_wait()?.is_none() {
        run(&mut program("kill", &["-TERM", &service.id().to_string()]))?;
        service.wait()?;
    }
    Ok(())
}

fn has_model() -> bool {
    MODEL_VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

//! `carrel`: the one program. Here it is decided what it is this time: the service, a client of one, or (behind a hidden
//! argument) the launcher of sandboxes.

mod cli;
mod client;
mod commands;
mod demo;
mod exit;
mod output;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use exit::Failure;
use settings::Settings;

/// The hidden first argument behind which the runner's own arguments stand.
const RUNNER: &str = "runner";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|part| part.to_string_lossy().into_owned()).collect();
    // Before anything else, threads above all: the launcher forks, and its processes become sandboxes.
    if arguments.first().is_some_and(|first| first == RUNNER) {
        return carrel_runner::main(&arguments[1..]);
    }
    let cli = Cli::parse();
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let settings = Settings::from_lookup(|name| std::env::var_os(name)).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::service(format!("cannot start the async runtime: {error}")))?;
    let outcome = runtime.block_on(dispatch(cli, settings));
    // Whatever still blocks (a name being looked up, a file being read) must not hold the program up.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(cli: Cli, settings: Settings) -> Result<(), Failure> {
    let json = cli.json;
    match cli.command {
        Command::Serve => serve::serve(settings).await,
        Command::Demo => demo::demo(settings, json).await,
        Command::Task(command) => commands::task(command, &settings, json).await,
        Command::Environment(command) => commands::environment(command, &settings, json).await,
        Command::Doctor => commands::doctor(&settings, json).await,
        Command::OwnerLink => commands::owner_link(&settings, json).await,
        Command::Openapi => output::document(&carrel_api::openapi()),
        Command::Completions { shell } => cli::completions(shell),
        Command::Man => cli::man_page(),
    }
}

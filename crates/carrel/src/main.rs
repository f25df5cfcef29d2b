//! `carrel`: the one program. Here it is decided what it is this time: the service, a client of one, or (behind a hidden
//! argument) the launcher of sandboxes, or what has subordinate ids.

mod agents;
mod cli;
mod client;
mod commands;
mod demo;
mod exit;
mod models;
mod output;
mod serve;
mod settings;

use std::process::ExitCode;

use carrel_runner::ids::{IdMap, InvalidIdMap};
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
        return start_within(&arguments[1..]);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Nothing was read, so whether JSON is wanted is looked for by hand; help that was asked for is no error.
        Err(error) if error.use_stderr() && asks_for_json(&arguments) => {
            return Failure::command_line(&error).report(true);
        }
        Err(error) => error.exit(),
    };
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Whether `--json` is among the arguments, before the mark behind which there are no options.
fn asks_for_json(arguments: &[String]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

/// What this program is when it started itself: the launcher, or somebody who has the subordinate ids of images.
fn start_within(arguments: &[String]) -> ExitCode {
    match arguments {
        [first, rest @ ..] if first == carrel_sandbox::KEEPER_ARGUMENT => carrel_sandbox::keep(rest),
        [first, ids] if first == carrel_image::UNPACKER_ARGUMENT => {
            let ids = ids.parse().map_err(|error: InvalidIdMap| error.to_string());
            carrel_image::unpack_for_another(ids.and_then(|ids: IdMap| ids.enter()))
        }
        _ => carrel_runner::main(arguments),
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

async fn dispatch(cli: Cli, mut settings: Settings) -> Result<(), Failure> {
    let json = cli.json;
    match cli.command {
        Command::Serve { accept_lost_secrets, role } => {
            settings.work.role = role.map_or(settings.work.role, Into::into);
            settings.secrets.may_be_lost = accept_lost_secrets;
            serve::serve(settings).await
        }
        Command::Demo => demo::demo(settings, json).await,
        Command::Models => commands::models(&settings, json).await,
        Command::Agents => commands::agents(&settings, json).await,
        Command::Task(command) => commands::task(command, &settings, json).await,
        Command::Environment(command) => commands::environment(command, &settings, json).await,
        Command::Budget(command) => commands::budget(command, &settings, json).await,
        Command::Workers => commands::workers(&settings, json).await,
        Command::Doctor => commands::doctor(&settings, json).await,
        Command::Installation(command) => commands::installation(command, &settings, json).await,
        Command::OwnerLink => commands::owner_link(&settings, json).await,
        Command::Openapi => output::document(&carrel_api::openapi()),
        Command::Completions { shell } => cli::completions(shell),
        Command::Man => cli::man_page(),
    }
}

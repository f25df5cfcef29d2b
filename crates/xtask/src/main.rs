//! The project's own commands: `cargo xtask up`, `test`, `tidy`, `openapi`, `torture`, `bench`.

mod machine;
mod oracles;
mod run;
mod test;
mod tidy;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, checks, tests and measures Carrel.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, start the service and, without a model, play the demo
    Up,
    /// Install what tests need, then run every check and every test
    Test,
    /// Check the rules of the house that no compiler knows
    Tidy,
    /// Write docs/openapi.json anew from the routes
    Openapi,
    /// Pull the plug again and again: kill, stop and crash what there is under load, and look whether anything is lost
    Torture {
        /// How long, half of it on SQLite and half on PostgreSQL
        #[arg(long, default_value_t = 10)]
        minutes: u32,
    },
    /// Measure, side by side with others where there are any
    Bench {
        /// Which one; one that is not there is answered with all there are
        what: String,
        /// How often
        #[arg(long)]
        iterations: Option<u32>,
        /// What only this one takes, such as `--check`, `--only NAME` and `--jobs N` of `replay`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Up => up::up(),
        Command::Test => test::test(),
        Command::Tidy => tidy::tidy(&root()),
        Command::Openapi => openapi(),
        Command::Torture { minutes } => bench("torture", Some(minutes.saturating_mul(60)), &[]),
        Command::Bench { what, iterations, more } => bench(&what, iterations, &more),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}

fn openapi() -> Result<()> {
    let document = run::output(run::cargo(&["run", "--quiet", "--package", "carrel", "--", "openapi"]))?;
    std::fs::write(root().join("docs/openapi.json"), document)?;
    Ok(())
}

fn bench(what: &str, iterations: Option<u32>, more: &[String]) -> Result<()> {
    run::step("building for measurement");
    let mut programs = run::cargo(&["build", "--profile", "up", "--package", "carrel-runner"]);
    // Only these run the whole service, which takes minutes to build.
    let checks_only = more.iter().any(|option| option == "--check");
    let whole = matches!(what, "workspace" | "harness" | "waiting" | "faults" | "torture" | "scale")
        || (what == "replay" && !checks_only);
    programs.args(whole.then_some(["--package", "carrel"]).into_iter().flatten());
    run::run(&mut programs)?;
    let package = ["--package", "carrel-xtask", "--features", "bench", "--bin", "bench"];
    let mut bench = run::cargo(&["run", "--profile", "up"]);
    bench.args(package).args(["--", what]);
    bench.args(iterations.map(|count| count.to_string())).args(more);
    run::run(&mut bench)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_gets_the_arguments_that_only_it_knows() {
        let of = |words: &[&str]| match Cli::parse_from([&["cargo xtask", "bench"], words].concat()).command {
            Command::Bench { what, iterations, more } => (what, iterations, more),
            _ => unreachable!("that is the command"),
        };

        let replay = of(&["replay", "--check", "--only", "http"]);
        let sandbox = of(&["sandbox", "--iterations", "5"]);

        assert_eq!(
            replay,
            ("replay".to_owned(), None, vec!["--check".to_owned(), "--only".to_owned(), "http".to_owned()])
        );
        assert_eq!(sandbox, ("sandbox".to_owned(), Some(5), Vec::new()));
    }
}

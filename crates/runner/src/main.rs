//! The runner as a program of its own; the one product binary reaches the same code through a hidden argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    carrel_runner::main(&arguments)
}

//! The keeper as a program of its own, for tests; the one product binary reaches the same code through a hidden argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == carrel_sandbox::KEEPER_ARGUMENT => carrel_sandbox::keep(rest),
        _ => ExitCode::from(2),
    }
}

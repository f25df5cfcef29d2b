//! Process 1 of every sandbox, the launcher that isolates it, and the frames both speak.
//!
//! Three programs live here, each single-threaded and without an async runtime:
//! - [`launcher`]: parked beside the controller; on request it makes the namespaces, the file
//!   system and the privileges of a sandbox;
//! - [`init`]: what the launched child becomes: process 1, serving commands and files over a stream;
//! - a supervisor for each command, so that a whole process tree can be ended.
//!
//! This is the only crate with `unsafe`, and only inside `sys`. What a command *means*
//! and when to start one is decided by the controller (`carrel-sandbox`).

pub mod ids;
pub mod init;
pub mod kept;
mod landlock;
pub mod launcher;
pub mod pidfd;
mod privileges;
pub mod protocol;
mod seccomp;
mod sys;

use std::process::ExitCode;

/// The leading argument with which [`main`] becomes the launcher.
pub const LAUNCHER_ARGUMENT: &str = "launcher";

/// Entry for the program that hosts the runner: `launcher` parks a launcher on standard input.
pub fn main(arguments: &[String]) -> ExitCode {
    match arguments {
        [one] if one == LAUNCHER_ARGUMENT => launcher::main(),
        _ => ExitCode::from(2),
    }
}

//! Sandboxes as the rest of Carrel sees them: launch, attach, run, read, write, destroy.
//!
//! [`Sandboxes`] is the handle of a backend (today: namespaces of this machine, made by the launcher
//! of `carrel-runner`), [`Sandbox`] one isolated place, [`Process`] one command in it. Whatever comes
//! out of a sandbox is untrusted, the frames of its runner included: all of it is bounded and checked here.

mod command;
mod connection;
mod error;
mod launcher;
mod local;
mod options;
mod process;
mod sandbox;
mod trash;

pub use command::{Command, CommandId, ExitStatus, Finished, Output, ProcessEvent, Stdin, TerminalSize};
pub use error::SandboxError;
pub use launcher::Launcher;
pub use local::Sandboxes;
pub use options::{Limits, LocalOptions, ReadOnlyMount, SandboxSpec};
pub use process::Process;
pub use sandbox::{FileKind, FileStat, Sandbox};

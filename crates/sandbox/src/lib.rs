//! Sandboxes as the rest of Carrel sees them: launch, attach, run, read, write, destroy.
//!
//! [`Sandboxes`] is the handle of a backend (today: namespaces of this machine, made by the launcher
//! of `carrel-runner`), [`Sandbox`] one isolated place, [`Process`] one command in it. Whatever comes
//! out of a sandbox is untrusted, the frames of its runner included: all of it is bounded and checked here.

mod command;
mod connection;
mod disk;
mod error;
mod facts;
mod keeper;
mod kit;
mod launcher;
mod layers;
mod limits;
mod local;
mod options;
mod pack;
mod process;
mod resolve;
mod sandbox;
mod search;
mod trash;
mod tree;
mod tunnel;

pub use carrel_runner::ids::IdMap;
pub use carrel_runner::protocol::{Fact, FactState, FolderIds, USUAL_PATH};
pub use command::{Command, CommandId, ExitStatus, Finished, Output, ProcessEvent, Stdin, TerminalSize};
pub use error::SandboxError;
pub use keeper::{KEEPER_ARGUMENT, keep};
pub use kit::{Kit, Kits};
pub use launcher::Launcher;
pub use layers::{Layer, LayerName, Removed};
pub use limits::LimitCounters;
pub use local::{Changed, PackedLayer, Sandboxes};
pub use options::{Limits, LocalOptions, ReadOnlyMount, Root, SandboxSpec};
pub use process::{Process, ProcessInput};
pub use sandbox::{FileKind, FileStat, Sandbox};
pub use tunnel::{TUNNEL_ADDRESS, Tunnel, Tunnels};

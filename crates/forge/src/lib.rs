//! Git and its hosts: bare mirrors of repositories, commits made from an attempt's patch, and pushes of them.
//!
//! This crate alone runs the git program on the service's side. What it owns:
//!
//! - [`Forge`]: knows where mirrors live and fetches them ([`Forge::fetch`]), or looks at a local path ([`Forge::probe`]);
//! - [`Mirror`]: one repository's bare copy: finds commits, commits a patch, pushes;
//! - [`patch`]: reads the untrusted diff of a sandbox without any git.
//!
//! Every call of git has an environment of ours and no other, an argument vector instead of a shell, a deadline, a
//! bound on its output, and dies with its children when nobody waits for it any more. Nothing of a repository's own
//! configuration runs here: host git works on our mirrors only, and the serving side of a local path is git's
//! `upload-pack`, which heeds no hook of the repository it serves, under the repository owner's user id.
//!
//! Who may act on which repository, and what a publication's states are, is decided elsewhere (`carrel-control`).

mod commit;
mod error;
mod facts;
mod fetch;
mod git;
mod listing;
mod lock;
mod login;
mod mend;
mod mirror;
mod objects;
mod options;
pub mod patch;
mod probe;
mod push;
mod read;
mod remote;
mod words;

pub use commit::CommitRequest;
pub use error::ForgeError;
pub use fetch::Forge;
pub use mirror::{Base, Mirror};
pub use options::{GitOptions, Timeouts};
pub use push::Pushed;

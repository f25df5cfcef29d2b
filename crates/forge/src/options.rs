//! What the installation says about git: where things are, who commits, how long anything may take.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use carrel_domain::Redactor;

/// How git is run.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// The folder of the bare mirrors; made with mode 0700 when it is not there.
    pub mirrors: PathBuf,
    /// A file in the format of git's `credential-store`, one URL with user and password a line. Read for each call,
    /// never written.
    pub credentials: Option<PathBuf>,
    /// Whose `.ssh/known_hosts` and `.ssh/id_*` are used for ssh. Nothing else of it is read.
    pub home: PathBuf,
    /// The socket of an ssh agent that holds keys.
    pub ssh_auth_sock: Option<OsString>,
    /// Where git and ssh are looked for.
    pub search_path: OsString,
    /// The committer of every commit made here.
    pub committer_name: String,
    /// The committer's address.
    pub committer_email: String,
    /// Takes the installation's secrets out of whatever git or a remote says.
    pub redactor: Redactor,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl GitOptions {
    /// Options with the defaults: no credentials, no ssh agent, the committer `Carrel <carrel@localhost>`.
    #[must_use]
    pub fn new(mirrors: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Self {
        Self {
            mirrors: mirrors.into(),
            credentials: None,
            home: home.into(),
            ssh_auth_sock: None,
            search_path: OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            committer_name: "Carrel".to_owned(),
            committer_email: "carrel@localhost".to_owned(),
            redactor: Redactor::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Deadlines. A call that passes its own is killed with its children and ends in [`ForgeError::TimedOut`].
///
/// [`ForgeError::TimedOut`]: crate::ForgeError::TimedOut
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Looking at a local path, for each call: 10 s.
    pub probe: Duration,
    /// A call that stays on this machine and on a mirror: 2 min.
    pub local: Duration,
    /// Asking a remote for its branches: 1 min.
    pub listing: Duration,
    /// Fetching, and waiting for another's fetch of the same mirror: 30 min.
    pub fetch: Duration,
    /// Pushing: 10 min.
    pub push: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(10),
            local: Duration::from_mins(2),
            listing: Duration::from_mins(1),
            fetch: Duration::from_mins(30),
            push: Duration::from_mins(10),
        }
    }
}

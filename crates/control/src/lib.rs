//! The spine: takes what is asked for, drives attempts through their stages and publications to their remotes. The
//! only writer of the state of tasks, turns, attempts and publications.
//!
//! Asking ([`Control::create_task`] and its neighbours) writes down what is wanted and returns. Working
//! ([`Control::work`]) makes it true: it claims jobs under leases, reads how things stand and goes on from there. First
//! run, retry and recovery after a crash are the same code.

mod agents;
mod artifacts;
mod attempt;
mod base;
mod budgets;
mod builds;
mod cancel;
mod comparison;
mod elsewhere;
mod environments;
mod error;
mod health;
mod layers;
mod metrics;
mod models;
mod packages;
mod packs;
mod publish;
mod retry;
mod steer;
mod submit;
mod terminal;
mod trace;
mod trust;
mod worker;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrel_agent::{AgentLimits, ModelClient};
use carrel_domain::{AttemptId, Redactor, SharedClock};
use carrel_egress::Egress;
use carrel_forge::Forge;
use carrel_image::Images;
use carrel_sandbox::{Kits, Sandboxes};
use carrel_store::{Role, Store};
use tokio::sync::{Notify, RwLock};

pub use agents::{Agent, Agents, OWN_AGENT};
pub use carrel_sandbox::TerminalSize;
pub use comparison::{Compared, compare};
pub use environments::EnvironmentEdit;
pub use error::ControlError;
pub use health::Check;
pub use metrics::FIGURES_TYPE;
pub use models::{CONFIGURE_A_MODEL, Model, Models};
pub use publish::PublicationRequest;
pub use terminal::{Terminal, TerminalInput, TerminalOutput};

/// Well-known forges that diffs named in prompts are fetched from.
pub const DIFF_HOSTS: &[&str] = &["github.com", "gitlab.com", "codeberg.org", "gitea.com"];

/// What the spine is made of.
pub struct ControlOptions {
    /// Where state is kept.
    pub store: Store,
    /// What people know this machine by.
    pub machine: String,
    /// What this process does.
    pub role: Role,
    /// The program's version, as other workers are told it.
    pub version: &'static str,
    /// Where attempts run.
    pub sandboxes: Sandboxes,
    /// Where code comes from and goes to.
    pub forge: Forge,
    /// Where the images of environments are.
    pub images: Images,
    /// What images get that lack git, bash and the like.
    pub kits: Kits,
    /// Folders of this machine that, or what lies in them, environments may take for an image. None by default.
    pub image_folders: Vec<PathBuf>,
    /// What decides on the network of sandboxes.
    pub egress: Egress,
    /// Where files are kept that make programs in sandboxes trust the certificate authority.
    pub trust_folder: PathBuf,
    /// Which models there are.
    pub models: Models,
    /// The connection to them.
    pub client: ModelClient,
    /// Which agents there are that run in sandboxes.
    pub agents: Agents,
    /// Forges that diffs named in prompts are fetched from, over TLS: `host` or `host:port`. The server of the task's own
    /// repository always is one. [`DIFF_HOSTS`] by default.
    pub diff_hosts: Vec<String>,
    /// What must not leave.
    pub redactor: Redactor,
    /// The time.
    pub clock: SharedClock,
    /// Whom commits name as their author.
    pub author: Author,
    /// The installation's limits.
    pub limits: ControlLimits,
}

/// Whom commits name as their author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A name. Default `Carrel`.
    pub name: String,
    /// An address. Default `carrel@localhost`.
    pub email: String,
}

impl Default for Author {
    fn default() -> Self {
        Self { name: "Carrel".to_owned(), email: "carrel@localhost".to_owned() }
    }
}

/// The limits of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlLimits {
    /// Jobs worked on at the same time. Default 32.
    pub jobs: usize,
    /// The longest patch that is kept, in bytes. Default 100 MB.
    pub patch_bytes: usize,
    /// What all kept layers may take on the disk together, in bytes. Default 50 GB.
    pub layer_bytes: u64,
    /// How long a claimed job stays a worker's without a sign of life. Default 30 s.
    pub lease: Duration,
    /// After how long without a sign of life a worker is gone, so that others make its attempts again. Default 60 s.
    pub gone_after: Duration,
    /// How long others wait for this worker when it was stopped, before it is gone. Default: as long as `gone_after`.
    pub returns_within: Option<Duration>,
    /// What each agent may take.
    pub agent: AgentLimits,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self {
            jobs: 32,
            patch_bytes: 100_000_000,
            layer_bytes: 50_000_000_000,
            lease: Duration::from_secs(30),
            gone_after: Duration::from_secs(60),
            returns_within: None,
            agent: AgentLimits::default(),
        }
    }
}

/// The spine. Clones are the same one.
#[derive(Clone)]
pub struct Control {
    inner: Arc<ControlOptions>,
    builds: Arc<builds::Builds>,
    trust: Arc<trust::Known>,
    /// Attempts that this worker drove until it lost their claims: their sandboxes may be here still.
    lost: Arc<Mutex<BTreeSet<AttemptId>>>,
    layers_wanted: Arc<Notify>,
    packs_wanted: Arc<Notify>,
    /// Read while a sandbox is about to stand on a layer, written while one is removed.
    layers_turn: Arc<RwLock<()>>,
    seats: terminal::Seats,
    metrics: Arc<metrics::Metrics>,
    pulse: Arc<health::Pulse>,
}

impl Control {
    /// Puts the spine together. Nothing is worked on until [`Control::work`] runs.
    #[must_use]
    pub fn new(options: ControlOptions) -> Self {
        Self {
            inner: Arc::new(options),
            builds: Arc::default(),
            trust: Arc::default(),
            lost: Arc::default(),
            layers_wanted: Arc::default(),
            packs_wanted: Arc::default(),
            layers_turn: Arc::default(),
            seats: terminal::Seats::default(),
            metrics: Arc::new(metrics::Metrics::new()),
            pulse: Arc::default(),
        }
    }

    /// What this process does.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.role
    }

    /// The store, for reading.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// How long a worker may say nothing before others take it for gone.
    #[must_use]
    pub fn gone_after(&self) -> Duration {
        self.inner.limits.gone_after
    }

    /// The agents tasks may be given to, beside our own.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.inner.agents
    }

    /// The models tasks may be given to.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.inner.models
    }
}

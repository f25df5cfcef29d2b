//! The policy proxy: what a sandbox may reach is decided here, and enforced outside the sandbox.
//!
//! A sandbox has no route. Its one way out is a stream to a [`Session`], to which its programs speak as to an HTTP proxy.
//! Everything on it is hostile: what is not understood in exactly one way is refused, and each decision is told.
//!
//! ```text
//! stream -> connection: plain requests -------------------------> forward -> upstream
//!              \-> tunnel: CONNECT -> hello: TLS, its name checked -> copied as it is
//!                            \           \-> intercept: opened ----> forward
//!                             \-> plain HTTP ----------------------> forward
//! ```
//!
//! `decide` says what policy allows, `resolve` which addresses may be connected to, `forward` what becomes of one request.
//! Which hosts an image's package managers need is found in [`packages`]. Carrying the streams is left to the sandbox's
//! crate, storing decisions to the control plane.

mod address;
mod authority;
mod body;
mod connection;
mod decide;
mod door;
mod download;
mod fetch;
mod forward;
mod hello;
mod http1;
mod intercept;
mod options;
pub mod packages;
mod pkcs12;
mod policy;
mod resolve;
mod secrets;
mod session;
mod stream;
mod target;
mod tls;
mod trust;
mod tunnel;
mod upstream;

use std::sync::Arc;

use carrel_domain::DomainRule;
use tokio::sync::{Semaphore, mpsc};

pub use door::{MODEL_HOST, ModelAnswer, ModelDoor, ModelRequest};
pub use download::{Download, Downloaded};
pub use options::{EgressError, EgressOptions, Limits, OpenTls, PrivateHost, read_rules};
pub use policy::{Decision, NetworkSecret, Phase, SessionPolicy};
pub use session::Session;
pub use target::InvalidTarget;
pub use trust::TrustFiles;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Core {
    authority: authority::Authority,
    /// Everything a sandbox is to trust beside its image's own list, in PEM.
    trusted_pem: String,
    tls: tls::Upstream,
    resolver: resolve::Resolver,
    common: Vec<DomainRule>,
    packages: packages::Known,
    private_hosts: Vec<PrivateHost>,
    open_tls: OpenTls,
    limits: Limits,
    /// Room for the bodies of requests to models, in bytes.
    model_bodies: Arc<Semaphore>,
}

/// The proxy of an installation.
#[derive(Debug)]
pub struct Egress {
    core: Arc<Core>,
    trust: trust::TrustCache,
}

impl Egress {
    /// Opens it, and makes its certificate authority at the first start.
    ///
    /// # Errors
    /// When the authority cannot be kept or is damaged, and when the extra roots are no certificates.
    pub fn open(options: EgressOptions) -> Result<Self, EgressError> {
        let authority = authority::Authority::open(&options.folder)?;
        let core = Core {
            trusted_pem: trust::trusted_pem(&authority, &options.extra_roots_pem),
            authority,
            tls: tls::Upstream::new(&options.extra_roots_pem)?,
            resolver: resolve::Resolver::new(&options),
            common: options.common,
            packages: options.packages,
            private_hosts: options.private_hosts,
            open_tls: options.open_tls,
            model_bodies: Arc::new(Semaphore::new(options.limits.model_bodies_bytes)),
            limits: options.limits,
        };
        Ok(Self { core: Arc::new(core), trust: trust::TrustCache::default() })
    }

    /// The certificate authority's certificate, in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        self.core.authority.pem()
    }

    /// Byte strings of which every file has one that the certificate of this installation's authority is in.
    pub fn authority_marks(&self) -> [Vec<u8>; 2] {
        self.core.authority.marks()
    }

    /// What a sandbox trusts beside its image's own list, in PEM: our authority, and the extra roots, because where TLS is not
    /// opened it is the sandbox's programs that prove a server.
    #[must_use]
    pub fn trusted_pem(&self) -> &str {
        &self.core.trusted_pem
    }

    /// What a sandbox needs to trust us and the extra roots, made from its image's own list of certificates. The last few
    /// are remembered.
    ///
    /// # Errors
    /// When the list is too long to be one.
    pub fn trust(&self, image_bundle_pem: &[u8]) -> Result<Arc<TrustFiles>, EgressError> {
        self.trust.files(&self.core.trusted_pem, image_bundle_pem)
    }

    /// Begins a phase of a sandbox. When nobody receives decisions any more, nothing is let through.
    #[must_use]
    pub fn session(&self, policy: SessionPolicy, decisions: mpsc::Sender<Decision>) -> Session {
        Session::new(Arc::clone(&self.core), policy, decisions)
    }
}

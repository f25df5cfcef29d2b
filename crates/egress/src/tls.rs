//! TLS towards servers, and towards programs where it is opened. One cryptography provider, no older version than 1.2.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::options::EgressError;
use crate::target::Host;

/// A protocol that is spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
}

impl Protocol {
    /// Its name in the greeting.
    pub(crate) const fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// How servers are spoken to.
#[derive(Debug)]
pub(crate) struct Upstream {
    config: ClientConfig,
}

impl Upstream {
    /// Trusts the system's roots, and these.
    pub(crate) fn new(extra_roots_pem: &[u8]) -> Result<Self, EgressError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        let (_, unreadable) = roots.add_parsable_certificates(system.certs);
        for certificate in CertificateDer::pem_slice_iter(extra_roots_pem) {
            let certificate = certificate.map_err(|_| EgressError::Roots)?;
            roots.add(certificate).map_err(|_| EgressError::Roots)?;
        }
        if unreadable > 0 || !system.errors.is_empty() {
            tracing::warn!(unreadable, errors = ?system.errors, "some of the system's certificates cannot be read");
        }
        if roots.is_empty() {
            tracing::warn!(
                "this machine has no certificate authorities; no opened connection will find its server valid"
            );
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config })
    }

    /// A connector that offers these protocols. Sessions are resumed across all of them.
    pub(crate) fn connector(&self, protocols: &[Protocol]) -> tokio_rustls::TlsConnector {
        let mut config = self.config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.name().to_vec()).collect();
        Arc::new(config).into()
    }
}

/// The name that a server has to prove.
pub(crate) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string()).ok(),
        Host::Address(address) => Some(ServerName::IpAddress((*address).into())),
    }
}

/// Answers every greeting with one certificate: whose it may be was checked before.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// An acceptor that answers for one host with one protocol.
pub(crate) fn acceptor(
    certified: Arc<CertifiedKey>,
    protocol: Option<Protocol>,
) -> Result<tokio_rustls::TlsAcceptor, EgressError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(certified)));
    config.alpn_protocols = protocol.iter().map(|protocol| protocol.name().to_vec()).collect();
    // A session would outlive the check of its name.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config).into())
}

//! The world of these tests: two servers under names of our own, a proxy with a policy, and a program in a sandbox that
//! says whatever it likes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrel_domain::{HostName, Internet, Methods, NetworkPolicy, Secret};
use carrel_egress::{Decision, Egress, EgressOptions, NetworkSecret, Phase, Session, SessionPolicy};
use http_body_util::Full;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server::Server;

/// No answer takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// Allowed, with a certificate.
pub(crate) const UP: &str = "up.test";
/// Allowed, with a certificate, and a network secret is for it.
pub(crate) const API: &str = "api.test";
/// Not allowed, though it has a certificate, an address and a port like the others.
pub(crate) const OTHER: &str = "other.test";
/// Allowed, but the server's certificate is not for it.
pub(crate) const WRONG: &str = "wrong.test";
/// What programs see of the secret.
pub(crate) const PLACEHOLDER: &str = "carrel-secret-0123456789abcdef";
/// What only the proxy and the server see.
pub(crate) const VALUE: &str = "s3cr3t/value+of=the&server";

/// Runs tasks of hyper's.
#[derive(Clone)]
pub(crate) struct Spawner;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, task: F) {
        tokio::spawn(task);
    }
}

/// A proxy between a program and two servers.
pub(crate) struct World {
    pub(crate) egress: Egress,
    pub(crate) session: Session,
    pub(crate) plain: Server,
    pub(crate) secure: Server,
    decisions: mpsc::Receiver<Decision>,
    test_root: String,
    _folder: tempfile::TempDir,
}

/// How a world is made.
pub(crate) struct Builder {
    pub(crate) options: EgressOptions,
    pub(crate) policy: SessionPolicy,
    pub(crate) plain: Server,
    pub(crate) secure: Server,
    test_root: String,
    folder: tempfile::TempDir,
}

/// A host name.
pub(crate) fn name(text: &str) -> HostName {
    text.parse().expect("a host name")
}

impl World {
    /// Everything allowed to [`UP`], [`API`] and [`WRONG`].
    pub(crate) async fn new() -> Self {
        Self::builder().await.build()
    }

    /// The same, allowed to read only.
    pub(crate) async fn read_only() -> Self {
        let mut builder = Self::builder().await;
        builder.policy.network.methods = Methods::Read;
        builder.build()
    }

    pub(crate) async fn builder() -> Builder {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, test_root) = server_tls(&[UP, API, OTHER]);
        let (plain, secure) = (Server::start(None).await, Server::start(Some(config)).await);
        let mut options = EgressOptions::new(folder.path());
        let loopback: IpAddr = "127.0.0.1".parse().expect("an address");
        for host in [UP, API, OTHER, WRONG] {
            options.hosts.insert(name(host), vec![loopback]);
            for server in [&plain, &secure] {
                options.private_hosts.push(format!("{host}:{}", server.port()).parse().expect("a host and a port"));
            }
        }
        options.extra_roots_pem = test_root.clone().into_bytes();
        let domains = [UP, API, WRONG].map(|host| host.parse().expect("a rule")).to_vec();
        let secret = NetworkSecret {
            name: "TOKEN".into(),
            placeholder: PLACEHOLDER.into(),
            value: Secret::new(VALUE),
            hosts: vec![name(API)],
        };
        let policy = SessionPolicy {
            model: None,
            network: NetworkPolicy { internet: Internet::Off, domains, methods: Methods::All },
            packages: Vec::new(),
            secrets: vec![secret],
            environment: "api".into(),
            phase: Phase::Agent,
        };
        Builder { options, policy, plain, secure, test_root, folder }
    }

    /// What was decided so far.
    pub(crate) fn decisions(&mut self) -> Vec<Decision> {
        std::iter::from_fn(|| self.decisions.try_recv().ok()).collect()
    }

    /// A connection of the sandbox.
    pub(crate) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        let session = self.session.clone();
        tokio::spawn(async move { session.serve(theirs).await });
        ours
    }

    /// Sends bytes as they are, and reads what comes back until the proxy ends the connection.
    pub(crate) async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // What is refused early is not read to its end.
        let _ = stream.write_all(bytes).await;
        read_all(&mut stream).await
    }

    /// Opens a tunnel; the answer when it is refused.
    pub(crate) async fn tunnel(&self, target: &str) -> Result<DuplexStream, String> {
        let mut stream = self.connect();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = timeout(DEADLINE, stream.read_u8()).await.expect("in time").expect("an answer");
            answer.push(byte);
        }
        if answer.starts_with(b"HTTP/1.1 200 ") {
            return Ok(stream);
        }
        Err(String::from_utf8_lossy(&answer).into_owned() + &read_all(&mut stream).await)
    }

    /// What a program trusts that trusts both the installation's authority and the servers' own.
    pub(crate) fn client_tls(&self, protocols: &[&str]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        for pem in [self.egress.certificate_pem(), &self.test_root] {
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")).expect("a root");
        }
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// TLS through a tunnel to a host of the secure server.
    pub(crate) async fn tls(&self, host: &str, protocols: &[&str]) -> tokio_rustls::client::TlsStream<DuplexStream> {
        let stream = self.tunnel(&format!("{host}:{}", self.secure.port())).await.expect("a tunnel");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.client_tls(protocols)));
        let server_name = ServerName::try_from(host.to_owned()).expect("a name");
        timeout(DEADLINE, connector.connect(server_name, stream)).await.expect("in time").expect("TLS")
    }

    /// Sends bytes inside TLS through a tunnel, and reads what comes back.
    pub(crate) async fn say_inside(&self, host: &str, bytes: &[u8]) -> String {
        let mut stream = self.tls(host, &["http/1.1"]).await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let mut answer = Vec::new();
        // A connection that ends without TLS's farewell has said what it had to say.
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// HTTP/2 inside TLS through a tunnel.
    pub(crate) async fn http2(&self, host: &str) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let stream = self.tls(host, &["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(Spawner, io).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }

    /// Asserts that exactly one decision was told since the last look, a refusal with these words, and that no server was
    /// sent a byte.
    pub(crate) fn assert_refused(&mut self, words: &str, what: &str) {
        let decisions = self.decisions();
        let [decision] = decisions.as_slice() else { panic!("{what}: one decision, not {decisions:?}") };
        assert!(!decision.allowed, "{what}: {decision:?}");
        assert!(decision.reason.contains(words), "{what}: {decision:?} does not say {words:?}");
        assert_eq!((self.plain.bytes(), self.secure.bytes()), (0, 0), "{what}: a server was sent something");
    }
}

impl Builder {
    pub(crate) fn build(self) -> World {
        let Self { options, policy, plain, secure, test_root, folder } = self;
        let egress = Egress::open(options).expect("a proxy");
        let (sender, decisions) = mpsc::channel(1000);
        let session = egress.session(policy, sender);
        World { egress, session, plain, secure, decisions, test_root, _folder: folder }
    }

    /// Gives a name an address.
    pub(crate) fn host(&mut self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        self.options.hosts.insert(name(host), addresses);
    }
}

/// Reads until the other side ends the connection.
pub(crate) async fn read_all(stream: &mut DuplexStream) -> String {
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time").expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A certificate authority of the servers' own, and a server's setup with a certificate for these names.
fn server_tls(names: &[&str]) -> (Arc<rustls::ServerConfig>, String) {
    let root_key = rcgen::KeyPair::generate().expect("a key");
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).expect("a root");
    let issuer = rcgen::Issuer::new(root, root_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = rcgen::CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("signed");
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config), root_certificate.pem())
}

//! Indexes asked over the proxy's own connections: real TLS on loopback, to names that an administrator listed.

use std::sync::Arc;

use carrel_egress::packages::{PackageHosts, read};
use carrel_egress::{Egress, EgressOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const NAME: &str = "npm.example.com";

/// An npm registry behind TLS that gives one answer, and the authority that vouches for it.
struct Registry {
    port: u16,
    authority_pem: String,
    serving: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Registry {
    async fn that_answers(response: String) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("a root");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
        let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .expect("a certificate with its key");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who does not trust us hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.expect("a request"));
                }
                assert!(request.starts_with(b"GET /npm HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
                let _ = stream.write_all(response.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { port, authority_pem: authority.pem(), serving }
    }

    /// What the proxy finds for an image whose npm is configured for it.
    async fn asked(&self, change: impl FnOnce(&mut EgressOptions)) -> PackageHosts {
        let folder = TempDir::new().expect("a folder");
        let mut options = EgressOptions::new(folder.path());
        options.hosts = [(NAME.parse().expect("a name"), vec!["127.0.0.1".parse().expect("an address")])].into();
        options.private_hosts = vec![format!("{NAME}:{}", self.port).parse().expect("a host")];
        options.extra_roots_pem = self.authority_pem.clone().into_bytes();
        change(&mut options);
        let egress = Egress::open(options).expect("a proxy");
        let found = read(format!("npm\there\t\nnpm\tindex\thttps://{NAME}:{}/\n", self.port).as_bytes());
        // As the control plane does: on whatever thread.
        let asking = tokio::spawn(async move { egress.package_hosts(&found).await });
        asking.await.expect("no panic")
    }
}

fn names(hosts: &PackageHosts) -> Vec<String> {
    hosts.rules.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_registry_is_asked_over_tls_and_read_only_as_far_as_needed() {
    let mut body = r#"{"versions":{"1":{"dist":{"tarball":"https://files.example.com/a.tgz"}}},"rest":""#.to_owned();
    body.push_str(&"x".repeat(2 << 20));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let registry = Registry::that_answers(head + &body).await;

    let hosts = registry.asked(|_| ()).await;

    assert_eq!(names(&hosts), ["files.example.com", NAME]);
    assert_eq!(hosts.notes.len(), 1, "only the port: {:?}", hosts.notes);
}

#[tokio::test]
async fn a_registry_at_a_private_address_that_nobody_listed_is_not_asked() {
    let registry = Registry::that_answers("HTTP/1.1 500 \r\n\r\n".to_owned()).await;

    let hosts = registry.asked(|options| options.private_hosts.clear()).await;

    assert_eq!(names(&hosts), [NAME]);
    assert!(hosts.notes[1].contains("only public addresses are reached"), "{:?}", hosts.notes);
}

#[tokio::test]
async fn a_registry_that_cannot_prove_its_name_is_not_believed() {
    let registry = Registry::that_answers("HTTP/1.1 200 OK\r\n\r\n{}".to_owned()).await;

    let hosts = registry.asked(|options| options.extra_roots_pem.clear()).await;

    assert!(hosts.notes[1].contains("no TLS connection"), "{:?}", hosts.notes);
}

#[tokio::test]
async fn a_redirect_without_a_place_and_an_error_are_said() {
    for (answer, words) in [
        ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", "it says 302 Found"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "it says 404 Not Found"),
        ("HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n", "not at an https address"),
        ("no http at all\r\n\r\n", "invalid HTTP"),
    ] {
        let registry = Registry::that_answers(answer.to_owned()).await;
        let hosts = registry.asked(|_| ()).await;
        assert!(hosts.notes[1].contains(words), "{answer:?}: {:?}", hosts.notes);
    }
}

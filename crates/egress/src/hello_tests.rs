//! Tests of `hello`. What is refused stands in the egress suite; here is that nothing is understood too early.

use std::sync::Arc;

use proptest::prelude::{any, proptest};

use super::*;

fn greeting(protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = rustls::pki_types::ServerName::try_from("Up.Test").expect("a name");
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a greeting");
    bytes
}

#[test]
fn a_greeting_is_understood_when_it_is_whole_and_not_before() {
    let bytes = greeting(&["h2", "http/1.1"]);

    for length in 0..bytes.len() {
        assert_eq!(read(&bytes[..length]), Ok(None), "{length} bytes");
    }
    let hello = read(&bytes).expect("plain").expect("whole");
    assert_eq!(hello.server_name.expect("a name").as_str(), "up.test");
    assert_eq!(hello.protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(!hello.is_encrypted);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, at in any::<proptest::sample::Index>(), byte: u8) {
        let _ = read(&bytes);
        let mut changed = greeting(&["h2"]);
        let at = at.index(changed.len());
        changed[at] = byte;
        let _ = read(&changed);
    }
}

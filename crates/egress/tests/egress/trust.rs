//! What programs are given to trust, read by programs that others wrote.

use std::process::Command;

use crate::world::World;

#[tokio::test]
async fn openssl_reads_the_certificate_and_the_key_store() {
    let world = World::new().await;
    let files = world.egress.trust(world.egress.certificate_pem().as_bytes()).expect("files");
    let folder = tempfile::tempdir().expect("a folder");
    let (pem, store) = (folder.path().join("ours.pem"), folder.path().join("trust.p12"));
    std::fs::write(&pem, &files.certificate_pem).expect("written");
    std::fs::write(&store, &files.java_pkcs12).expect("written");

    let shown =
        Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&pem).output().expect("openssl runs");
    let listed = Command::new("openssl")
        .args(["pkcs12", "-nokeys", "-nomacver", "-passin", "pass:", "-in"])
        .arg(&store)
        .output();
    let listed = listed.expect("openssl runs");

    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("CA:TRUE, pathlen:0") && shown.contains("Subject: CN = Carrel egress "), "{shown}");
    let text = String::from_utf8_lossy(&listed.stdout);
    // The image's, ours, and the one that the administrator added.
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3, "{text}{}", String::from_utf8_lossy(&listed.stderr));
}

#[tokio::test]
async fn java_takes_the_key_stores_entries_for_anchors() {
    let world = World::new().await;
    let files = world.egress.trust(b"").expect("files");
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("trust.p12");
    std::fs::write(&store, &files.java_pkcs12).expect("written");

    let listed = Command::new("keytool")
        .args(["-list", "-storetype", "PKCS12", "-storepass", "", "-keystore"])
        .arg(&store)
        .output()
        .expect("keytool runs (package default-jre-headless)");

    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(
        text.contains("trustedCertEntry") && text.contains("2 entries"),
        "{text}{}",
        String::from_utf8_lossy(&listed.stderr)
    );
}

//! The real programs: curl and git, through the proxy as a sandbox's loopback shows it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use tokio::net::TcpListener;
use tokio::process::Command;

use crate::world::{API, OTHER, PLACEHOLDER, UP, VALUE, World};

/// The session behind a port, as the runner puts it into a sandbox.
async fn listen(world: &World) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let session = world.session.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let session = session.clone();
            tokio::spawn(async move { session.serve(stream).await });
        }
    });
    address
}

async fn run(world: &World, folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let proxy = format!("http://{}", listen(world).await);
    let trust = world.egress.trust(b"").expect("files");
    let bundle = folder.join("bundle.pem");
    std::fs::write(&bundle, &trust.bundle_pem).expect("written");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("http_proxy", &proxy).env("https_proxy", &proxy).env("HOME", folder);
    command.env("SSL_CERT_FILE", &bundle).env("CURL_CA_BUNDLE", &bundle).env("GIT_SSL_CAINFO", &bundle);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").kill_on_drop(true);
    command.output().await.expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn curl_reads_in_the_clear_and_in_opened_tls() {
    let world = World::read_only().await;
    let folder = tempfile::tempdir().expect("a folder");
    for (url, protocol) in [
        (format!("http://{UP}:{}/a", world.plain.port()), "--http1.1"),
        (format!("https://{UP}:{}/a", world.secure.port()), "--http1.1"),
        (format!("https://{UP}:{}/a", world.secure.port()), "--http2"),
    ] {
        let output = run(&world, folder.path(), "curl", &["-sS", "--fail", protocol, &url]).await;
        assert_eq!(text(&output.stdout), "GET /a 0", "{protocol} {url}: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn curl_is_told_why_it_is_refused() {
    let world = World::read_only().await;
    let folder = tempfile::tempdir().expect("a folder");

    let url = format!("http://{OTHER}:{}/", world.plain.port());
    let plain = run(&world, folder.path(), "curl", &["-sS", &url]).await;
    assert!(
        text(&plain.stdout).contains("carrel environment edit api --allow-domain other.test"),
        "{}",
        text(&plain.stdout)
    );

    let url = format!("https://{OTHER}:{}/", world.secure.port());
    let tunnel = run(&world, folder.path(), "curl", &["-sSv", &url]).await;
    let said = text(&tunnel.stderr);
    assert!(!tunnel.status.success() && said.contains("403"), "{said}");

    let url = format!("https://{UP}:{}/", world.secure.port());
    let post = run(&world, folder.path(), "curl", &["-sS", "-d", "x", &url]).await;
    assert!(text(&post.stdout).contains("carrel environment edit api --methods all"), "{post:?}");
    assert!(world.plain.requests().is_empty() && world.secure.requests().is_empty());
}

#[tokio::test]
async fn curl_sends_a_secret_that_it_does_not_know() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("https://{API}:{}/leak", world.secure.port());

    let header = format!("Authorization: Bearer {PLACEHOLDER}");
    let output = run(&world, folder.path(), "curl", &["-sS", "-i", "-H", &header, &url]).await;

    let said = text(&output.stdout);
    assert!(said.contains(PLACEHOLDER) && !said.contains(VALUE), "{said}{}", text(&output.stderr));
    assert_eq!(world.secure.requests()[0].headers["authorization"], format!("Bearer {VALUE}").as_str());
}

#[tokio::test]
async fn git_is_let_through_and_refused_like_any_other_program() {
    let world = World::read_only().await;
    let folder = tempfile::tempdir().expect("a folder");

    let allowed = format!("https://{UP}:{}/project.git", world.secure.port());
    run(&world, folder.path(), "git", &["ls-remote", &allowed]).await;
    let seen = world.secure.requests();
    assert_eq!(seen[0].path, "/project.git/info/refs?service=git-upload-pack");

    let refused = format!("https://{OTHER}:{}/project.git", world.secure.port());
    let output = run(&world, folder.path(), "git", &["ls-remote", &refused]).await;
    assert!(!output.status.success() && text(&output.stderr).contains("403"), "{}", text(&output.stderr));
    assert_eq!(world.secure.requests().len(), seen.len());
}

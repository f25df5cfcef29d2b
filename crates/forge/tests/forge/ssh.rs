//! Fetch and push over a real sshd on the loopback, with a key and a list of known hosts of our own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use carrel_domain::RepositoryLocation;
use carrel_forge::ForgeError;

use crate::support::{World, branch, branch_name};

/// A server that ends when it is dropped.
struct Sshd {
    process: Child,
    port: u16,
    user: String,
}

impl Sshd {
    /// None, and a word about it, where there is no sshd.
    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    fn start(folder: &Path) -> Option<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let Some(sshd) = sshd else {
            println!("skipped: no sshd on this machine; install openssh-server to run the tests over ssh");
            return None;
        };
        if nix::unistd::geteuid().is_root() {
            // Where the service's unit would make it.
            fs::create_dir_all("/run/sshd").expect("sshd's own folder");
        }
        let home = folder.join("home/.ssh");
        fs::create_dir_all(&home).expect("a folder");
        let key = |path: &Path| {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
            assert!(made.expect("ssh-keygen").success());
        };
        key(&folder.join("host_key"));
        key(&home.join("id_ed25519"));
        fs::copy(home.join("id_ed25519.pub"), folder.join("authorized_keys")).expect("a copy");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let config = folder.join("sshd_config");
        let folder = folder.display();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPermitRootLogin prohibit-password\n"
        );
        fs::write(&config, text).expect("a file");
        let mut process =
            Command::new(sshd).args(["-D", "-e", "-f"]).arg(&config).stderr(Stdio::piped()).spawn().expect("sshd");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("Server listening") {
            line.clear();
            assert!(log.read_line(&mut line).expect("its log") > 0, "sshd ended");
        }
        // It must be able to go on talking.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().expect("a user").name;
        Some(Self { process, port, user })
    }

    fn trust(&self, folder: &Path) {
        let key = fs::read_to_string(folder.join("host_key.pub")).expect("the key");
        fs::write(folder.join("home/.ssh/known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).expect("a file");
    }

    fn url(&self, path: &Path) -> RepositoryLocation {
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port, path.display()).parse().expect("a URL")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_fetch_and_a_push_over_ssh_work_with_a_known_host_and_our_key() {
    let world = World::new();
    let bare = world.bare();
    let Some(sshd) = Sshd::start(world.folder.path()) else { return };
    sshd.trust(world.folder.path());
    let location = sshd.url(&bare.path);

    let mirror = world.forge.fetch(world.id, &location).await.expect("a mirror");
    let base = mirror.resolve(&branch("main")).await.expect("main").commit;
    let made = world.commit_onto(&mirror, &base, "new.txt").await;
    mirror.push(&location, &made, &branch_name("carrel/it's"), None).await.expect("a push");

    assert_eq!(bare.oid("carrel/it's"), made);
}

#[tokio::test]
async fn an_unknown_host_and_a_refused_key_are_told_apart() {
    let world = World::new();
    let bare = world.bare();
    let Some(sshd) = Sshd::start(world.folder.path()) else { return };
    let location = sshd.url(&bare.path);

    let unknown = world.forge.fetch(world.id, &location).await.expect_err("nobody vouches for the host");
    sshd.trust(world.folder.path());
    fs::write(world.path("authorized_keys"), "").expect("a file");
    let refused = world.forge.fetch(world.id, &location).await.expect_err("the key is not known there");

    assert!(matches!(unknown, ForgeError::UntrustedHost { .. }), "{unknown:?}");
    assert!(unknown.to_string().contains("known_hosts"), "{unknown}");
    assert!(matches!(refused, ForgeError::AuthenticationFailed { .. }), "{refused:?}");
    assert!(!unknown.is_retryable() && !refused.is_retryable());
}

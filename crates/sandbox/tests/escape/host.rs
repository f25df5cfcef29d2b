//! What the host has that a sandbox must not reach, and whether it is as it was.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use carrel_sandbox::Sandbox;
use nix::unistd::geteuid;
use tempfile::TempDir;

use super::place::{self, SHOWN as SHOWN_FOLDER};
use super::world::World;

const CONTENT: &str = "a canary of the host";
/// How the folders among the host's programs begin that hold a socket.
const SHOWN: &str = "carrel-escape-";
/// How the one begins that root puts there for an ordinary user: no other test takes it away meanwhile.
const LENT: &str = "carrel-lent-escape-";

/// Files, sockets and queues of the host.
pub(crate) struct Host {
    canaries: TempDir,
    private: PathBuf,
    sandboxes: PathBuf,
    tcp: TcpListener,
    abstract_name: String,
    abstract_socket: UnixListener,
    socket: UnixListener,
    shown: Option<(TempDir, UnixListener)>,
    key: u32,
    machine: Vec<String>,
}

/// What was lent; it is gone, and the next may be lent, when this is dropped.
pub(crate) struct Lent {
    _place: TempDir,
    _socket: (TempDir, UnixListener),
    _alone: File,
}

impl Host {
    pub(crate) fn new(world: &World) -> Self {
        let canaries = tempfile::tempdir_in("/tmp").expect("a temporary folder");
        fs::set_permissions(canaries.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let private = world.folder.path().join("private");
        fs::create_dir_all(&private).expect("made");
        for folder in [canaries.path(), &private] {
            fs::write(folder.join("canary"), CONTENT).expect("written");
        }
        let socket = UnixListener::bind(canaries.path().join("socket")).expect("bound");
        fs::set_permissions(canaries.path().join("socket"), fs::Permissions::from_mode(0o777)).expect("ours");
        let abstract_name = format!("carrel-escape-{}", uuid::Uuid::now_v7());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("a name");
        let key = 0x0CA2_0000 + std::process::id() % 0xffff;
        on_host(
            key,
            "shmget($key, 4096, 0666 | 01000); msgget($key, 0666 | 01000); syscall(240, $queue, 0102, 0666, 0)",
        );
        Self {
            private: private.join("canary"),
            sandboxes: world.folder.path().join("sandboxes"),
            tcp: listening(TcpListener::bind("127.0.0.1:0").expect("bound"), TcpListener::set_nonblocking),
            abstract_socket: listening(
                UnixListener::bind_addr(&address).expect("bound"),
                UnixListener::set_nonblocking,
            ),
            abstract_name,
            socket: listening(socket, UnixListener::set_nonblocking),
            shown: put_a_socket(SHOWN),
            canaries,
            key,
            machine: machine(),
        }
    }

    /// What only root can put where sandboxes look, for the tests of an ordinary user, who find it by its name: so it is
    /// there once at a time. `None` where this is no root.
    pub(crate) fn lend() -> Option<Lent> {
        if !geteuid().is_root() {
            return None;
        }
        let alone = File::open(SHOWN_FOLDER).ok()?;
        alone.lock().ok()?;
        Some(Lent { _place: place::lend()?, _socket: put_a_socket(LENT)?, _alone: alone })
    }

    /// What attempts are told of it, by name.
    pub(crate) fn known_to(&self, sandbox: &Sandbox) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("tmp", text(&self.canaries.path().join("canary"))),
            ("private", text(&self.private)),
            ("sandboxes", text(&self.sandboxes)),
            ("own", text(&self.sandboxes.join(sandbox.id().to_string()))),
            ("port", self.tcp.local_addr().expect("bound").port().to_string()),
            ("abstract", self.abstract_name.clone()),
            ("socket", text(&self.canaries.path().join("socket"))),
            ("shown", self.shown().map(|path| text(&path)).unwrap_or_default()),
            ("key", self.key.to_string()),
            ("queue", format!("carrel-{}", self.key)),
            ("pid", std::process::id().to_string()),
        ]
    }

    /// Nobody connected, and nothing was changed.
    pub(crate) fn is_as_it_was(&self) {
        assert!(self.tcp.accept().is_err(), "somebody reached the host's loopback");
        let shown = self.shown.as_ref().map(|(_, socket)| socket);
        for socket in [Some(&self.abstract_socket), Some(&self.socket), shown].into_iter().flatten() {
            assert!(socket.accept().is_err(), "somebody reached a socket of the host");
        }
        for canary in [self.canaries.path().join("canary"), self.private.clone()] {
            assert_eq!(fs::read_to_string(canary).expect("it is there"), CONTENT);
        }
        assert_eq!(machine(), self.machine);
    }

    fn shown(&self) -> Option<PathBuf> {
        if let Some((folder, _)) = &self.shown {
            return Some(folder.path().join("socket"));
        }
        // Put there by root, who started this test as an ordinary user.
        let entries = fs::read_dir(SHOWN_FOLDER).ok()?.flatten();
        let ours = |path: &PathBuf| path.join("socket").exists();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(LENT))
            .map(|entry| entry.path())
            .find(ours)
            .map(|path| path.join("socket"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        on_host(self.key, "shmctl(shmget($key, 0, 0), 0, 0); msgctl(msgget($key, 0), 0, 0); syscall(241, $queue)");
    }
}

/// A socket that strangers may connect to, in a folder that sandboxes show; only root can put it there.
fn put_a_socket(prefix: &str) -> Option<(TempDir, UnixListener)> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(SHOWN_FOLDER).ok()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let socket = UnixListener::bind(folder.path().join("socket")).expect("bound");
    fs::set_permissions(folder.path().join("socket"), fs::Permissions::from_mode(0o777)).expect("ours");
    Some((folder, listening(socket, UnixListener::set_nonblocking)))
}

fn listening<L>(listener: L, set_nonblocking: fn(&L, bool) -> std::io::Result<()>) -> L {
    set_nonblocking(&listener, true).expect("set");
    listener
}

/// Runs some Perl on the host itself.
fn on_host(key: u32, text: &str) {
    // The kernel knows a queue by its name without the slash.
    let program = format!(r#"my ($key, $queue) = ({key}, "carrel-{key}"); {text}"#);
    Command::new("perl").args(["-e", &program]).status().expect("Perl runs");
}

/// What attempts try to change about the machine.
fn machine() -> Vec<String> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let env = fs::metadata("/usr/bin/env").expect("it is there");
    vec![
        text("/proc/sys/kernel/core_pattern"),
        text("/proc/sys/kernel/modprobe"),
        text("/proc/sys/kernel/hostname"),
        text("/proc/sys/vm/overcommit_memory"),
        text("/proc/swaps"),
        format!("{} {:o} {} {}", env.ino(), env.mode(), env.uid(), env.size()),
        format!("{:?}", fs::metadata("/dev/null").expect("it is there").permissions()),
        geteuid().to_string(),
    ]
}

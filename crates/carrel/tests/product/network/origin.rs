//! The outside world of the network tests: `origin.py`, with a certificate authority of its own, on a loopback port.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use carrel_testkit::Repository;
use tempfile::TempDir;

/// How long the server may take to begin, and a line of its log to come.
const PATIENCE: Duration = Duration::from_secs(30);

const CERTIFICATES: &str = "set -e; new='openssl req -x509 -newkey rsa:2048 -nodes -days 2'; \
     $new -keyout ca.key -out ca.pem -subj /CN=authority; \
     $new -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem -subj /CN=localhost -extensions usr_cert \
     -addext subjectAltName=DNS:localhost";

/// A server that ends when it is dropped.
pub(crate) struct Origin {
    folder: TempDir,
    server: Child,
    pub(crate) port: u16,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let made = Command::new("sh").args(["-c", CERTIFICATES]).current_dir(folder.path()).output().expect("sh");
        assert!(made.status.success(), "openssl is needed: {made:?}");
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", include_str!("origin.py")]).current_dir(folder.path()).stdin(Stdio::null());
        let server = command.spawn().expect("python3 (a Debian package) is needed");
        let mut origin = Self { folder, server, port: 0 };
        let port = origin.path("port");
        carrel_testkit::wait_for(PATIENCE, "the server begins", || port.exists());
        origin.port = std::fs::read_to_string(port).expect("it was written whole").parse().expect("a number");
        origin
    }

    /// The address of a page.
    pub(crate) fn url(&self, page: &str) -> String {
        format!("https://localhost:{}/{page}", self.port)
    }

    /// Where a file of the server's is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A repository that the server gives away as `git/NAME/.git`.
    pub(crate) fn repository(&self, name: &str, files: &[(&str, &str)]) -> Repository {
        Repository::make(&self.path("git").join(name), files)
    }

    /// What it was asked for: method, path and authorization, a line each.
    pub(crate) fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("requests")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a line of its log begins so.
    pub(crate) fn wait_for_request(&self, begin: &str) {
        carrel_testkit::wait_for(PATIENCE, begin, || self.requests().iter().any(|line| line.starts_with(begin)));
    }

    /// The service's variables by which it knows the server: its authority, and that it may be reached though it is
    /// on a private address.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let authority = self.path("ca.pem").to_string_lossy().into_owned();
        [("CARREL_CA_FILE", authority), ("CARREL_PRIVATE_HOSTS", format!("localhost:{}", self.port))]
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // It may have ended by itself; the folder goes all the same.
        let _ended = self.server.kill();
        let _waited = self.server.wait();
    }
}

/// A file as text.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

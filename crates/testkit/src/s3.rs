//! An S3 server of a test's own: s3rver, an independent implementation that keeps objects as files, so a test can kill it,
//! and can change what it keeps behind everybody's back. It checks whose key a request is signed with, not the signature.

mod signing;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

pub use self::signing::SigningS3;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its one bucket.
const BUCKET: &str = "acme-artifacts";

/// The one key it knows, and its secret.
const KEY: &str = "S3RVER";

/// A server that ends with its test.
pub struct S3 {
    folder: tempfile::TempDir,
    server: Option<Child>,
    port: u16,
}

impl S3 {
    /// Starts a server with one empty bucket.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let mut s3 = Self { folder: tempfile::tempdir().expect("a temporary folder"), server: None, port: 0 };
        s3.up();
        s3
    }

    /// The URL of a place in its bucket.
    #[must_use]
    pub fn place(&self) -> String {
        format!("s3://{BUCKET}/carrel")
    }

    /// The variables it is reached with.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        variables(self.port, KEY, KEY)
    }

    /// Kills it. What it was just doing stays half done.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn crash(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.kill().expect("our own process");
        server.wait().expect("our own process");
    }

    /// Starts it, again where it was.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    pub fn up(&mut self) {
        let program =
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles/s3/node_modules/.bin/s3rver"));
        assert!(
            program.exists(),
            "s3rver is missing; `cargo xtask test` installs it, or: npm install --prefix target/oracles/s3 s3rver@3.7.1"
        );
        let mut server = Command::new(program)
            .args([
                "--address",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--configure-bucket",
                BUCKET,
                "--directory",
            ])
            .arg(self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed");
        let said = BufReader::new(server.stdout.take().expect("a pipe"));
        self.server = Some(server);
        let (tell, told) = mpsc::channel();
        // It logs every request: somebody has to read that, to the end.
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let port =
                    line.split_once("listening on ").and_then(|(_, at)| at.rsplit_once(':')?.1.trim().parse().ok());
                let _nobody_waits_any_more = port.map(|port: u16| tell.send(port));
            }
        });
        self.port = told.recv_timeout(PATIENCE).expect("it says where it listens");
    }

    /// The file that the object of this name is in.
    #[must_use]
    pub fn file(&self, sha256: &str) -> PathBuf {
        self.objects().join(&sha256[..2]).join(format!("{sha256}._S3rver_object"))
    }

    /// Makes an object look as if it had been written two hours ago.
    ///
    /// # Panics
    /// When it is not there.
    pub fn age(&self, sha256: &str) {
        let file = std::fs::File::options().write(true).open(self.file(sha256)).expect("the object");
        file.set_modified(SystemTime::now() - Duration::from_hours(2)).expect("a time");
    }

    /// Every file it keeps, whole objects and parts alike, with its length.
    ///
    /// # Panics
    /// When its folder cannot be read.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let (mut folders, mut files) = (vec![self.folder.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                    Ok(metadata) => files.push((entry.path(), metadata.len())),
                    // It was renamed a moment ago.
                    Err(_) => {}
                }
            }
        }
        files
    }

    fn objects(&self) -> PathBuf {
        self.folder.path().join(BUCKET).join("carrel")
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.crash();
    }
}

fn variables(port: u16, key: &str, secret: &str) -> Vec<(String, String)> {
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

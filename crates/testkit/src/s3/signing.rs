//! Another S3 server, moto: it keeps objects in memory, and checks the signature of every request with code of Amazon's.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::{BUCKET, PATIENCE, variables};

const PROGRAM: &str = include_str!("signing.py");

/// A server that ends with its test.
pub struct SigningS3 {
    server: Child,
    port: u16,
    key: String,
    secret: String,
}

impl SigningS3 {
    /// Starts a server with one empty bucket and one key.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let packages = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles/s3-python"));
        let missing = "moto is missing; `cargo xtask test` installs it, or: pip3 install --target target/oracles/s3-python \
                       moto[iam,s3]==5.2.5 flask==3.1.3 flask-cors==6.0.5";
        assert!(packages.is_dir(), "{missing}");
        let mut server = Command::new("python3")
            .args(["-c", PROGRAM, BUCKET])
            .env("PYTHONPATH", packages)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is installed");
        let said = BufReader::new(server.stdout.take().expect("a pipe"));
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
                if let Ok([port, key, secret]) = <[String; 3]>::try_from(words)
                    && let Ok(port) = port.parse::<u16>()
                {
                    let _nobody_waits_any_more = tell.send((port, key, secret));
                }
            }
        });
        let Ok((port, key, secret)) = told.recv_timeout(PATIENCE) else {
            let _killed = server.kill();
            panic!("moto does not start");
        };
        Self { server, port, key, secret }
    }

    /// The URL of a place in its bucket.
    #[must_use]
    pub fn place(&self) -> String {
        format!("s3://{BUCKET}/carrel")
    }

    /// The variables it is reached with.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        variables(self.port, &self.key, &self.secret)
    }
}

impl Drop for SigningS3 {
    fn drop(&mut self) {
        let _ended = self.server.kill().and_then(|()| self.server.wait());
    }
}

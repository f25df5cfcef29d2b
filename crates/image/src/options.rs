//! What an administrator decides about images: where they are kept, whose their files are, how large they may be, and
//! which registries are spoken to how.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrel_domain::Secret;
use serde::{Deserialize, Serialize};

use crate::platform::Platform;
use crate::unpacker::Unpacker;

/// How images are pulled and kept.
#[derive(Debug, Clone)]
pub struct ImageOptions {
    /// The cache. Made with mode 0700; used by one process at a time.
    pub folder: PathBuf,
    /// Whose the files are, as whoever unpacks them counts.
    pub owner: Owner,
    /// Who unpacks and removes them, where that is not the service's own process. Default: it is.
    pub unpacker: Option<Unpacker>,
    /// What is too much.
    pub limits: ImageLimits,
    /// What this machine runs. Default: what it is.
    pub platform: Platform,
    /// Registries, as `host` or `host:port`, that are spoken to without TLS, wherever they are. Default: none, not even
    /// on loopback: whoever may name an image could talk to every service of this machine.
    pub plain_http: Vec<String>,
    /// Registries, and hosts they send to, as `host` or `host:port`, that may have a private or loopback address. They
    /// are spoken to with TLS. Default: none.
    pub private: Vec<String>,
    /// Who the service is to registries.
    pub credentials: Vec<Credential>,
    /// Certificate authorities beside the system's, as PEM.
    pub extra_roots_pem: Vec<u8>,
    /// The time a whole pull has. Default 30 minutes.
    pub pull_within: Duration,
    /// The first pause before a request is made again; each further one is twice as long. Default half a second.
    pub first_pause: Duration,
}

impl ImageOptions {
    /// The defaults, with a cache in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, owner: Owner) -> Self {
        Self {
            folder: folder.into(),
            owner,
            unpacker: None,
            limits: ImageLimits::default(),
            platform: Platform::here(),
            plain_http: Vec::new(),
            private: Vec::new(),
            credentials: Vec::new(),
            extra_roots_pem: Vec::new(),
            pull_within: Duration::from_secs(30 * 60),
            first_pause: Duration::from_millis(500),
        }
    }
}

/// Whose the files of unpacked images are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Whoever unpacks is root: user 0 of the image is user `start`, and so on up to 65,535. What belongs
    /// to users above is given to `nobody` (65,534), as no sandbox has more.
    Shifted {
        /// The first user, and group, of the range.
        start: u32,
    },
    /// Whoever unpacks is an ordinary user, who cannot give files away: all are its own, and set-user-id bits are left out.
    Own,
}

/// What is too much for an image. Exceeding one is an error that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLimits {
    /// Bytes of all layers as they are sent. Default 10 GiB.
    pub compressed_bytes: u64,
    /// Bytes of all archives, and of the blocks their files take. Default 20 GiB.
    pub unpacked_bytes: u64,
    /// Entries of all archives. Default 2,000,000.
    pub files: u64,
    /// Layers. Default 128, more than docker's 127.
    pub layers: usize,
    /// Bytes of a manifest, an index or a config. Default 4 MiB.
    pub manifest_bytes: u64,
    /// How many times larger than sent a layer may become. Default 300; gzip alone can reach 1,032.
    pub ratio: u64,
    /// Bytes of a layer that may be unpacked before the ratio counts: small things compress well. Default 1 GiB.
    pub ratio_from_bytes: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            compressed_bytes: 10 << 30,
            unpacked_bytes: 20 << 30,
            files: 2_000_000,
            layers: 128,
            manifest_bytes: 4 << 20,
            ratio: 300,
            ratio_from_bytes: 1 << 30,
        }
    }
}

/// A login at one registry.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The registry as references name it: `docker.io`, `registry.example.com:5000`.
    pub registry: String,
    /// The user.
    pub user: String,
    /// The password, or a token that stands for one.
    pub password: Secret,
}

/// Why docker's configuration could not be read. Says nothing of its content, which is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no docker configuration: it has an `auths` of registries with an `auth`, or a `username` and `password`"
)]
pub struct InvalidCredentials;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credential {
    /// Reads the `auths` of a `config.json` of docker, podman or skopeo. Entries that only name a credential helper are
    /// passed over: helpers are programs, and none is run.
    ///
    /// # Errors
    /// When the text is no such file.
    pub fn from_docker_config(text: &Secret) -> Result<Vec<Self>, InvalidCredentials> {
        let config: DockerConfig = serde_json::from_str(text.expose()).map_err(|_| InvalidCredentials)?;
        let mut found = Vec::new();
        for (key, auth) in config.auths {
            let registry = registry_of_key(&key);
            match (auth.auth, auth.username, auth.password) {
                (Some(encoded), _, _) if !encoded.is_empty() => {
                    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| InvalidCredentials)?;
                    let decoded = String::from_utf8(decoded).map_err(|_| InvalidCredentials)?;
                    let (user, password) = decoded.split_once(':').ok_or(InvalidCredentials)?;
                    let password = Secret::new(password.trim_end_matches('\0'));
                    found.push(Self { registry, user: user.to_owned(), password });
                }
                (_, Some(user), Some(password)) => found.push(Self { registry, user, password: Secret::new(password) }),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// `https://index.docker.io/v1/` is how docker writes `docker.io`.
fn registry_of_key(key: &str) -> String {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare).to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_own_file_of_logins_is_read() {
        let text = Secret::new(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YWRhOnM6MQ=="},
               "r.example.com:5000": {"username": "u", "password": "p"}, "helped.example.com": {}},
               "credHelpers": {"x": "y"}}"#,
        );

        let read = Credential::from_docker_config(&text).expect("a configuration");

        let shown: Vec<_> =
            read.iter().map(|one| (one.registry.as_str(), one.user.as_str(), one.password.expose())).collect();
        assert_eq!(shown, [("docker.io", "ada", "s:1"), ("r.example.com:5000", "u", "p")]);
        assert!(!format!("{read:?}").contains("s:1"));
    }

    #[test]
    fn what_is_no_such_file_is_said_without_repeating_it() {
        for text in ["", "1", r#"{"auths": {"a": {"auth": "%hunter2"}}}"#] {
            let error = Credential::from_docker_config(&Secret::new(text)).expect_err(text);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}

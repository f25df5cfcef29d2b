//! The settings: one typed tree, made from environment variables by a pure function. `carrel serve --help` lists them.

mod artifacts;
mod models;
mod work;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use carrel_domain::Secret;
use carrel_egress::PrivateHost;
use url::Url;

pub(crate) use artifacts::ArtifactSettings;
pub(crate) use models::{ModelSettings, ModelsSettings};
pub(crate) use work::WorkSettings;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);

/// The largest patch that is read, in bytes.
const LARGEST_PATCH: usize = 256 << 20;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The folder of all data.
    pub(crate) data: PathBuf,
    /// The URL of a PostgreSQL database in place of the one in the data folder. Only the service looks at it: other
    /// programs have variables of the same name.
    pub(crate) database_url: Option<Secret>,
    /// Where artifacts are kept.
    pub(crate) artifacts: ArtifactSettings,
    /// What this process does, and how it shares the work with others.
    pub(crate) work: WorkSettings,
    /// Where the service listens; `None` when nothing was said.
    pub(crate) listen: Option<SocketAddr>,
    /// The address people use.
    pub(crate) public_url: Option<Url>,
    /// Where models are configured.
    pub(crate) models: ModelsSettings,
    /// A file of agents that run in sandboxes.
    pub(crate) agents_file: Option<PathBuf>,
    /// Git and its credentials.
    pub(crate) git: GitSettings,
    /// What values of secrets are sealed under.
    pub(crate) secrets: SecretsSettings,
    /// What sandboxes may reach and where images come from.
    pub(crate) network: NetworkSettings,
    /// Further paths to hide from sandboxes.
    pub(crate) private_paths: Vec<PathBuf>,
    /// Folders that, or what lies in them, environments may take for an image.
    pub(crate) image_folders: Vec<PathBuf>,
    /// What kept layers may take on the disk together, in bytes.
    pub(crate) max_layer_bytes: u64,
    /// Attempts and publications worked on at once.
    pub(crate) max_jobs: usize,
    /// The longest patch that is kept, in bytes.
    pub(crate) max_patch_bytes: usize,
    /// How long an attempt may take, in seconds; nothing when nothing was said.
    pub(crate) max_attempt_s: Option<usize>,
    /// How many requests to the model, and tokens, an attempt may make and use; nothing when nothing was said.
    pub(crate) max_steps: Option<u32>,
    pub(crate) max_tokens: Option<u64>,
    /// What an attempt may cost, in millionths of a US dollar.
    pub(crate) max_cost_usd_micros: Option<u64>,
    /// What is logged.
    pub(crate) log: String,
    /// How it is written.
    pub(crate) log_format: LogFormat,
    /// Where traces are sent.
    pub(crate) traces: Option<Url>,
    /// A further address that figures are served on, to anybody.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Where the client finds a service on another machine.
    pub(crate) remote: Option<Remote>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One object a line.
    Json,
}

/// What git needs from its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct GitSettings {
    /// A file in the format of git-credential-store.
    pub(crate) credentials_file: PathBuf,
    /// Whether that file was named: then it must be there.
    credentials_are_named: bool,
    /// Forges that diffs named in prompts are fetched from, beside the repository's own.
    pub(crate) diff_hosts: Vec<String>,
    pub(crate) author_name: String,
    pub(crate) author_email: String,
    pub(crate) home: PathBuf,
    pub(crate) ssh_auth_sock: Option<OsString>,
    pub(crate) search_path: Option<OsString>,
}

/// What an administrator says about the network of sandboxes, and about registries of images.
#[derive(Debug, Clone)]
pub(crate) struct NetworkSettings {
    /// Hosts whose private addresses may be reached: `name` or `name:port`, separated by commas.
    pub(crate) private_hosts: Vec<PrivateHost>,
    /// The same as they were written, for registries.
    pub(crate) private_names: Vec<String>,
    /// A file of certificates, beside the system's, that servers may be signed by.
    pub(crate) authorities_file: Option<PathBuf>,
    /// A file in place of the preset of common dependencies.
    pub(crate) common_file: Option<PathBuf>,
    /// A file in place of what is known of package managers.
    pub(crate) packages_file: Option<PathBuf>,
    /// Whether TLS is opened everywhere, and not only where a rule needs it.
    pub(crate) opens_all_tls: bool,
    /// Registries that are spoken to without TLS.
    pub(crate) plain_registries: Vec<String>,
    /// A file of logins to registries, in the format of Docker's `config.json`.
    pub(crate) registry_logins_file: Option<PathBuf>,
}

/// Where the keys are that values of secrets are sealed under.
#[derive(Debug, Clone)]
pub(crate) struct SecretsSettings {
    /// The key that seals, when it is given by itself.
    pub(crate) key: Option<Secret>,
    /// A file of keys.
    pub(crate) key_file: PathBuf,
    /// Whether that file was named: then it must be there.
    pub(crate) file_is_named: bool,
    /// Whether the service starts although it lacks a key that values are sealed under. Said on the command line, each time.
    pub(crate) may_be_lost: bool,
}

/// A service on another machine.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) url: Url,
    pub(crate) token: Secret,
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidSetting {
    variable: &'static str,
    problem: String,
}

impl std::fmt::Display for InvalidSetting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.variable, self.problem)
    }
}

impl Settings {
    /// The settings that these variables make.
    ///
    /// # Errors
    /// Names the variable that makes no sense, never its value when that is a secret.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, InvalidSetting> {
        let variables = Variables(lookup);
        let home = PathBuf::from(variables.os("HOME").unwrap_or_else(|| "/".into()));
        let data = match variables.os("CARREL_DATA") {
            Some(folder) => PathBuf::from(folder),
            None => home.join(".local/share/carrel"),
        };
        if !data.is_absolute() {
            return Err(invalid("CARREL_DATA", "is not an absolute path"));
        }
        Ok(Self {
            git: variables.git(&data, home)?,
            work: variables.work()?,
            database_url: variables.text("DATABASE_URL").ok().flatten().map(Secret::new),
            artifacts: variables.artifacts()?,
            listen: variables.parsed("CARREL_LISTEN", "is not an address and a port, such as 127.0.0.1:7070")?,
            public_url: variables.url("CARREL_PUBLIC_URL")?,
            models: variables.models()?,
            agents_file: variables.file("CARREL_AGENTS_FILE")?,
            secrets: variables.secrets(&data)?,
            network: variables.network()?,
            max_layer_bytes: variables
                .parsed("CARREL_MAX_LAYER_BYTES", "is not a whole number of bytes")?
                .unwrap_or(50_000_000_000),
            private_paths: variables.paths("CARREL_PRIVATE_PATHS")?,
            image_folders: variables.paths("CARREL_IMAGE_FOLDERS")?,
            max_jobs: variables.positive("CARREL_MAX_JOBS")?.unwrap_or(32),
            max_patch_bytes: variables.patch_bytes()?,
            max_attempt_s: variables.positive("CARREL_MAX_ATTEMPT_SECONDS")?,
            max_steps: variables.positive("CARREL_MAX_STEPS")?.map(|steps| u32::try_from(steps).unwrap_or(u32::MAX)),
            max_tokens: variables.positive("CARREL_MAX_TOKENS")?.map(|tokens| tokens as u64),
            max_cost_usd_micros: variables.usd_micros("CARREL_MAX_COST_USD")?,
            log: variables.text("CARREL_LOG")?.unwrap_or_else(|| "info,sea_orm_migration=warn,sqlx=warn".to_owned()),
            log_format: match variables.text("CARREL_LOG_FORMAT")?.as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(_) => return Err(invalid("CARREL_LOG_FORMAT", "is neither `text` nor `json`")),
            },
            traces: variables.url("OTEL_EXPORTER_OTLP_ENDPOINT")?,
            metrics_listen: variables
                .parsed("CARREL_METRICS_LISTEN", "is not an address and a port, such as 127.0.0.1:9090")?,
            remote: variables.remote()?,
            data,
        })
    }

    /// The PostgreSQL database to use, if one is.
    ///
    /// # Errors
    /// When what is named is none.
    pub(crate) fn postgres(&self) -> Result<Option<Secret>, InvalidSetting> {
        let Some(url) = &self.database_url else { return Ok(None) };
        if ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            return Ok(Some(url.clone()));
        }
        Err(invalid(
            "DATABASE_URL",
            "is not the URL of a PostgreSQL database, such as postgres://carrel:password@localhost/carrel; unset it to use \
             SQLite in the data folder",
        ))
    }

    /// Where the service listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or(DEFAULT_LISTEN)
    }
}

impl GitSettings {
    /// The file of credentials, if there is one.
    pub(crate) fn credentials(&self) -> Option<PathBuf> {
        (self.credentials_are_named || self.credentials_file.exists()).then(|| self.credentials_file.clone())
    }
}

struct Variables<L>(L);

impl<L: Fn(&str) -> Option<OsString>> Variables<L> {
    /// An empty variable is one that is not set.
    fn os(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, InvalidSetting> {
        let value = self.os(name).map(OsString::into_string).transpose();
        Ok(value.map_err(|_| invalid(name, "is not UTF-8"))?.map(|text| text.trim().to_owned()))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &'static str, problem: &str) -> Result<Option<T>, InvalidSetting> {
        self.text(name)?.map(|text| text.parse().map_err(|_| invalid(name, problem))).transpose()
    }

    fn positive(&self, name: &'static str) -> Result<Option<usize>, InvalidSetting> {
        match self.parsed(name, "is not a whole number above 0")? {
            Some(0) => Err(invalid(name, "is not a whole number above 0")),
            number => Ok(number),
        }
    }

    /// Dollars, as millionths.
    fn usd_micros(&self, name: &'static str) -> Result<Option<u64>, InvalidSetting> {
        const WRONG: &str = "is no amount of US dollars above 0, such as 2.50";
        match self.parsed::<f64>(name, WRONG)? {
            Some(dollars) if !(0.000_001..1e9).contains(&dollars) => Err(invalid(name, WRONG)),
            dollars => Ok(dollars.map(|dollars| (dollars * 1e6).round() as u64)),
        }
    }

    fn patch_bytes(&self) -> Result<usize, InvalidSetting> {
        match self.positive("CARREL_MAX_PATCH_BYTES")? {
            Some(bytes) if bytes > LARGEST_PATCH => Err(invalid(
                "CARREL_MAX_PATCH_BYTES",
                &format!("is more than {LARGEST_PATCH}, the largest patch there can be"),
            )),
            bytes => Ok(bytes.unwrap_or(100_000_000)),
        }
    }

    fn url(&self, name: &'static str) -> Result<Option<Url>, InvalidSetting> {
        let url: Option<Url> = self.parsed(name, "is not a URL")?;
        match url {
            Some(url) if !matches!(url.scheme(), "http" | "https") || url.host().is_none() => {
                Err(invalid(name, "is not an http or https URL"))
            }
            Some(url) if !url.username().is_empty() || url.password().is_some() => {
                Err(invalid(name, "has a credential in it; give it in a variable of its own"))
            }
            url => Ok(url),
        }
    }

    fn paths(&self, name: &'static str) -> Result<Vec<PathBuf>, InvalidSetting> {
        let paths: Vec<PathBuf> = std::env::split_paths(&self.os(name).unwrap_or_default())
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        match paths.iter().find(|path| !path.is_absolute()) {
            Some(path) => Err(invalid(name, &format!("has `{}`, which is not an absolute path", path.display()))),
            None => Ok(paths),
        }
    }

    fn git(&self, data: &std::path::Path, home: PathBuf) -> Result<GitSettings, InvalidSetting> {
        let author = self.text("CARREL_GIT_AUTHOR")?.unwrap_or_else(|| "Carrel <carrel@localhost>".to_owned());
        let (author_name, author_email) = author
            .strip_suffix('>')
            .and_then(|author| author.split_once(" <"))
            .filter(|(name, email)| !name.trim().is_empty() && email.contains('@') && !author.contains('\n'))
            .ok_or_else(|| invalid("CARREL_GIT_AUTHOR", "is not of the form `Name <address>`"))?;
        let named = self.os("CARREL_GIT_CREDENTIALS").map(PathBuf::from);
        if named.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err(invalid("CARREL_GIT_CREDENTIALS", "is not an absolute path"));
        }
        Ok(GitSettings {
            credentials_are_named: named.is_some(),
            credentials_file: named.unwrap_or_else(|| data.join("git-credentials")),
            diff_hosts: self.diff_hosts()?,
            author_name: author_name.trim().to_owned(),
            author_email: author_email.to_owned(),
            home,
            ssh_auth_sock: self.os("SSH_AUTH_SOCK"),
            search_path: self.os("PATH"),
        })
    }

    fn network(&self) -> Result<NetworkSettings, InvalidSetting> {
        let hosts = self.list("CARREL_PRIVATE_HOSTS")?;
        let private_hosts = hosts.iter().map(|host| {
            host.parse()
                .map_err(|error| invalid("CARREL_PRIVATE_HOSTS", &format!("has a part that is no host: {error}")))
        });
        let opens_all_tls = match self.text("CARREL_OPEN_TLS")?.as_deref() {
            None | Some("needed") => false,
            Some("always") => true,
            Some(_) => return Err(invalid("CARREL_OPEN_TLS", "is neither `needed` nor `always`")),
        };
        Ok(NetworkSettings {
            private_hosts: private_hosts.collect::<Result<_, _>>()?,
            private_names: hosts.clone(),
            authorities_file: self.file("CARREL_CA_FILE")?,
            common_file: self.file("CARREL_COMMON_DOMAINS_FILE")?,
            packages_file: self.file("CARREL_PACKAGES_FILE")?,
            opens_all_tls,
            plain_registries: self.list("CARREL_PLAIN_REGISTRIES")?,
            registry_logins_file: self.file("CARREL_REGISTRY_LOGINS")?,
        })
    }

    fn diff_hosts(&self) -> Result<Vec<String>, InvalidSetting> {
        let hosts = self.list("CARREL_DIFF_HOSTS")?;
        for host in &hosts {
            let url = Url::parse(&format!("https://{host}/")).ok();
            let is_host = url.as_ref().is_some_and(|url| {
                url.as_str() == format!("https://{host}/") && url.username().is_empty() && url.path() == "/"
            });
            if !is_host {
                return Err(invalid(
                    "CARREL_DIFF_HOSTS",
                    "has a part that is no host, such as `github.com` or `git.example:8443`",
                ));
            }
        }
        let default = || carrel_control::DIFF_HOSTS.iter().map(|host| (*host).to_owned()).collect();
        Ok(if hosts.is_empty() { default() } else { hosts })
    }

    /// Words separated by commas.
    fn list(&self, name: &'static str) -> Result<Vec<String>, InvalidSetting> {
        let text = self.text(name)?.unwrap_or_default();
        Ok(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }

    fn file(&self, name: &'static str) -> Result<Option<PathBuf>, InvalidSetting> {
        match self.os(name).map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(invalid(name, "is not an absolute path")),
            path => Ok(path),
        }
    }

    fn secrets(&self, data: &std::path::Path) -> Result<SecretsSettings, InvalidSetting> {
        let named = self.os("CARREL_SECRETS_KEY_FILE").map(PathBuf::from);
        if named.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err(invalid("CARREL_SECRETS_KEY_FILE", "is not an absolute path"));
        }
        Ok(SecretsSettings {
            key: self.text("CARREL_SECRETS_KEY")?.map(Secret::new),
            file_is_named: named.is_some(),
            may_be_lost: false,
            key_file: named.unwrap_or_else(|| data.join("secrets.key")),
        })
    }

    fn remote(&self) -> Result<Option<Remote>, InvalidSetting> {
        let Some(url) = self.url("CARREL_URL")? else { return Ok(None) };
        let token = self.text("CARREL_TOKEN")?;
        let token = token.ok_or_else(|| {
            invalid("CARREL_TOKEN", "is not set, and CARREL_URL is; a service on another machine needs both")
        })?;
        Ok(Some(Remote { url, token: Secret::new(token) }))
    }
}

fn invalid(variable: &'static str, problem: &str) -> InvalidSetting {
    InvalidSetting { variable, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, InvalidSetting> {
        Settings::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn nothing_set_is_the_laptop() {
        let settings = settings(&[("HOME", "/home/ada")]).expect("settings");

        assert_eq!(settings.data, PathBuf::from("/home/ada/.local/share/carrel"));
        assert_eq!(settings.listen().to_string(), "127.0.0.1:7070");
        assert!(settings.models.one.is_none() && settings.remote.is_none());
    }

    #[test]
    fn a_setting_that_makes_no_sense_is_named() {
        for (name, value) in [
            ("CARREL_LISTEN", "7070"),
            ("CARREL_METRICS_LISTEN", "9090"),
            ("CARREL_LOG_FORMAT", "xml"),
            ("CARREL_PUBLIC_URL", "carrel.example.com"),
            ("CARREL_MODEL_URL", "file:///etc/passwd"),
            ("CARREL_MODEL_URL", "http://user:pass@host/v1"),
            ("CARREL_MODEL_PROTOCOL", "grpc"),
            ("CARREL_MODELS_FILE", "relative.toml"),
            ("CARREL_GIT_AUTHOR", "nobody"),
            ("CARREL_DIFF_HOSTS", "github.com, https://git.example"),
            ("CARREL_DIFF_HOSTS", "git.example/path"),
            ("CARREL_MAX_JOBS", "0"),
            ("CARREL_MAX_ATTEMPT_SECONDS", "2h"),
            ("CARREL_MAX_STEPS", "0"),
            ("CARREL_WORKER_GONE_SECONDS", "1m"),
            ("CARREL_ROLE", "boss"),
            ("CARREL_ATTEMPTS_PER_PERSON", "0"),
            ("CARREL_ATTEMPTS_PER_ORGANIZATION", "many"),
            ("CARREL_WORKER_RETURN_SECONDS", "soon"),
            ("CARREL_MAX_TOKENS", "1e6"),
            ("CARREL_MAX_COST_USD", "-1"),
            ("CARREL_MAX_COST_USD", "NaN"),
            ("CARREL_PRIVATE_PATHS", "relative"),
            ("CARREL_DATA", "relative"),
            ("CARREL_SECRETS_KEY_FILE", "relative"),
            ("CARREL_PRIVATE_HOSTS", "git.corp,https://x"),
            ("CARREL_OPEN_TLS", "yes"),
            ("CARREL_CA_FILE", "relative"),
            ("CARREL_MAX_LAYER_BYTES", "much"),
        ] {
            let error = settings(&[(name, value)]).expect_err(name);
            assert!(error.to_string().starts_with(name), "{error}");
        }
        let error = settings(&[("CARREL_URL", "http://host")]).expect_err("no token");
        assert!(error.to_string().contains("CARREL_TOKEN"), "{error}");
    }

    #[test]
    fn the_database_of_another_program_disturbs_only_the_service() {
        let theirs = settings(&[("DATABASE_URL", "mysql://shop:hunter2@db/shop")]).expect("clients do not care");
        let ours = settings(&[("DATABASE_URL", "postgres://carrel:hunter2@db/carrel")]).expect("settings");

        let error = theirs.postgres().expect_err("the service does").to_string();
        assert!(error.starts_with("DATABASE_URL") && !error.contains("hunter2"), "{error}");
        assert!(ours.postgres().expect("a database").is_some());
        assert!(settings(&[]).expect("settings").postgres().expect("fine").is_none());
    }

    #[test]
    fn a_key_that_makes_no_sense_is_not_repeated() {
        let error = settings(&[("CARREL_MODEL_KEY", "sk hunter2")]).expect_err("a space");

        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

//! `carrel environment`: its commands and flags as they are written.

use std::path::PathBuf;

use carrel_domain::Secret;
use clap::{Args, Subcommand, ValueEnum};

const SECRETS_HELP: &str = "\
Secrets:
  What stands on a command line can be seen by everybody on the machine, and is kept by shells. Give the NAME alone to
  be asked for the value (or to have it read from standard input when that is no terminal), or NAME=@FILE to have it
  read from a file. A value that begins with @ is written with @@.
  Values are sealed, and never come back out: not in `show`, in no log, to no model.

Hosts:
  a.example is this host alone, *.a.example are those below it, .a.example is both.

Sizes are bytes, or have a unit: 512M, 4G. Durations are seconds, or have units: 90s, 20m, 1h30m, 12h. `none` is no limit.";

const TRY_HELP: &str = "\
The sandbox is prepared as for an attempt on the default branch: what is done is told on standard error, a snapshot that
is there is used, and one that is not is made and kept. Then the shell is in the folder of the repository, with the
network that agents have. The sandbox ends with the shell, or when nothing has moved for an hour.

What programs in there write reaches your terminal as it is, escape sequences included. When standard input is no
terminal, its content is run as commands, without prompt or echo.

Exit codes:
  0 to 255  the shell's own; 128 and the signal's number when a signal ended it, or ended this command
  1         also when the environment could not be prepared, or the terminal was closed by the service
  2 to 5    also as of every command, with an error that says why";

#[derive(Debug, Subcommand)]
pub(crate) enum EnvironmentCommand {
    /// Make an environment
    #[command(after_help = SECRETS_HELP)]
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        content: Box<ContentArguments>,
    },
    /// List environments
    List,
    /// Show an environment; of its secrets, their names
    Show {
        /// The environment
        name: String,
    },
    /// Change an environment: what is not named stays as it is
    #[command(after_help = SECRETS_HELP)]
    Edit {
        /// The environment
        name: String,
        #[command(flatten)]
        content: Box<ContentArguments>,
        #[command(flatten)]
        removals: Removals,
    },
    /// Delete an environment with its secrets and its cache
    Delete {
        /// The environment
        name: String,
    },
    /// Open a shell in a fresh sandbox of an environment
    #[command(after_help = TRY_HELP)]
    Try {
        /// The environment
        name: String,
        /// The repository to try it on: a path or a URL [default: the environment's first]
        #[arg(long, value_name = "R")]
        repository: Option<String>,
    },
    /// Have the next attempt prepare an environment anew
    ResetCache {
        /// The environment
        name: String,
    },
}

/// What an environment says, flag by flag.
#[derive(Debug, Args)]
pub(crate) struct ContentArguments {
    /// A repository it is for: a path or a URL; may be given several times [default: any]
    #[arg(long, value_name = "R")]
    pub(crate) repository: Vec<String>,
    /// What its root is made of: `host`, a folder, or an OCI image such as python:3.12
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// A bash script that prepares it; `-` reads it from standard input
    #[arg(long, value_name = "FILE", group = "setup")]
    pub(crate) setup_script: Option<PathBuf>,
    /// Prepare nothing
    #[arg(long, group = "setup")]
    pub(crate) no_setup: bool,
    /// Prepare what the repository's lock files call for
    #[arg(long, group = "setup")]
    pub(crate) automatic_setup: bool,
    /// A bash script that is run when a prepared environment is reused; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) maintenance_script: Option<PathBuf>,
    /// A variable of every command
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) variable: Vec<(String, String)>,
    /// Variables, as a .env file; `-` reads it from standard input
    #[arg(long, value_name = "FILE", visible_alias = "env-file")]
    pub(crate) variables_file: Option<PathBuf>,
    /// A secret that setup and maintenance see as a variable, and nothing else does
    #[arg(long, value_name = "NAME[=VALUE|=@FILE]", value_parser = setup_secret)]
    pub(crate) setup_secret: Vec<SecretArgument>,
    /// Setup secrets, as a .env file; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) setup_secrets_file: Option<PathBuf>,
    /// A secret that programs see as a placeholder, and only these hosts get the value of
    #[arg(long, value_name = "NAME[=VALUE|=@FILE]@HOST[,HOST]", value_parser = network_secret)]
    pub(crate) network_secret: Vec<NetworkSecretArgument>,
    #[command(flatten)]
    pub(crate) network: NetworkArguments,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    /// How long a prepared environment is reused [default: 12h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) snapshot_life: Option<u32>,
}

/// What may be reached.
#[derive(Debug, Args)]
pub(crate) struct NetworkArguments {
    /// What the agent may reach [default: off]
    #[arg(long, value_enum)]
    pub(crate) internet: Option<InternetArgument>,
    /// A host that the agent may reach, too
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) allow_domain: Vec<String>,
    /// Which requests the agent may make: GET, HEAD and OPTIONS, or all [default: all]
    #[arg(long, value_enum)]
    pub(crate) methods: Option<MethodsArgument>,
    /// What setup and maintenance may reach [default: all]
    #[arg(long, value_enum)]
    pub(crate) setup_internet: Option<InternetArgument>,
    /// A host that setup and maintenance may reach, too
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) setup_allow_domain: Vec<String>,
    /// Which requests setup and maintenance may make [default: all]
    #[arg(long, value_enum)]
    pub(crate) setup_methods: Option<MethodsArgument>,
}

/// What one sandbox may use.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LimitArguments {
    /// Processors, such as 2 or 0.5 [default: none]
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub(crate) cpus: Option<u32>,
    /// Memory [default: 4G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// What it may write to the disk [default: 20G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) disk: Option<u64>,
    /// Processes and threads at once [default: 1024]
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<u32>,
    /// How long an attempt may take [default: the service's]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wall_clock: Option<u32>,
    /// How long setup, and maintenance, may take [default: 20m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) setup_limit: Option<u32>,
    /// How much one command may print [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) output: Option<u64>,
}

/// What an edit takes away.
#[derive(Debug, Args)]
pub(crate) struct Removals {
    /// Make it for no repository but those given with `--repository`; with none, for any
    #[arg(long)]
    pub(crate) clear_repositories: bool,
    /// Remove a variable
    #[arg(long, value_name = "NAME")]
    pub(crate) remove_variable: Vec<String>,
    /// Remove a secret
    #[arg(long, value_name = "NAME")]
    pub(crate) remove_secret: Vec<String>,
    /// No longer allow the agent a host
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) remove_domain: Vec<String>,
    /// No longer allow setup and maintenance a host
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) remove_setup_domain: Vec<String>,
    /// Give something its default again
    #[arg(long, value_name = "WHAT", value_enum)]
    pub(crate) unset: Vec<Unset>,
}

/// What can be given its default again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unset {
    Image,
    Setup,
    MaintenanceScript,
    Limits,
    SnapshotLife,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum InternetArgument {
    Off,
    Packages,
    Common,
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum MethodsArgument {
    Read,
    All,
}

impl From<InternetArgument> for carrel_wire::Internet {
    fn from(internet: InternetArgument) -> Self {
        match internet {
            InternetArgument::Off => Self::Off,
            InternetArgument::Packages => Self::Packages,
            InternetArgument::Common => Self::Common,
            InternetArgument::All => Self::All,
        }
    }
}

impl From<MethodsArgument> for carrel_wire::Methods {
    fn from(methods: MethodsArgument) -> Self {
        match methods {
            MethodsArgument::Read => Self::Read,
            MethodsArgument::All => Self::All,
        }
    }
}

/// Where a secret's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// It stands on the command line.
    Given(Secret),
    /// A file.
    File(PathBuf),
    /// The terminal, or standard input.
    Asked,
}

/// A setup secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretArgument {
    pub(crate) name: String,
    pub(crate) source: Source,
}

/// A network secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkSecretArgument {
    pub(crate) secret: SecretArgument,
    pub(crate) hosts: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Never fails, so that what it was given is in no complaint.
fn setup_secret(text: &str) -> Result<SecretArgument, String> {
    let Some((name, value)) = text.split_once('=') else {
        return Ok(SecretArgument { name: text.to_owned(), source: Source::Asked });
    };
    let source = match value.strip_prefix('@') {
        Some(literal) if literal.starts_with('@') => Source::Given(Secret::new(literal)),
        Some(file) => Source::File(file.into()),
        None => Source::Given(Secret::new(value)),
    };
    Ok(SecretArgument { name: name.to_owned(), source })
}

/// The hosts stand behind the last `@`. Without one there are none, which the service refuses by the secret's name: a
/// complaint from here would repeat the value.
fn network_secret(text: &str) -> Result<NetworkSecretArgument, String> {
    let (secret, hosts) = text.rsplit_once('@').unwrap_or((text, ""));
    let hosts = hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect();
    Ok(NetworkSecretArgument { secret: setup_secret(secret)?, hosts })
}

/// Thousandths of a processor.
fn cpus(text: &str) -> Result<u32, String> {
    if text == "none" {
        return Ok(0);
    }
    let wrong = || "write a number of processors, such as 2 or 0.5, or `none`".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 3 || (whole.is_empty() && part.is_empty()) {
        return Err(wrong());
    }
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let part: u32 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
    match whole.checked_mul(1000).and_then(|whole| whole.checked_add(part)) {
        None | Some(0) => Err(wrong()),
        Some(millis) => Ok(millis),
    }
}

/// Bytes.
fn size(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let wrong = || "write a size, such as 512M or 4G, or `none`".to_owned();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| wrong())?;
    let unit = text[end..].to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// Seconds.
pub(crate) fn duration(text: &str) -> Result<u32, String> {
    if text == "none" {
        return Ok(0);
    }
    let wrong = || "write a duration, such as 90s, 20m, 1h30m or 12h, or `none`".to_owned();
    let mut seconds: u32 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let number: u32 = rest[..end].parse().map_err(|_| wrong())?;
        let unit = rest[end..].chars().next();
        let each = match unit {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 60 * 60,
            Some('d') => 24 * 60 * 60,
            Some(_) => return Err(wrong()),
        };
        seconds = number.checked_mul(each).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = &rest[end + unit.map_or(0, char::len_utf8)..];
    }
    if seconds == 0 { Err(wrong()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &str) -> Source {
        Source::Given(Secret::new(value))
    }

    #[test]
    fn a_secret_is_given_asked_for_or_read_from_a_file() {
        for (text, name, source) in [
            ("TOKEN=abc=def", "TOKEN", given("abc=def")),
            ("TOKEN", "TOKEN", Source::Asked),
            ("TOKEN=@/run/token", "TOKEN", Source::File("/run/token".into())),
            ("TOKEN=@@acme", "TOKEN", given("@acme")),
            ("TOKEN=", "TOKEN", given("")),
        ] {
            assert_eq!(setup_secret(text), Ok(SecretArgument { name: name.to_owned(), source }), "{text}");
        }
    }

    #[test]
    fn the_hosts_of_a_network_secret_stand_behind_the_last_at_sign() {
        for (text, source, hosts) in [
            ("TOKEN=p@ss@a.example", given("p@ss"), vec!["a.example"]),
            ("TOKEN=v@a.example,b.example", given("v"), vec!["a.example", "b.example"]),
            ("TOKEN@a.example", Source::Asked, vec!["a.example"]),
            ("TOKEN=@key.pem@a.example", Source::File("key.pem".into()), vec!["a.example"]),
            ("TOKEN=v", given("v"), vec![]),
        ] {
            let read = network_secret(text).expect("it never fails");
            assert_eq!((read.secret.source, read.hosts), (source, hosts.into_iter().map(str::to_owned).collect()));
        }
    }

    #[test]
    fn sizes_durations_and_processors_have_units_and_no_surprises() {
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!((size("4G"), size("4GiB"), size("4gb")), (Ok(4 << 30), Ok(4 << 30), Ok(4 << 30)));
        assert_eq!((size("1048576"), size("none")), (Ok(1 << 20), Ok(0)));
        assert_eq!((duration("90"), duration("90s"), duration("1h30m")), (Ok(90), Ok(90), Ok(5400)));
        assert_eq!((duration("2d"), duration("none")), (Ok(172_800), Ok(0)));
        assert_eq!((cpus("2"), cpus("0.5"), cpus(".25"), cpus("none")), (Ok(2000), Ok(500), Ok(250), Ok(0)));
        for text in ["", "0", "x", "-1", "4 G", "4X", "99999999999999T", "1.5G"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["", "0", "x", "-1s", "1w", "99999999999d", "h", "1.5h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", ".", "0", "-1", "1.2345", "x", "99999999"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }
}

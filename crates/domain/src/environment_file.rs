//! What a repository says of its own environment: `.carrel/environment.toml`, and how that, `devcontainer.json` and the
//! stored environment settle what counts. The format stands in `docs/environments.md`.
//!
//! Whoever writes to the repository writes these files. So they choose what is inside the sandbox, and can take less
//! than the stored environment gives; they can name no folder of the host, and can only ask for more network.

mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use serde::Deserialize;
use toml::Spanned;

use crate::{DomainRule, Image, Setup, VariableName};

pub use settle::{Settled, settle};

/// Where the file is in a repository.
pub const PATH: &str = ".carrel/environment.toml";

/// Longest file, and longest script, in bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Most variables of one file.
const MAX_VARIABLES: usize = 200;
/// Longest value of a variable, in bytes.
const MAX_VALUE_BYTES: usize = 32 << 10;
/// Longest path of a script, in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// Most domains that are asked for.
const MAX_DOMAINS: usize = 100;

/// Why a file of the repository is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}`{place}: {problem}", place = place(.line))]
pub struct InvalidFile {
    pub(crate) file: &'static str,
    pub(crate) line: Option<usize>,
    pub(crate) problem: String,
}

fn place(line: &Option<usize>) -> String {
    line.map(|line| format!(" line {line}")).unwrap_or_default()
}

/// What a file of the repository says, its scripts read. `None` where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositorySettings {
    /// The file, as a path in the repository.
    pub source: &'static str,
    /// The image: the host's root or an OCI image, never a folder of the host.
    pub image: Option<Image>,
    /// What is run before a snapshot is kept.
    pub setup: Option<Setup>,
    /// What is run when a snapshot is reused.
    pub maintenance_script: Option<String>,
    /// Variables of every command.
    pub variables: BTreeMap<VariableName, String>,
    /// Domains that it asks for. They are not allowed by that.
    pub requested_domains: Vec<DomainRule>,
    /// Limits it sets for itself.
    pub limits: RequestedLimits,
    /// What of it does not count, and why, as sentences for a person.
    pub warnings: Vec<String>,
}

/// Limits as a repository sets them for itself: they count where they are lower than the environment's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestedLimits {
    /// Thousandths of a processor.
    pub cpu_millis: Option<NonZeroU32>,
    /// Bytes of memory.
    pub memory_bytes: Option<NonZeroU64>,
    /// Processes and threads at once.
    pub processes: Option<NonZeroU32>,
    /// Bytes of the writable layer.
    pub disk_bytes: Option<NonZeroU64>,
    /// Seconds from the start of an attempt to its end.
    pub wall_clock_s: Option<NonZeroU32>,
    /// Seconds that setup, and maintenance, may take.
    pub setup_s: Option<NonZeroU32>,
    /// Bytes that one command's output may have.
    pub output_bytes: Option<NonZeroU64>,
}

/// The file as it was written: scripts may stand in files of their own, which the caller reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentFile {
    settings: RepositorySettings,
    setup_file: Option<String>,
    maintenance_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Raw {
    image: Option<Spanned<String>>,
    setup: Option<Spanned<Word>>,
    setup_script: Option<Spanned<String>>,
    setup_script_file: Option<Spanned<String>>,
    maintenance_script: Option<Spanned<String>>,
    maintenance_script_file: Option<Spanned<String>>,
    variables: BTreeMap<VariableName, Spanned<String>>,
    network: RawNetwork,
    limits: RequestedLimits,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Automatic,
    None,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawNetwork {
    allow_domains: Vec<DomainRule>,
}

/// Reads `.carrel/environment.toml`.
///
/// # Errors
///
/// [`InvalidFile`] with the line: a key that there is not, a value that means nothing, two keys for the same thing.
pub fn parse(text: &str) -> Result<EnvironmentFile, InvalidFile> {
    if text.len() > MAX_BYTES {
        return Err(refuse(None, format!("it has {} bytes; {MAX_BYTES} are the most", text.len())));
    }
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        refuse(line, shown(error.message()))
    })?;
    let at = |start: usize| Some(line_of(text, start));
    let mut settings = RepositorySettings { source: PATH, limits: raw.limits, ..RepositorySettings::default() };
    if let Some(image) = &raw.image {
        settings.image = Some(image_of(image.get_ref()).map_err(|problem| refuse(at(image.span().start), problem))?);
    }
    only_one(text, &[start(&raw.setup), start(&raw.setup_script), start(&raw.setup_script_file)], SETUP_KEYS)?;
    only_one(text, &[start(&raw.maintenance_script), start(&raw.maintenance_script_file)], MAINTENANCE_KEYS)?;
    settings.setup = match (raw.setup.map(Spanned::into_inner), raw.setup_script) {
        (Some(Word::Automatic), _) => Some(Setup::Automatic),
        (Some(Word::None), _) => Some(Setup::Nothing),
        (None, script) => script.map(|script| Setup::Script(script.into_inner())),
    };
    settings.maintenance_script = raw.maintenance_script.map(Spanned::into_inner);
    let path = |path: Option<Spanned<String>>| match path {
        None => Ok(None),
        Some(path) => check_path(path.get_ref())
            .map_err(|problem| refuse(at(path.span().start), problem))
            .map(|()| Some(path.into_inner())),
    };
    let (setup_file, maintenance_file) = (path(raw.setup_script_file)?, path(raw.maintenance_script_file)?);
    if raw.variables.len() > MAX_VARIABLES {
        return Err(refuse(None, format!("it has {} variables; {MAX_VARIABLES} are the most", raw.variables.len())));
    }
    for (name, value) in raw.variables {
        check_value(value.get_ref())
            .map_err(|problem| refuse(at(value.span().start), format!("the value of {name} {problem}")))?;
        settings.variables.insert(name, value.into_inner());
    }
    if raw.network.allow_domains.len() > MAX_DOMAINS {
        return Err(refuse(None, format!("it asks for more than {MAX_DOMAINS} domains")));
    }
    settings.requested_domains = raw.network.allow_domains;
    Ok(EnvironmentFile { settings, setup_file, maintenance_file })
}

impl EnvironmentFile {
    /// The scripts that stand in files of their own, as paths in the repository.
    pub fn script_files(&self) -> impl Iterator<Item = &str> {
        self.setup_file.iter().chain(&self.maintenance_file).map(String::as_str)
    }

    /// The settings, with the texts of those files by their paths. One that is missing, or longer than 64 KiB, does not
    /// count, and a warning says so.
    #[must_use]
    pub fn with_scripts(self, scripts: &[(String, String)]) -> RepositorySettings {
        let Self { mut settings, setup_file, maintenance_file } = self;
        let mut text = |path: Option<String>| {
            let path = path?;
            let found = scripts.iter().find(|(other, _)| *other == path).map(|(_, text)| text.clone());
            let fits = found.filter(|text| text.len() <= MAX_BYTES);
            if fits.is_none() {
                let warning = format!(
                    "`{PATH}` names the script `{}`, which is not there or has more than {MAX_BYTES} bytes; it does not \
                     count",
                    shown(&path)
                );
                settings.warnings.push(warning);
            }
            fits
        };
        let (setup, maintenance) = (text(setup_file), text(maintenance_file));
        settings.setup = setup.map(Setup::Script).or(settings.setup);
        settings.maintenance_script = maintenance.or(settings.maintenance_script);
        settings
    }
}

const SETUP_KEYS: &str = "`setup`, `setup_script` and `setup_script_file`";
const MAINTENANCE_KEYS: &str = "`maintenance_script` and `maintenance_script_file`";

fn start<T>(value: &Option<Spanned<T>>) -> Option<usize> {
    value.as_ref().map(|value| value.span().start)
}

/// Refuses the second of several keys that say the same thing.
fn only_one(text: &str, starts: &[Option<usize>], keys: &str) -> Result<(), InvalidFile> {
    let mut said: Vec<usize> = starts.iter().flatten().copied().collect();
    said.sort_unstable();
    match said.get(1) {
        None => Ok(()),
        Some(second) => Err(refuse(Some(line_of(text, *second)), format!("only one of {keys} can be given"))),
    }
}

/// The image a repository may choose.
pub(crate) fn image_of(text: &str) -> Result<Image, String> {
    match text.parse::<Image>() {
        Ok(Image::Folder(_)) => {
            Err("a repository cannot choose a folder of the host as its image; name an OCI image, \
                                     such as debian:12, or choose the folder in the environment"
                .to_owned())
        }
        Ok(image) => Ok(image),
        Err(error) => Err(error.to_string()),
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    let is_plain = !path.chars().any(|letter| letter.is_control() || letter == '\\');
    if path.len() <= MAX_PATH_BYTES && is_plain && path.split('/').all(is_part) {
        return Ok(());
    }
    Err(format!("`{}` is no path in the repository, such as scripts/setup.sh", shown(path)))
}

pub(crate) fn check_value(value: &str) -> Result<(), &'static str> {
    match value {
        _ if value.len() > MAX_VALUE_BYTES => Err("has more than 32 KiB"),
        _ if value.contains('\0') => Err("has a NUL in it, which no program can be given"),
        _ => Ok(()),
    }
}

fn refuse(line: Option<usize>, problem: String) -> InvalidFile {
    InvalidFile { file: PATH, line, problem }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Text of the repository as a message may repeat it.
pub(crate) fn shown(text: &str) -> String {
    let escape =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() };
    text.chars().take(300).map(escape).collect()
}

//! The keys that values of secrets are sealed under: from a variable, from a file, or made at the first start.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use carrel_domain::{Redactor, Secret};
use carrel_store::{ClosedSecret, SealingKeys};

use crate::exit::Failure;
use crate::settings::SecretsSettings;

/// How many secrets a refusal names.
const NAMED: usize = 10;

/// The installation's keys.
pub(super) struct Keys {
    /// The first seals, all open.
    pub(super) all: SealingKeys,
    /// The one that was made just now because there was none; it is kept in the file by [`Keys::settle`].
    fresh: Option<Secret>,
}

/// The installation's keys. The key of the variable seals, if there is one, and then those of the file open; else the
/// first one of the file seals. Without either, a key is made.
pub(super) fn load(settings: &SecretsSettings, redactor: &Redactor) -> Result<Keys, Failure> {
    let of_variable = settings.key.as_ref().map(|key| parsed(key, "CARREL_SECRETS_KEY", redactor)).transpose()?;
    let file = &settings.key_file;
    let of_file = match fs::read_to_string(file) {
        Ok(text) => Some(parsed(&Secret::new(text), &file.display().to_string(), redactor)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !settings.file_is_named => None,
        Err(error) => return Err(unusable(file, &error)),
    };
    if of_file.is_some()
        && fs::metadata(file).map_err(|error| unusable(file, &error))?.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(file = %file.display(), "others may read the keys of the secrets: chmod 600 it");
    }
    match (of_variable, of_file) {
        (Some(first), Some(older)) => Ok(Keys { all: first.followed_by(older), fresh: None }),
        (Some(keys), None) | (None, Some(keys)) => Ok(Keys { all: keys, fresh: None }),
        (None, None) => {
            let key = SealingKeys::fresh().map_err(|error| Failure::service(error.to_string()))?;
            Ok(Keys { all: parsed(&key, &file.display().to_string(), redactor)?, fresh: Some(key) })
        }
    }
}

impl Keys {
    /// Looks at what does not open with these keys. Where it is for want of a key, starting as if nothing were the matter
    /// would let attempts fail one by one, and a file made anew would hide that one is missing. Only then is a key that was
    /// made just now kept.
    pub(super) fn settle(&self, settings: &SecretsSettings, closed: &[ClosedSecret]) -> Result<(), Failure> {
        let lost: Vec<&ClosedSecret> = closed.iter().filter(|secret| secret.missing_key.is_some()).collect();
        if !lost.is_empty() && !settings.may_be_lost {
            return Err(Failure::usage(self.refusal(settings, &lost)));
        }
        for ClosedSecret { environment, name, problem, .. } in closed {
            tracing::warn!(
                "the value of the secret {name} of the environment `{environment}` does not open: {problem}; give it a new \
                 one with `carrel environment edit {environment}`"
            );
        }
        self.fresh.as_ref().map_or(Ok(()), |key| keep(&settings.key_file, key))
    }

    fn refusal(&self, settings: &SecretsSettings, lost: &[&ClosedSecret]) -> String {
        let mut names: Vec<String> =
            lost.iter().take(NAMED).map(|secret| format!("{} of `{}`", secret.name, secret.environment)).collect();
        if lost.len() > NAMED {
            names.push(format!("{} more", lost.len() - NAMED));
        }
        let mut ids: Vec<String> =
            lost.iter().filter_map(|secret| secret.missing_key.as_ref().map(ToString::to_string)).collect();
        ids.sort();
        ids.dedup();
        let (names, ids, file) = (names.join(", "), ids.join(", "), settings.key_file.display());
        let (problem, way_out) = if self.fresh.is_some() {
            (format!("the file of keys {file} is not there"), "put the file back from your copy".to_owned())
        } else {
            let place = if settings.key.is_some() && !settings.key_file.exists() {
                "CARREL_SECRETS_KEY".to_owned()
            } else {
                file.to_string()
            };
            let way_out = format!("put the right one back into {file}, in a line behind those that are there");
            (format!("{place} does not have the right key"), way_out)
        };
        format!(
            "{problem}, and these secrets were sealed under it: {names} (key {ids}); {way_out}. If the key is lost, start with \
             `carrel serve --accept-lost-secrets` and give the secrets anew with `carrel environment edit`"
        )
    }
}

/// Keeps a key that was made just now.
fn keep(file: &Path, key: &Secret) -> Result<(), Failure> {
    let text = format!(
        "# What the values of secrets are sealed under. Keep a copy in another place than the data: without it they are lost.\n\
         # To change it, put a new key above this one (`openssl rand -base64 32`) and start the service again.\n{}\n",
        key.expose()
    );
    // Whole or not at all, and its owner's only: half a key would stop every later start.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut beside| {
        beside.write_all(text.as_bytes())?;
        beside.as_file().sync_all()?;
        beside.persist_noclobber(file).map(drop).map_err(|error| error.error)
    });
    written.map_err(|error| unusable(file, &error))?;
    tracing::info!(file = %file.display(), "made a key that values of secrets are sealed under; keep a copy of it");
    Ok(())
}

fn parsed(text: &Secret, from: &str, redactor: &Redactor) -> Result<SealingKeys, Failure> {
    let lines = text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<Secret> = lines.map(Secret::new).collect();
    redactor.learn(&keys);
    SealingKeys::parse(text).map_err(|error| Failure::usage(format!("{from}: {error}")))
}

fn unusable(file: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!(
        "cannot use the file of keys {}: {error}; CARREL_SECRETS_KEY_FILE names it, or else it is in the data folder",
        file.display()
    ))
}

//! The keys that values of secrets are sealed under: from a variable, from a file, or made at the first start.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use carrel_domain::{Redactor, Secret};
use carrel_store::SealingKeys;

use crate::exit::Failure;
use crate::settings::SecretsSettings;

/// The installation's keys. The key of the variable seals, if there is one, and then those of the file open; else the
/// first one of the file seals. Without either, a key is made and kept in the file.
pub(super) fn load(settings: &SecretsSettings, redactor: &Redactor) -> Result<SealingKeys, Failure> {
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
        (Some(first), Some(older)) => Ok(first.followed_by(older)),
        (Some(keys), None) | (None, Some(keys)) => Ok(keys),
        (None, None) => make(file, redactor),
    }
}

fn make(file: &Path, redactor: &Redactor) -> Result<SealingKeys, Failure> {
    let key = SealingKeys::fresh().map_err(|error| Failure::service(error.to_string()))?;
    let text = format!(
        "# What the values of secrets are sealed under. Keep a copy in another place than the data: without it they are lost.\n\
         # To change it, put a new key above this one (`openssl rand -base64 32`) and start the service again.\n{}\n",
        key.expose()
    );
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).and_then(|mut handle| {
        handle.write_all(text.as_bytes())?;
        handle.sync_all()
    });
    written.map_err(|error| unusable(file, &error))?;
    tracing::info!(file = %file.display(), "made a key that values of secrets are sealed under; keep a copy of it");
    parsed(&key, &file.display().to_string(), redactor)
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

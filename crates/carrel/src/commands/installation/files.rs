//! The files of a data folder that go along with a backup: what opens the secrets, and what an administrator gave.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use carrel_domain::Secret;
use carrel_store::{MovedFile, SealingKeys};

use crate::client::TOKEN_FILE;
use crate::exit::Failure;
use crate::settings::Settings;

const KEYS: &str = "secrets.key";
const GIT_CREDENTIALS: &str = "git-credentials";

/// The files that there are.
pub(super) fn all(settings: &Settings) -> Result<Vec<MovedFile>, Failure> {
    let mut files = Vec::new();
    if let Some(content) = keys(settings)? {
        files.push(MovedFile { name: KEYS.to_owned(), content });
    }
    for name in [GIT_CREDENTIALS, TOKEN_FILE] {
        if let Some(content) = read(&settings.data.join(name))? {
            files.push(MovedFile { name: name.to_owned(), content });
        }
    }
    Ok(files)
}

/// All keys of the secrets as they go into one file, the one that seals first; none when there is none.
pub(super) fn keys(settings: &Settings) -> Result<Option<Secret>, Failure> {
    let of_file = read(&settings.secrets.key_file)?;
    Ok(match (&settings.secrets.key, of_file) {
        (Some(key), Some(file)) => Some(Secret::new(format!("{}\n{}", key.expose(), file.expose()))),
        (Some(key), None) => Some(Secret::new(format!("{}\n", key.expose()))),
        (None, of_file) => of_file,
    })
}

/// The files that were put into a data folder, until all is well.
#[derive(Default)]
pub(super) struct Kept(Vec<PathBuf>);

impl Kept {
    /// Puts files where they belong. Keys must not be lost in favour of others; of the rest, what is there stays.
    pub(super) fn keep(&mut self, settings: &Settings, files: &[MovedFile]) -> Result<(), String> {
        for MovedFile { name, content } in files {
            match name.as_str() {
                KEYS => self.keep_keys(settings, content)?,
                GIT_CREDENTIALS | TOKEN_FILE => self.write(&settings.data.join(name), content)?,
                _ => return Err(format!("the archive has a file `{name}`, which no data folder has")),
            }
        }
        Ok(())
    }

    fn keep_keys(&mut self, settings: &Settings, content: &Secret) -> Result<(), String> {
        let theirs = SealingKeys::parse(content).map_err(|error| format!("the archive's {KEYS}: {error}"))?;
        let file = &settings.secrets.key_file;
        let Some(ours) = keys(settings).map_err(|failure| failure.message().to_owned())? else {
            return self.write(file, content);
        };
        let ours = SealingKeys::parse(&ours).map_err(|error| format!("{}: {error}", file.display()))?;
        if theirs.ids().all(|id| ours.ids().any(|known| known == id)) {
            return Ok(());
        }
        Err(format!(
            "there are other keys of secrets here than in the archive; move {} away if nothing is sealed under it, or add the \
             archive's {KEYS} to it, and try again",
            file.display()
        ))
    }

    /// Writes a file that is not there, whole or not at all, for its owner alone.
    fn write(&mut self, file: &Path, content: &Secret) -> Result<(), String> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut beside| {
            beside.write_all(content.expose().as_bytes())?;
            beside.as_file().sync_all()?;
            beside.persist_noclobber(file).map(drop).map_err(|error| error.error)
        });
        match written {
            Ok(()) => self.0.push(file.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot write {}: {error}", file.display())),
        }
        Ok(())
    }

    /// Removes them again.
    pub(super) fn take_back(self) {
        for file in self.0 {
            // One that stays is found to be the same, or is said to be in the way.
            let _removed = fs::remove_file(file);
        }
    }
}

fn read(file: &Path) -> Result<Option<Secret>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", file.display()))),
    }
}

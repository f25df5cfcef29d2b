//! Reaching a repository's location: what git is told so that it finds the right keys and credentials, runs nothing of
//! ours with another's configuration, and what its refusals mean.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use carrel_domain::{Redactor, RepositoryLocation, Secret};
use tempfile::TempDir;

use crate::error::ForgeError;
use crate::git::{Call, Ended};
use crate::options::GitOptions;
use crate::words::{Meaning, meaning};

/// The largest credentials file that is read.
pub(crate) const MAX_CREDENTIALS_BYTES: u64 = 1 << 20;

/// A location made ready to be talked to. Lives as long as the calls it is for.
pub(crate) struct Remote<'a> {
    options: &'a GitOptions,
    /// As git takes it on the command line.
    pub(crate) address: String,
    /// For a local path: the user and group to serve it as, when that is not us.
    pub(crate) owner: Option<(u32, u32)>,
    protocols: &'static str,
    ssh: Option<String>,
    credentials: Option<Credentials>,
}

/// A copy of the credentials file for git's `store` helper, which would otherwise take a line out of the operator's
/// file when a remote refuses it.
struct Credentials {
    folder: TempDir,
    redactor: Redactor,
}

/// Which end of the wire git starts at a local path.
#[derive(Clone, Copy)]
pub(crate) enum Serving {
    /// For fetching from it.
    Upload,
    /// For pushing to it.
    Receive,
}

impl<'a> Remote<'a> {
    /// Checks what can be checked without asking git: that a path is there, and whose it is.
    pub(crate) fn of(options: &'a GitOptions, location: &RepositoryLocation) -> Result<Self, ForgeError> {
        let mut remote = Self {
            options,
            address: location.to_string(),
            owner: None,
            protocols: "ssh",
            ssh: None,
            credentials: None,
        };
        match location {
            RepositoryLocation::Path(path) => {
                remote.protocols = "file";
                remote.owner = owner(path)?;
                path.to_str()
                    .ok_or_else(|| ForgeError::NotFound { location: location.to_string() })?
                    .clone_into(&mut remote.address);
            }
            RepositoryLocation::Url(url) if url.scheme() != "ssh" => {
                // What begins encrypted stays so, whatever a redirect says.
                remote.protocols = if url.scheme() == "https" { "https" } else { "http:https" };
                remote.credentials = Credentials::copy(options)?;
            }
            RepositoryLocation::Url(_) | RepositoryLocation::Scp { .. } => remote.ssh = Some(ssh_command(options)?),
        }
        Ok(remote)
    }

    /// The call with all it needs to reach this location.
    pub(crate) fn prepare(&self, call: Call, serving: Serving) -> Call {
        let mut call = call.env("GIT_ALLOW_PROTOCOL", self.protocols);
        if let Some(ssh) = &self.ssh {
            call = call.env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh");
            if let Some(socket) = &self.options.ssh_auth_sock {
                call = call.env("SSH_AUTH_SOCK", socket);
            }
        }
        if let Some(credentials) = &self.credentials {
            let file = credentials.folder.path().join("credentials");
            let helper = format!("store --file={}", quoted(&file.to_string_lossy()));
            call = call.configure("credential.helper", helper).redact(credentials.redactor.clone());
        }
        if let Some((user, group)) = self.owner {
            // Git's own rule is that nobody is served a repository of another user. As root we can be that user.
            let program = match serving {
                Serving::Upload => "--upload-pack=",
                Serving::Receive => "--receive-pack=",
            };
            let served = match serving {
                Serving::Upload => "git-upload-pack",
                Serving::Receive => "git-receive-pack",
            };
            call = call
                .arg(format!("{program}setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs {served}"));
        }
        call
    }

    /// What a failed call says about this location.
    pub(crate) fn failure(&self, ended: &Ended) -> ForgeError {
        let words = ended.words();
        let location = self.address.clone();
        let is_path = self.protocols == "file";
        match meaning(&words) {
            Meaning::DiskFull => ForgeError::DiskFull { words },
            Meaning::NotOurs => ForgeError::NotOurs { location },
            Meaning::NotARepository if is_path => ForgeError::NotARepository { location },
            Meaning::NotARepository | Meaning::NotFound => ForgeError::NotFound { location },
            Meaning::UntrustedHost => {
                ForgeError::UntrustedHost { location, known_hosts: self.options.home.join(".ssh/known_hosts") }
            }
            Meaning::Authentication if !is_path => {
                ForgeError::AuthenticationFailed { location, words, remedy: self.remedy() }
            }
            Meaning::Unreachable if !is_path => ForgeError::Unreachable { location, words },
            Meaning::Authentication | Meaning::Unreachable | Meaning::Other => ended.other(words),
        }
    }

    fn remedy(&self) -> String {
        match (&self.ssh, &self.options.credentials) {
            (Some(_), _) => {
                format!("check the keys in `{}` and in the ssh agent", self.options.home.join(".ssh").display())
            }
            (None, Some(file)) => {
                format!("check the line for this host in the git credentials file `{}`", file.display())
            }
            (None, None) => "no git credentials file is configured; name one with CARREL_GIT_CREDENTIALS".to_owned(),
        }
    }
}

/// Whom to serve a path as: its owner, when we are root and the owner is not.
fn owner(path: &Path) -> Result<Option<(u32, u32)>, ForgeError> {
    let location = path.display().to_string();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Err(ForgeError::NotFound { location });
        }
        Err(error) => return Err(ForgeError::io(format!("look at `{location}`"))(error)),
    };
    if !metadata.is_dir() {
        return Err(ForgeError::NotARepository { location });
    }
    let user = metadata.uid();
    if user == 0 || !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    // The user's own group, not the folder's: that one may be a mightier one which the owner is not in.
    let known = nix::unistd::User::from_uid(user.into()).ok().flatten();
    Ok(Some((user, known.map_or(NOBODY, |known| known.gid.as_raw()))))
}

/// The group of users the system does not know.
const NOBODY: u32 = 65_534;

impl Credentials {
    fn copy(options: &GitOptions) -> Result<Option<Self>, ForgeError> {
        let Some(file) = &options.credentials else {
            return Ok(None);
        };
        let failed = || ForgeError::io(format!("read the git credentials file `{}`", file.display()));
        let size = fs::metadata(file).map_err(failed())?.len();
        if size > MAX_CREDENTIALS_BYTES {
            return Err(failed()(std::io::Error::other("it is larger than 1 MiB")));
        }
        let text = Secret::new(fs::read_to_string(file).map_err(failed())?);
        let folder = scratch(options)?;
        let copied = || ForgeError::io("copy the git credentials into the mirrors' folder");
        let mut copy = fs::File::create(folder.path().join("credentials")).map_err(copied())?;
        copy.set_permissions(fs::Permissions::from_mode(0o600)).map_err(copied())?;
        copy.write_all(text.expose().as_bytes()).map_err(copied())?;
        let passwords: Vec<Secret> = text.expose().lines().flat_map(passwords).collect();
        Ok(Some(Self { folder, redactor: Redactor::new(&passwords) }))
    }
}

/// The password of a line of a credentials file, as it is written and as it is meant.
fn passwords(line: &str) -> Vec<Secret> {
    let Some((_, authority)) = line.split_once("://") else {
        return Vec::new();
    };
    let credential = authority.rsplit_once('@').map_or("", |(credential, _)| credential);
    let Some((_, password)) = credential.split_once(':') else {
        return Vec::new();
    };
    vec![Secret::new(password), Secret::new(percent_decoded(password)), Secret::new(percent_decoded(credential))]
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A folder for one operation, mode 0700, removed when dropped.
pub(crate) fn scratch(options: &GitOptions) -> Result<TempDir, ForgeError> {
    tempfile::Builder::new()
        .prefix(SCRATCH_PREFIX)
        .tempdir_in(&options.mirrors)
        .map_err(ForgeError::io(format!("make a folder in `{}`", options.mirrors.display())))
}

/// How the names of such folders begin.
pub(crate) const SCRATCH_PREFIX: &str = ".scratch-";

/// How git calls ssh: no configuration but this, no question to anybody, no host that is not known.
fn ssh_command(options: &GitOptions) -> Result<String, ForgeError> {
    let folder = options.home.join(".ssh");
    let mut command = String::from(
        "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o ForwardAgent=no -o ClearAllForwardings=yes \
         -o PermitLocalCommand=no -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 \
         -o GlobalKnownHostsFile=/etc/ssh/ssh_known_hosts",
    );
    let mut option = |name: &str, file: &Path| -> Result<(), ForgeError> {
        let path = ssh_path(file)?;
        command.push_str(" -o ");
        command.push_str(&quoted(&format!("{name}=\"{path}\"")));
        Ok(())
    };
    option("UserKnownHostsFile", &folder.join("known_hosts"))?;
    let keys: Vec<_> =
        ["id_ed25519", "id_ecdsa", "id_rsa"].iter().map(|key| folder.join(key)).filter(|key| key.is_file()).collect();
    for key in &keys {
        option("IdentityFile", key)?;
    }
    if keys.is_empty() {
        // Or ssh would look into the home the system knows.
        command.push_str(" -o IdentityFile=none");
    }
    Ok(command)
}

/// A path as ssh takes it in an option: it expands `%` and `${…}` itself and cannot take a quote.
fn ssh_path(path: &Path) -> Result<String, ForgeError> {
    let text = path.to_string_lossy();
    if text.contains(['"', '$', '\\', '\n', '\u{fffd}']) {
        let problem =
            format!("ssh cannot take the path `{}`; choose a home without quotes, `$` and backslashes", path.display());
        return Err(ForgeError::Unusable { problem });
    }
    Ok(text.replace('%', "%%"))
}

/// A word as a POSIX shell takes it: git hands helper and ssh commands to one.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_passwords_of_a_credentials_line_are_known_as_written_and_as_meant() {
        let found: Vec<String> =
            passwords("https://me:a%2Fb%40c@example.com").iter().map(|secret| secret.expose().to_owned()).collect();

        assert_eq!(found, ["a%2Fb%40c", "a/b@c", "me:a/b@c"]);
        assert!(passwords("https://example.com").is_empty() && passwords("# a remark").is_empty());
    }

    #[test]
    fn a_word_stays_one_word_for_the_shell_git_uses() {
        assert_eq!(quoted("/a b/it's$(x)"), r"'/a b/it'\''s$(x)'");
    }
}

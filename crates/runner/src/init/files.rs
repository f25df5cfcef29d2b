//! Files of the sandbox, read and written by process 1 as the sandbox's user, in its root.
//!
//! Nothing here waits for anybody: FIFOs and devices are refused, and no other program's file system can be mounted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::connection::Connection;
use crate::protocol::{CHUNK_BYTES, Event, Failure, FileKind, StatEvent};

/// At most this many bytes of names are listed, so that they fit a frame.
const NAMES_BYTES: usize = 256 << 10;
/// Permission bits of a new file.
const NEW_FILE_MODE: u32 = 0o644;

/// A file on its way to the controller.
pub(super) struct FileRead {
    channel: u32,
    file: File,
    sent: u64,
    max_bytes: u64,
}

impl FileRead {
    /// Opens a regular file that is no longer than `max_bytes`.
    pub(super) fn open(channel: u32, path: &str, max_bytes: u64) -> Result<Self, Failure> {
        let path = check(path)?;
        // Without waiting for a FIFO's other end, and without making a terminal ours.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::ENXIO | libc::ENODEV) => Failure::NotAFile,
                _ => failure(&error),
            }
        })?;
        let data = file.metadata().map_err(|error| failure(&error))?;
        // `/proc` shows the reader itself, which is the runner here.
        let is_proc = fstatfs(&file).is_ok_and(|system| system.filesystem_type() == PROC_SUPER_MAGIC);
        if !data.is_file() || is_proc {
            return Err(Failure::NotAFile);
        }
        if data.len() > max_bytes {
            return Err(Failure::TooLarge { size_bytes: data.len() });
        }
        Ok(Self { channel, file, sent: 0, max_bytes })
    }

    /// Sends what the connection takes; false when it is over.
    pub(super) fn pump(&mut self, connection: &mut Connection) -> bool {
        let mut buffer = [0; CHUNK_BYTES];
        while !connection.is_congested() {
            let event = match self.file.read(&mut buffer) {
                Ok(0) => Event::Done,
                // It grew while it was read.
                Ok(bytes) if self.sent + bytes as u64 > self.max_bytes => {
                    Event::Failed(Failure::TooLarge { size_bytes: self.sent + bytes as u64 })
                }
                Ok(bytes) => {
                    self.sent += bytes as u64;
                    connection.send_data(self.channel, &buffer[..bytes]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Event::Failed(failure(&error)),
            };
            connection.send(self.channel, event);
            return false;
        }
        true
    }
}

/// A file on its way from the controller: written beside its place, and moved there when it is whole.
pub(super) struct FileWrite {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    mode: u32,
    missing: u64,
    failed: Option<Failure>,
}

impl FileWrite {
    /// Makes the folders above it, and the temporary file.
    pub(super) fn open(channel: u32, path: &str, size_bytes: u64, mode: Option<u32>) -> Result<Self, Failure> {
        let target = resolve(check(path)?);
        let existing = match fs::metadata(&target) {
            Ok(data) if !data.is_file() => return Err(Failure::NotAFile),
            Ok(data) => Some(data.permissions().mode() & 0o7777),
            Err(_) => None,
        };
        let folder = target.parent().ok_or(Failure::NotAFile)?;
        fs::create_dir_all(folder).map_err(|error| failure(&error))?;
        let temporary = folder.join(format!(".carrel-write-{channel}"));
        let _left_by_another_controller = fs::remove_file(&temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| failure(&error))?;
        let mode = mode.or(existing).unwrap_or(NEW_FILE_MODE) & 0o777;
        Ok(Self { target, temporary, file, mode, missing: size_bytes, failed: None })
    }

    /// Takes the next bytes. After a failure the rest is let pass, so that the stream stays in step.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(usize::try_from(self.missing).unwrap_or(usize::MAX))];
        self.missing -= bytes.len() as u64;
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.failed = Some(failure(&error));
        }
    }

    /// Whether all bytes came.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Puts the file in its place.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        let placed = self
            .file
            .set_permissions(fs::Permissions::from_mode(self.mode))
            .and_then(|()| fs::rename(&self.temporary, &self.target));
        placed.map_err(|error| failure(&error))
    }
}

impl Drop for FileWrite {
    /// Leaves nothing behind when it was cut off; after a finish the temporary name is gone already.
    fn drop(&mut self) {
        let _renamed = fs::remove_file(&self.temporary);
    }
}

/// Removes a file, or a symbolic link itself.
pub(super) fn remove(path: &str) -> Result<(), Failure> {
    let path = check(path)?;
    fs::remove_file(path).map_err(|error| match error.kind() {
        ErrorKind::IsADirectory => Failure::NotAFile,
        _ => failure(&error),
    })
}

/// What is at a path, itself.
pub(super) fn stat(path: &str) -> Result<Option<StatEvent>, Failure> {
    let data = match fs::symlink_metadata(check(path)?) {
        Ok(data) => data,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failure(&error)),
    };
    let kind = data.file_type();
    let is_special = kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device();
    let kind = match (kind.is_dir(), kind.is_symlink(), is_special) {
        (true, _, _) => FileKind::Folder,
        (_, true, _) => FileKind::Link,
        (_, _, true) => FileKind::Special,
        _ => FileKind::File,
    };
    Ok(Some(StatEvent { kind, size_bytes: data.len(), mode: data.permissions().mode() & 0o7777 }))
}

/// The names in a folder.
pub(super) fn list(path: &str) -> Event {
    let entries = match check(path).and_then(|path| fs::read_dir(path).map_err(|error| failure(&error))) {
        Ok(entries) => entries,
        Err(failure) => return Event::Failed(failure),
    };
    let (mut names, mut bytes, mut truncated) = (Vec::new(), 0, false);
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        bytes += name.len() + 8;
        if bytes > NAMES_BYTES {
            truncated = true;
            break;
        }
        names.push(name);
    }
    names.sort_unstable();
    Event::Names { names, truncated }
}

fn check(path: &str) -> Result<&Path, Failure> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(Path::new(path));
    }
    Err(Failure::Invalid { reason: "a path in a sandbox must be absolute".to_owned() })
}

/// Where a write ends up: behind a symbolic link, if the path is one that leads somewhere.
fn resolve(path: &Path) -> PathBuf {
    let is_link = fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink());
    let real = if is_link { fs::canonicalize(path).ok() } else { None };
    real.unwrap_or_else(|| path.to_path_buf())
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::NotFound,
        _ => Failure::System { reason: error.to_string().to_lowercase() },
    }
}

//! What a folder that serves as an image looks like now. It has no digest, and reading all of it would cost more than it
//! saves: it is known by what changes when something in it is added, removed or replaced.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// How deep everything counts; of the folders one deeper, only when what is in them last changed.
const DEPTH: usize = 2;

/// What is looked at. What a folder has beyond that does not count.
const MOST: usize = 50_000;

/// What is another thing in every sandbox, whatever the folder has there.
const PASSED_OVER: &[&str] = &["dev", "proc", "run", "sys", "tmp"];

/// Where package managers write down what is installed: Debian and its kin, those with RPM, Alpine.
const INSTALLED: &[&str] =
    &["var/lib/dpkg/status", "var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "lib/apk/db/installed"];

/// A digest that changes with the folder's content as far as it is looked at. Blocks for some milliseconds.
pub(super) fn state(root: &Path) -> io::Result<String> {
    let mut look = Look { digest: Sha256::new(), left: MOST };
    look.take(root, Path::new(""), 0)?;
    for file in INSTALLED {
        if let Ok(found) = fs::symlink_metadata(root.join(file)) {
            look.note(Path::new(file), &found);
        }
    }
    Ok(look.digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

struct Look {
    digest: Sha256,
    left: usize,
}

impl Look {
    /// Looks at what lies in a folder so deep beneath the root.
    fn take(&mut self, root: &Path, folder: &Path, depth: usize) -> io::Result<()> {
        let mut entries: Vec<(PathBuf, bool)> = Vec::new();
        let inside = match fs::read_dir(root.join(folder)) {
            // Its own state counts. Of what is in a closed folder an ordinary user's sandboxes see nothing either, and
            // what has gone meanwhile has changed the folder it was in.
            Err(error) if depth > 0 && is_passed_by(error.kind()) => return Ok(()),
            opened => opened?,
        };
        for entry in inside.take(self.left) {
            let entry = entry?;
            let is_other = depth == 0 && PASSED_OVER.iter().any(|name| entry.file_name() == *name);
            let is_folder = entry.file_type()?.is_dir();
            if !is_other && (depth < DEPTH || is_folder) {
                entries.push((folder.join(entry.file_name()), is_folder));
            }
        }
        entries.sort();
        for (path, is_folder) in entries {
            if self.left == 0 {
                return Ok(());
            }
            self.left -= 1;
            // What has gone meanwhile has changed the folder it was in.
            let Ok(found) = fs::symlink_metadata(root.join(&path)) else { continue };
            self.note(&path, &found);
            if is_folder && depth < DEPTH {
                self.take(root, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The time of change of the inode: unlike that of the content, programs that copy files do not set it back.
    fn note(&mut self, path: &Path, found: &Metadata) {
        self.digest.update(path.as_os_str().as_bytes());
        // Not the device: some file systems have another number after each start of the machine.
        for number in [found.ino(), u64::from(found.mode()), found.size()] {
            self.digest.update(number.to_le_bytes());
        }
        for number in [found.ctime(), found.ctime_nsec()] {
            self.digest.update(number.to_le_bytes());
        }
    }
}

/// Whether a folder that cannot be looked into for this reason is left at that.
fn is_passed_by(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// A user that owns nothing on this machine.
    const ORDINARY_ID: u32 = 64_242;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        for path in ["usr/local/bin", "etc", "tmp", "var/lib/dpkg"] {
            fs::create_dir_all(folder.path().join(path)).expect("our own folder");
        }
        for path in ["usr/local/bin/tool", "etc/passwd", "var/lib/dpkg/status"] {
            fs::write(folder.path().join(path), "one").expect("our own folder");
        }
        folder
    }

    #[test]
    fn a_folder_that_nobody_touches_stays_as_it_is() {
        let folder = folder();
        let before = state(folder.path()).expect("read");

        fs::write(folder.path().join("tmp/x"), "passed over").expect("our own folder");

        assert_eq!(state(folder.path()).expect("read"), before);
    }

    #[test]
    fn what_is_added_replaced_or_installed_is_noticed() {
        let folder = folder();
        let at = |path: &str| folder.path().join(path);
        let mut states = vec![state(folder.path()).expect("read")];

        for change in 0..4 {
            match change {
                0 => fs::write(at("usr/local/bin/other"), "added").expect("our own folder"),
                1 => {
                    fs::write(at("new"), "replaced").expect("our own folder");
                    fs::rename(at("new"), at("usr/local/bin/tool")).expect("our own folder");
                }
                2 => fs::write(at("etc/passwd"), "changed in place").expect("our own folder"),
                _ => fs::write(at("var/lib/dpkg/status"), "installed").expect("our own folder"),
            }
            states.push(state(folder.path()).expect("read"));
        }

        let count = states.len();
        states.sort();
        states.dedup();
        assert_eq!(states.len(), count, "every change is noticed");
    }

    #[test]
    fn a_folder_closed_to_this_user_counts_as_it_stands() {
        let folder = folder();
        let closed = folder.path().join("root");
        fs::create_dir(&closed).expect("our own folder");
        fs::write(closed.join("secret"), "x").expect("our own folder");
        let before = state(folder.path()).expect("read");

        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("our own folder");

        let after = state(folder.path()).expect("a closed folder is no reason to fail");
        assert_ne!(after, before, "its own mode counts");
        assert_eq!(state(folder.path()).expect("read"), after);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("our own folder");
    }

    #[test]
    fn that_holds_for_an_ordinary_user() {
        if fs::metadata("/proc/self").expect("there is a /proc").uid() != 0 {
            return;
        }
        let place = tempfile::tempdir_in("/var/tmp").expect("a temporary folder");
        chown(place.path(), Some(ORDINARY_ID), Some(ORDINARY_ID)).expect("given away");
        let mut again = Command::new(std::env::current_exe().expect("a program"));
        again.args(["a_folder_closed_to_this_user_counts_as_it_stands", "--test-threads", "1"]);

        let ended = again.env("TMPDIR", place.path()).current_dir("/").gid(ORDINARY_ID).uid(ORDINARY_ID).output();

        let ended = ended.expect("everybody may run this program");
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.success() && said.contains("1 passed"), "{said}");
    }
}

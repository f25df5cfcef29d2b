//! What is left of a mirror where git was killed, or the machine lost its power: locks that nobody holds, and files that are empty.
//! Objects, and the references that are ours, are on the disk before anybody relies on them. Those of the remote are not waited
//! for, for there may be many thousands; the next fetch brings back what is missing.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::fetch::NOWHERE;

/// How much the times of files and of processes may differ.
const SLACK: Duration = Duration::from_secs(2);

/// The commands of ours that lock something of a mirror.
const WRITERS: [&str; 3] = ["fetch", "symbolic-ref", "update-ref"];

/// Makes git able to work with a mirror again; says whether there was anything to do. A lock stays if somebody who is at work
/// may have made it.
pub(crate) fn mend(mirror: &Path) -> io::Result<bool> {
    let mut is_mended = false;
    let mut mend_in = |folder: &Path, has_references: bool| -> io::Result<Vec<_>> {
        let mut below = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let metadata = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            if metadata.is_dir() {
                below.push(path);
            } else if is_lock && !is_somebodys(&metadata, mirror) || !is_lock && has_references && metadata.len() == 0 {
                tracing::warn!(file = %path.display(), "removing what was half written when git was killed");
                fs::remove_file(&path)?;
                is_mended = true;
            }
        }
        Ok(below)
    };
    mend_in(mirror, false)?;
    let mut folders = vec![mirror.join("refs")];
    while let Some(folder) = folders.pop() {
        folders.extend(mend_in(&folder, true)?);
    }
    let head = mirror.join("HEAD");
    if fs::metadata(&head)?.len() == 0 {
        write(&head, &format!("ref: {NOWHERE}\n"))?;
        is_mended = true;
    }
    Ok(is_mended)
}

/// Whether a process that writes to this mirror was there before a lock: then it may be its.
fn is_somebodys(lock: &Metadata, mirror: &Path) -> bool {
    let age = lock.modified().ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
    let mirror = format!("--git-dir={}", mirror.display());
    let is_older = |process: &Process| {
        let has =
            |wanted: &str| process.arguments.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes());
        process.age + SLACK >= age && has(&mirror) && WRITERS.iter().any(|writer| has(writer))
    };
    processes().iter().any(is_older)
}

struct Process {
    arguments: Vec<u8>,
    age: Duration,
}

/// The processes of this machine, as far as they can be seen.
fn processes() -> Vec<Process> {
    let uptime = seconds_in("/proc/uptime".as_ref(), 0).unwrap_or_default();
    let of = |folder: &Path| {
        // The start is the 22nd field, in hundredths of a second; the second, in brackets, is whatever the program calls itself.
        let started = seconds_in(&folder.join("stat"), 19)? / 100.0;
        let age = Duration::try_from_secs_f64((uptime - started).max(0.0)).ok()?;
        Some(Process { arguments: fs::read(folder.join("cmdline")).ok()?, age })
    };
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(|entry| of(&entry.path())).collect()
}

/// A number of a file of the kernel's: the `at`th after the last bracket, or from the beginning where there is none.
fn seconds_in(file: &Path, at: usize) -> Option<f64> {
    let said = fs::read_to_string(file).ok()?;
    let said = said.rsplit_once(')').map_or(said.as_str(), |(_, behind)| behind);
    said.split_whitespace().nth(at)?.parse().ok()
}

/// Brings the files of a mirror that was just made to the disk.
pub(crate) fn settle(mirror: &Path) -> io::Result<()> {
    for name in ["config", "HEAD", "objects", "refs", "."] {
        File::open(mirror.join(name))?.sync_all()?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn mirror() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("refs/heads/feature")).expect("folders");
        fs::create_dir(folder.path().join("objects")).expect("a folder");
        fs::write(folder.path().join("HEAD"), "ref: refs/heads/main\n").expect("written");
        fs::write(folder.path().join("refs/heads/main"), "3b18e512dba79e4c8300dd08aeb37f8e728b8dad\n")
            .expect("written");
        folder
    }

    #[test]
    fn empty_references_and_locks_that_nobody_holds_are_removed_and_nothing_else() {
        let mirror = mirror();
        let at = |name: &str| mirror.path().join(name);
        for name in ["refs/heads/feature/cut", "refs/heads/feature/main.lock", "packed-refs.lock", "shallow"] {
            fs::write(at(name), "").expect("written");
        }

        let first = mend(mirror.path()).expect("mended");
        let second = mend(mirror.path()).expect("mended");

        assert_eq!((first, second), (true, false));
        let there = |name: &str| at(name).exists();
        assert!(
            !there("refs/heads/feature/cut") && !there("refs/heads/feature/main.lock") && !there("packed-refs.lock")
        );
        assert!(there("refs/heads/main") && there("shallow"));
        assert_eq!(fs::read_to_string(at("HEAD")).expect("text"), "ref: refs/heads/main\n");
    }

    #[test]
    fn a_lock_stays_as_long_as_somebody_is_at_work_who_may_have_made_it() {
        let mirror = mirror();
        let git_dir = format!("--git-dir={}", mirror.path().display());
        let mut writer = std::process::Command::new("git")
            .args([&git_dir, "update-ref", "--stdin"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("git is there");
        let mut said = [0; 9];
        writer.stdin.as_mut().expect("a pipe").write_all(b"start\n").expect("it listens");
        writer.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("it answers");
        assert_eq!(&said, b"start: ok");
        fs::write(mirror.path().join("HEAD.lock"), "").expect("written");
        let beside = mend(mirror.path()).expect("mended");
        let lock = File::open(mirror.path().join("HEAD.lock")).expect("it stays");
        let long_ago = std::time::SystemTime::now() - Duration::from_hours(1);
        lock.set_modified(long_ago).expect("it is older than the writer");
        let of_another = mend(mirror.path()).expect("mended");

        writer.kill().and_then(|()| writer.wait()).expect("it ends");
        assert_eq!((beside, of_another), (false, true));
    }

    #[test]
    fn an_empty_head_leads_nowhere_until_the_next_fetch() {
        let mirror = mirror();
        fs::write(mirror.path().join("HEAD"), "").expect("written");

        assert!(mend(mirror.path()).expect("mended"));

        assert_eq!(fs::read_to_string(mirror.path().join("HEAD")).expect("text"), "ref: refs/carrel/nowhere\n");
    }
}

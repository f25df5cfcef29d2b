//! Files that sandboxes of an ordinary user gave to its subordinate ids: looked at and removed by a process that has them.
//!
//! Nobody can take on other ids in one thread, so this is a process of its own: the keeper, made for one piece of work.
//! Most files are the service's own also then, so everything is tried without a keeper first.

mod work;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carrel_runner::ids::IdMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use work::keep;

/// The argument after which a keeper's map of ids follows.
pub const KEEPER_ARGUMENT: &str = "keeper";
/// How often it is looked whether anybody waits for a keeper still.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long one piece of work may take: millions of files on a slow disk.
const WITHIN: Duration = Duration::from_secs(60 * 60);
/// The longest answer: a path, in JSON.
const ANSWER_BYTES: u64 = 1 << 20;

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// What a keeper is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Removes what is in a folder of trash.
    Sweep { trash: PathBuf },
    /// Measures what a sandbox's folder and the deleted files of its processes take.
    Measure { folder: PathBuf, processes: Vec<i32> },
    /// Adds up what everything below a folder takes.
    Size { folder: PathBuf },
    /// Looks for byte strings.
    Find { folder: PathBuf, needles: Vec<Vec<u8>> },
    /// Packs a layer into a file that is there.
    Pack { folder: PathBuf, file: PathBuf },
    /// Makes a folder of what was packed.
    Unpack { file: PathBuf, folder: PathBuf },
}

/// Why a keeper did not do it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// The operating system's number for it, by which a full disk is known again.
    number: Option<i32>,
    words: String,
}

impl From<String> for Trouble {
    fn from(words: String) -> Self {
        Self { number: None, words }
    }
}

impl From<Trouble> for io::Error {
    fn from(Trouble { number, words }: Trouble) -> Self {
        number.map_or_else(|| Self::other(words), Self::from_raw_os_error)
    }
}

/// The way to keepers, where there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keepers(Option<Program>);

impl Keepers {
    /// This program becomes one for the ids, if there are any.
    pub(crate) fn new(program: Program, lent_ids: Option<&IdMap>) -> Self {
        Self(lent_ids.map(|map| {
            let mut program = program;
            program.arguments.push(map.to_string());
            program
        }))
    }

    /// Whether there is anybody to ask.
    pub(crate) fn are_there(&self) -> bool {
        self.0.is_some()
    }

    /// Does something, and where this user may not has a keeper do it. Blocks.
    pub(crate) fn or_keeper<T: DeserializeOwned>(
        &self,
        here: impl FnOnce() -> io::Result<T>,
        work: impl FnOnce() -> Work,
        abandoned: &AtomicBool,
    ) -> io::Result<T> {
        match here() {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && self.are_there() => {
                self.ask(&work(), abandoned)
            }
            done => done,
        }
    }

    /// Has a keeper do something. Blocks until it is done or `abandoned`.
    pub(crate) fn ask<T: DeserializeOwned>(&self, work: &Work, abandoned: &AtomicBool) -> io::Result<T> {
        let Some(Program { program, arguments }) = &self.0 else {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "there are no subordinate ids"));
        };
        let (mut ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.args(arguments).arg0("carrel-keeper").env_clear().current_dir("/");
        command.stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?))).stdout(Stdio::from(OwnedFd::from(theirs)));
        let keeper = Started(command.spawn()?);
        // The command holds the other end, too: without this the stream would never end.
        drop(command);
        let mut asked = serde_json::to_vec(work).map_err(io::Error::other)?;
        asked.push(b'\n');
        // One that does not read on says why.
        let _told_by_its_answer = ours.write_all(&asked);
        let answer = hear(&mut ours, abandoned)?;
        drop(keeper);
        let answer: Result<T, Trouble> = serde_json::from_slice(&answer)
            .map_err(|_| io::Error::other("the process that has the subordinate ids ended before it was done"))?;
        answer.map_err(Into::into)
    }
}

/// All that is said until the stream ends.
fn hear(stream: &mut UnixStream, abandoned: &AtomicBool) -> io::Result<Vec<u8>> {
    let until = Instant::now() + WITHIN;
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(heard),
            // Ended without reading all it was asked.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(heard),
            Ok(bytes) => heard.extend_from_slice(&buffer[..bytes]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if abandoned.load(Ordering::Relaxed) {
            return Err(io::Error::new(ErrorKind::Interrupted, "nobody waits for it any more"));
        }
        if Instant::now() > until || heard.len() as u64 > ANSWER_BYTES {
            return Err(io::Error::new(ErrorKind::TimedOut, "the process that has the subordinate ids does not end"));
        }
    }
}

/// A keeper that runs; it is ended with this.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // One that is done has ended by itself.
        let _has_ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepers(script: &str) -> Keepers {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Keepers(Some(Program { program: "/bin/sh".into(), arguments }))
    }

    fn work() -> Work {
        Work::Size { folder: "/nowhere".into() }
    }

    #[test]
    fn what_this_user_may_do_is_done_without_a_keeper() {
        let unable = keepers("exit 1");

        let done = unable.or_keeper(|| Ok(7_u64), work, &AtomicBool::new(false));

        assert_eq!(done.expect("done here"), 7);
    }

    #[test]
    fn what_this_user_may_not_do_is_done_by_a_keeper_and_only_that() {
        let able = keepers(r#"read -r asked; case $asked in *nowhere*) echo '{"Ok":7}';; esac"#);
        let fails = |kind: ErrorKind| move || Err::<u64, _>(io::Error::from(kind));

        let denied = able.or_keeper(fails(ErrorKind::PermissionDenied), work, &AtomicBool::new(false));
        let absent = able.or_keeper(fails(ErrorKind::NotFound), work, &AtomicBool::new(false));
        let alone = Keepers::default().or_keeper(fails(ErrorKind::PermissionDenied), work, &AtomicBool::new(false));

        assert_eq!(denied.expect("done there"), 7);
        assert_eq!(absent.expect_err("another failure").kind(), ErrorKind::NotFound);
        assert_eq!(alone.expect_err("nobody to ask").kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_keeper_that_fails_dies_or_is_no_longer_waited_for_is_an_error() {
        let failed = keepers(r#"echo '{"Err":{"number":null,"words":"no such thing"}}'"#)
            .ask::<u64>(&work(), &AtomicBool::new(false));
        let died = keepers("exit 1").ask::<u64>(&work(), &AtomicBool::new(false));
        let abandoned = keepers("exec sleep 1000").ask::<u64>(&work(), &AtomicBool::new(true));

        assert!(failed.expect_err("it failed").to_string().contains("no such thing"));
        assert!(died.is_err());
        let full = keepers(r#"echo '{"Err":{"number":28,"words":"x"}}'"#).ask::<u64>(&work(), &AtomicBool::new(false));
        assert_eq!(full.expect_err("no room").kind(), ErrorKind::StorageFull);
        assert_eq!(abandoned.expect_err("abandoned").kind(), ErrorKind::Interrupted);
    }
}

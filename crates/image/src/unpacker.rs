//! Unpacking and removing by another process: one that has ids which the service's own user has not.
//!
//! An ordinary user may have been lent ids, and no thread of the service can take them on. So layers go to a process that
//! can, as they come, and it puts their files down exactly as [`crate::unpack`] does here. It is made for one image.
//!
//! What it is told: a line of JSON, the [`Job`]. Then, for layers, pieces: a byte that says what it is, a length of four
//! bytes, and the content. What it answers is JSON, at its end.

mod work;

use std::io::{self, ErrorKind, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::{ImageLimits, Owner};
use crate::unpack::{Layer, Problem, Unpacked, remove_tree};
pub use work::unpack_for_another;

/// The argument with which a program becomes an unpacker.
pub const UNPACKER_ARGUMENT: &str = "unpacker";
/// How long it may take from the last byte of the last layer to its answer, and to remove an image.
const WITHIN: Duration = Duration::from_secs(30 * 60);
/// The longest answer.
const ANSWER_BYTES: u64 = 1 << 20;
/// The longest piece.
const PIECE_BYTES: usize = 1 << 20;

/// What begins a layer ...
const LAYER: u8 = b'l';
/// ... is a part of its content ...
const CONTENT: u8 = b'c';
/// ... ends it, as far as it came, and ends all of them.
const END: u8 = b'e';

/// A program that unpacks and removes images with ids of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacker {
    /// The program. It takes on the ids, and calls [`unpack_for_another`] with what came of that.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Which ids those are, as a part of a file's name without `-` and `/`: what was unpacked with others is another image.
    pub ids: String,
}

/// What an unpacker is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Job {
    /// Unpacks the layers that follow into a new folder.
    Unpack { root: PathBuf, owner: Owner, limits: ImageLimits },
    /// Removes a folder and all in it.
    Remove { path: PathBuf },
}

/// A layer's head.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    digest: String,
    size_bytes: u64,
    diff_id: String,
}

/// What came of it: what was unpacked, or the number of the layer at fault and what is wrong.
type Answer = Result<Option<Unpacked>, (usize, Trouble)>;

/// A [`Problem`] on its way.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trouble {
    TooLarge { what: String, limit: String },
    Bad(String),
    Io(String),
}

impl Unpacker {
    /// The same as [`crate::unpack::unpack`], by such a process.
    pub(crate) fn unpack(
        &self,
        root: &Path,
        owner: Owner,
        limits: ImageLimits,
        next: impl FnMut() -> Option<Layer>,
    ) -> Result<Unpacked, (usize, Problem)> {
        let failed = |source| (1, Problem::Io { what: "unpack it with subordinate ids", source });
        let job = Job::Unpack { root: root.to_path_buf(), owner, limits };
        let mut running = Running::start(self, &job).map_err(failed)?;
        // If it ends early, its answer says why.
        let _told_by_its_answer = running.input.as_mut().map(|input| send(input, next));
        match running.answer().map_err(failed)? {
            Ok(Some(unpacked)) => Ok(unpacked),
            Ok(None) => Err(failed(io::Error::other("it was not unpacked"))),
            Err((layer, trouble)) => Err((layer, trouble.into())),
        }
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let running = Running::start(self, &Job::Remove { path: path.to_path_buf() })?;
        match running.answer()? {
            Ok(_) => Ok(()),
            // Whoever asked says what it was for.
            Err((_, Trouble::Io(words))) => Err(io::Error::other(words)),
            Err((_, trouble)) => Err(io::Error::other(Problem::from(trouble))),
        }
    }
}

/// Removes a tree that an image left; by the unpacker where this user may not.
pub(crate) fn remove(path: &Path, unpacker: Option<&Unpacker>) -> io::Result<()> {
    match (remove_tree(path), unpacker) {
        (Err(error), Some(unpacker)) if error.kind() == ErrorKind::PermissionDenied => unpacker.remove(path),
        (result, _) => result,
    }
}

/// Hands on layers as they come, the last of them perhaps not whole.
fn send(input: &mut impl Write, mut next: impl FnMut() -> Option<Layer>) -> io::Result<()> {
    while let Some(mut layer) = next() {
        let head = Head {
            digest: layer.descriptor.digest.to_string(),
            size_bytes: layer.descriptor.size_bytes,
            diff_id: layer.diff_id.to_string(),
        };
        piece(input, LAYER, &serde_json::to_vec(&head).map_err(io::Error::other)?)?;
        while let Some(bytes) = layer.pieces.blocking_recv() {
            bytes.chunks(PIECE_BYTES).try_for_each(|part| piece(input, CONTENT, part))?;
        }
        piece(input, END, &[])?;
    }
    piece(input, END, &[])
}

fn piece(input: &mut impl Write, kind: u8, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    input.write_all(&[kind])?;
    input.write_all(&length.to_le_bytes())?;
    input.write_all(content)
}

/// An unpacker at work. It is ended with this.
struct Running {
    process: Child,
    /// Until all has been said.
    input: Option<ChildStdin>,
    output: UnixStream,
}

impl Running {
    fn start(unpacker: &Unpacker, job: &Job) -> io::Result<Self> {
        let (output, theirs) = UnixStream::pair()?;
        output.set_read_timeout(Some(WITHIN))?;
        let mut command = Command::new(&unpacker.program);
        command.args(&unpacker.arguments).arg0("carrel-unpacker").env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::from(OwnedFd::from(theirs)));
        let mut process = command.spawn()?;
        // The command holds the other end, too: without this the stream would never end.
        drop(command);
        let mut input = process.stdin.take().expect("its input was piped");
        let mut line = serde_json::to_vec(job).map_err(io::Error::other)?;
        line.push(b'\n');
        // One that does not read on says why.
        let _told_by_its_answer = input.write_all(&line);
        Ok(Self { process, input: Some(input), output })
    }

    fn answer(mut self) -> io::Result<Answer> {
        drop(self.input.take());
        let mut text = Vec::new();
        (&mut self.output).take(ANSWER_BYTES).read_to_end(&mut text)?;
        serde_json::from_slice(&text)
            .map_err(|_| io::Error::other("the process that has the subordinate ids ended before it was done"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that is done has ended by itself.
        let _has_ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::TooLarge { what, limit } => Self::TooLarge { what: what.into_owned(), limit },
            Problem::Bad(words) => Self::Bad(words),
            Problem::Io { what, source } => Self::Io(format!("cannot {what}: {source}")),
        }
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::TooLarge { what, limit } => Self::TooLarge { what: what.into(), limit },
            Trouble::Bad(words) => Self::Bad(words),
            Trouble::Io(words) => Self::Io { what: "unpack it with subordinate ids", source: io::Error::other(words) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacker(script: &str) -> Unpacker {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Unpacker { program: "/bin/sh".into(), arguments, ids: "own.1".to_owned() }
    }

    #[test]
    fn an_unpacker_that_dies_or_says_nonsense_fails_the_image() {
        for script in ["exit 1", "cat > /dev/null; echo nonsense"] {
            let owner = Owner::Shifted { start: 0 };

            let outcome = unpacker(script).unpack(Path::new("/nowhere"), owner, ImageLimits::default(), || None);

            assert!(matches!(outcome, Err((1, Problem::Io { .. }))), "{script}: {outcome:?}");
        }
    }

    #[test]
    fn what_is_wrong_comes_over_as_it_was_said() {
        let script = |answer: &str| unpacker(&format!("cat > /dev/null; echo '{answer}'"));
        let outcome = |answer: &str| {
            let owner = Owner::Shifted { start: 0 };
            script(answer).unpack(Path::new("/nowhere"), owner, ImageLimits::default(), || None)
        };

        let bad = outcome(r#"{"Err":[3,{"bad":"it is broken"}]}"#).expect_err("bad");
        let large = outcome(r#"{"Err":[1,{"too_large":{"what":"more files","limit":"5"}}]}"#).expect_err("large");

        assert!(matches!(bad, (3, Problem::Bad(words)) if words == "it is broken"));
        assert!(matches!(large, (1, Problem::TooLarge { what, limit }) if what == "more files" && limit == "5"));
    }
}

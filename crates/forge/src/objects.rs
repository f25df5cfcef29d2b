//! One git process that is asked for objects one after another: starting git costs more than most of its answers. It is
//! started with the first question and ends with the [`Mirror`] it belongs to.

use std::fmt;

use carrel_domain::repository_facts::Kind;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::error::ForgeError;
use crate::git::Talk;
use crate::mirror::Mirror;

/// The longest line that is no content: an echoed name and a word.
const LINE_BYTES: u64 = 16 << 10;

/// The process, if it has been asked for anything yet.
#[derive(Default)]
pub(crate) struct Objects {
    talk: Mutex<Option<Talk>>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Objects").finish_non_exhaustive()
    }
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) object: String,
    kind: String,
    pub(crate) size_bytes: u64,
}

impl Info {
    pub(crate) fn is_tree(&self) -> bool {
        self.kind == "tree"
    }

    pub(crate) fn is_commit(&self) -> bool {
        self.kind == "commit"
    }
}

/// Something in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeEntry<'a> {
    /// Its name, if that is UTF-8.
    pub(crate) name: Option<&'a str>,
    pub(crate) kind: Kind,
}

impl Mirror {
    /// What these names lead to, in their order. Names with a line end lead nowhere.
    pub(crate) async fn infos(&self, names: &[String]) -> Result<Vec<Option<Info>>, ForgeError> {
        let mut asked = String::new();
        for name in names.iter().filter(|name| can_be_asked(name)) {
            asked.push_str(&format!("info {name}\n"));
        }
        let mut answers = self
            .converse(asked, async |talk| {
                let mut answers = Vec::new();
                for _ in names.iter().filter(|name| can_be_asked(name)) {
                    answers.push(info(talk).await?);
                }
                Ok(answers)
            })
            .await?
            .into_iter();
        Ok(names.iter().map(|name| if can_be_asked(name) { answers.next().flatten() } else { None }).collect())
    }

    /// What this name leads to.
    pub(crate) async fn info(&self, name: &str) -> Result<Option<Info>, ForgeError> {
        Ok(self.infos(&[name.to_owned()]).await?.into_iter().next().flatten())
    }

    /// The content of these objects, in their order. Whoever asks has looked at their sizes.
    pub(crate) async fn contents(&self, objects: &[&Info]) -> Result<Vec<Vec<u8>>, ForgeError> {
        let asked: String = objects.iter().map(|info| format!("contents {}\n", info.object)).collect();
        self.converse(asked, async |talk| {
            let mut contents = Vec::new();
            for wanted in objects {
                let said = info(talk).await?.filter(|said| said == *wanted);
                let said = said.ok_or_else(|| unexpected("an object is not what it was a moment ago"))?;
                let length = usize::try_from(said.size_bytes).map_err(std::io::Error::other)?;
                let mut content = vec![0; length];
                talk.output.read_exact(&mut content).await?;
                if talk.output.read_u8().await? != b'\n' {
                    return Err(unexpected("an object is longer than it said"));
                }
                contents.push(content);
            }
            Ok(contents)
        })
        .await
    }

    /// The trees that these names lead to, in their order, for [`entries`]; nothing for one that leads to none, and for those
    /// that are too large together with the ones before.
    pub(crate) async fn trees(&self, names: &[String], max_bytes: u64) -> Result<Vec<Option<Vec<u8>>>, ForgeError> {
        let mut infos = self.infos(names).await?;
        let mut room = max_bytes;
        for place in &mut infos {
            let left = place.as_ref().filter(|info| info.is_tree()).and_then(|info| room.checked_sub(info.size_bytes));
            match left {
                Some(left) => room = left,
                None => *place = None,
            }
        }
        let wanted: Vec<&Info> = infos.iter().flatten().collect();
        let mut contents = self.contents(&wanted).await?.into_iter();
        Ok(infos.iter().map(|info| info.as_ref().and_then(|_| contents.next())).collect())
    }

    /// Asks, and reads the answer, at most as long as a local call may take. After whatever goes wrong, and when nobody
    /// waits for the answer any more, the process is ended, and the next question starts another.
    async fn converse<T>(
        &self,
        asked: String,
        answer: impl AsyncFnOnce(&mut Answers<'_>) -> std::io::Result<T>,
    ) -> Result<T, ForgeError> {
        let mut place = self.objects.talk.lock().await;
        let mut talk = match place.take() {
            Some(talk) => talk,
            None => self.git("cat-file").args(["--batch-command", "--buffer"]).talk()?,
        };
        // One question's answers are written at once.
        let asked = asked + "flush\n";
        let work = async {
            let mut answers = Answers { output: &mut talk.output };
            let feed = talk.input.write_all(asked.as_bytes());
            let ((), answered) = tokio::try_join!(feed, answer(&mut answers))?;
            Ok::<_, std::io::Error>(answered)
        };
        match tokio::time::timeout(self.local(), work).await {
            Ok(Ok(answered)) => {
                *place = Some(talk);
                Ok(answered)
            }
            Ok(Err(error)) => Err(talk.failed(error).await),
            Err(_) => Err(ForgeError::TimedOut { what: "cat-file", after: self.local() }),
        }
    }
}

/// Where answers are read.
struct Answers<'a> {
    output: &'a mut tokio::io::BufReader<tokio::process::ChildStdout>,
}

/// Whether a name can be asked for on a line. Git ends over a path that begins as a relative one, instead of answering.
fn can_be_asked(name: &str) -> bool {
    let is_relative = name.split_once(':').is_some_and(|(_, path)| path.starts_with("./") || path.starts_with("../"));
    name.len() as u64 <= LINE_BYTES / 2 && !name.contains(['\n', '\0']) && !is_relative
}

fn unexpected(problem: &str) -> std::io::Error {
    std::io::Error::other(problem.to_owned())
}

/// Reads `<object> SP <type> SP <size>`, or `<name> missing` and the like.
async fn info(answers: &mut Answers<'_>) -> std::io::Result<Option<Info>> {
    let mut line = Vec::new();
    (&mut *answers.output).take(LINE_BYTES).read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        return Err(unexpected("it ended before it had answered"));
    }
    let line = String::from_utf8_lossy(&line);
    // The name of what is missing may be anything, but no such line ends with a number.
    let mut words = line.rsplit(' ');
    let (Some(size), Some(kind), Some(object), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    let Ok(size_bytes) = size.parse() else { return Ok(None) };
    Ok(Some(Info { object: object.to_owned(), kind: kind.to_owned(), size_bytes }))
}

/// Reads `<mode> SP <name> NUL <object>` again and again. What is not well-formed ends the list.
pub(crate) fn entries(mut tree: &[u8], object_bytes: usize) -> impl Iterator<Item = TreeEntry<'_>> {
    std::iter::from_fn(move || {
        let space = tree.iter().position(|byte| *byte == b' ')?;
        let end = tree.iter().position(|byte| *byte == 0)?;
        let name = tree.get(space + 1..end).filter(|_| tree.len() > end + object_bytes)?;
        let kind = match &tree[..space] {
            b"40000" | b"040000" => Kind::Folder,
            b"120000" => Kind::Link,
            b"160000" => Kind::Submodule,
            _ => Kind::File,
        };
        tree = &tree[end + 1 + object_bytes..];
        Some(TreeEntry { name: std::str::from_utf8(name).ok(), kind })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_as_far_as_it_is_well_formed() {
        let mut tree = Vec::new();
        for (mode, name) in [("100644", "a b"), ("40000", "folder"), ("120000", "link"), ("160000", "other")] {
            tree.extend(format!("{mode} {name}\0").into_bytes());
            tree.extend([0xab; 20]);
        }
        tree.extend(b"100644 \xff\0");
        tree.extend([1; 20]);
        tree.extend(b"100644 cut\0\x01\x02");

        let read: Vec<_> = entries(&tree, 20).map(|entry| (entry.name, entry.kind)).collect();

        let expected = [
            (Some("a b"), Kind::File),
            (Some("folder"), Kind::Folder),
            (Some("link"), Kind::Link),
            (Some("other"), Kind::Submodule),
            (None, Kind::File),
        ];
        assert_eq!(read, expected);
    }
}

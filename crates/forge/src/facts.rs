//! The facts of a repository at a commit, from the mirror's trees: some milliseconds, whatever its size.

use std::time::Duration;

use carrel_domain::CommitOid;
use carrel_domain::repository_facts::{Entry, Look, MAX_FILE_BYTES, RepositoryFacts};
use jiff::Timestamp;

use crate::error::ForgeError;
use crate::mirror::Mirror;
use crate::objects::{Info, TreeEntry, entries};

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(5);

/// The longest tree that is read: that of the root, some 200,000 names, and that of another folder.
const ROOT_BYTES: u64 = 8 << 20;
const FOLDER_BYTES: u64 = 1 << 20;

/// What all trees and files may be together.
const ALL_BYTES: u64 = 16 << 20;

/// The longest commit that is read.
const COMMIT_BYTES: u64 = 1 << 20;

impl Mirror {
    /// What can be said of this commit's files. There is always an answer: what could not be looked at is named in it.
    pub async fn facts(&self, commit: &CommitOid) -> RepositoryFacts {
        let mut look = Look::default();
        match tokio::time::timeout(WITHIN, self.look(commit, &mut look)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%commit, %error, "the facts of a repository could not be gathered whole");
                look.cut_short = Some("git could not show all of it".to_owned());
            }
            Err(_) => look.cut_short = Some(format!("looking for more would have taken over {} s", WITHIN.as_secs())),
        }
        look.facts()
    }

    async fn look(&self, commit: &CommitOid, look: &mut Look) -> Result<(), ForgeError> {
        let found = self.info(commit.as_str()).await?;
        if let Some(info) = found.filter(|info| info.is_commit() && info.size_bytes <= COMMIT_BYTES) {
            let content = self.contents(&[&info]).await?;
            (look.subject, look.date) = headline(&content.concat());
        }
        let mut room = ALL_BYTES;
        loop {
            let folders = look.next_folders();
            if folders.is_empty() {
                break;
            }
            let found = self.read_all(commit, &folders, &mut room, true).await?;
            for (path, found) in folders.into_iter().zip(found) {
                let entries = found.map(|tree| named(&tree, commit.as_str().len() / 2));
                look.folders.insert(path, entries);
            }
        }
        let files = look.wanted_files();
        let found = self.read_all(commit, &files, &mut room, false).await?;
        look.files.extend(files.into_iter().zip(found));
        Ok(())
    }

    /// The trees, or else the files, at these paths, in two round trips, as far as there is room for them.
    async fn read_all(
        &self,
        commit: &CommitOid,
        paths: &[String],
        room: &mut u64,
        are_trees: bool,
    ) -> Result<Vec<Option<Vec<u8>>>, ForgeError> {
        let names: Vec<String> = paths.iter().map(|path| format!("{commit}:{path}")).collect();
        let mut infos = self.infos(&names).await?;
        for (path, place) in paths.iter().zip(&mut infos) {
            let most = match (are_trees, path.as_str()) {
                (true, "") => ROOT_BYTES,
                (true, _) => FOLDER_BYTES,
                (false, _) => MAX_FILE_BYTES,
            };
            let fits = |info: &Info| info.is_tree() == are_trees && info.size_bytes <= most.min(*room);
            if place.as_ref().is_some_and(fits) {
                *room -= place.as_ref().map_or(0, |info| info.size_bytes);
            } else {
                *place = None;
            }
        }
        let wanted: Vec<&Info> = infos.iter().flatten().collect();
        let mut contents = self.contents(&wanted).await?.into_iter();
        Ok(infos.iter().map(|info| info.as_ref().and_then(|_| contents.next())).collect())
    }
}

fn named(tree: &[u8], object_bytes: usize) -> Vec<Entry> {
    // A name that is no text cannot be asked for; it is shown as far as it can be.
    let entry = |entry: TreeEntry<'_>| Entry { name: entry.name.unwrap_or("\u{fffd}").to_owned(), kind: entry.kind };
    entries(tree, object_bytes).map(entry).collect()
}

/// The first line of a commit's message, and the day it was committed, in UTC.
fn headline(commit: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(commit);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let subject = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let committer = head.lines().find_map(|line| line.strip_prefix("committer ")).unwrap_or_default();
    // `name <address> 1700000000 +0100`
    let seconds = committer.rsplit_once("> ").and_then(|(_, when)| when.split(' ').next()?.parse().ok());
    let date = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    (subject.trim().to_owned(), date.map(|date| date.strftime("%Y-%m-%d").to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commits_headline_is_its_first_line_and_its_day() {
        let commit =
            b"tree x\nauthor A <a> 1 +0000\ncommitter <b> C> <c@d> 1700000000 -0800\n\n\n Mend  the check\nmore\n";

        assert_eq!(headline(commit), ("Mend  the check".to_owned(), "2023-11-14".to_owned()));
    }

    #[test]
    fn a_commit_that_tells_nothing_has_none() {
        for commit in [&b""[..], b"tree x\ncommitter C <c> never\n\n\n", b"committer C <c> 99999999999999999999 +0\n\n"]
        {
            assert_eq!(headline(commit), (String::new(), String::new()));
        }
    }
}

//! What a remote says it has: its branches, its tags, and what its `HEAD` names.

use std::collections::BTreeMap;

use carrel_domain::{BranchName, CommitOid};

use crate::error::ForgeError;
use crate::git::Call;
use crate::remote::{Remote, Serving};

/// The longest listing that is taken: some 500,000 references.
const MAX_BYTES: usize = 64 << 20;

/// How many branches an error names.
const NAMED: usize = 5;

/// References by name, and the head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// `refs/heads/…` and `refs/tags/…` to object names.
    pub(crate) references: BTreeMap<String, String>,
    /// What `HEAD` is.
    pub(crate) head: Head,
}

/// What a repository's `HEAD` is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// The tip of this branch.
    Branch(BranchName),
    /// A commit that is on no branch.
    Detached(CommitOid),
    /// Nothing, or a name that is no branch of ours.
    #[default]
    Nowhere,
}

impl Listing {
    /// Asks the remote; `patterns` narrow the answer.
    pub(crate) async fn ask(remote: &Remote<'_>, call: Call, patterns: &[&str]) -> Result<Self, ForgeError> {
        let call = remote
            .prepare(call, Serving::Upload)
            .args(["--quiet", "--symref", "--"])
            .arg(&remote.address)
            .args(patterns)
            .stdout_bytes(MAX_BYTES);
        let ended = call.run().await?;
        if !ended.succeeded() {
            return Err(remote.failure(&ended));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&ended.stdout)))
    }

    /// Reads `git ls-remote --symref`; what is not well-formed, and peeled tags, are left out.
    fn parse(text: &str) -> Self {
        let mut references = BTreeMap::new();
        let (mut symbolic, mut detached) = (None, None);
        for line in text.lines() {
            let Some((value, name)) = line.split_once('\t') else { continue };
            if let Some(target) = value.strip_prefix("ref: ") {
                if name == "HEAD" {
                    symbolic = target.strip_prefix("refs/heads/").and_then(|branch| branch.parse::<BranchName>().ok());
                }
            } else if let Ok(oid) = value.parse::<CommitOid>() {
                if name == "HEAD" {
                    detached = Some(oid);
                } else if name.starts_with("refs/heads/") || (name.starts_with("refs/tags/") && !name.ends_with("^{}"))
                {
                    references.insert(name.to_owned(), oid.as_str().to_owned());
                }
            }
        }
        let head = match (symbolic, detached) {
            (Some(branch), _) if references.contains_key(&branch.reference()) => Head::Branch(branch),
            (None, Some(commit)) => Head::Detached(commit),
            (Some(_) | None, _) => Head::Nowhere,
        };
        Self { references, head }
    }

    /// The names of its branches, as far as they are names to us.
    pub(crate) fn branches(&self) -> Vec<BranchName> {
        self.references
            .keys()
            .filter_map(|name| name.strip_prefix("refs/heads/"))
            .filter_map(|name| name.parse().ok())
            .collect()
    }
}

/// A few of the branches, those most like the wanted one first.
pub(crate) fn nearest(wanted: &str, mut branches: Vec<BranchName>) -> Vec<BranchName> {
    let wanted: Vec<char> = wanted.chars().take(100).collect();
    // A listing may be huge; the error need not be perfect.
    branches.truncate(10_000);
    branches.sort_by_cached_key(|branch| distance(&wanted, branch.as_str()));
    branches.truncate(NAMED);
    branches
}

/// How many letters must be put in, taken out or changed (Levenshtein), over the first hundred.
fn distance(wanted: &[char], name: &str) -> usize {
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (line, letter) in name.chars().take(100).enumerate() {
        let mut diagonal = line;
        row[0] = line + 1;
        for (column, other) in wanted.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[wanted.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

    #[test]
    fn a_head_that_names_a_missing_branch_is_nowhere() {
        let listing = Listing::parse(&format!("ref: refs/heads/gone\tHEAD\n{OID}\trefs/heads/main\n"));

        assert_eq!(listing.head, Head::Nowhere);
        assert_eq!(listing.branches(), ["main".parse().expect("a branch")]);
    }

    #[test]
    fn only_branches_and_tags_count_and_hostile_lines_are_left_out() {
        let listing = Listing::parse(&format!(
            "{OID}\tHEAD\n{OID}\trefs/remotes/origin/HEAD\n{OID}\trefs/tags/v1\n{OID}\trefs/tags/v1^{{}}\n-x\trefs/heads/y\nno tab\n"
        ));

        assert_eq!(listing.references.keys().collect::<Vec<_>>(), ["refs/tags/v1"]);
        assert_eq!(listing.head, Head::Detached(OID.parse().expect("an object name")));
    }

    #[test]
    fn the_branches_most_like_the_wanted_one_come_first() {
        let branches = ["zeta", "develop", "mian", "release/1"].map(|name| name.parse().expect("a branch")).to_vec();

        let named: Vec<String> = nearest("main", branches).into_iter().map(String::from).collect();

        assert_eq!(named[0], "mian");
    }
}

//! Which ids this user was lent, as the files of the administrator say, and what is missing where there are not enough.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::{IdMap, RANGES, Range, WANTED};

/// Where the helper programs may be; the path of a service is nobody's promise.
const FOLDERS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/wrappers/bin"];
/// What is proposed to somebody who has none.
const PROPOSED: &str = "100000-165535";

/// Why there are no ids to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLent {
    /// What was found.
    pub words: String,
    /// What to do.
    pub advice: String,
}

/// Looks for the ids that `user` was lent, and for the programs.
pub(super) fn find(user: Uid) -> Result<IdMap, NotLent> {
    let account = User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let map = map_of(&account, &user.to_string(), &read("/etc/subuid"), &read("/etc/subgid"))?;
    if ["newuidmap", "newgidmap"].iter().any(|name| program(name).is_none()) {
        return Err(NotLent {
            words: format!("`{account}` has some, but the programs that hand them out are missing"),
            advice: "as root: apt-get install uidmap (on other distributions shadow-utils or shadow)".to_owned(),
        });
    }
    Ok(map)
}

/// Where a helper program is.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// The map that the two files give an account.
fn map_of(account: &str, number: &str, users: &str, groups: &str) -> Result<IdMap, NotLent> {
    let missing = |words: String| NotLent {
        words,
        advice: format!(
            "as root: usermod --add-subuids {PROPOSED} --add-subgids {PROPOSED} {account} (or other numbers, where these are taken)"
        ),
    };
    let [users, groups] = [users, groups].map(|text| ranges(text, account, number));
    let count = |ranges: &[Range]| ranges.iter().map(|range| range.count).sum::<u32>();
    let fewest = count(&users).min(count(&groups));
    if fewest == 0 {
        return Err(missing(format!(
            "`{account}` has none: inside an image there is one user only, who is root; programs that become others fail, such as apt-get"
        )));
    }
    if fewest < WANTED {
        return Err(missing(format!(
            "`{account}` has {fewest} and images need {WANTED}: they have one user only, who is root"
        )));
    }
    Ok(IdMap { users, groups })
}

/// The ranges of an account, by its name or number: at most as many ids as are wanted. Where ranges overlap, as they do
/// when somebody is listed twice, the first counts: no kernel takes an id twice.
fn ranges(text: &str, account: &str, number: &str) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    let mut wanted = WANTED;
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [owner, first, count] = fields[..] else { continue };
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else { continue };
        let count = count.min(wanted);
        // 0 is the machine's root, which nobody can be lent; the last number stands for none.
        let is_usable = first > 0 && count > 0 && first.checked_add(count).is_some() && found.len() < RANGES;
        let overlaps = |range: &Range| first < range.first + range.count && range.first < first + count;
        if (owner == account || owner == number) && is_usable && !found.iter().any(overlaps) {
            found.push(Range { first, count });
            wanted -= count;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number_and_joined_until_there_are_enough() {
        let text = "other:100000:65536\nme:165536:65536\n1001:300000:10\nbroken:x\n1001:300005:7\n1001:400000:70000\n1001:0:9\n1001:4294967295:9\n";

        assert_eq!(ranges(text, "me", "7"), [Range { first: 165_536, count: 65_535 }]);
        assert_eq!(
            ranges(text, "nobody", "1001"),
            [Range { first: 300_000, count: 10 }, Range { first: 400_000, count: 65_525 }]
        );
        assert_eq!(ranges(text, "mine", "8"), []);
    }

    #[test]
    fn somebody_with_too_few_ids_is_told_how_many_and_what_to_do() {
        let few = map_of("me", "7", "me:100000:65536\n", "me:100000:1000\n").expect_err("too few");
        let none = map_of("me", "7", "", "").expect_err("none");

        assert!(few.words.contains("`me` has 1000 and images need 65535"), "{}", few.words);
        assert!(none.words.contains("`me` has none"), "{}", none.words);
        assert!(none.advice.contains("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 me"));
    }

    #[test]
    fn users_and_groups_may_come_from_different_numbers() {
        let map = map_of("me", "7", "me:100000:65536\n", "7:200000:65536\n").expect("enough");

        assert_eq!(map.to_string(), "100000+65535/200000+65535");
    }
}

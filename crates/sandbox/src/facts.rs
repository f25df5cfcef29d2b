//! What this machine offers sandboxes, as far as the launcher does not know it: ids, disk.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use carrel_runner::protocol::{Fact, FactState};
use nix::unistd::{Uid, User, geteuid};

use crate::disk;

/// What is found out here, to be put behind the launcher's facts.
pub(crate) fn gather(folder: &Path, floor_bytes: Option<u64>) -> Vec<Fact> {
    vec![subordinate_ids(geteuid()), limit_of_disk(folder), free_disk(folder, floor_bytes)]
}

fn fact(name: &str, state: FactState, words: impl Into<String>, advice: Option<String>) -> Fact {
    Fact { name: name.to_owned(), state, words: words.into(), advice }
}

fn subordinate_ids(user: Uid) -> Fact {
    let name = "subordinate ids";
    if user.is_root() {
        return fact(name, FactState::Ok, "not needed: the service is root", None);
    }
    let account = User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name);
    let advice = |what: &str| Some(format!("as root: {what}"));
    let ranges = range("/etc/subuid", &account, user).zip(range("/etc/subgid", &account, user));
    let Some((users, groups)) = ranges else {
        let words = format!("`{account}` has none: inside an image there is one user only, who is root");
        let fix = format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {account}");
        return fact(name, FactState::Missing, words, advice(&fix));
    };
    if ["newuidmap", "newgidmap"].iter().any(|tool| !Path::new("/usr/bin").join(tool).exists()) {
        let words = "there are some, but not the tools that hand them out";
        return fact(name, FactState::Missing, words, advice("apt-get install uidmap"));
    }
    fact(name, FactState::Ok, format!("users from {}, {} of them; groups from {}", users.0, users.1, groups.0), None)
}

/// The first range of this user in `/etc/subuid` or its like: where it begins, and how long it is.
fn range(path: &str, account: &str, user: Uid) -> Option<(u32, u32)> {
    find_range(&fs::read_to_string(path).ok()?, account, &user.to_string())
}

fn find_range(text: &str, account: &str, number: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (owner == account || owner == number).then_some(range)
    })
}

fn limit_of_disk(folder: &Path) -> Fact {
    let quota = match has_project_quota(folder) {
        true => "its project quotas are not used",
        false => "it has no project quotas",
    };
    let words = format!("by watching: commands of a sandbox that takes too much are ended ({quota})");
    fact("limit of disk", FactState::Ok, words, None)
}

/// Whether the file system of the folder was mounted with quotas for projects.
fn has_project_quota(folder: &Path) -> bool {
    let (Ok(table), Ok(data)) = (fs::read_to_string("/proc/self/mountinfo"), fs::metadata(folder)) else {
        return false;
    };
    let device = format!("{}:{}", nix::sys::stat::major(data.dev()), nix::sys::stat::minor(data.dev()));
    let options = table.lines().filter(|line| line.split(' ').nth(2) == Some(&device)).filter_map(|line| {
        let (_, right) = line.split_once(" - ")?;
        right.split(' ').nth(2)
    });
    options.flat_map(|options| options.split(',')).any(|option| matches!(option, "prjquota" | "pquota"))
}

fn free_disk(folder: &Path, floor_bytes: Option<u64>) -> Fact {
    let name = "free disk";
    let advice = || Some(format!("free some space on the disk of `{}`", folder.display()));
    let shown = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    match disk::free_and_floor(folder, floor_bytes) {
        Ok((free, floor)) if free >= floor.saturating_mul(2) => fact(name, FactState::Ok, shown(free), None),
        Ok((free, floor)) => {
            let words = format!("{}: below {} the sandbox that writes most is stopped", shown(free), shown(floor));
            fact(name, FactState::Degraded, words, advice())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fact(name, FactState::Missing, "the folder of sandboxes is gone", Some("restart the service".to_owned()))
        }
        Err(error) => fact(name, FactState::Missing, format!("it cannot be found out: {error}"), advice()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ids_is_found_by_name_or_number() {
        let text = "other:100000:65536\nme:165536:65536\n1001:300000:10\nbroken:x\n";

        assert_eq!(find_range(text, "me", "7"), Some((165_536, 65_536)));
        assert_eq!(find_range(text, "nobody", "1001"), Some((300_000, 10)));
        assert_eq!(find_range(text, "mine", "8"), None);
    }
}

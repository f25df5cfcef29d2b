//! What this machine offers sandboxes, as far as the launcher does not know it: disk.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use carrel_runner::protocol::{Fact, FactState};

use crate::disk;

/// What is found out here, to be put behind the launcher's facts.
pub(crate) fn gather(folder: &Path, floor_bytes: Option<u64>) -> Vec<Fact> {
    vec![limit_of_disk(folder), free_disk(folder, floor_bytes)]
}

fn fact(name: &str, state: FactState, words: impl Into<String>, advice: Option<String>) -> Fact {
    Fact { name: name.to_owned(), state, words: words.into(), advice }
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

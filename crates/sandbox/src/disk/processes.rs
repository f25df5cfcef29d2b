//! What `/proc` says of the processes of a sandbox, by their numbers on the host: as much of it as everybody may read, and
//! what they wrote.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use carrel_runner::pidfd::Pidfd;
use carrel_runner::protocol::{RECORD_FILE, Record};

use crate::limits;

/// `PF_FORKNOEXEC` of the kernel's `include/linux/sched.h`: forked, and has not become another program.
const FORKED_ONLY: u64 = 0x40;

/// One process or thread, from its `stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    parent: i32,
    /// Whether it holds anything still.
    pub(super) is_living: bool,
    is_forked_only: bool,
}

impl Stat {
    /// What `place/stat` says; nothing if that is gone.
    pub(super) fn read(place: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("{place}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in brackets, is the process's own choice and may hold brackets.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let [state, parent, _group, _session, _terminal, _foreground, flags, ..] = fields[..] else { return None };
        Some(Self {
            parent: parent.parse().ok()?,
            is_living: !matches!(state, "Z" | "X"),
            is_forked_only: flags.parse::<u64>().ok()? & FORKED_ONLY != 0,
        })
    }

    /// Whether it is a supervisor of the runner with this number: those it forks itself and they stay what they are.
    /// What a command leaves behind goes to its supervisor, and never to the runner without being ended.
    pub(super) fn is_supervisor_of(&self, runner: i32) -> bool {
        self.parent == runner && self.is_forked_only
    }
}

/// The runner of the sandbox in `folder`, if it lives: process 1 of all that are inside.
pub(super) fn runner_of(folder: &Path) -> Option<i32> {
    let record: Record = serde_json::from_slice(&fs::read(folder.join(RECORD_FILE)).ok()?).ok()?;
    let pid = record.pid;
    Pidfd::open(record).ok()?.map(|_living| pid)
}

/// The processes of the sandbox in `folder`: those of its group, or without one what descends from its runner.
pub(super) fn processes_of(folder: &Path, groups: &[String]) -> Vec<i32> {
    let grouped = limits::processes(groups);
    match runner_of(folder) {
        Some(runner) if grouped.is_empty() => below(runner, &everybody()),
        _ => grouped,
    }
}

/// What these processes have written to disks since they started. One that may not be asked counts as nothing.
pub(super) fn written_bytes(processes: &[i32]) -> u64 {
    let written = |process: &i32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
    };
    processes.iter().filter_map(written).sum()
}

/// All processes there are, each with its parent.
fn everybody() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(|number| Some((number, Stat::read(&format!("/proc/{number}"))?.parent))).collect()
}

/// This process and those that descend from it.
fn below(first: i32, everybody: &[(i32, i32)]) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (process, parent) in everybody {
        children.entry(*parent).or_default().push(*process);
    }
    let mut found = vec![first];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        found.extend(children.remove(parent).unwrap_or_default());
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn own() -> i32 {
        i32::try_from(std::process::id()).expect("a process number")
    }

    #[test]
    fn a_supervisor_is_known_by_what_a_command_cannot_take_on() {
        let supervisor = Stat::parse("7 (a) S 1 (b)) S 42 7 7 0 -1 1077936192 1 2").expect("parsed");
        let command = Stat::parse("8 (carrel-runner) S 42 7 7 0 -1 1077936128 1 2").expect("parsed");
        let dead = Stat::parse("9 (dead) Z 42 9 9 0 -1 4228108 1 2").expect("parsed");

        assert!(supervisor.is_supervisor_of(42) && !supervisor.is_supervisor_of(41));
        assert!(!command.is_supervisor_of(42) && command.is_living && !dead.is_living);
        assert_eq!(Stat::parse("7 (cut"), None);
    }

    #[test]
    fn a_sandbox_is_all_that_descends_from_its_first_process() {
        let all = [(1, 0), (10, 1), (11, 10), (12, 11), (13, 1), (14, 10)];

        let mut found = below(10, &all);
        found.sort_unstable();

        assert_eq!(found, [10, 11, 12, 14]);
        assert!(below(own(), &everybody()).contains(&own()));
    }

    #[test]
    fn what_a_process_wrote_to_a_disk_is_told() {
        let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).or_else(|_read_only| tempfile::tempdir());
        let mut file = fs::File::create(place.expect("a temporary folder").path().join("file")).expect("made");
        let before = written_bytes(&[own()]);

        file.write_all(&vec![1; 4 << 20]).and_then(|()| file.sync_all()).expect("written");

        // A disk that is memory is none.
        let disk = nix::sys::statfs::fstatfs(&file).expect("it has one").filesystem_type();
        let is_memory = disk == nix::sys::statfs::TMPFS_MAGIC;
        assert!(is_memory || written_bytes(&[own()]) >= before + (4 << 20));
    }
}

//! What came of a sandbox's limits: counters that the kernel keeps in its control group, and the group's end.
//!
//! The launcher makes the group and writes its folders into the sandbox's record; from there on only the record is
//! needed, by whichever controller comes.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use carrel_domain::ResourceLimits;
use carrel_runner::protocol::{LimitsRecord, RECORD_FILE, Resources};

/// How often a group is tried to be removed whose last process has just ended, and how long apart.
const REMOVALS: u32 = 20;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(1);

/// How often a sandbox ran into its limits since it was launched. What is not limited stays 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitCounters {
    /// Processes the kernel ended because the sandbox's memory was used up.
    pub oom_kills: u64,
    /// Processes and threads that were not started because there were too many.
    pub processes_refused: u64,
    /// How long it had to wait for processor time it had used up, in microseconds.
    pub cpu_throttled_us: u64,
    /// What its writable layer was last seen to take, in bytes; nothing before it was first measured.
    pub disk_bytes: Option<u64>,
    /// Whether that was more than it may have; its commands were ended then.
    pub disk_exceeded: bool,
    /// Whether its commands were ended because the machine's disk was nearly full and it had written the most.
    pub disk_was_full: bool,
}

/// What the launcher is to hold a sandbox to; `most_processes` is the installation's.
pub(crate) fn resources(limits: &ResourceLimits, most_processes: u64) -> Resources {
    Resources {
        cpu_millis: limits.cpu_millis,
        memory_bytes: limits.memory_bytes,
        processes: u64::from(limits.processes).min(most_processes),
        disk_bytes: limits.disk_bytes,
    }
}

/// What is written down of the limits of the sandbox in `folder`; nothing when it was never launched.
pub(crate) fn record(folder: &Path) -> io::Result<Option<LimitsRecord>> {
    match fs::read(folder.join(RECORD_FILE)) {
        // Written whole before anything runs. What is not whole is what a machine that lost its power has left.
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the kernel counted.
pub(crate) fn count(groups: &[String]) -> LimitCounters {
    let mut counters = LimitCounters::default();
    for group in groups.iter().map(Path::new) {
        // Of each pair the first is of cgroup v1, the second of v2. Where a controller is missing, so is its file.
        let sum =
            |files: &[(&str, &str)]| -> u64 { files.iter().filter_map(|(file, key)| value(group, file, key)).sum() };
        counters.oom_kills += sum(&[("memory.oom_control", "oom_kill"), ("memory.events", "oom_kill")]);
        counters.processes_refused += sum(&[("pids.events", "max")]);
        counters.cpu_throttled_us += sum(&[("cpu.stat", "throttled_usec")]);
        counters.cpu_throttled_us += sum(&[("cpu.stat", "throttled_time")]) / 1000;
    }
    counters
}

/// The processes of a group, by their numbers on the host; nothing where there is no group.
pub(crate) fn processes(groups: &[String]) -> Vec<i32> {
    let Some(group) = groups.first() else { return Vec::new() };
    let numbers = fs::read_to_string(Path::new(group).join("cgroup.procs")).unwrap_or_default();
    numbers.lines().filter_map(|number| number.parse().ok()).collect()
}

/// Removes the group of a sandbox whose processes have ended. One that cannot be removed is swept by a later launcher.
pub(crate) fn remove(groups: &[String]) {
    for group in groups {
        for _ in 0..REMOVALS {
            match fs::remove_dir(group) {
                // The kernel takes a moment to see that a process it reported as ended has left.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => thread::sleep(BETWEEN_REMOVALS),
                _ => break,
            }
        }
    }
}

/// The number after `key` in a file of `key number` lines.
fn value(group: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(group.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_either_kind_of_group() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        for (group, file, text) in [
            (&first, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            (&first, "cpu.stat", "nr_periods 7\nnr_throttled 3\nthrottled_time 5000000\n"),
            (&second, "memory.events", "low 0\noom 9\noom_kill 3\noom_group_kill 1\n"),
            (&second, "pids.events", "max 4\n"),
            (&second, "cpu.stat", "usage_usec 1\nthrottled_usec 70\n"),
        ] {
            fs::create_dir_all(group).expect("made");
            fs::write(group.join(file), text).expect("written");
        }

        let groups = [&first, &second].map(|group| group.display().to_string());

        let expected =
            LimitCounters { oom_kills: 5, processes_refused: 4, cpu_throttled_us: 5070, ..LimitCounters::default() };
        assert_eq!(count(&groups), expected);
        assert_eq!(count(&[folder.path().join("gone").display().to_string()]), LimitCounters::default());
    }
}

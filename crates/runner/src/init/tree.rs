//! Ending processes with everything they started, however they hide: by walking `/proc` from a supervisor down.
//!
//! First all are stopped until nobody new appears (a stopped process starts no others), then all are killed; of a large
//! crowd everybody is stopped at once, and those it was not about go on afterwards. If that
//! does not settle, everything in the sandbox but process 1 is killed at once, which the kernel does atomically.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// After this long a tree counts as not settling.
const PATIENCE: Duration = Duration::from_secs(2);
/// More processes than this are stopped all at once.
const CROWD: usize = 128;

/// Ends everything below `supervisor`, but not itself: it then has nobody to wait for and ends.
pub(super) fn kill_below(supervisor: Pid) {
    settle(|processes| processes.below(&[supervisor.as_raw()], &[]));
}

/// Ends every process that belongs to no live supervisor: what a killed supervisor leaves to process 1.
pub(super) fn kill_orphans(supervisors: &[Pid]) {
    let supervisors: Vec<i32> = supervisors.iter().map(|pid| pid.as_raw()).collect();
    settle(|processes| processes.below(&[1], &supervisors));
}

/// Ends every process but this one.
pub(super) fn kill_everything() {
    let _nobody_there = kill(Pid::from_raw(-1), Signal::SIGKILL);
    settle(|processes| processes.below(&[1], &[]));
}

fn settle(tree: impl Fn(&Processes) -> Vec<i32>) {
    let mut crowd = Crowd { is_stopped: false };
    end(tree, &mut crowd);
    crowd.go_on();
}

fn end(tree: impl Fn(&Processes) -> Vec<i32>, crowd: &mut Crowd) {
    let started = Instant::now();
    let mut stopped = HashSet::new();
    loop {
        crowd.stop_if_large(started.elapsed());
        let living = tree(&Processes::now());
        if living.is_empty() {
            return;
        }
        let waited = started.elapsed();
        if waited > 5 * PATIENCE {
            // Nothing can live on after the signal below: these are on their way out, slowly.
            return;
        }
        if crowd.is_stopped {
            stopped.extend(living.iter().copied());
        }
        let fresh: Vec<i32> = living.iter().copied().filter(|pid| stopped.insert(*pid)).collect();
        // Those that are killed and still there, waiting for a slow disk say, are no reason to end others' commands.
        if waited > PATIENCE && !fresh.is_empty() {
            let _nobody_there = kill(Pid::from_raw(-1), Signal::SIGKILL);
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let (signal, targets) = if fresh.is_empty() { (Signal::SIGKILL, &living) } else { (Signal::SIGSTOP, &fresh) };
        for pid in targets {
            // One that ended meanwhile needs no signal. Its number cannot be another's yet: nobody reaped it.
            let _ended = kill(Pid::from_raw(*pid), signal);
        }
        if fresh.is_empty() {
            // They are dying; on a busy machine that takes its time.
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// All processes of the sandbox but this one, as long as they are too many to be stopped one by one: those that do
/// nothing but fork leave this process a small part of the processor, and it would not even get to look at them all.
/// They are stopped by one call, and those that it was not about go on afterwards.
struct Crowd {
    is_stopped: bool,
}

impl Crowd {
    fn stop_if_large(&mut self, waited: Duration) {
        if !self.is_stopped && (waited > PATIENCE / 4 || numbers().count() > CROWD) {
            self.is_stopped = kill(Pid::from_raw(-1), Signal::SIGSTOP).is_ok();
        }
    }

    /// Lets the others go on, and the supervisors among them bury the dead: until then those count against the limit
    /// of processes, and the next command could not be started.
    fn go_on(self) {
        if !self.is_stopped {
            return;
        }
        let _nobody_left = kill(Pid::from_raw(-1), Signal::SIGCONT);
        let started = Instant::now();
        while started.elapsed() < PATIENCE && numbers().any(is_left_by_another) {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Whether a process is dead and waits for a parent that is not this process.
fn is_left_by_another(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    parse(&stat).is_some_and(|(state, parent)| state == "Z" && parent != 1)
}

/// The numbers of all processes there are.
fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Who started whom, at one moment. Zombies are left out: they are dead.
struct Processes {
    children: HashMap<i32, Vec<i32>>,
}

impl Processes {
    fn now() -> Self {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for pid in numbers() {
            if let Some(parent) = living_parent(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Self { children }
    }

    fn below(&self, roots: &[i32], spared: &[i32]) -> Vec<i32> {
        let mut found = Vec::new();
        let mut open = roots.to_vec();
        while let Some(parent) = open.pop() {
            for child in self.children.get(&parent).into_iter().flatten().filter(|child| !spared.contains(child)) {
                found.push(*child);
                open.push(*child);
            }
        }
        found
    }
}

/// The parent of a process that lives.
fn living_parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_parent(&stat)
}

fn parse_parent(stat: &str) -> Option<i32> {
    let (state, parent) = parse(stat)?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// The state and the parent of a process.
fn parse(stat: &str) -> Option<(&str, i32)> {
    // The name, in brackets, is the process's own choice and may hold brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    Some((state, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_cannot_hide_behind_its_name() {
        assert_eq!(parse_parent("7 (a) S 1 (b)) R 42 7 7 0 -1"), Some(42));
        assert_eq!(parse_parent("7 (dead) Z 42 7 7 0 -1"), None);
        assert_eq!(parse_parent("7 (cut"), None);
    }

    #[test]
    fn a_tree_is_found_through_all_its_branches_but_the_spared() {
        let processes =
            Processes { children: HashMap::from([(1, vec![2, 3]), (2, vec![4]), (3, vec![5]), (4, vec![6])]) };

        let mut below = processes.below(&[1], &[3]);
        below.sort_unstable();
        assert_eq!(below, vec![2, 4, 6]);
    }
}

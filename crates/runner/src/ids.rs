//! Subordinate ids: users and groups that an administrator lent to an ordinary user, so that images have more than one.
//!
//! `/etc/subuid` and `/etc/subgid` say which, and the set-user-id programs `newuidmap` and `newgidmap` put them into a
//! user namespace. Of that namespace this process is root then: 0 in there is the user itself, 1 to 65,535 are lent. It
//! can give files to those ids and take them back, and nothing beyond what these ids may.

mod lent;

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::str::FromStr;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, getegid, geteuid, setgroups};
use serde::{Deserialize, Serialize};

use crate::protocol::INSIDE_IDS;
use crate::sys::process::{exit_now, fork, keep_ended_children};
pub use lent::NotLent;

/// How many ids must be lent: all that an image has, but 0.
const WANTED: u32 = INSIDE_IDS - 1;
/// The most ranges that make up a map: no kernel takes more lines.
const RANGES: usize = 300;
/// The most of what the helper programs say that is passed on.
const WORDS_BYTES: u64 = 2000;

/// Ids in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// Which ids of the host stand for 1 to 65,535 inside. 0 stands for the user itself.
///
/// As text: the ranges of users, `/`, the ranges of groups, each as `first+count` and with `,` between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdMap {
    users: Vec<Range>,
    groups: Vec<Range>,
}

/// A text that says no map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no map of ids", .0.escape_debug())]
pub struct InvalidIdMap(String);

impl IdMap {
    /// The ids that this user was lent, if there are enough of them and the programs that hand them out.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn find() -> Result<Self, NotLent> {
        lent::find(geteuid())
    }

    /// Makes this process root of a new user namespace with these ids. Only for a program with a single thread.
    ///
    /// # Errors
    /// When the kernel or the helper programs refuse. This process may be nobody then: it can only end.
    pub fn enter(&self) -> Result<(), String> {
        let (mut ours, theirs) = UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {error}"))?;
        let own = std::process::id();
        let helper = match fork().map_err(|error| format!("cannot fork: {error}"))? {
            ForkResult::Child => {
                drop(ours);
                keep_ended_children();
                exit_now(self.fill(own, theirs));
            }
            ForkResult::Parent { child } => child,
        };
        drop(theirs);
        unshare(CloneFlags::CLONE_NEWUSER).map_err(explain)?;
        let mut words = String::new();
        let heard = ours.write_all(b"g").and_then(|()| ours.take(WORDS_BYTES).read_to_string(&mut words));
        // Where ended children are reaped by the kernel there is none to wait for.
        let _reaped = waitpid(helper, None);
        heard.map_err(|error| format!("the program that fills the user namespace ended: {error}"))?;
        if words != "ok" {
            return Err(words);
        }
        // The groups of the service's user may open what no sandbox should.
        setgroups(&[]).map_err(|error| format!("a user namespace has no power over its own ids here: {error}"))
    }

    /// What the forked helper does, which stays in the namespace the ids are of: its exit code.
    fn fill(&self, process: u32, mut asker: UnixStream) -> i32 {
        let mut word = [0];
        if asker.read_exact(&mut word).is_err() {
            return 1;
        }
        let filled = run("newuidmap", process, geteuid().as_raw(), &self.users)
            .and_then(|()| run("newgidmap", process, getegid().as_raw(), &self.groups));
        let words = filled.err().unwrap_or_else(|| "ok".to_owned());
        i32::from(asker.write_all(words.as_bytes()).is_err())
    }
}

/// Why an ordinary user got no user namespace, and what to do about it.
pub(crate) fn explain(error: Errno) -> String {
    match error {
        Errno::EPERM | Errno::EACCES => "this kernel forbids user namespaces to ordinary users: allow them (sysctl \
             kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0) or run the service as root"
            .to_owned(),
        Errno::ENOSPC | Errno::EUSERS => "the kernel allows no user namespaces, or no more of them: raise the sysctl \
             user.max_user_namespaces (and its neighbours, user.max_*_namespaces)"
            .to_owned(),
        error => format!("cannot make namespaces: {error}"),
    }
}

/// Goes into the user namespace of one of these processes, if it is one below this one's: then their files in `/proc`,
/// and all files of their ids, can be read. Only for a program with a single thread.
pub fn join_one_of(processes: &[i32]) -> bool {
    processes.iter().any(|process| {
        let namespace = File::open(format!("/proc/{process}/ns/user"));
        namespace.is_ok_and(|namespace| setns(namespace, CloneFlags::CLONE_NEWUSER).is_ok())
    })
}

/// Lets a helper program write one of the maps of a process.
fn run(program: &str, process: u32, own: u32, ranges: &[Range]) -> Result<(), String> {
    let path = lent::program(program).ok_or_else(|| format!("`{program}` is not installed"))?;
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.args([process.to_string(), "0".to_owned(), own.to_string(), "1".to_owned()]);
    let mut inside = 1;
    for Range { first, count } in ranges {
        command.args([inside, *first, *count].map(|number| number.to_string()));
        inside += count;
    }
    let output = command.output().map_err(|error| format!("cannot run `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{program}` failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Which id of such a namespace makes the user namespace of the sandbox whose first process has this number: any but
/// root's. The kernel adds up what is counted for a sandbox under it, so two that share one share a limit, no more.
pub(crate) fn creator_of(process: u32) -> u32 {
    1 + process % WANTED
}

impl fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Shown(&self.users), Shown(&self.groups))
    }
}

struct Shown<'a>(&'a [Range]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Range { first, count }) in self.0.iter().enumerate() {
            let between = if index > 0 { "," } else { "" };
            write!(formatter, "{between}{first}+{count}")?;
        }
        Ok(())
    }
}

impl IdMap {
    /// What the kernel is to read as the users of a namespace below, with the same ids under the same numbers.
    pub(crate) fn users_below(&self) -> String {
        same_numbers(&self.users)
    }

    /// The same for groups.
    pub(crate) fn groups_below(&self) -> String {
        same_numbers(&self.groups)
    }

    /// A short name for it, of letters and digits: what was given to the ids of one map means nothing under another.
    pub fn label(&self) -> String {
        // FNV-1a, because it must be the same in every version; nobody gains by finding two maps of one name.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!("lent{:016x}", self.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    /// For a person: `100000..165534`, or such for users and for groups where they differ.
    pub fn words(&self) -> String {
        let words = |ranges: &[Range]| {
            let each = ranges.iter().map(|Range { first, count }| format!("{first}..{}", first + (count - 1)));
            each.collect::<Vec<_>>().join(", ")
        };
        match (words(&self.users), words(&self.groups)) {
            (users, groups) if users == groups => users,
            (users, groups) => format!("{users} (groups {groups})"),
        }
    }
}

/// One line for each range: the kernel takes no line that spans two of the namespace above.
fn same_numbers(ranges: &[Range]) -> String {
    let (mut lines, mut inside) = ("0 0 1\n".to_owned(), 1);
    for Range { count, .. } in ranges {
        lines.push_str(&format!("{inside} {inside} {count}\n"));
        inside += count;
    }
    lines
}

impl FromStr for IdMap {
    type Err = InvalidIdMap;

    fn from_str(text: &str) -> Result<Self, InvalidIdMap> {
        let read = || {
            let (users, groups) = text.split_once('/')?;
            Some(Self { users: ranges_in(users)?, groups: ranges_in(groups)? })
        };
        read().ok_or_else(|| InvalidIdMap(text.to_owned()))
    }
}

/// Ranges as text, if they are as many ids as there must be.
fn ranges_in(text: &str) -> Option<Vec<Range>> {
    let one = |text: &str| {
        let (first, count) = text.split_once('+')?;
        let range = Range { first: first.parse().ok()?, count: count.parse().ok()? };
        (range.count > 0 && range.first.checked_add(range.count).is_some()).then_some(range)
    };
    let ranges: Vec<Range> = text.split(',').take(RANGES + 1).map(one).collect::<Option<_>>()?;
    let count: u64 = ranges.iter().map(|range| u64::from(range.count)).sum();
    (ranges.len() <= RANGES && count == u64::from(WANTED)).then_some(ranges)
}

impl TryFrom<String> for IdMap {
    type Error = InvalidIdMap;

    fn try_from(text: String) -> Result<Self, InvalidIdMap> {
        text.parse()
    }
}

impl From<IdMap> for String {
    fn from(map: IdMap) -> Self {
        map.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_it_is_written() {
        for text in ["100000+65535/100000+65535", "5+5,100000+65530/200000+65535"] {
            let map: IdMap = text.parse().expect(text);

            assert_eq!(map.to_string(), text);
        }
        assert_ne!(
            "100000+65535/100000+65535".parse::<IdMap>().expect("a map").label(),
            "100001+65535/100000+65535".parse::<IdMap>().expect("a map").label()
        );
        assert_eq!("7+65535/7+65535".parse::<IdMap>().expect("a map").words(), "7..65541");
        assert_eq!(
            "5+5,100000+65530/7+65535".parse::<IdMap>().expect("a map").words(),
            "5..9, 100000..165529 (groups 7..65541)"
        );
    }

    #[test]
    fn a_namespace_below_has_the_same_numbers_range_by_range() {
        let map: IdMap = "5+5,100000+65530/7+65535".parse().expect("a map");

        assert_eq!(map.users_below(), "0 0 1\n1 1 5\n6 6 65530\n");
        assert_eq!(map.groups_below(), "0 0 1\n1 1 65535\n");
    }

    #[test]
    fn what_is_no_map_of_all_ids_is_refused() {
        for text in [
            "",
            "/",
            "1+65535",
            "1+65534/1+65535",
            "1+65535/1+65536",
            "4294967295+65535/1+65535",
            "1+0,1+65535/1+65535",
            "a+65535/1+65535",
        ] {
            assert!(text.parse::<IdMap>().is_err(), "{text}");
        }
    }

    #[test]
    fn whoever_makes_a_namespace_is_one_of_the_ids_and_not_root() {
        for process in [0, 1, WANTED - 1, WANTED, u32::MAX] {
            assert!((1..INSIDE_IDS).contains(&creator_of(process)), "{process}");
        }
    }
}

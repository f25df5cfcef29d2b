//! What this machine offers sandboxes, in words for the person who runs it.

use std::fs;

use nix::sys::utsname::uname;

use super::base::{Base, Mode, Power};
use super::cgroup::{Controller, Version};
use crate::landlock;
use crate::protocol::{Fact, FactState};

/// The first kernel with all that the launcher uses: `mount_setattr` with ids, and overlays over such mounts.
const FULL_FROM: (u32, u32) = (5, 19);

/// What was found when the launcher prepared itself; a sandbox could be made, or nobody would ask.
pub(super) fn gather(base: &Base) -> Vec<Fact> {
    let mut facts = vec![kernel(), user(base), root_file_system(base)];
    facts.extend(Controller::ALL.map(|controller| limit(base, controller)));
    facts.extend([lock(), ok("system call filter", "seccomp is on"), subordinate_ids(base), ids_of_mounts(base)]);
    facts
}

fn fact(name: &str, state: FactState, words: impl Into<String>, advice: Option<&str>) -> Fact {
    Fact { name: name.to_owned(), state, words: words.into(), advice: advice.map(str::to_owned) }
}

fn ok(name: &str, words: impl Into<String>) -> Fact {
    fact(name, FactState::Ok, words, None)
}

fn kernel() -> Fact {
    let release = release();
    if version(&release) >= FULL_FROM {
        return ok("kernel", format!("Linux {release}"));
    }
    let words = format!("Linux {release} makes sandboxes, but lacks what images in plain folders need");
    fact("kernel", FactState::Degraded, words, Some("use Linux 5.19 or newer"))
}

fn user(base: &Base) -> Fact {
    match base.power {
        Power::Host(id) => ok("user", format!("the service is root; sandboxes are the host's user {id}")),
        Power::Lent(_) | Power::Own(_) => fact(
            "user",
            FactState::Degraded,
            "the service is an ordinary user, and sandboxes are that same user of the host in namespaces of their own",
            Some("for the strongest isolation run the service as root, which gives sandboxes a user that owns nothing"),
        ),
    }
}

fn root_file_system(base: &Base) -> Fact {
    match base.mode {
        Mode::Overlay(_) => ok("root file system", "an overlay over the host's root"),
        Mode::Binds(_) => ok("root file system", "the host's folders read-only, with writable folders of its own"),
    }
}

fn limit(base: &Base, controller: Controller) -> Fact {
    let (name, without) = match controller {
        Controller::Cpu => ("limit of processor time", "one sandbox can slow all others down"),
        Controller::Memory => ("limit of memory", "one sandbox can use up the memory of the machine"),
        Controller::Pids => ("limit of processes", "only the kernel's limit for each user holds (RLIMIT_NPROC)"),
    };
    let reason = match base.groups.found(controller) {
        Ok(Version::One) => return ok(name, "by cgroup v1"),
        Ok(Version::Two) => return ok(name, "by cgroup v2"),
        Err(reason) => reason,
    };
    let state = if controller == Controller::Pids { FactState::Degraded } else { FactState::Missing };
    let advice = match base.mode {
        Mode::Overlay(_) => "boot with cgroup v2, or mount the controller; in a container, give it a writable cgroup",
        Mode::Binds(_) => {
            "start the service in a cgroup that is handed over to its user (`systemd-run --user --scope -p Delegate=yes \
             carrel serve`, or `Delegate=yes` in its systemd unit), or as root"
        }
    };
    fact(name, state, format!("not by a cgroup ({reason}): {without}"), Some(advice))
}

fn lock() -> Fact {
    match landlock::version() {
        Ok(version) if version >= landlock::USABLE_FROM => ok("landlock", format!("version {version}")),
        Ok(version) => {
            let words = format!("version {version} is not used, because it forbids to rename files across folders");
            fact("landlock", FactState::Missing, words, Some("use Linux 5.19 or newer"))
        }
        Err(nix::errno::Errno::EOPNOTSUPP) => {
            let advice = "add landlock to the kernel's lsm= parameter";
            fact("landlock", FactState::Missing, "built into the kernel, but switched off", Some(advice))
        }
        Err(error) => {
            let words = format!("this kernel has none ({error}); namespaces and the filter hold without it");
            fact("landlock", FactState::Missing, words, Some("use a kernel with CONFIG_SECURITY_LANDLOCK"))
        }
    }
}

fn subordinate_ids(base: &Base) -> Fact {
    let name = "subordinate ids";
    match &base.power {
        Power::Host(_) => ok(name, "not needed: the service is root"),
        Power::Lent(map) => ok(name, format!("{}: used for images", map.words())),
        Power::Own(missing) => fact(name, FactState::Missing, missing.words.as_str(), Some(&missing.advice)),
    }
}

fn ids_of_mounts(base: &Base) -> Fact {
    let name = "id-mapped mounts";
    match base.power {
        Power::Host(_) => {}
        Power::Lent(_) => {
            let words = "not for ordinary users: of an image in a plain folder, files of others are nobody's inside";
            let advice = "use such images from a registry, or run the service as root";
            return fact(name, FactState::Degraded, words, Some(advice));
        }
        Power::Own(_) => {
            let words = "not for ordinary users: files of an image belong to one user inside";
            let advice =
                "give the service's user subordinate ids, or run the service as root, to use images with several users";
            return fact(name, FactState::Degraded, words, Some(advice));
        }
    }
    if version(&release()) >= FULL_FROM {
        return ok(name, "this kernel has them below overlays");
    }
    let words = "this kernel has none below overlays: images in plain folders cannot be used";
    fact(name, FactState::Missing, words, Some("use Linux 5.19 or newer, or images from a registry"))
}

fn release() -> String {
    let name = uname().ok().and_then(|name| name.release().to_str().map(str::to_owned));
    name.or_else(|| fs::read_to_string("/proc/sys/kernel/osrelease").ok())
        .map_or_else(|| "of an unknown version".to_owned(), |release| release.trim().to_owned())
}

/// Major and minor number at the beginning of a release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v657"), (6, 18));
        assert_eq!(version("5.4"), (5, 4));
        assert!(version("5.19.0") >= FULL_FROM && version("5.4.0") < FULL_FROM && version("10.0") >= FULL_FROM);
    }
}

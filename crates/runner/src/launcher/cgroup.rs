//! The control groups that hold sandboxes to their limits.
//!
//! Making a group, and the first move into one after a pause, takes longer than all the rest of a launch. So a child
//! does both for itself while it is parked, keeps the files of its limits open, and at its launch only writes them.
//! Where the kernel lets a process begin in a group (of the second version only), there is no move at all.
//! A group's folders are removed by the controller once the sandbox has ended, those of parked children and of dead
//! launchers here.
//!
//! When memory runs out, the kernel ends one process of a sandbox and not all (`memory.oom.group` stays 0): the runner
//! has to live on, to tell of it.

mod find;

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

pub(super) use find::{Controller, Version};
use find::{LEAF, Place, View};

use crate::protocol::Resources;

/// The group below which those of sandboxes are.
const PARENT: &str = "carrel";

/// The period over which processor time is given out, in microseconds: the kernel's own default.
const PERIOD_US: u64 = 100_000;

/// How often processes of a group are moved away, while new ones appear.
const MOVES: u32 = 10;

/// What holds sandboxes to their limits on this machine.
pub(super) struct Groups {
    /// Where groups are made.
    places: Vec<Place>,
    /// What cannot be limited, and why.
    missing: Vec<(Controller, String)>,
    next: Cell<u32>,
    has_swept: Cell<bool>,
    /// Of sandboxes that came to nothing and may not have ended yet.
    discarded: RefCell<Vec<Group>>,
}

/// The group of one sandbox, by the folders that make it up.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    folders: Vec<PathBuf>,
}

/// The files of a group this process is in, open to be written.
pub(super) struct Limiter {
    files: Vec<(Setting, File)>,
}

/// A value of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    CpuQuota,
    CpuMax,
    Memory,
    /// Memory and swap together; must not be below memory alone, so it is written after it.
    MemoryAndSwap,
    Swap,
    Processes,
}

impl Groups {
    /// Finds out what there is, and prepares it.
    pub(super) fn prepare(is_root: bool) -> Self {
        let plan = View::of_this_process(is_root).plan();
        let mut groups = Self {
            places: Vec::new(),
            missing: plan.missing,
            next: Cell::new(0),
            has_swept: Cell::new(false),
            discarded: RefCell::default(),
        };
        for mut place in plan.places {
            match prepare(&mut place) {
                Ok(()) => groups.places.push(place),
                Err(error) => {
                    let reason = format!("the cgroup `{}` cannot be used: {error}", place.folder.display());
                    groups.missing.extend(place.controllers.iter().map(|controller| (*controller, reason.clone())));
                }
            }
        }
        groups
    }

    /// Gives all of them up: they looked usable and are not.
    pub(super) fn abandon(&mut self, reason: &str) {
        for place in self.places.drain(..) {
            self.missing.extend(place.controllers.iter().map(|controller| (*controller, reason.to_owned())));
        }
    }

    /// Which version limits what, or why it is not limited.
    pub(super) fn found(&self, controller: Controller) -> Result<Version, &str> {
        let place = self.places.iter().find(|place| place.controllers.contains(&controller));
        place.map(|place| place.version).ok_or_else(|| {
            let missing = self.missing.iter().find(|(missing, _)| *missing == controller);
            missing.map_or("it was not looked for", |(_, reason)| reason)
        })
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A name for the group of the next sandbox. Nothing is made yet.
    pub(super) fn next(&self) -> Group {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let name = format!("{}-{number}", std::process::id());
        Group { folders: self.places.iter().map(|place| place.folder.join(&name)).collect() }
    }

    /// Makes the folder of a group that processes can begin in, and opens it; nothing where there is none, or it cannot
    /// be made: whoever enters the group tries again, and says why.
    pub(super) fn cradle(&self, group: &Group) -> Option<OwnedFd> {
        let mut folders = self.places.iter().zip(&group.folders);
        let (_, folder) = folders.find(|(place, _)| place.version == Version::Two)?;
        tolerate(ErrorKind::AlreadyExists, fs::create_dir(folder)).ok()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        File::options().read(true).custom_flags(flags.bits()).open(folder).ok().map(OwnedFd::from)
    }

    /// Makes a group and moves this process, which must be the only one of its sandbox yet, into it. `is_born_there`: it
    /// began in the part of it that is of the second version.
    pub(super) fn enter(&self, group: &Group, is_born_there: bool) -> Result<Limiter, String> {
        let mut files = Vec::new();
        for (place, folder) in self.places.iter().zip(&group.folders) {
            let failed = |error: io::Error| format!("cannot make the cgroup `{}`: {error}", folder.display());
            tolerate(ErrorKind::AlreadyExists, fs::create_dir(folder)).map_err(failed)?;
            for controller in &place.controllers {
                for (setting, name, is_optional) in settings(place.version, *controller) {
                    match File::options().write(true).open(folder.join(name)) {
                        Ok(file) => files.push((*setting, file)),
                        Err(error) if *is_optional && error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(failed(error)),
                    }
                }
            }
            if is_born_there && place.version == Version::Two {
                continue;
            }
            // Zero stands for whoever writes it.
            fs::write(folder.join("cgroup.procs"), "0")
                .map_err(|error| format!("cannot enter the cgroup `{}`: {error}", folder.display()))?;
        }
        Ok(Limiter { files })
    }

    /// Leaves a group to be removed when its processes have ended.
    pub(super) fn discard(&self, group: Group) {
        self.discarded.borrow_mut().push(group);
    }

    /// Removes the groups that came to nothing and, once, those of launchers that live no more. Groups with processes
    /// stay.
    pub(super) fn sweep(&self) {
        self.discarded.borrow_mut().retain(|group| !group.remove());
        if self.has_swept.replace(true) {
            return;
        }
        for place in &self.places {
            let entries = fs::read_dir(&place.folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| is_of_the_dead(&entry.file_name().to_string_lossy())) {
                let _has_processes = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Group {
    /// Its folders, for the record.
    pub(super) fn folders(&self) -> Vec<String> {
        self.folders.iter().filter_map(|folder| folder.to_str().map(str::to_owned)).collect()
    }

    /// Removes what was made of it; false while something lives in it.
    fn remove(&self) -> bool {
        self.folders.iter().all(|folder| tolerate(ErrorKind::NotFound, fs::remove_dir(folder)).is_ok())
    }
}

impl Limiter {
    /// Sets the limits; to be called once, before anything of the sandbox runs.
    pub(super) fn limit(self, resources: &Resources) -> Result<(), String> {
        for (setting, mut file) in self.files {
            if let Some(value) = setting.value(resources) {
                // One write: the kernel takes each as a whole.
                let written = file.write_all(value.as_bytes());
                written.map_err(|error| format!("cannot set the limit {setting:?} to {value}: {error}"))?;
            }
        }
        Ok(())
    }
}

impl Setting {
    /// What to write; nothing for what is without a limit, which is how groups begin.
    fn value(self, resources: &Resources) -> Option<String> {
        let quota = resources.cpu_millis.map(|millis| (u64::from(millis) * PERIOD_US / 1000).max(1000));
        match self {
            Self::CpuQuota => quota.map(|quota| quota.to_string()),
            Self::CpuMax => quota.map(|quota| format!("{quota} {PERIOD_US}")),
            Self::Memory | Self::MemoryAndSwap => resources.memory_bytes.map(|bytes| bytes.to_string()),
            Self::Swap => resources.memory_bytes.map(|_| "0".to_owned()),
            Self::Processes => Some(resources.processes.to_string()),
        }
    }
}

/// The files of a controller: what is written, where, and whether a kernel may lack it.
fn settings(version: Version, controller: Controller) -> &'static [(Setting, &'static str, bool)] {
    match (version, controller) {
        (Version::One, Controller::Cpu) => &[(Setting::CpuQuota, "cpu.cfs_quota_us", false)],
        (Version::Two, Controller::Cpu) => &[(Setting::CpuMax, "cpu.max", false)],
        (Version::One, Controller::Memory) => &[
            (Setting::Memory, "memory.limit_in_bytes", false),
            (Setting::MemoryAndSwap, "memory.memsw.limit_in_bytes", true),
        ],
        (Version::Two, Controller::Memory) => {
            &[(Setting::Memory, "memory.max", false), (Setting::Swap, "memory.swap.max", true)]
        }
        (_, Controller::Pids) => &[(Setting::Processes, "pids.max", false)],
    }
}

/// Makes the parent of all groups in a place, which becomes that parent, and sees that its children can be limited.
fn prepare(place: &mut Place) -> io::Result<()> {
    let parent = place.folder.join(PARENT);
    if place.version == Version::Two {
        hand_down(&place.folder, &place.controllers)?;
    }
    tolerate(ErrorKind::AlreadyExists, fs::create_dir(&parent))?;
    if place.version == Version::Two {
        hand_down(&parent, &place.controllers)?;
    }
    if place.controllers.contains(&Controller::Cpu) {
        weigh(&parent, place.version);
    }
    place.folder = parent;
    let probe = place.folder.join(format!("{}-probe", std::process::id()));
    tolerate(ErrorKind::AlreadyExists, fs::create_dir(&probe))?;
    let files = place.controllers.iter().flat_map(|controller| settings(place.version, *controller));
    let absent = files.filter(|(_, _, is_optional)| !is_optional).find(|(_, name, _)| !probe.join(name).exists());
    let absent = absent.map(|(_, name, _)| io::Error::other(format!("its groups have no `{name}`")));
    fs::remove_dir(&probe)?;
    absent.map_or(Ok(()), Err)
}

/// Lets the children of a group use controllers. That takes a group without processes of its own, so where there are
/// some they are moved into a leaf: in a container, or a service's delegated group, those are the service's.
fn hand_down(group: &Path, controllers: &[Controller]) -> io::Result<()> {
    let wanted: Vec<String> = controllers.iter().map(|controller| format!("+{}", controller.name())).collect();
    let switch = || fs::write(group.join("cgroup.subtree_control"), wanted.join(" "));
    let mut switched = switch();
    for _ in 0..MOVES {
        match &switched {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
            _ => break,
        }
        let leaf = group.join(LEAF);
        tolerate(ErrorKind::AlreadyExists, fs::create_dir(&leaf))?;
        for process in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
            // One that has ended meanwhile needs no move.
            let _ended = fs::write(leaf.join("cgroup.procs"), process);
        }
        switched = switch();
    }
    switched
}

/// Gives all sandboxes together as much weight against the rest of the machine as it has processors; without this,
/// all of them would count as much as one process.
fn weigh(parent: &Path, version: Version) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (name, one, most) = match version {
        Version::One => ("cpu.shares", 1024, 262_144),
        Version::Two => ("cpu.weight", 100, 10_000),
    };
    let _works_with_the_default = fs::write(parent.join(name), (one * processors).min(most).to_string());
}

/// Whether a group's name says that it was made by a launcher that does not live any more.
fn is_of_the_dead(name: &str) -> bool {
    let launcher = name.split_once('-').and_then(|(launcher, _)| launcher.parse::<u32>().ok());
    launcher.is_some_and(|launcher| !Path::new(&format!("/proc/{launcher}")).exists())
}

fn tolerate(kind: ErrorKind, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != kind => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_limit_is_not_written() {
        let open = Resources { processes: 7, ..Resources::default() };

        assert_eq!(Setting::CpuQuota.value(&open), None);
        assert_eq!(Setting::CpuMax.value(&open), None);
        assert_eq!(Setting::Memory.value(&open), None);
        assert_eq!(Setting::Swap.value(&open), None);
        assert_eq!(Setting::Processes.value(&open), Some("7".to_owned()));
    }

    #[test]
    fn limits_are_written_in_the_kernels_units() {
        let resources =
            Resources { cpu_millis: Some(1500), memory_bytes: Some(4096), processes: 7, disk_bytes: Some(1) };

        assert_eq!(Setting::CpuQuota.value(&resources), Some("150000".to_owned()));
        assert_eq!(Setting::CpuMax.value(&resources), Some("150000 100000".to_owned()));
        assert_eq!(Setting::MemoryAndSwap.value(&resources), Some("4096".to_owned()));
        assert_eq!(Setting::Swap.value(&resources), Some("0".to_owned()));
    }

    #[test]
    fn only_groups_of_dead_launchers_are_swept() {
        assert!(!is_of_the_dead(&format!("{}-1", std::process::id())));
        assert!(is_of_the_dead("4194999-1"), "above every process number");
        assert!(!is_of_the_dead("cgroup.procs"));
    }
}

//! Which control groups hold sandboxes: a decision over what the kernel shows, nothing is changed here.
//!
//! The second version is taken where it offers a controller to us, the first where it does not; machines have both at
//! once. Root makes its groups at the very top of the second version where that is in sight, so that sandboxes are no
//! part of the service's group and outlive it; in a container, and as an ordinary user, below its own group. Groups
//! of the first version always lie below the own one, whose limits go on holding.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the processes are moved to that would keep a group of the second version from handing controllers down.
pub(super) const LEAF: &str = "carrel-service";

/// What a group can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::launcher) enum Controller {
    /// Processor time.
    Cpu,
    /// Memory and page cache.
    Memory,
    /// Processes and threads.
    Pids,
}

impl Controller {
    /// All that are used.
    pub(in crate::launcher) const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    /// The kernel's name.
    pub(in crate::launcher) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// Which of the kernel's two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::launcher) enum Version {
    /// One tree for each controller.
    One,
    /// One tree for all.
    Two,
}

/// A group below which groups of sandboxes can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its folder.
    pub(super) folder: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    pub(super) places: Vec<Place>,
    /// What cannot be limited, and why.
    pub(super) missing: Vec<(Controller, String)>,
}

/// What the kernel shows.
pub(super) struct View {
    /// `/proc/self/cgroup`.
    pub(super) groups: String,
    /// `/proc/self/mountinfo`.
    pub(super) mounts: String,
    /// Whether this is root of the host.
    pub(super) is_root: bool,
    /// Whether this process may write a file.
    pub(super) may_write: fn(&Path) -> bool,
}

impl View {
    /// This process's own.
    pub(super) fn of_this_process(is_root: bool) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let may_write = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
        Self { groups: read("/proc/self/cgroup"), mounts: read("/proc/self/mountinfo"), is_root, may_write }
    }

    /// Decides for each controller.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let mut second = self.second_version();
        for controller in Controller::ALL {
            let offered = second.as_ref().is_ok_and(|(_, offered)| offered.contains(&controller));
            if offered {
                continue;
            }
            match (self.first_version(controller), &second) {
                (Ok(folder), _) => {
                    plan.places.push(Place { folder, version: Version::One, controllers: vec![controller] });
                }
                (Err(first), Ok((folder, _))) => {
                    let reason = self.not_handed_down(controller, folder).unwrap_or(first);
                    plan.missing.push((controller, reason));
                }
                // With neither, what stands in the way of the second version is the thing to change.
                (Err(_), Err(second)) => plan.missing.push((controller, second.clone())),
            }
        }
        if let Ok((folder, offered)) = &mut second
            && !offered.is_empty()
        {
            let controllers = std::mem::take(offered);
            plan.places.push(Place { folder: folder.clone(), version: Version::Two, controllers });
        }
        plan
    }

    /// The group of the second version to use and what it offers, or what is in the way.
    fn second_version(&self) -> Result<(PathBuf, Vec<Controller>), String> {
        let mount = self.mounts().find(|mount| mount.kind == "cgroup2").ok_or("cgroup v2 is not mounted")?;
        let top = PathBuf::from(mount.point);
        let own = self.groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let own = mount.folder_of(own).filter(|folder| folder.is_dir()).unwrap_or_else(|| top.clone());
        // Only the machine's own top has no type: its processes are no hindrance, and it belongs to nobody else.
        let folder = if self.is_root && !top.join("cgroup.type").exists() { top.clone() } else { above_leaf(own) };
        // A manager may have handed over the group above ours, and put us into a leaf of it.
        let above = folder.parent().filter(|_| folder != top).map(Path::to_path_buf);
        let usable = [Some(folder.clone()), above].into_iter().flatten().find(|folder| self.is_writable(folder));
        let folder = usable.ok_or_else(|| {
            format!("the cgroup `{}` belongs to somebody else, or is mounted read-only", folder.display())
        })?;
        let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        let offered: Vec<Controller> = Controller::ALL
            .into_iter()
            .filter(|controller| offered.split_whitespace().any(|name| name == controller.name()))
            .collect();
        Ok((folder, offered))
    }

    /// That the second version's top has a controller which did not come down to a group, if it is so.
    fn not_handed_down(&self, controller: Controller, folder: &Path) -> Option<String> {
        let name = controller.name();
        let has = |folder: &Path| {
            let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
            offered.split_whitespace().any(|offered| offered == name)
        };
        let above = folder.ancestors().skip(1).find(|above| has(above))?;
        Some(format!(
            "the cgroup `{}` was not given the `{name}` controller, which `{}` has",
            folder.display(),
            above.display()
        ))
    }

    fn is_writable(&self, folder: &Path) -> bool {
        ["cgroup.procs", "cgroup.subtree_control"].iter().all(|file| (self.may_write)(&folder.join(file)))
    }

    /// Our group in the tree of a controller of the first version.
    fn first_version(&self, controller: Controller) -> Result<PathBuf, String> {
        let name = controller.name();
        let is_it = |mount: &Mount<'_>| mount.kind == "cgroup" && mount.options.split(',').any(|option| option == name);
        let mount = self.mounts().find(is_it).ok_or_else(|| format!("this kernel offers no `{name}` controller"))?;
        let own = self.groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|controller| controller == name).then_some(path)
        });
        let own = own.and_then(|path| mount.folder_of(path)).filter(|folder| folder.is_dir());
        let folder = own.unwrap_or_else(|| PathBuf::from(mount.point));
        if (self.may_write)(&folder) {
            Ok(folder)
        } else {
            Err(format!("the cgroup `{}` belongs to somebody else, or is mounted read-only", folder.display()))
        }
    }

    fn mounts(&self) -> impl Iterator<Item = Mount<'_>> {
        self.mounts.lines().filter_map(Mount::parse)
    }
}

/// A line of the mount table.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        let (root, point) = (left.next()?, left.next()?);
        let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
        Some(Self { root, point, kind, options })
    }

    /// Where a group shows, if it lies below what is mounted.
    fn folder_of(&self, group: &str) -> Option<PathBuf> {
        let relative = Path::new(group).strip_prefix(self.root).ok()?;
        let plain = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        plain.then(|| Path::new(self.point).join(relative))
    }
}

/// The group itself, or the one above when an earlier launcher moved us into its leaf.
fn above_leaf(folder: PathBuf) -> PathBuf {
    match folder.parent() {
        Some(parent) if folder.file_name().is_some_and(|name| name == LEAF) => parent.to_path_buf(),
        _ => folder,
    }
}

#[cfg(test)]
mod tests;

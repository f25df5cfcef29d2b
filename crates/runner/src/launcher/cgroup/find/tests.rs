//! The decision alone, over folders that imitate what kernels show.

use super::*;

/// A tree of groups below a temporary folder: each entry is a group and the content of its `cgroup.controllers`
/// (none for the first version).
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str, groups: &[(&str, Option<&str>)]) -> Self {
        let root = std::env::temp_dir().join(format!("carrel-groups-{}-{name}", std::process::id()));
        for (group, controllers) in groups {
            let folder = root.join(group);
            fs::create_dir_all(&folder).expect("made");
            if let Some(controllers) = controllers {
                fs::write(folder.join("cgroup.controllers"), controllers).expect("written");
                fs::write(folder.join("cgroup.procs"), "").expect("written");
                fs::write(folder.join("cgroup.subtree_control"), "").expect("written");
            }
        }
        Self(root)
    }

    fn view(&self, groups: &str, mounts: &[(&str, &str, &str, &str)], is_root: bool) -> View {
        let line = |(root, point, kind, options): &(&str, &str, &str, &str)| {
            format!("1 1 0:1 {root} {} rw - {kind} {kind} {options}\n", self.0.join(point).display())
        };
        let mounts = mounts.iter().map(line).collect();
        View { groups: groups.to_owned(), mounts, is_root, may_write: Path::exists }
    }

    fn place(&self, folder: &str, version: Version, controllers: &[Controller]) -> Place {
        Place { folder: self.0.join(folder), version, controllers: controllers.to_vec() }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _left_for_the_next_boot = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn root_of_a_machine_with_the_second_version_takes_its_top() {
    let tree = Tree::new("top", &[("v2", Some("cpuset cpu io memory pids")), ("v2/system.slice/a", Some("memory"))]);
    fs::write(tree.0.join("v2/system.slice/a/cgroup.type"), "domain").expect("written");

    let plan = tree.view("0::/system.slice/a\n", &[("/", "v2", "cgroup2", "rw")], true).plan();

    assert_eq!(plan.places, [tree.place("v2", Version::Two, &Controller::ALL)]);
    assert_eq!(plan.missing, []);
}

#[test]
fn root_of_a_container_takes_its_own_group_and_not_the_leaf_it_was_moved_to() {
    let tree = Tree::new("container", &[("v2", Some("cpu memory pids")), ("v2/carrel-service", Some(""))]);
    fs::write(tree.0.join("v2/cgroup.type"), "domain").expect("written");

    for own in ["0::/\n", "0::/carrel-service\n"] {
        let plan = tree.view(own, &[("/", "v2", "cgroup2", "rw")], true).plan();

        assert_eq!(plan.places, [tree.place("v2", Version::Two, &Controller::ALL)], "{own}");
    }
}

#[test]
fn a_second_version_without_controllers_leaves_them_to_the_first() {
    let tree =
        Tree::new("hybrid", &[("v2", Some("hugetlb")), ("cpu", None), ("memory/session/one", None), ("pids", None)]);
    let groups = "4:memory:/session/one\n3:pids:/\n2:cpu,cpuacct:/\n0::/\n";
    let mounts = [
        ("/", "cpu", "cgroup", "rw,cpu,cpuacct"),
        ("/", "memory", "cgroup", "rw,memory"),
        ("/", "pids", "cgroup", "rw,pids"),
        ("/", "v2", "cgroup2", "rw"),
    ];

    let plan = tree.view(groups, &mounts, true).plan();

    let one = |folder, controller| tree.place(folder, Version::One, &[controller]);
    let expected =
        [one("cpu", Controller::Cpu), one("memory/session/one", Controller::Memory), one("pids", Controller::Pids)];
    assert_eq!(plan.places, expected);
    assert_eq!(plan.missing, []);
}

#[test]
fn a_delegated_group_of_an_ordinary_user_is_used_for_what_it_offers() {
    let tree = Tree::new("delegated", &[("v2/user/app", Some("memory pids")), ("v2/user/app/leaf", None)]);
    fs::write(tree.0.join("v2/cgroup.controllers"), "cpu memory pids").expect("written");

    for own in ["0::/user/app\n", "0::/user/app/leaf\n"] {
        let plan = tree.view(own, &[("/", "v2", "cgroup2", "rw")], false).plan();

        assert_eq!(
            plan.places,
            [tree.place("v2/user/app", Version::Two, &[Controller::Memory, Controller::Pids])],
            "{own}"
        );
        let (group, top) = (tree.0.join("v2/user/app"), tree.0.join("v2"));
        let reason = format!(
            "the cgroup `{}` was not given the `cpu` controller, which `{}` has",
            group.display(),
            top.display()
        );
        assert_eq!(plan.missing, [(Controller::Cpu, reason)]);
    }
}

#[test]
fn a_group_of_somebody_else_is_left_alone_and_named() {
    let tree = Tree::new("foreign", &[("v2/session", None)]);

    let plan = tree.view("0::/session\n", &[("/", "v2", "cgroup2", "rw")], false).plan();

    assert_eq!(plan.places, []);
    let reason = format!(
        "the cgroup `{}` belongs to somebody else, or is mounted read-only",
        tree.0.join("v2/session").display()
    );
    assert_eq!(plan.missing, Controller::ALL.map(|controller| (controller, reason.clone())));
}

#[test]
fn a_group_that_is_mounted_in_part_is_found_below_the_mount() {
    let tree = Tree::new("part", &[("memory/inner", None)]);

    let mounts = [("/docker/abc", "memory", "cgroup", "rw,memory")];
    let plan = tree.view("4:memory:/docker/abc/inner\n", &mounts, true).plan();

    assert_eq!(plan.places, [tree.place("memory/inner", Version::One, &[Controller::Memory])]);
}

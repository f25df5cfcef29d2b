//! Attempts to get out of a sandbox, from inside. None succeeds, and each fails the way its control makes it fail.
//!
//! They are made on the host's root and as root on a root of its own, by a service that is root and by one that is an
//! ordinary user. What a hostile runner may say is in `hostile_runner.rs`, what resources it may use in `limits.rs`.

mod attempt;
mod devices;
mod files;
mod host;
mod kernel;
mod mounts;
mod network;
mod place;
mod processes;
mod transfer;
#[path = "../world/mod.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::process::Command;

use attempt::{Attempt, Place, hold, try_it};
use carrel_sandbox::{FolderIds, Limits, ReadOnlyMount, Root, Sandbox, SandboxSpec};
use host::Host;
use nix::unistd::geteuid;
use world::{World, new_id};

#[tokio::test]
async fn no_attempt_on_host_files_succeeds() {
    hold_everywhere(files::ATTEMPTS).await;
}

#[tokio::test]
async fn no_attempt_on_mounts_and_namespaces_succeeds() {
    hold_everywhere(mounts::ATTEMPTS).await;
}

#[tokio::test]
async fn no_attempt_on_other_processes_succeeds() {
    hold_everywhere(processes::ATTEMPTS).await;
}

#[tokio::test]
async fn no_attempt_on_the_kernel_succeeds() {
    hold_everywhere(kernel::ATTEMPTS).await;
}

#[tokio::test]
async fn no_attempt_on_the_network_succeeds() {
    hold_everywhere(network::ATTEMPTS).await;
}

#[tokio::test]
async fn no_attempt_on_devices_succeeds() {
    hold_everywhere(devices::ATTEMPTS).await;
}

#[test]
fn none_of_these_succeeds_where_the_service_is_an_ordinary_user() {
    let _lent = Host::lend();
    world::as_ordinary_user();
}

#[test]
fn none_of_these_succeeds_where_an_ordinary_user_was_lent_ids() {
    let _lent = Host::lend();
    world::as_user_with_lent_ids();
}

#[tokio::test]
async fn what_is_private_is_hidden_also_where_it_is_made_later() {
    let world = place::world().await;
    let private = world.folder.path().join("private");
    fs::remove_dir(&private).expect("empty");
    let sandboxes = world::open(world.folder.path()).await;
    fs::create_dir(&private).expect("made");
    fs::write(private.join("key"), "secret").expect("written");

    let sandbox = sandboxes.launch(SandboxSpec::new(new_id())).await.expect("it is launched");

    let said = world::said(&sandbox, &format!("cat {}/key", private.display())).await;
    assert!(said.ends_with("No such file or directory"), "{said}");
}

#[test]
fn the_groups_of_the_service_are_left_outside() {
    if !geteuid().is_root() {
        // The kernel lets nobody else leave groups, which could be a way round what is closed to them.
        return;
    }
    // Of users and of what they may do, as a service has them.
    let mut tests = Command::new("setpriv");
    tests.args(["--groups", "4,27,999"]).arg(std::env::current_exe().expect("a program"));
    let ended = tests.args(["--exact", "no_group_is_left", "--ignored"]).output().expect("setpriv is there");

    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by the test above, with groups"]
async fn no_group_is_left() {
    let world = place::world().await;
    for own_root in [false, true] {
        let sandbox = launch(&world, own_root).await;

        for process in ["self", "1"] {
            let groups = world::said(&sandbox, &format!("grep ^Groups: /proc/{process}/status | tr -d '\\t '")).await;
            assert_eq!(groups, "Groups:", "{process} on its own root: {own_root}");
        }
    }
}

#[test]
fn there_are_at_least_a_hundred_attempts() {
    let all = [
        files::ATTEMPTS,
        mounts::ATTEMPTS,
        processes::ATTEMPTS,
        kernel::ATTEMPTS,
        network::ATTEMPTS,
        devices::ATTEMPTS,
    ];

    assert!(all.iter().map(|attempts| attempts.len()).sum::<usize>() >= 100);
}

async fn hold_everywhere(attempts: &[Attempt]) {
    let world = place::world().await;
    let host = Host::new(&world);
    let ordinary = !geteuid().is_root();
    let mut surprises = Vec::new();
    for own_root in [false, true] {
        let sandbox = launch(&world, own_root).await;
        let known = host.known_to(&sandbox);

        let found = hold(&sandbox, Place { own_root, ordinary }, &known, attempts).await;

        let place = format!("{} of {}", if own_root { "own root" } else { "host root" }, geteuid());
        surprises.extend(found.into_iter().map(|surprise| format!("{place}: {surprise}")));
        assert_eq!(try_it(&sandbox, &known, r#""alive""#).await, "alive", "the runner lives on");
    }
    assert!(surprises.is_empty(), "\n{}", surprises.join("\n"));
    host.is_as_it_was();
}

/// A sandbox on the host's root, or as root on a root of its own that shows the host's programs.
async fn launch(world: &World, own_root: bool) -> Sandbox {
    let spec = SandboxSpec::new(new_id());
    if !own_root {
        return world.sandboxes.launch(spec).await.expect("it is launched");
    }
    let path = world.folder.path().join("root");
    make_root(&path);
    let root = Root::Folder { path, ids: FolderIds::Shifted };
    let mounts = vec![ReadOnlyMount { source: "/usr".into(), target: "/usr".to_owned() }];
    world.sandboxes.launch(SandboxSpec { root, mounts, ..spec }).await.expect("it is launched")
}

fn make_root(root: &Path) {
    for folder in ["usr", "etc", "root", "tmp"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    for name in ["bin", "sbin", "lib", "lib32", "lib64"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            std::os::unix::fs::symlink(target, root.join(name)).expect("linked");
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
    if geteuid().is_root() {
        let id = Limits::default().host_id;
        for path in ["", "usr", "etc", "root", "tmp", "etc/passwd"] {
            std::os::unix::fs::chown(root.join(path), Some(id), Some(id)).expect("given away");
        }
    }
}

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
mod processes;
mod transfer;
#[path = "../world/mod.rs"]
mod world;

use std::fs;
use std::path::Path;

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
    // What only root can put where sandboxes look.
    let _shown = Host::put_a_socket_among_programs();
    world::as_ordinary_user();
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
    let world = World::new().await;
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

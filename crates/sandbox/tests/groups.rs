//! When the control groups of sandboxes go. Where this machine lets nobody make any, there is nothing to look at.

mod world;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use carrel_runner::protocol::{LimitsRecord, RECORD_FILE};
use carrel_sandbox::Sandbox;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::{World, said};

/// The group of a sandbox, as the first of its folders; those of the same launcher lie beside it.
struct Group {
    folder: PathBuf,
    launcher: String,
}

impl Group {
    fn of(world: &World, sandbox: &Sandbox) -> Option<Self> {
        let path = world.folder.path().join("sandboxes").join(sandbox.id().to_string()).join(RECORD_FILE);
        let record: LimitsRecord = serde_json::from_slice(&fs::read(path).expect("there")).expect("a record");
        let folder = PathBuf::from(record.groups.first()?);
        let launcher = folder.file_name()?.to_str()?.split('-').next()?.to_owned();
        Some(Self { folder, launcher })
    }

    /// How many groups there are of its launcher, itself and those of parked children.
    fn count(&self) -> usize {
        let entries = fs::read_dir(self.folder.parent().expect("a folder")).expect("there").flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&format!("{}-", self.launcher))).count()
    }
}

#[tokio::test]
async fn those_that_a_dead_launcher_left_are_swept_by_the_next_and_those_in_use_are_not() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let Some(group) = Group::of(&world, &sandbox) else { return };
    // The children that are made ready for the next launches have groups already.
    until(&sandbox, || group.count() >= 2).await;

    kill(Pid::from_raw(group.launcher.parse().expect("a number")), Signal::SIGKILL).expect("it is killed");
    let next = world.sandbox().await;

    until(&next, || group.count() == 1).await;
    assert!(group.folder.exists());
    assert_eq!(said(&sandbox, "echo alive").await, "alive");
}

#[tokio::test]
async fn a_launcher_that_is_not_needed_any_more_leaves_only_those_of_sandboxes() {
    let (mut world, other) = (World::new().await, World::new().await);
    let (sandbox, bystander) = (world.sandbox().await, other.sandbox().await);
    let (Some(group), Some(others)) = (Group::of(&world, &sandbox), Group::of(&other, &bystander)) else { return };
    until(&sandbox, || group.count() >= 2).await;
    // It has children ready, so it has swept by now, and will not do it for the first.
    until(&bystander, || others.count() >= 2).await;

    world.sandboxes = other.sandboxes.clone();

    until(&bystander, || group.count() == 1).await;
    assert!(group.folder.exists());
    assert_eq!(said(&sandbox, "echo alive").await, "alive");
}

/// Works on in a sandbox until something has come about.
async fn until(sandbox: &Sandbox, is_so: impl Fn() -> bool) {
    let last = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < last, "it never came about");
        assert_eq!(said(sandbox, "echo on").await, "on");
    }
}

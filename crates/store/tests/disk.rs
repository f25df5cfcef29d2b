//! Disks that are full or lose their power, real ones: small file systems. Only root can mount them; for others there is
//! nothing to test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use carrel_domain::task::Attempts;
use carrel_domain::{Clock, Mode, NewTask, NewTurn, Prompt, Redactor, Revision};
use carrel_store::{Principal, SealingKeys, Store, StoreError, StoreOptions};
use jiff::Timestamp;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }
}

/// A file system of a few megabytes, gone with this value.
struct SmallDisk {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&path).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self { _folder: folder, path })
    }

    fn fill(&self) -> PathBuf {
        let file = self.path.join("fill");
        let full = std::fs::write(&file, vec![0_u8; 8 << 20]).expect_err("the disk is too small for this");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// A disk whose power can be cut, gone with this value: what was not written through to it is lost then.
struct PowerDisk {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl PowerDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (image, path) = (folder.path().join("image"), folder.path().join("disk"));
        std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image");
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output();
        let disk = Self { folder, path };
        (made.is_ok_and(|made| made.status.success()) && disk.turn_on(&image)).then_some(disk)
    }

    fn turn_on(&self, image: &Path) -> bool {
        std::fs::create_dir_all(&self.path).expect("a folder");
        // What nobody asks for is not written before the test is over.
        let mounted = Command::new("mount").args(["-o", "loop,commit=300"]).args([image, &self.path]).output();
        mounted.is_ok_and(|mounted| mounted.status.success())
    }

    /// Cuts the power and turns it on again.
    fn cut(&self) {
        let (image, found) = (self.folder.path().join("image"), self.folder.path().join("found"));
        std::fs::copy(&image, &found).expect("what has reached the disk");
        assert!(Command::new("umount").arg("-l").arg(&self.path).status().is_ok_and(|ended| ended.success()));
        assert!(self.turn_on(&found), "the file system is sound");
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

async fn open(folder: &Path) -> (Store, Principal) {
    let options = StoreOptions {
        folder: folder.to_owned(),
        postgres: None,
        artifacts: carrel_store::ArtifactPlace::DataFolder,
        worker: carrel_domain::WorkerId::from_uuid(uuid::Uuid::from_u128(1)),
        clock: Arc::new(Noon),
        redactor: Redactor::default(),
        keys: SealingKeys::parse(&SealingKeys::fresh().expect("chance")).expect("a key"),
    };
    let (store, _) = Store::open(options).await.expect("a store");
    let owner = store.ensure_owner().await.expect("an owner").principal;
    (store, owner)
}

fn task(owner: Principal) -> NewTask {
    NewTask {
        organization: owner.organization,
        created_by: owner.user,
        repository: "/srv/code/api".parse().expect("a path"),
        revision: Revision::DefaultBranch,
        environment: None,
        local_changes: None,
        priority: carrel_domain::Priority::Normal,
        turn: NewTurn {
            prompt: Prompt::parse(&"x".repeat(100_000)).expect("a prompt"),
            mode: Mode::Code,
            attempts: Attempts::ONE,
            attachments: Vec::new(),
            from_attempt: None,
            model: None,
            effort: None,
            agent: None,
            limits: carrel_domain::AttemptLimits::NONE,
        },
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_once_there_is_room_everything_works_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (store, owner) = open(&disk.path.join("data")).await;
    let before = store.create_task(&task(owner), "m").await.expect("there is room");
    let fill = disk.fill();

    for _ in 0..5 {
        let refused = store.create_task(&task(owner), "m").await;
        assert!(matches!(refused, Err(StoreError::DiskFull)), "{refused:?}");
    }
    assert!(store.task(owner.organization, before).await.is_ok(), "reading still works");
    std::fs::remove_file(fill).expect("room");

    let after = store.create_task(&task(owner), "m").await.expect("there is room again");
    let listed: Vec<_> = store.tasks(owner.organization, None, 10).await.expect("a list");
    assert_eq!(listed.iter().map(|listing| listing.task.id).collect::<Vec<_>>(), [after, before]);
    store.ping().await.expect("ready");
    let (again, _) = open(&disk.path.join("data")).await;
    assert!(again.task(owner.organization, after).await.is_ok(), "it is really there");
}

#[tokio::test]
async fn a_file_that_finds_no_room_leaves_nothing_behind_and_once_there_is_room_it_is_kept() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (store, owner) = open(&disk.path.join("data")).await;
    let give = |bytes: usize| store.add_attachment(owner.organization, owner.user, ("a", None), vec![7; bytes]);
    let before = files_below(&disk.path.join("data/artifacts"));

    let too_long = give(6 << 20).await;
    let in_parts = give(20 << 20).await;
    let after = files_below(&disk.path.join("data/artifacts"));

    assert!(matches!(too_long, Err(StoreError::DiskFull)), "{too_long:?}");
    assert!(matches!(in_parts, Err(StoreError::DiskFull)), "{in_parts:?}");
    assert_eq!((before, after), (0, 0));
    let kept = give(1 << 20).await.expect("there is room for this one");
    let (_, artifact) = store.attachment_file(owner.organization, kept.id).await.expect("a row");
    assert_eq!(store.artifact_bytes(&artifact).await.expect("bytes"), vec![7; 1 << 20]);
}

#[tokio::test]
async fn a_task_that_was_made_outlasts_a_power_cut() {
    let Some(disk) = PowerDisk::mount() else { return };
    let data = disk.path.join("data");
    let (store, owner) = open(&data).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(store.create_task(&task(owner), "m").await.expect("made"));
    }
    let beside = task(owner);
    let at_once = tokio::join!(store.create_task(&beside, "m"), store.create_task(&beside, "m"));
    made.extend([at_once.0.expect("made"), at_once.1.expect("made")]);

    disk.cut();
    let (after, _) = open(&data).await;

    for id in made {
        assert!(after.task(owner.organization, id).await.is_ok(), "{id} is lost");
    }
}

fn files_below(folder: &Path) -> usize {
    let shelves = std::fs::read_dir(folder).expect("a folder").flatten();
    shelves.map(|shelf| std::fs::read_dir(shelf.path()).expect("a shelf").count()).sum()
}

//! Collecting on a full disk, at every size of what is left of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use super::super::quick;
use super::{CHECK_OUT, WORKSPACE, World, name};

/// A small file system in memory over a folder, gone with this value. Only root can mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(folder: &Path) -> Option<Self> {
        let mut mount = Program::new("mount");
        let mounted =
            mount.args(["-t", "tmpfs", "-o", "size=48m,nr_inodes=4000,mode=755", "tmpfs"]).arg(folder).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self(folder.to_path_buf()))
    }

    /// Leaves so many pages free, or room for so many files.
    fn leave(&self, pages: Option<u64>, files: Option<u64>) {
        let fill = self.0.join("fill");
        fs::create_dir(&fill).expect("made");
        let free = rustix::fs::statvfs(&self.0).expect("it is there");
        if let Some(pages) = pages {
            let file = fs::File::create(fill.join("pages")).expect("made");
            let bytes = free.f_bavail.saturating_sub(pages) * free.f_frsize;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("there is room for it");
        }
        if let Some(files) = files {
            for number in 0..free.f_favail.saturating_sub(files) {
                fs::File::create(fill.join(number.to_string())).expect("there is room for it");
            }
        }
    }

    fn empty(&self) {
        let _not_there_at_first = fs::remove_dir_all(self.0.join("fill"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Program::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_there_is_the_whole_patch_or_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::over(folder.path()) else { return };
    let world = World::in_folder(folder).await;
    let sandbox = world.launch(&[name("snapshot-1")]).await;
    let base = &world.commits[0];
    world.run(&sandbox, CHECK_OUT, base.as_str()).await;
    quick::note_before(&world.sandboxes, &sandbox, WORKSPACE).await.expect("noted");
    world.run(&sandbox, "cd /workspace/r && echo agent >> top && mkdir -p new/er && echo new > new/er/file", "").await;
    let (quick, all) = world.both(&sandbox, &[], base).await;
    assert!(all.as_ref().is_some_and(|patch| !patch.is_empty()) && quick == all);

    let (mut none, mut whole) = (0, 0);
    for (pages, files) in (0..40).map(|pages| (Some(pages), None)).chain((0..40).map(|files| (None, Some(files)))) {
        // What the try before has written is written anew.
        let forget = "cd /workspace/r && rm -rf /tmp/.carrel-* && find .git/objects -newer top -type f -delete; \
                      find .git/objects -mindepth 1 -type d -empty -delete; true";
        disk.empty();
        world.run(&sandbox, forget, "").await;
        disk.leave(pages, files);
        let (quick, left) = world.both(&sandbox, &[], base).await;
        for patch in [quick, left] {
            match patch {
                None => none += 1,
                Some(patch) if Some(&patch) == all.as_ref() => whole += 1,
                Some(patch) => {
                    panic!("room for {pages:?} pages, {files:?} files: {:?}", String::from_utf8_lossy(&patch))
                }
            }
        }
    }
    assert!(none > 0 && whole > 0, "{none} times none, {whole} times the whole patch");
}

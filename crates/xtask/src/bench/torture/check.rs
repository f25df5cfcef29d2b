//! What must hold when all of it has come to rest.

use std::fmt::Write as _;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{POLL, Place, REST, Undisturbed};

/// What a program says that finds none.
const NO_SPACE: &str = "no space left on device";
/// How much is shown of an event.
const LINE: usize = 600;

impl Place {
    /// Gives how many tasks had commands that found no space on the disk: what they have left out is none of ours.
    pub(super) async fn check(&self, undisturbed: &Undisturbed) -> Result<usize> {
        let world = &self.worlds[0];
        let mut starved = 0;
        for task in self.ready.iter().chain(&self.unchanged) {
            let (number, id) = (task.number, &task.id);
            let events = world.events(id).await;
            let numbers: Vec<i64> = events.iter().filter_map(|event| event["seq"].as_i64()).collect();
            if numbers != (1..).take(events.len()).collect::<Vec<i64>>() {
                bail!("the log of task {number} ({id}) has a gap: {numbers:?}");
            }
            if self.was_full() && events.iter().any(|event| event.to_string().to_lowercase().contains(NO_SPACE)) {
                starved += 1;
                continue;
            }
            let diff = world.carrel(&["task", "diff", id]).await.stdout;
            let expected = if task.turns == 1 { &undisturbed.first } else { &undisturbed.second };
            if diff != *expected {
                let log = in_lines(&events);
                bail!("the patch of task {number} ({id}) is another than that of an undisturbed run:\n{diff}\n{log}");
            }
        }
        let without: Vec<&String> =
            self.reasons.iter().filter(|reason| !(self.was_full() && is_for_want_of_disk(reason))).collect();
        if !without.is_empty() {
            bail!("{} tasks failed, and nothing that was done to them is a reason: {without:#?}", without.len());
        }
        Ok(starved)
    }

    fn was_full(&self) -> bool {
        self.blows.contains_key("times a full disk")
    }

    pub(super) async fn check_publications(&self) -> Result<()> {
        let resting = Instant::now();
        for task in &self.ready {
            let range = format!("main..torture/{}", task.number);
            loop {
                let listed = self.repository.try_git(&["rev-list", "--count", &range]);
                let commits = String::from_utf8_lossy(&listed.stdout);
                match (listed.status.success(), commits.trim()) {
                    (true, "1") => break,
                    (true, other) => bail!("the branch of task {} has {other} commits", task.number),
                    (false, _) if resting.elapsed() < REST => tokio::time::sleep(POLL).await,
                    (false, _) => bail!("task {} ({}) was never published", task.number, task.id),
                }
            }
        }
        Ok(())
    }

    /// Sandboxes, mounts, processes, sockets and half-written files must be gone when nobody needs them any more.
    pub(super) async fn check_leftovers(&self) -> Result<()> {
        let resting = Instant::now();
        loop {
            let left = self.leftovers()?;
            if left.is_empty() {
                return Ok(());
            }
            if resting.elapsed() > REST {
                bail!("this is left over:\n{left}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn leftovers(&self) -> Result<String> {
        let mut left = String::new();
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        for world in &self.worlds {
            let sandboxes = world.data().join("sandboxes");
            for runner in runners(&sandboxes) {
                writeln!(left, "a sandbox in {}", runner.display())?;
            }
            for socket in sockets(&sandboxes) {
                writeln!(left, "a socket: {}", socket.display())?;
            }
            // Its own disk is no leftover.
            let folder = format!("{}/", world.data().display());
            for mount in mounts.lines().filter(|mount| mount.contains(&folder)) {
                writeln!(left, "a mount: {mount}")?;
            }
        }
        Ok(left)
    }
}

/// A log, to find out from it what has happened: an event a line, none without end.
fn in_lines(events: &[Value]) -> String {
    let line = |event: &Value| event.to_string().chars().take(LINE).chain(['\n']).collect::<String>();
    events.iter().map(line).collect()
}

fn is_for_want_of_disk(reason: &str) -> bool {
    ["disk", "space"].iter().any(|word| reason.contains(word))
}

fn runners(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| path.join("runner.json").exists()).collect()
}

/// Sockets below a folder, two levels deep.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    let below = entries(folder).flat_map(|entry| entries(&entry).collect::<Vec<_>>());
    entries(folder).chain(below).filter(|path| path.metadata().is_ok_and(|data| data.file_type().is_socket())).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

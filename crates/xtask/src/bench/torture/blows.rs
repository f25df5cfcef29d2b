//! What is done to whoever is tortured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use carrel_testkit::World;
use serde_json::Value;

use super::{BREATH_MS, Delegated, Place, prompt};

/// How long a worker is stopped at most, in milliseconds: well below its lease.
const STOPPED_MS: u64 = 6000;
/// In a long run, one is stopped past its lease, and past the time after which the others take it for gone.
const STOPPED_LONG: Duration = Duration::from_secs(45);
/// How long a disk is full at most, in milliseconds.
const FULL_MS: u64 = 4000;
/// How far a clock jumps at most, in either direction, in seconds.
const JUMP_SECONDS: u64 = 3600;
/// The kill comes within so many milliseconds of a request.
const REQUEST_MS: u64 = 60;

impl Place {
    pub(super) async fn strike(&mut self) -> Result<()> {
        let who = self.chance.index(self.worlds.len());
        let blow = match (self.chance.below(12), &mut self.postgres) {
            (0, Some(postgres)) => {
                postgres.crash();
                tokio::time::sleep(Duration::from_millis(self.chance.below(BREATH_MS))).await;
                postgres.up();
                "crashes of the database"
            }
            (1 | 2, Some(postgres)) => {
                let all = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()";
                // A database that is just recovering has no connections to cut.
                let _cut = postgres.query(all);
                "times all connections cut"
            }
            (3, Some(_)) if self.is_long && self.chance.below(4) == 0 => {
                self.stop(who, STOPPED_LONG).await;
                "workers stopped past their lease"
            }
            (3, _) => {
                let time = Duration::from_millis(self.chance.below(STOPPED_MS));
                self.stop(who, time).await;
                "workers stopped for a while"
            }
            (4, _) if self.disk.is_some() => {
                let time = Duration::from_millis(self.chance.below(FULL_MS));
                self.fill_disk(time).await?;
                "times a full disk"
            }
            (5, _) if self.clocks.is_some() => {
                let by = i64::try_from(self.chance.below(2 * JUMP_SECONDS + 1))? - i64::try_from(JUMP_SECONDS)?;
                self.clocks.iter().try_for_each(|clocks| clocks.set(who, by))?;
                "jumps of a clock"
            }
            (6, _) => {
                self.kill_in_a_request(who).await?;
                "kills in the middle of a request"
            }
            _ => {
                self.worlds[who].kill().await;
                if self.chance.below(4) == 0 {
                    tokio::time::sleep(Duration::from_millis(self.chance.below(BREATH_MS))).await;
                }
                self.worlds[who].start().await;
                "kills"
            }
        };
        *self.blows.entry(blow).or_default() += 1;
        Ok(())
    }

    async fn stop(&self, who: usize, time: Duration) {
        let pid = self.worlds[who].service_pid();
        signal(pid, "STOP");
        tokio::time::sleep(time).await;
        signal(pid, "CONT");
    }

    async fn fill_disk(&self, time: Duration) -> Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        disk.fill()?;
        tokio::time::sleep(time).await;
        disk.empty()
    }

    /// Kills a service while it is being asked for a task. Whether it took the task is found out by looking.
    async fn kill_in_a_request(&mut self, who: usize) -> Result<()> {
        self.created += 1;
        let (number, world) = (self.created, &self.worlds[who]);
        let (path, said) = (self.repository.path().to_string_lossy().into_owned(), prompt(number));
        let arguments = ["--json", "task", "create", "--repository", path.as_str(), said.as_str()];
        let (pid, after) = (world.service_pid(), Duration::from_millis(self.chance.below(REQUEST_MS)));
        let (asked, ()) = tokio::join!(world.carrel(&arguments), async {
            tokio::time::sleep(after).await;
            signal(pid, "KILL");
        });
        self.worlds[who].kill().await;
        self.worlds[who].start().await;
        let told = serde_json::from_str::<Value>(&asked.stdout).ok();
        let known = match told.as_ref().and_then(|task| task["id"].as_str()) {
            Some(id) => {
                let shown = self.worlds[who].carrel(&["task", "show", id]).await;
                ensure!(shown.code == 0, "a task that was promised is lost: {id}: {}", shown.stderr);
                Some(id.to_owned())
            }
            None => self.find(who, &said).await?,
        };
        match known {
            Some(id) => self.open.push(Delegated::new(number, id, &mut self.chance)),
            None => self.created -= 1,
        }
        Ok(())
    }

    /// The task that was asked for with these words, if it was taken though nobody heard so. One that was made while the clock
    /// was behind is further down, and goes on unobserved.
    async fn find(&self, who: usize, said: &str) -> Result<Option<String>> {
        let listed = self.worlds[who].json(&["task", "list", "--limit", "100"]).await;
        let tasks = listed["items"].as_array().cloned().unwrap_or_default();
        let taken: Vec<&Value> = tasks.iter().filter(|task| task["title"] == said).collect();
        ensure!(taken.len() <= 1, "one request made {} tasks: {taken:?}", taken.len());
        Ok(taken.first().and_then(|task| task["id"].as_str()).map(str::to_owned))
    }
}

pub(super) fn signal(pid: u32, name: &str) {
    // It may be gone by itself; that is found out by whoever needs it next.
    let _sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

/// A small disk of its own that the first one's data is on, so that it can be full without harm to the machine.
pub(super) struct SmallDisk {
    _folder: tempfile::TempDir,
    data: PathBuf,
}

impl SmallDisk {
    /// Moves the data of a service onto a disk of 1 GiB; nothing when this machine gives none.
    pub(super) async fn below(world: &mut World) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let image = folder.path().join("disk");
        std::fs::File::create(&image)?.set_len(1 << 30)?;
        let (aside, data) = (folder.path().join("aside"), world.data());
        let ran = |program: &str, arguments: &[&Path]| {
            Command::new(program).args(arguments).output().is_ok_and(|ran| ran.status.success())
        };
        if !ran("mkfs.ext4", &["-qFm0".as_ref(), &image]) {
            return Ok(None);
        }
        world.kill().await;
        std::fs::rename(&data, &aside)?;
        std::fs::create_dir(&data)?;
        let is_mounted = ran("mount", &["-oloop".as_ref(), &image, &data]);
        let contents = aside.join(".");
        ensure!(ran("cp", &["-a".as_ref(), &contents, &data]), "the data of a service cannot be copied");
        world.start().await;
        Ok(is_mounted.then_some(Self { _folder: folder, data }))
    }

    fn filler(&self) -> PathBuf {
        self.data.join("filler")
    }

    /// Takes all space there is.
    pub(super) fn fill(&self) -> Result<()> {
        let free = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.data).output()?;
        let free = String::from_utf8_lossy(&free.stdout).lines().last().unwrap_or_default().trim().to_owned();
        // What is taken by somebody else just now is missing then; what is left is taken bit by bit.
        let _most = Command::new("fallocate").args(["-l", &free]).arg(self.filler()).output()?;
        // Until there is no more; dd says so by failing.
        let to = format!("of={}.more", self.filler().display());
        let _full = Command::new("dd").args(["if=/dev/zero", &to, "bs=4k", "status=none"]).output()?;
        Ok(())
    }

    /// Gives it back.
    pub(super) fn empty(&self) -> Result<()> {
        for file in [self.filler(), self.data.join("filler.more")] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has files open there has ended, or will: it is detached then. What was below it could not be
        // removed before.
        let _detached = Command::new("umount").arg("-l").arg(&self.data).output();
        if let Some(world) = self.data.parent() {
            let _gone = std::fs::remove_dir_all(world);
        }
    }
}

/// Clocks of the services that can be set, by `libfaketime`.
pub(super) struct Clocks(Vec<PathBuf>);

impl Clocks {
    /// One for each service; nothing when the library is not installed.
    pub(super) fn new(folder: &Path, services: usize) -> Result<Option<Self>> {
        if library().is_none() {
            return Ok(None);
        }
        let clocks = Self((0..services).map(|number| folder.join(format!("clock-{number}"))).collect());
        for service in 0..services {
            clocks.set(service, 0)?;
        }
        Ok(Some(clocks))
    }

    /// What a service has to be started with.
    pub(super) fn variables(&self, service: usize) -> Vec<(&'static str, String)> {
        let library = library().map(|found| found.display().to_string()).unwrap_or_default();
        vec![
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", self.0[service].display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
        ]
    }

    /// Sets one so many seconds off.
    pub(super) fn set(&self, service: usize, seconds: i64) -> Result<()> {
        // Whole at every moment: it is read whenever the time is asked for.
        let new = self.0[service].with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n"))?;
        Ok(std::fs::rename(&new, &self.0[service])?)
    }
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

/// Numbers that nobody foresees.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new() -> Self {
        let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos());
        Self(u64::try_from(seed & u128::from(u64::MAX)).expect("it was cut to fit") | 1)
    }

    /// A number below the limit, by Marsaglia's xorshift64.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    /// One of so many.
    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("it is below a size")
    }
}

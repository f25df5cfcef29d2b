//! A PostgreSQL server of a test's own: the real one, as Debian packages it, on a socket in a temporary folder.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who runs it where root would: PostgreSQL refuses to be root.
const NOBODY: u32 = 65534;

/// A server that ends with its test.
pub struct Postgres {
    folder: tempfile::TempDir,
    /// How it differs from what it would be by itself.
    settings: Vec<&'static str>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes an empty cluster and starts a server on it.
    ///
    /// # Panics
    /// When the machine has no PostgreSQL server, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        // What is lost with the power need not outlive a test.
        Self::start_with(&["fsync=off", "shared_buffers=16MB"])
    }

    /// The same, as one is that people work with: what it has promised is on the disk.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_durable() -> Self {
        Self::start_with(&["shared_buffers=256MB", "max_wal_size=4GB"])
    }

    fn start_with(settings: &[&'static str]) -> Self {
        let folder = tempfile::Builder::new().prefix("carrel-pg-").tempdir().expect("a temporary folder");
        give_away(folder.path());
        copy(&template(), &folder.path().join("cluster"));
        let mut postgres = Self { folder, settings: settings.to_vec(), server: None };
        postgres.up();
        postgres
    }

    /// The URL of its database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of one of its databases.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://carrel@{folder}/{database}")
    }

    /// The folder that all of its data is in.
    #[must_use]
    pub fn cluster(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    /// Ends it as a crash would: nothing is written down, and every connection is cut.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn crash(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.kill().expect("our own process");
        server.wait().expect("our own process");
        // Its helpers notice by themselves; a server does not start beside them.
        let lock = self.cluster().join("postmaster.pid");
        let _there_or_not = std::fs::remove_file(lock);
    }

    /// Starts it again after a crash.
    ///
    /// # Panics
    /// When it does not start.
    pub fn up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.server = Some(self.spawn());
        while self.query("select 1").is_none() {
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {}", self.logged());
            // After a crash it refuses to start until the last helper of the one before is gone.
            let ended = self.server.as_mut().map(|server| server.try_wait().expect("our own process").is_some());
            if ended == Some(true) {
                self.server = Some(self.spawn());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A second server that has all that this one has promised: it follows, and takes no writes.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn standby(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("carrel-pg-").tempdir().expect("a temporary folder");
        give_away(folder.path());
        let mut basebackup = program("pg_basebackup");
        basebackup.args(["--checkpoint=fast", "--write-recovery-conf", "--wal-method=stream", "--username=carrel"]);
        basebackup.arg("--host").arg(self.folder.path()).arg("--pgdata").arg(folder.path().join("cluster"));
        let ran = as_nobody(&mut basebackup).output().expect("pg_basebackup can be started");
        assert!(ran.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&ran.stderr));
        let mut standby = Self { folder, settings: self.settings.clone(), server: None };
        standby.up();
        // From now on nothing is promised that the standby has not.
        for sql in ["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"] {
            self.query(sql).expect("the owner may");
        }
        let deadline = Instant::now() + PATIENCE;
        while self.query("select sync_state from pg_stat_replication").as_deref() != Some("sync") {
            assert!(Instant::now() < deadline, "the standby does not follow: {}", standby.logged());
            std::thread::sleep(Duration::from_millis(10));
        }
        standby
    }

    /// Stands at the address of another that has crashed: still as a standby.
    ///
    /// # Panics
    /// When it cannot.
    pub fn stand_in_for(&self, crashed: &Self) {
        let socket = |server: &Self| server.folder.path().join(".s.PGSQL.5432");
        let _left_by_the_crash = std::fs::remove_file(socket(crashed));
        std::os::unix::fs::symlink(socket(self), socket(crashed)).expect("our own folder");
    }

    /// Takes writes from now on.
    ///
    /// # Panics
    /// When it cannot.
    pub fn promote(&self) {
        assert_eq!(self.query("select pg_promote()").as_deref(), Some("t"), "{}", self.logged());
        self.query("alter system reset synchronous_standby_names").expect("the owner may");
        self.query("select pg_reload_conf()").expect("the owner may");
    }

    fn spawn(&self) -> Child {
        let mut postgres = ending_with_us(&binary("postgres"));
        postgres.arg("-D").arg(self.cluster()).arg("-k").arg(self.folder.path());
        let always = ["listen_addresses=", "max_connections=60"];
        for setting in always.iter().chain(&self.settings) {
            postgres.arg("-c").arg(setting);
        }
        let log = std::fs::File::create(self.folder.path().join("log")).expect("our own folder");
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        as_nobody(&mut postgres).spawn().expect("postgres can be started")
    }

    /// What it has logged since it was started last.
    #[must_use]
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs SQL in the database `postgres` and gives what `psql` prints, bare: columns parted by `|`.
    #[must_use]
    pub fn query(&self, sql: &str) -> Option<String> {
        let mut psql = program("psql");
        let ran = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", sql]).output();
        let ran = ran.expect("psql can be started");
        ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim_end().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// An empty cluster, made once and copied by every test: that takes a tenth of the time.
fn template() -> PathBuf {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tmp");
    std::fs::create_dir_all(&kept).expect("the build's own folder is writable");
    let lock = std::fs::File::create(kept.join("postgres.lock")).expect("the build's own folder is writable");
    lock.lock().expect("a lock");
    let template = kept.join("postgres");
    if !template.is_dir() {
        let made = tempfile::tempdir().expect("a temporary folder");
        give_away(made.path());
        let mut initdb = program("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--username=carrel", "--encoding=UTF8", "--no-locale"]);
        initdb.args(["--no-instructions", "--wal-segsize=1", "-D"]).arg(made.path().join("cluster"));
        let ran = as_nobody(&mut initdb).output().expect("initdb can be started");
        assert!(ran.status.success(), "initdb: {}", String::from_utf8_lossy(&ran.stderr));
        let partial = kept.join("postgres.partial");
        let _leftover = std::fs::remove_dir_all(&partial);
        copy(&made.path().join("cluster"), &partial);
        std::fs::rename(&partial, &template).expect("our own folder");
    }
    template
}

/// Copies a folder for whoever runs the server.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("our own folder");
    for entry in std::fs::read_dir(from).expect("our own folder").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("our own file");
            if is_root() {
                std::os::unix::fs::chown(&target, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
        }
    }
    give_away(to);
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).expect("our own folder");
}

/// A program that is killed when this one ends, however that ends.
fn ending_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn program(name: &str) -> Command {
    Command::new(binary(name))
}

/// Debian keeps the server's programs out of `PATH`, a folder for each version.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn as_nobody(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/")
}

/// Makes a folder that of whoever runs the server.
fn give_away(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("our own folder");
    if is_root() {
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}

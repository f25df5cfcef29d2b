//! A backend in a folder of its own, with real sandboxes; whatever a test leaves running ends with it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use carrel_domain::SandboxId;
use carrel_runner::pidfd::Pidfd;
use carrel_runner::protocol::{RECORD_FILE, Record};
use carrel_sandbox::{Command, Finished, Launcher, Limits, LocalOptions, Sandbox, SandboxSpec, Sandboxes};
use nix::unistd::geteuid;
use tempfile::TempDir;
use uuid::Uuid;

/// A user that owns nothing on this machine.
const ORDINARY_ID: u32 = 64_242;
/// The first of the ids that another user is lent, which nobody has either.
pub const LENT_FROM: u32 = 1_500_000_000;
/// Puts accounts in a folder over the machine's for a program and nobody else, then becomes that program.
const WITH_ACCOUNTS: &str = r#"
set -e
accounts=$1
shift
for name in passwd subuid subgid; do
    mount --bind "$accounts/$name" "/etc/$name"
done
exec "$@"
"#;

/// A backend and its folder.
pub struct World {
    pub folder: TempDir,
    pub sandboxes: Sandboxes,
}

impl World {
    pub async fn new() -> Self {
        let folder = folder();
        let sandboxes = open(folder.path()).await;
        Self { folder, sandboxes }
    }

    pub async fn sandbox(&self) -> Sandbox {
        self.sandboxes.launch(SandboxSpec::new(new_id())).await.expect("a sandbox is launched")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.folder.path().join("sandboxes")).into_iter().flatten().flatten() {
            if let Some(record) = record(&entry.path())
                && let Ok(Some(runner)) = Pidfd::open(record)
            {
                let _ended_meanwhile = runner.kill();
            }
        }
    }
}

/// A folder that strangers may enter: what is hidden in it is hidden by us.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_not_ours| tempfile::tempdir());
    let folder = folder.expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    folder
}

/// Runs all tests of this program again as an ordinary user, if it was started by root.
pub fn as_ordinary_user() {
    again_as(|_| std::process::Command::new("setpriv"));
}

/// The same as an ordinary user that was lent subordinate ids. Needs the package `uidmap`.
pub fn as_user_with_lent_ids() {
    again_as(|place| {
        let passwd = fs::read_to_string("/etc/passwd").expect("there are accounts");
        let lent = format!("carrel-test:{LENT_FROM}:65536\n");
        let own = format!("{passwd}carrel-test:x:{ORDINARY_ID}:{ORDINARY_ID}::/:/bin/sh\n");
        for (name, text) in [("passwd", &own), ("subuid", &lent), ("subgid", &lent)] {
            fs::write(place.join(name), text).expect("written");
            // On a machine where nobody was ever lent any there may be no such file to cover.
            let _there = fs::File::options().create(true).append(true).open(Path::new("/etc").join(name));
        }
        let mut tests = std::process::Command::new("unshare");
        tests.args(["--mount", "/bin/sh", "-c", WITH_ACCOUNTS, "sh"]).arg(place).arg("setpriv");
        tests
    });
}

/// Runs all tests of this program again, by `setpriv`, which `begin` makes a command of, if it was started by root.
fn again_as(begin: impl FnOnce(&Path) -> std::process::Command) {
    if !geteuid().is_root() {
        return;
    }
    // Below `/var/tmp`, where a file system is of the real kind.
    let place = tempfile::tempdir_in("/var/tmp").expect("a temporary folder");
    std::os::unix::fs::chown(place.path(), Some(ORDINARY_ID), Some(ORDINARY_ID)).expect("given away");
    let ids = [format!("--reuid={ORDINARY_ID}"), format!("--regid={ORDINARY_ID}"), "--clear-groups".to_owned()];
    let mut tests = begin(place.path());
    tests.args(ids).arg(std::env::current_exe().expect("a program")).args(["--test-threads", "2"]);
    let ended = tests.env("TMPDIR", place.path()).current_dir(place.path()).output().expect("setpriv is there");

    assert!(
        ended.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
}

/// The options of a backend below `folder`.
pub fn options(folder: &Path) -> LocalOptions {
    LocalOptions {
        folder: folder.join("sandboxes"),
        private_paths: vec![folder.join("private")],
        launcher: Launcher::beside_tests().expect("the launcher is built"),
        limits: Limits::default(),
    }
}

/// A controller of the sandboxes below `folder`.
pub async fn open(folder: &Path) -> Sandboxes {
    Sandboxes::open(options(folder)).await.expect("this machine lets sandboxes be made")
}

/// The record of the sandbox in `folder`.
pub fn record(folder: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(folder.join(RECORD_FILE)).ok()?).ok()
}

pub fn new_id() -> SandboxId {
    SandboxId::from_uuid(Uuid::now_v7())
}

/// A shell script as a command with an id of its own.
pub fn script(text: &str) -> Command {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    Command::new(format!("script-{}", NUMBER.fetch_add(1, Ordering::Relaxed)), ["/bin/bash", "-c", text])
}

/// Runs a script to its end.
pub async fn run(sandbox: &Sandbox, text: &str) -> Finished {
    sandbox.run(script(text)).await.expect("the script runs")
}

/// What a script says, without the last newline.
pub async fn said(sandbox: &Sandbox, text: &str) -> String {
    String::from_utf8_lossy(&run(sandbox, text).await.output).trim_end().to_owned()
}

//! What runs wild is bounded: output, time, processes, patches, disk.

use std::time::Duration;

use carrel_testkit::model::Reply;
use carrel_testkit::wait_for;
use serde_json::json;

use crate::{CARREL, FILES, MENDING, World, attempt, of_type, patch, reason, says};

#[tokio::test]
async fn a_command_that_prints_a_gigabyte_is_cut_in_the_middle_and_harmless() {
    let script = says([
        Reply::command("head -c 1000000000 /dev/zero | tr '\\0' x; echo; echo the end"),
        Reply::message("Long."),
    ]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Print").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = world.events(task["id"].as_str().expect("an id")).await;
    let end = of_type(&events, "command.ended")[0];
    assert!(end["data"]["output_bytes"].as_u64().is_some_and(|bytes| bytes >= 1_000_000_000), "{end}");
    let size: usize = events.iter().map(|event| event.to_string().len()).sum();
    assert!(size < 8_000_000, "{size} bytes of events");
    let told = world.model().requests().last().expect("requests").body.len();
    assert!(told < 500_000, "{told} bytes to the model");
}

#[tokio::test]
async fn a_command_that_never_ends_does_not_hold_the_attempt_and_is_gone_with_it() {
    let call = json!({"cmd": "sleep 1000000", "yield_time_ms": 250});
    let world = World::new(CARREL, says([Reply::call("exec_command", call), Reply::message("It runs.")])).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Start it").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    assert!(!running("sleep 1000000"), "nothing of the sandbox is left");
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_sandbox_and_can_be_stopped() {
    let script = says([Reply::message("Fine.")])
        .when("Explode", [Reply::command("bomb() { bomb | bomb & }; bomb; sleep 1000001")])
        .when("Bystander", [Reply::command("echo alive"), Reply::message("Fine.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let bomb = world.create(&repository, "Explode").await;
    world.events_until(&bomb, |events| !of_type(events, "command.started").is_empty()).await;

    let bystander = world.run(&repository, "Bystander").await;
    let cancelled = world.json(&["task", "cancel", &bomb]).await;

    assert_eq!(attempt(&bystander)["state"], "ready", "{bystander:#}");
    assert_eq!(attempt(&cancelled)["state"], "cancelled", "{cancelled:#}");
    assert!(!running("sleep 1000001"), "nothing of the sandbox is left");
}

#[tokio::test]
async fn a_patch_over_the_limit_fails_and_names_what_is_so_big() {
    let script = says([Reply::command("head -c 300000 /dev/urandom > big.bin"), Reply::message("Done.")]);
    let world = World::with(CARREL, script, &[("CARREL_MAX_PATCH_BYTES", "100000")]).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Grow").await;

    assert!(reason(&task).contains("100000 bytes") && reason(&task).contains("300000 big.bin"), "{}", reason(&task));
    assert_eq!(attempt(&task)["failure"]["stage"], "collecting");
}

#[tokio::test]
async fn without_user_namespaces_the_service_says_what_to_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" serve";
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, CARREL]);
    command.env("CARREL_DATA", folder.path()).env("CARREL_LISTEN", "127.0.0.1:0");

    let output = command.output().expect("unshare is there");

    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{words}");
    assert!(words.contains("user namespaces") && words.contains("max_user_namespaces"), "{words}");
}

/// Whether a process with this command line runs anywhere on the machine.
pub(crate) fn running(command: &str) -> bool {
    let wanted = command.replace(' ', "\0") + "\0";
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok()).any(|line| line == wanted.as_bytes())
}

/// A file system of a few megabytes over the data folder, gone with this value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Nothing where it cannot be mounted: only root may.
    fn over(folder: &std::path::Path) -> Option<Self> {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs"])
            .arg(folder)
            .output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn an_attempt_that_fills_the_disk_of_the_service_ends_and_gives_it_back() {
    let filler = "head -c 100000000 /dev/zero > big; seq -s ' ' 100000 160000";
    let script = says([Reply::command(filler), Reply::command(filler), Reply::message("Done.")])
        .when("Say hello", [Reply::message("Hello.")]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    world.kill().await;
    let Some(_disk) = SmallDisk::over(&world.data()) else { return };
    world.start().await;

    let full = world.run(&repository, "Grow").await;
    let after = world.run(&repository, "Say hello").await;

    assert!(reason(&full).contains("the disk of the data folder is full; free some space"), "{}", reason(&full));
    assert_eq!(attempt(&full)["failure"]["retryable"], true);
    assert_eq!(after["state"], "ready", "its sandbox is not kept: {after:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_goes_on_once_there_is_room_again_on_a_disk_that_somebody_else_has_filled() {
    let last = Reply { delay_ms: 1500, ..Reply::message("Done.") };
    let mut world = World::new(CARREL, says([patch(MENDING), last])).await;
    let repository = world.repository("api", FILES);
    world.kill().await;
    let Some(disk) = SmallDisk::over(&world.data()) else { return };
    world.start().await;
    let id = world.create(&repository, "Mend the check").await;
    let patience = Duration::from_secs(60);
    wait_for(patience, "the last request", || world.model().requests().len() == 2);

    let filler = disk.0.join("filler");
    let filled = std::fs::write(&filler, vec![0_u8; 48 << 20]);
    assert_eq!(filled.expect_err("it is full").kind(), std::io::ErrorKind::StorageFull);
    wait_for(patience, "the disk is found full", || world.logged().contains("the disk of the data folder is full"));
    std::fs::remove_file(&filler).expect("our own file");
    let task = world.ended(&id).await;

    assert_eq!(task["state"], "ready", "{task:#}");
    assert_eq!(attempt(&task)["result"]["patch"]["files"][0]["path"], "answer", "{task:#}");
}

//! Files that commands swap while the controller reads and writes them, and commands that turn on everybody.
//!
//! Transfers are made by process 1, as the sandbox's user, in the sandbox's root: whatever a path is made to mean, it
//! means something inside.

use std::time::Duration;

use carrel_sandbox::{ExitStatus, ProcessEvent, Sandbox, SandboxError};
use tokio::time::timeout;

use super::host::Host;
use super::place;
use super::world::{World, run, said, script};

const SOON: Duration = Duration::from_secs(30);

async fn read(sandbox: &Sandbox, path: &str) -> Result<Vec<u8>, SandboxError> {
    timeout(SOON, sandbox.read_file(path, 1 << 20)).await.expect("nobody waits for a file of a command's making")
}

#[tokio::test]
async fn reading_what_a_command_has_put_in_a_files_place_gives_nothing_of_the_runner() {
    let world = place::world().await;
    let host = Host::new(&world);
    let sandbox = world.sandbox().await;
    let canary = host.known_to(&sandbox)[0].1.clone();
    let place = "mkdir -p /workspace/x; cd /workspace/x; rm -f file";

    for (what, trap) in [
        ("the runner's environment", "ln -s /proc/self/environ file"),
        ("the runner's memory", "ln -s /proc/self/mem file"),
        ("process 1's environment", "ln -s /proc/1/environ file"),
        ("a host file", &format!("ln -s {canary} file")),
        ("a host file by the runner's root", &format!("ln -s /proc/self/root{canary} file")),
        ("password hashes", "ln -s /etc/shadow- file"),
        ("a pipe nobody writes", "mkfifo file"),
        ("a terminal", "ln -s /dev/ptmx file"),
        ("a device that never ends", "ln -s /dev/zero file"),
        ("a socket", r#"perl -e 'use Socket; socket(my $s, 1, 1, 0); bind($s, pack("Sa*", 1, "file"))'"#),
        ("itself", "ln -s file file"),
        ("a folder", "ln -s / file"),
    ] {
        run(&sandbox, &format!("{place}; {trap}")).await;

        let content = read(&sandbox, "/workspace/x/file").await;

        let kind = matches!(
            content,
            Err(SandboxError::NotAFile { .. } | SandboxError::NotFound { .. } | SandboxError::Inside { .. })
        );
        // Where the host's own file is masked by an empty device, that is what can be read of it.
        assert!(kind || content.as_ref().is_ok_and(Vec::is_empty), "{what}: {content:?}");
    }
    for descriptor in 0..32 {
        run(&sandbox, &format!("{place}; ln -s /proc/self/fd/{descriptor} file")).await;

        let content = read(&sandbox, "/workspace/x/file").await;

        assert!(content.is_err(), "descriptor {descriptor}: {content:?}");
    }
    assert_eq!(said(&sandbox, "echo alive").await, "alive");
    host.is_as_it_was();
}

#[tokio::test]
async fn writing_where_a_command_has_put_something_else_changes_nothing_of_the_host_or_the_runner() {
    let world = place::world().await;
    let host = Host::new(&world);
    let sandbox = world.sandbox().await;
    let place = "mkdir -p /workspace/x; cd /workspace/x; rm -rf file";

    for (what, trap, path) in [
        ("a program of the host", "ln -s /usr/bin/env file", "/workspace/x/file"),
        ("a program of the host by a folder", "ln -s /usr/bin file", "/workspace/x/file/env"),
        ("a tunable", "ln -s /proc/sys/kernel/core_pattern file", "/workspace/x/file"),
        ("how soon the runner is ended", "ln -s /proc/self/oom_score_adj file", "/workspace/x/file"),
        ("the runner's memory", "ln -s /proc/1/mem file", "/workspace/x/file"),
        ("a device", "ln -s /dev/null file", "/workspace/x/file"),
        ("a pipe", "mkfifo file", "/workspace/x/file"),
        ("a folder", "mkdir file", "/workspace/x/file"),
    ] {
        run(&sandbox, &format!("{place}; {trap}")).await;

        let written = timeout(SOON, sandbox.write_file(path, b"written", Some(0o6777))).await.expect("in time");

        assert!(written.is_err(), "{what}");
    }
    run(&sandbox, &format!("{place}; echo old > target; ln -s target file")).await;
    sandbox.write_file("/workspace/x/file", b"new", Some(0o6755)).await.expect("a link of its own is followed");
    assert_eq!(said(&sandbox, "cat /workspace/x/target; stat -c %a /workspace/x/target").await, "new755");
    host.is_as_it_was();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapping_folders_and_links_while_files_are_written_and_read_leads_nowhere() {
    let world = place::world().await;
    let host = Host::new(&world);
    let sandbox = world.sandbox().await;
    let canary = host.known_to(&sandbox)[0].1.clone();
    let folder = canary.trim_end_matches("/canary");
    // A folder and a link to the same path as the host's secrets, exchanged as fast as it goes.
    let swaps = format!(
        r#"mkdir -p /workspace/dir; echo inside > /workspace/dir/canary; ln -s {folder} /workspace/link; echo ready;
           exec perl -e 'my ($one, $two) = ("/workspace/dir", "/workspace/link");
               while (1) {{ syscall({}, -100, $one, -100, $two, 2) }}'"#,
        nix::libc::SYS_renameat2
    );
    let mut process = sandbox.exec(script(&swaps)).await.expect("it starts");
    process.next().await.expect("it is ready");

    let mut outcomes = [0; 2];
    for round in 0..500 {
        let content = read(&sandbox, "/workspace/dir/canary").await;
        if let Ok(content) = &content {
            assert!(content == b"inside\n" || content.starts_with(b"round"), "{content:?}");
        }
        outcomes[usize::from(content.is_ok())] += 1;
        let _either = sandbox.write_file("/workspace/dir/canary", format!("round {round}").as_bytes(), None).await;
        let _either = sandbox.remove_file("/workspace/dir/other").await;
    }

    process.kill().await.expect("it is ended");
    assert!(outcomes[1] > 0, "the file was there at times: {outcomes:?}");
    host.is_as_it_was();
}

#[tokio::test]
async fn a_command_that_ends_everybody_ends_nobody_else() {
    let world = World::new().await;
    let (sandbox, bystander) = (world.sandbox().await, world.sandbox().await);
    let mut process =
        bystander.exec(script("mkfifo fifo; echo up; read line < fifo; echo still $line")).await.expect("it starts");
    process.next().await.expect("it is up");

    let killer = run(&sandbox, "trap '' TERM; kill -9 -1; kill -9 1; kill -STOP 1; kill -9 $PPID").await;

    assert_eq!(killer.status, ExitStatus::Signalled(9), "with its supervisor its tree goes");
    assert_eq!(said(&sandbox, "echo alive").await, "alive");
    run(&bystander, "echo here > fifo").await;
    assert_eq!(process.next().await, Some(ProcessEvent::Output("still here\n".into())));
}

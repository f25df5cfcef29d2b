//! How sandboxes come, outlive those who made them, and go.

mod world;

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use carrel_runner::pidfd::Pidfd;
use carrel_sandbox::{ExitStatus, Limits, Output, ProcessEvent, SandboxError, SandboxSpec, Sandboxes};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::{World, new_id, open, options, record, run, said, script};

impl World {
    fn folder_of(&self, sandbox: &carrel_sandbox::Sandbox) -> PathBuf {
        self.folder.path().join("sandboxes").join(sandbox.id().to_string())
    }
}

#[tokio::test]
async fn a_new_controller_attaches_to_the_command_that_runs_and_nothing_runs_twice() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    let command = script("echo run >> runs; mkfifo fifo; echo before; read line < fifo; echo after $line");
    let mut process = sandbox.exec(command.clone()).await.expect("it starts");
    assert_eq!(process.next().await, Some(ProcessEvent::Output("before\n".into())));
    let id = sandbox.id();
    drop((process, sandbox));

    world.sandboxes = open(world.folder.path()).await;
    let sandbox = world.sandboxes.attach(id).await.expect("it is there");
    let mut process = sandbox.exec(command.clone()).await.expect("it is attached to");

    assert_eq!(process.next().await, Some(ProcessEvent::Output("before\n".into())));
    run(&sandbox, "echo all > fifo").await;
    assert_eq!(process.next().await, Some(ProcessEvent::Output("after all\n".into())));
    let Some(ProcessEvent::Ended(finished)) = process.next().await else { panic!("it ends") };
    assert_eq!(finished.status, ExitStatus::Exited(0));
    assert_eq!(sandbox.run(command).await.expect("its output is kept").output, b"before\nafter all\n");
    assert_eq!(said(&sandbox, "cat runs").await, "run");
}

#[tokio::test]
async fn a_runner_rests_after_a_command_that_ended_while_no_controller_was_there() {
    let world = World::new().await;
    let (left, other) = (world.sandbox().await, world.sandbox().await);
    let runner = record(&world.folder_of(&left)).expect("it is written down").pid;
    let process = left.exec(script("read line < <(sleep 0.1)")).await.expect("it starts");
    drop((process, left));

    // How often it went to sleep, before and after some work elsewhere: one that wakes for nothing does so each
    // millisecond.
    let last = Instant::now() + Duration::from_secs(30);
    let mut rested = 0;
    while rested < 3 {
        assert!(Instant::now() < last, "it never rests");
        let before = (children(runner), sleeps(runner));
        for _ in 0..10 {
            assert_eq!(said(&other, "echo on").await, "on");
        }
        let rests = before == (0, sleeps(runner));
        rested = if rests { rested + 1 } else { 0 };
    }
}

/// How many children a process has.
fn children(pid: i32) -> usize {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it lives");
    children.split_whitespace().count()
}

/// How often a process has waited so far.
fn sleeps(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    waits.and_then(|waits| waits.trim().parse().ok()).expect("the kernel counts them")
}

#[tokio::test]
async fn a_newer_connection_takes_over_and_the_older_one_says_so() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut process = sandbox.exec(script("echo up; exec sleep 1000")).await.expect("it starts");
    process.next().await.expect("it is up");

    let other = open(world.folder.path()).await;
    let newer = other.attach(sandbox.id()).await.expect("it is there");

    assert_eq!(process.next().await, None);
    let refused = sandbox.stat("/").await;
    assert!(matches!(refused, Err(SandboxError::Disconnected)), "{refused:?}");
    assert_eq!(said(&newer, "pgrep -c sleep").await, "1");
    let back = world.sandboxes.attach(sandbox.id()).await.expect("it can be had back");
    assert_eq!(said(&back, "pgrep -c sleep").await, "1");
}

#[tokio::test]
async fn a_second_listener_replaces_the_first_and_streamed_output_cannot_be_had_twice() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let kept = script("echo up; exec sleep 1000");
    let mut first = sandbox.exec(kept.clone()).await.expect("it starts");
    first.next().await.expect("it is up");

    let mut second = sandbox.exec(kept).await.expect("it is attached to");
    assert_eq!(second.next().await, Some(ProcessEvent::Output("up\n".into())));
    assert_eq!(first.next().await, None);

    let streamed = script("exec sleep 1000").output(Output::Streamed);
    let _listening = sandbox.exec(streamed.clone()).await.expect("it starts");
    let again = sandbox.exec(streamed).await;
    assert!(matches!(again, Err(SandboxError::NotAttachable(_))), "{:?}", again.map(|process| process.id().clone()));
}

#[tokio::test]
async fn sandboxes_outlive_the_launcher_and_another_one_takes_its_place() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let runner = record(&world.folder_of(&sandbox)).expect("it is written down");
    let stat = fs::read_to_string(format!("/proc/{}/stat", runner.pid)).expect("it lives");
    let launcher: i32 = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(1)?.parse().ok())
        .expect("a parent");

    kill(Pid::from_raw(launcher), Signal::SIGKILL).expect("it is killed");

    assert_eq!(said(&sandbox, "echo alive").await, "alive");
    let other = world.sandbox().await;
    assert_eq!(said(&other, "echo new").await, "new");
    assert_eq!(said(&sandbox, "echo alive").await, "alive");
}

#[tokio::test]
async fn a_destroyed_sandbox_is_dead_and_gone_and_its_id_is_free() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let (id, folder) = (sandbox.id(), world.folder_of(&sandbox));
    let _process = sandbox.exec(script("setsid -f sleep 1000; exec sleep 1000")).await.expect("it starts");
    let runner = record(&folder).expect("it is written down");
    assert_eq!(world.sandboxes.list().await.expect("listed"), [id]);
    let twice = world.sandboxes.launch(SandboxSpec::new(id)).await;
    assert!(matches!(twice, Err(SandboxError::Exists(_))), "{twice:?}");

    world.sandboxes.destroy(id).await.expect("destroyed");

    let left = Pidfd::open(runner).expect("looked for");
    assert!(
        left.is_none()
            || fs::read_to_string(format!("/proc/{}/stat", runner.pid)).is_ok_and(|stat| stat.contains(") Z "))
    );
    assert!(!folder.exists());
    assert_eq!(world.sandboxes.list().await.expect("listed"), []);
    world.sandboxes.destroy(id).await.expect("once more is fine");
    let gone = world.sandboxes.attach(id).await;
    assert!(matches!(gone, Err(SandboxError::Gone(_))), "{gone:?}");
    let again = world.sandboxes.launch(SandboxSpec::new(id)).await.expect("the id is free");
    assert_eq!(said(&again, "ls -A").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_nobody_speaks_to_ends_itself() {
    let world = World::new().await;
    let limits = Limits { orphan_after: std::time::Duration::from_secs(1), ..Limits::default() };
    let sandboxes =
        Sandboxes::open(carrel_sandbox::LocalOptions { limits, ..options(world.folder.path()) }).await.expect("opened");
    let sandbox = sandboxes.launch(SandboxSpec::new(new_id())).await.expect("launched");
    let runner =
        Pidfd::open(record(&world.folder_of(&sandbox)).expect("written down")).expect("looked for").expect("it lives");
    let id = sandbox.id();

    drop(sandbox);
    let mut ended = [PollFd::new(runner.as_fd(), PollFlags::POLLIN)];
    let watched = poll(&mut ended, PollTimeout::from(30_000_u16));

    assert_eq!(watched, Ok(1), "it ends");
    let gone = sandboxes.attach(id).await;
    assert!(matches!(gone, Err(SandboxError::Gone(_))), "{gone:?}");
}

#[tokio::test]
async fn a_record_of_another_process_of_that_number_kills_nobody() {
    let world = World::new().await;
    let folder = world.folder.path().join("sandboxes").join(new_id().to_string());
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("runner.json"), format!(r#"{{"pid":{},"started":1}}"#, std::process::id())).expect("written");
    let id = folder.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("an id");

    world.sandboxes.destroy(id).await.expect("destroyed");

    assert!(!folder.exists());
}

#[tokio::test]
async fn a_sandbox_whose_record_was_lost_with_the_machines_power_is_ended_all_the_same() {
    let world = World::new().await;
    for left in ["", "{\"pid\": 1"] {
        let id = new_id();
        let folder = world.folder.path().join("sandboxes").join(id.to_string());
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("runner.json"), left).expect("written");

        world.sandboxes.destroy(id).await.expect("nothing of it lives");

        assert!(!folder.exists(), "{left:?}");
    }
}

#[tokio::test]
async fn a_refused_launch_leaves_nothing_behind() {
    let world = World::new().await;

    let refused =
        world.sandboxes.launch(SandboxSpec { hostname: "not a name".to_owned(), ..SandboxSpec::new(new_id()) }).await;

    assert!(matches!(refused, Err(SandboxError::Launch(_))), "{refused:?}");
    assert_eq!(world.sandboxes.list().await.expect("listed"), []);
}

#[tokio::test]
async fn many_sandboxes_are_launched_at_once() {
    let world = World::new().await;
    let launches = (0..20).map(|_| {
        let sandboxes = world.sandboxes.clone();
        tokio::spawn(async move {
            let sandbox = sandboxes.launch(SandboxSpec::new(new_id())).await.expect("launched");
            said(&sandbox, "hostname").await
        })
    });

    for launch in launches.collect::<Vec<_>>() {
        assert_eq!(launch.await.expect("it ends"), "carrel");
    }
    assert_eq!(world.sandboxes.list().await.expect("listed").len(), 20);
}

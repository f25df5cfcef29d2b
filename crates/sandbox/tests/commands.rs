//! Commands in real sandboxes: output, ends, limits, input, terminals, whole trees.

mod world;

use std::time::Duration;

use carrel_sandbox::{Command, CommandId, ExitStatus, Output, ProcessEvent, SandboxError, Stdin, TerminalSize};
use world::{World, run, said, script};

#[tokio::test]
async fn output_streams_and_the_exit_code_comes_last() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let command = script("echo one; read line; echo two $line >&2; exit 3").stdin(Stdin::Piped);
    let mut process = sandbox.exec(command).await.expect("it starts");

    assert_eq!(process.next().await, Some(ProcessEvent::Output("one\n".into())));
    process.write_stdin(b"three\n").await.expect("it reads");
    assert_eq!(process.next().await, Some(ProcessEvent::Output("two three\n".into())));
    let Some(ProcessEvent::Ended(finished)) = process.next().await else { panic!("it ends") };
    assert_eq!((finished.status, finished.dropped_bytes), (ExitStatus::Exited(3), 0));
    assert_eq!(process.next().await, None);
}

#[tokio::test]
async fn a_command_gets_its_folder_its_variables_and_nothing_of_the_host() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let command = Command::new("env", ["env"]).directory("/tmp").variable("GIVEN", "yes").variable("LANG", "C");
    let finished = sandbox.run(command).await.expect("it runs");

    let mut lines: Vec<&str> = std::str::from_utf8(&finished.output).expect("text").lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        lines,
        ["GIVEN=yes", "HOME=/home/carrel", "LANG=C", "LOGNAME=carrel", path, "TERM=xterm-256color", "USER=carrel"]
    );
    assert_eq!(said(&sandbox, "pwd; id -un; hostname").await, "/workspace\ncarrel\ncarrel");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let absent = sandbox.run(Command::new("a", ["no-such-program"])).await;
    let folder = sandbox.run(Command::new("b", ["true"]).directory("/nowhere")).await;
    let nul = sandbox.run(Command::new("c", ["true", "a\0b"])).await;
    let empty = sandbox.run(Command::new("d", Vec::<String>::new())).await;

    let Err(SandboxError::CannotStart { program, reason }) = absent else { panic!("{absent:?}") };
    assert_eq!((program.as_str(), reason.as_str()), ("no-such-program", "no such file or directory"));
    assert!(matches!(folder, Err(SandboxError::CannotStart { .. })), "{folder:?}");
    assert!(matches!(nul, Err(SandboxError::Invalid(_))), "{nul:?}");
    assert!(matches!(empty, Err(SandboxError::Invalid(_))), "{empty:?}");
    assert!(sandbox.run(Command::new("a", ["true"])).await.expect("an id that never ran is free").status.is_success());
}

#[tokio::test]
async fn a_command_is_ended_at_its_time_limit_with_everything_it_started() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let finished =
        sandbox.run(script("sleep 1000 & setsid -f sleep 1000; wait").time_limit(Duration::from_millis(300))).await;

    assert_eq!(finished.expect("it ran").status, ExitStatus::TimedOut);
    assert_eq!(said(&sandbox, "pgrep -c sleep").await, "0");
}

#[tokio::test]
async fn a_kill_takes_what_hid_itself() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let hiding = "mkfifo /tmp/up; (setsid bash -c '(trap \"\" TERM HUP; echo up >/tmp/up; exec sleep 1000) & exit' &) ; cat /tmp/up; exec sleep 1000";
    let mut process = sandbox.exec(script(hiding)).await.expect("it starts");
    assert_eq!(process.next().await, Some(ProcessEvent::Output("up\n".into())));
    // What said that it is up becomes the program a moment later.
    assert_eq!(said(&sandbox, "until [ $(pgrep -c sleep) = 2 ]; do :; done; echo both").await, "both");

    process.kill().await.expect("it is killed");

    assert_eq!(said(&sandbox, "pgrep -c sleep").await, "0");
    let Some(ProcessEvent::Ended(finished)) = process.next().await else { panic!("it ends") };
    assert_eq!(finished.status, ExitStatus::Signalled(9));
}

#[tokio::test]
async fn what_a_command_leaves_behind_lives_until_the_command_is_killed() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let command = script("sleep 1000 & echo left");
    let id = command.id.clone();

    let finished = sandbox.run(command).await.expect("it runs");
    assert_eq!((finished.status, finished.output.as_slice()), (ExitStatus::Exited(0), &b"left\n"[..]));
    assert_eq!(said(&sandbox, "pgrep -c sleep").await, "1");

    sandbox.kill(&id).await.expect("it is known");
    assert_eq!(said(&sandbox, "pgrep -c sleep").await, "0");
    let unknown = sandbox.kill(&CommandId::from("nobody")).await;
    assert!(matches!(unknown, Err(SandboxError::UnknownCommand(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_command_that_kills_its_supervisor_does_not_escape() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let finished = run(&sandbox, "setsid -f sleep 1000; kill -9 $PPID; exec sleep 1000").await;

    assert_eq!(finished.status, ExitStatus::Signalled(9));
    assert_eq!(said(&sandbox, "pgrep -c sleep").await, "0");
}

#[tokio::test]
async fn killing_all_leaves_a_sandbox_that_works() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut process = sandbox.exec(script("echo up; exec sleep 1000")).await.expect("it starts");
    process.next().await.expect("it is up");

    sandbox.kill_all().await.expect("all are killed");

    let Some(ProcessEvent::Ended(finished)) = process.next().await else { panic!("it ends") };
    assert_eq!(finished.status, ExitStatus::Signalled(9));
    assert_eq!(said(&sandbox, "echo works").await, "works");
}

#[tokio::test]
async fn input_of_any_size_reaches_a_process_at_its_own_pace() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let process = sandbox.exec(script("sha256sum").stdin(Stdin::Piped)).await;
    let mut process = process.expect("it starts");

    let input = vec![b'x'; 5_000_000];
    process.write_stdin(&input).await.expect("it reads");
    process.close_stdin().await.expect("it is open");

    let Some(ProcessEvent::Output(sum)) = process.next().await else { panic!("it answers") };
    let expected = said(&sandbox, "head -c 5000000 /dev/zero | tr '\\0' x | sha256sum").await;
    assert_eq!(String::from_utf8_lossy(&sum).trim_end(), expected);
}

#[tokio::test]
async fn a_process_that_reads_no_more_refuses_input() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let process = sandbox.exec(script("exec <&-; echo closed; exec sleep 1000").stdin(Stdin::Piped)).await;
    let mut process = process.expect("it starts");
    process.next().await.expect("it has closed its input");

    let refused = process.write_stdin(&vec![0; 2_000_000]).await;

    assert!(matches!(refused, Err(SandboxError::StdinClosed)), "{refused:?}");
}

#[tokio::test]
async fn a_terminal_is_one_with_its_size_and_its_interrupt() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let size = TerminalSize { columns: 101, rows: 33 };
    let finished = sandbox.run(script("tty; stty size").terminal(size)).await.expect("it runs");
    assert_eq!(String::from_utf8_lossy(&finished.output), "/dev/pts/0\r\n33 101\r\n");

    let process = sandbox.exec(script("echo up; exec sleep 1000").terminal(size)).await;
    let mut process = process.expect("it starts");
    process.next().await.expect("it is up");
    process.write_stdin(b"\x03").await.expect("it is open");

    loop {
        match process.next().await.expect("it ends") {
            ProcessEvent::Ended(finished) => break assert_eq!(finished.status, ExitStatus::Signalled(2)),
            ProcessEvent::Output(_) | ProcessEvent::Dropped(_) => {}
        }
    }
}

#[tokio::test]
async fn a_gigabyte_of_output_is_bounded_and_counted() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let command = script("echo first; head -c 1000000000 /dev/zero; echo last");
    let finished = sandbox.run(command.output(Output::Kept { limit_bytes: 65_536 })).await.expect("it runs");

    assert_eq!((finished.output.len(), finished.dropped_bytes), (65_536, 1_000_000_011 - 65_536));
    assert!(finished.output.starts_with(b"first\n\0") && finished.output.ends_with(b"\0last\n"));
    assert!(finished.duration < Duration::from_secs(20), "{:?}", finished.duration);
}

#[tokio::test]
async fn a_streamed_output_is_complete_and_its_errors_apart() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let finished = sandbox
        .run(script("echo oops >&2; head -c 50000000 /dev/zero").output(Output::Streamed))
        .await
        .expect("it runs");

    assert_eq!((finished.output.len(), finished.dropped_bytes, finished.stderr.as_str()), (50_000_000, 0, "oops\n"));
}

#[tokio::test]
async fn a_listener_that_does_not_read_holds_up_nobody_but_its_own_stream() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let endless = sandbox.exec(script("yes").output(Output::Streamed)).await.expect("it starts");
    let kept = sandbox.exec(script("yes")).await.expect("it starts");

    for _ in 0..20 {
        assert_eq!(said(&sandbox, "echo works").await, "works");
    }

    endless.kill().await.expect("it is killed");
    kept.kill().await.expect("it is killed");
}

#[tokio::test]
async fn a_fork_bomb_takes_down_neither_its_neighbour_nor_its_own_runner() {
    let world = World::new().await;
    let (bombed, neighbour) = (world.sandbox().await, world.sandbox().await);
    assert_eq!(said(&neighbour, "echo before").await, "before");
    let full =
        r#"perl -e '$n = 0; while (defined($p = fork)) { exec "sleep", "1000" if !$p; last if ++$n > 5000 } print $n'"#;
    let count = run(&bombed, full).await;
    let count: u32 = String::from_utf8_lossy(&count.output).parse().expect("a number");
    assert!((900..1024).contains(&count), "{count} processes were let live");
    assert_eq!(said(&neighbour, "echo during").await, "during");
    bombed.kill_all().await.expect("all are killed");

    let bomb = bombed.exec(script("exec perl -e 'fork while 1'")).await.expect("it starts");
    for _ in 0..5 {
        assert_eq!(said(&neighbour, "echo during").await, "during");
    }
    bomb.kill().await.expect("it is killed");

    assert_eq!(said(&bombed, "pgrep -c perl").await, "0");
    assert_eq!(said(&neighbour, "echo after").await, "after");
}

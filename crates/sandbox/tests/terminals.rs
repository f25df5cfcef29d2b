//! Terminals in real sandboxes: another size while a program runs, and the end of the one who looked at it.

mod world;

use carrel_sandbox::{Output, Process, ProcessEvent, TerminalSize};
use world::{World, said, script};

const SIZE: TerminalSize = TerminalSize { columns: 101, rows: 33 };

/// Output until it holds `wanted`.
async fn until(process: &mut Process, wanted: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(wanted) {
        match process.next().await {
            Some(ProcessEvent::Output(bytes)) => heard.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    heard
}

#[tokio::test]
async fn a_terminal_takes_another_size_and_tells_its_program() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let text = "trap 'stty size; exit 5' WINCH; echo up; while :; do read -t 1; done";
    let mut process = sandbox.exec(script(text).terminal(SIZE).output(Output::Streamed)).await.expect("it starts");
    until(&mut process, "up\r\n").await;

    process.input().resize(TerminalSize { columns: 64, rows: 7 }).await.expect("it is open");

    until(&mut process, "7 64\r\n").await;
    assert!(matches!(process.next().await, Some(ProcessEvent::Ended(_))));
    process.input().resize(SIZE).await.expect("the size of nothing means nothing");
    assert_eq!(said(&sandbox, "echo fine").await, "fine");
}

#[tokio::test]
async fn a_command_without_a_terminal_is_not_disturbed_by_a_size() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut process = sandbox
        .exec(script("echo up; read line; echo $line").stdin(carrel_sandbox::Stdin::Piped))
        .await
        .expect("it starts");
    until(&mut process, "up\n").await;

    process.input().resize(SIZE).await.expect("the connection stands");

    process.write_stdin(b"still here\n").await.expect("it reads");
    until(&mut process, "still here\n").await;
}

#[tokio::test]
async fn a_terminal_nobody_can_come_back_to_is_hung_up() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let text =
        "mkfifo /tmp/gone; trap 'echo hung up >/tmp/gone' HUP; echo up; while :; do read -t 1 || sleep 0.05; done";
    let mut process = sandbox.exec(script(text).terminal(SIZE).output(Output::Streamed)).await.expect("it starts");
    until(&mut process, "up\r\n").await;

    drop(process);

    assert_eq!(said(&sandbox, "timeout 20 cat /tmp/gone").await, "hung up");
}

#[tokio::test]
async fn a_terminal_whose_output_is_kept_outlives_its_listener() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let command = script("echo up; read line; echo got $line").terminal(SIZE);
    let mut process = sandbox.exec(command.clone()).await.expect("it starts");
    until(&mut process, "up\r\n").await;

    drop(process);

    let mut again = sandbox.exec(command).await.expect("it is attached to");
    again.write_stdin(b"it\n").await.expect("it is open");
    until(&mut again, "got it\r\n").await;
}

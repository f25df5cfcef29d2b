//! The program around the runner. Being an integration test, it also has cargo build the program for other crates' tests.

use std::process::{Command, Stdio};

#[test]
fn without_a_known_part_to_play_it_ends_at_once() {
    let status = Command::new(env!("CARGO_BIN_EXE_carrel-runner")).arg("nonsense").status().expect("it starts");

    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_launcher_ends_with_its_controllers_stream() {
    let status = Command::new(env!("CARGO_BIN_EXE_carrel-runner"))
        .arg(carrel_runner::LAUNCHER_ARGUMENT)
        .stdin(Stdio::null())
        .status();

    assert!(status.expect("it starts").code().is_some());
}

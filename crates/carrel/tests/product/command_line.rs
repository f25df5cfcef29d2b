//! What somebody sees who uses the command line for the first time: whose line is whose, what was asked, and errors that
//! programs can read, too.

use std::process::Stdio;

use carrel_testkit::Ran;
use carrel_testkit::model::Reply;
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, of_type, says};

/// A model whose agent prints a line that no other attempt prints.
async fn world() -> World {
    World::new(CARREL, says([Reply::command("cat /proc/sys/kernel/random/uuid"), Reply::message("Done.")])).await
}

/// The lines that commands printed, each with the id of its attempt and where it is in the log.
fn printed(events: &[Value]) -> Vec<(String, String, i64)> {
    let outputs = of_type(events, "command.output").into_iter();
    let text = |value: &Value| value.as_str().expect("text").trim().to_owned();
    outputs
        .map(|event| {
            (text(&event["data"]["text"]), text(&event["attempt_id"]), event["seq"].as_i64().expect("a number"))
        })
        .collect()
}

#[tokio::test]
async fn lines_of_attempts_side_by_side_carry_the_numbers_of_their_attempts() {
    let world = world().await;
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--attempts", "3", "Print it"]).await;
    world.ended(&id).await;
    let followed = world.carrel(&["task", "follow-up", &id, "Print it again", "--watch"]).await;
    let task = world.json(&["task", "show", &id]).await;
    let lines = printed(&world.events(&id).await);

    let all = world.carrel(&["task", "watch", &id]).await.stdout;

    let attempts = task["turns"][0]["attempts"].as_array().expect("attempts");
    let number =
        |id: &str| attempts.iter().find(|attempt| attempt["id"] == *id).map(|attempt| attempt["number"].clone());
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, attempt, seq) in lines {
        let Some(number) = number(&attempt) else {
            assert!(all.contains(&format!("\n{line}\n")), "the only attempt of its turn has no mark: {all}");
            assert!(followed.stdout.contains(&format!("\n{line}\n")), "{followed:?}");
            continue;
        };
        let marked = format!("[{number}] {line}\n");
        assert!(all.contains(&format!("\n{marked}")), "{marked}: {all}");
        let after = world.carrel(&["task", "watch", &id, "--after", &(seq - 1).to_string()]).await.stdout;
        assert!(after.starts_with(&marked), "{marked}: {after}");
    }
}

#[tokio::test]
async fn a_task_is_shown_with_all_that_was_asked() {
    let world = world().await;
    let repository = world.repository("api", FILES);
    let prompt = format!("Mend it ⚠\u{fe0f}\n\n{}the end\u{1b}[2J", "and then ".repeat(40));
    let id = world.create(&repository, &prompt).await;

    let shown = world.carrel(&["task", "show", &id]).await.stdout;

    assert!(shown.contains("  │ Mend it ⚠\u{fe0f}\n  │ \n  │ and then and then"), "{shown}");
    assert!(shown.contains("and then the end\\u{1b}[2J\n"), "{shown}");
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_ends_in_two_and_in_json_where_that_is_asked_for() {
    let world = world().await;

    for (arguments, says) in [
        (&["task", "create"][..], "<PROMPT>"),
        (&["task", "create", "--attempts", "0", "Do it"], "1..=4"),
        (&["task", "create", "--attempts", "5", "Do it"], "1..=4"),
        (&["task", "list", "--limit", "0"], "1..=100"),
        (&["task", "crate"], "'crate'"),
    ] {
        let text = world.carrel(arguments).await;
        let json = world.carrel(&[arguments, &["--json"]].concat()).await;

        assert!(text.code == 2 && text.stderr.contains(says) && text.stderr.contains("--help"), "{text:?}");
        let error: Value = serde_json::from_str(&json.stderr).expect("errors are JSON, too");
        let words = error["error"].as_str().unwrap_or_default();
        assert!(json.code == 2 && error["code"] == json!(2) && json.stdout.is_empty(), "{json:?}");
        assert!(words.contains(says) && !words.contains("--help") && !words.starts_with("error"), "{json:?}");
    }
    let help = world.carrel(&["--json", "task", "--help"]).await;
    assert!(help.code == 0 && help.stdout.contains("Usage:"), "help that was asked for is no error: {help:?}");
}

#[tokio::test]
async fn a_service_whose_port_is_taken_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let data = folder.path().join("data");

    for (listen, metrics, variable) in
        [(address.as_str(), "127.0.0.1:0", "CARREL_LISTEN"), ("127.0.0.1:0", address.as_str(), "CARREL_METRICS_LISTEN")]
    {
        let mut serve = tokio::process::Command::new(CARREL);
        serve
            .arg("serve")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder.path())
            .env("CARREL_DATA", &data);
        serve.env("CARREL_LISTEN", listen).env("CARREL_METRICS_LISTEN", metrics).stdin(Stdio::null());
        let refused = Ran::from(serve.kill_on_drop(true).output().await.expect("the program can be started"));

        let words = format!("cannot listen on {address}");
        assert!(refused.code == 2 && refused.stderr.contains(&words), "{refused:?}");
        assert!(refused.stderr.contains(variable), "{refused:?}");
        assert!(!data.exists(), "no folder, and no keys in it");
    }
}

//! The product on PostgreSQL: the main job, a restart in the middle of it, and a database that comes and goes.

use std::process::Command;

use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, World};

use serde_json::json;

use super::{CARREL, FILES, mends};

#[tokio::test]
async fn the_main_job_is_done_and_survives_the_plug_being_pulled() {
    let postgres = Postgres::start();
    let mut world = World::with(CARREL, mends(), &[("DATABASE_URL", &postgres.url())]).await;
    let repository = world.repository("answers", FILES);
    let id = world.create(&repository, "Make the check pass").await;
    world.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;

    world.kill().await;
    world.start().await;

    let task = world.ended(&id).await;
    assert_eq!(task["state"], "ready", "{task:#}");
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert!(diff.contains("-41\n+42\n"), "{diff}");
    let kept = postgres.query("select count(*) from event").expect("an answer");
    assert!(kept.parse::<u32>().expect("a number") > 10, "it is PostgreSQL that keeps it");
    assert!(!world.data().join("carrel.sqlite").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_and_comes_back_loses_nothing() {
    let mut postgres = Postgres::start();
    let script = Script::new([
        Reply::command("echo first; touch first"),
        Reply::call("exec_command", json!({ "cmd": "sleep 2; echo second >> count", "yield_time_ms": 30_000 })),
        Reply::command("cat count"),
        Reply::message("Done."),
    ]);
    let world = World::with(CARREL, script, &[("DATABASE_URL", &postgres.url())]).await;
    let repository = world.repository("answers", FILES);
    let id = world.create(&repository, "Count").await;
    let started =
        |events: &[serde_json::Value]| events.iter().filter(|event| event["type"] == "command.started").count() == 2;
    world.events_until(&id, started).await;

    postgres.crash();
    postgres.up();

    let task = world.ended(&id).await;
    assert_eq!(task["state"], "ready", "{task:#}");
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    let told = world.carrel(&["task", "watch", &id]).await.stdout;
    assert_eq!(diff.matches("+second").count(), 1, "no command ran twice, nor is one lost: {diff}\n{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_over_loses_nothing() {
    let mut first = Postgres::start();
    let script = Script::new([
        Reply::command("echo first >> count"),
        Reply::call("exec_command", json!({ "cmd": "sleep 2; echo second >> count", "yield_time_ms": 30_000 })),
        Reply::command("cat count"),
        Reply::message("Done."),
    ]);
    let world = World::with(CARREL, script, &[("DATABASE_URL", &first.url())]).await;
    let second = first.standby();
    let repository = world.repository("answers", FILES);
    let id = world.create(&repository, "Count").await;
    let started =
        |events: &[serde_json::Value]| events.iter().filter(|event| event["type"] == "command.started").count() == 2;
    world.events_until(&id, started).await;

    first.crash();
    second.stand_in_for(&first);
    let unready = ready(&world, false).await;
    second.promote();
    ready(&world, true).await;

    let task = world.ended(&id).await;
    assert_eq!(task["state"], "ready", "{task:#}");
    assert!(unready.contains("database"), "{unready}");
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert!(diff.contains("+first\n+second\n"), "no command ran twice, nor is one lost: {diff}");
    assert_eq!(second.query("select count(*) from task").as_deref(), Some("1"));
}

/// Waits until a service says whether it is ready; its words.
async fn ready(world: &World, is_ready: bool) -> String {
    loop {
        let answer = reqwest::get(format!("{}/readyz", world.url())).await.expect("an answer");
        let matches = answer.status().is_success() == is_ready;
        let said = answer.text().await.expect("text");
        if matches {
            return said;
        }
    }
}

#[test]
fn a_database_that_cannot_be_used_is_named_without_its_password() {
    let folder = tempfile::tempdir().expect("a folder");

    for (url, said) in [
        ("postgres://carrel:hunter2hunter2@127.0.0.1:1/carrel", "database"),
        ("mysql://carrel:hunter2hunter2@127.0.0.1/carrel", "DATABASE_URL"),
    ] {
        let mut command = Command::new(CARREL);
        command.arg("serve").env_clear().env("CARREL_DATA", folder.path()).env("DATABASE_URL", url);
        let ran = command.env("CARREL_LISTEN", "127.0.0.1:0").output().expect("the program can be started");

        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success(), "{ran:?}");
        assert!(stderr.contains(said) && !stderr.contains("hunter2hunter2"), "{stderr}");
    }
}

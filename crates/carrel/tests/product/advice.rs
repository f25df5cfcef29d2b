//! What an attempt that runs into something tells the person who can do something about it.

use carrel_testkit::model::Reply;
use serde_json::json;

use crate::recovery::touch_inside;
use crate::setup::{environment, events_of, messages, printed, runs, task_in};
use crate::{CARREL, FILES, World, attempt, of_type, reason, says};

#[tokio::test]
async fn a_script_with_the_line_ends_of_windows_runs_well() {
    let world = World::new(CARREL, runs("cat /tmp/made")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "if true; then\r\n  echo one > /tmp/made\r\nfi\r\necho said\r\n", &[]).await;

    let task = task_in(&world, &repository, "api").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = events_of(&world, &task).await;
    assert_eq!(printed(&events, "setup.1"), "said\n", "{events:#?}");
    assert!(json!(events).to_string().contains("\"one\\n\""), "no carriage return is in the file: {events:#?}");
}

#[tokio::test]
async fn a_setup_that_fails_without_the_network_is_told_how_to_have_it() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "echo 'cannot reach it'; exit 6", &["--setup-internet", "off"]).await;

    let offline = reason(&task_in(&world, &repository, "api").await);
    world.json(&["environment", "edit", "api", "--setup-internet", "all"]).await;
    let online = reason(&task_in(&world, &repository, "api").await);

    assert!(offline.contains("carrel environment edit api --setup-internet all"), "{offline}");
    assert!(online.contains("exit code 6") && !online.contains("--setup-internet"), "{online}");
}

#[tokio::test]
async fn a_limit_that_is_hit_names_the_flag_that_raises_it() {
    let world = World::new(CARREL, runs("sleep 1000")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "slow", "sleep 60", &["--setup-limit", "1s"]).await;
    environment(&world, "loud", "head -c 200000 /dev/zero", &["--output", "64K"]).await;
    environment(&world, "short", "true", &["--wall-clock", "10s"]).await;

    let slow = task_in(&world, &repository, "slow").await;
    let loud = task_in(&world, &repository, "loud").await;
    let short = task_in(&world, &repository, "short").await;

    for (task, flag) in [
        (&slow, "carrel environment edit slow --setup-limit DURATION"),
        (&loud, "carrel environment edit loud --output SIZE"),
        (&short, "carrel environment edit short --wall-clock DURATION"),
    ] {
        assert!(reason(task).contains(flag), "{}", reason(task));
    }
    for task in [&slow, &loud] {
        let events = events_of(&world, task).await;
        assert!(messages(&events, "limit.hit")[0].contains("to raise it: carrel environment edit"), "{events:#?}");
    }
}

#[tokio::test]
async fn the_services_own_limit_of_time_is_said_where_it_is_the_shorter_one() {
    let variables = [("CARREL_MAX_ATTEMPT_SECONDS", "4")];
    let world = World::with(CARREL, runs("sleep 1000"), &variables).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "true", &["--wall-clock", "1h"]).await;

    let task = task_in(&world, &repository, "api").await;

    assert!(reason(&task).contains("within 4 s") && reason(&task).contains("CARREL_MAX_ATTEMPT_SECONDS"), "{task:#}");
    let events = events_of(&world, &task).await;
    let warned = messages(&events, "attempt.warning");
    assert!(warned.iter().any(|message| message.contains("gives an attempt 3600 s")), "{events:#?}");
}

#[tokio::test]
async fn a_limit_of_memory_that_is_hit_names_its_flag() {
    let hog = "python3 -c 'x = bytearray(200 << 20); print(len(x))'; true";
    let world = World::new(CARREL, runs(hog)).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "true", &["--memory", "64M"]).await;

    let task = task_in(&world, &repository, "api").await;

    let events = events_of(&world, &task).await;
    let hit = messages(&events, "limit.hit");
    let flag = "to raise it: carrel environment edit api --memory SIZE";
    assert!(hit.iter().any(|message| message.contains(flag)), "{events:#?}");
}

#[tokio::test]
async fn an_attempt_that_goes_on_after_a_restart_says_so_in_its_log() {
    let wait = "while [ ! -e /tmp/go ]; do sleep 0.05; done";
    let call = json!({"cmd": wait, "yield_time_ms": 30000});
    let mut world = World::new(CARREL, says([Reply::call("exec_command", call), Reply::message("Done.")])).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Wait").await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    world.kill().await;
    touch_inside(&world);
    world.start().await;
    let task = world.ended(&id).await;
    world.kill().await;
    world.start().await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = world.events(&id).await;
    let told = messages(&events, "attempt.progress").into_iter().filter(|said| said.contains("started again"));
    let told: Vec<&str> = told.collect();
    assert_eq!(
        told,
        ["the service was started again; the attempt goes on where it was"],
        "once, and not after its end"
    );
}

//! Follow-ups and stopping.

use carrel_testkit::model::Reply;
use serde_json::json;

use crate::{CARREL, FILES, MENDING, World, attempt, mends, of_type, patch, says};

#[tokio::test]
async fn a_follow_up_goes_on_from_the_files_and_the_conversation() {
    let script = says([patch(MENDING), Reply::message("Mended.")])
        .when("Explain", [Reply::command("cat answer; git status --short"), Reply::message("It says 42.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Mend the check").await;
    world.ended(&id).await;

    world.json(&["task", "follow-up", &id, "--mode", "ask", "Explain"]).await;
    let task = world.ended(&id).await;

    assert_eq!(task["turns"][1]["mode"], "ask");
    assert_eq!(attempt(&task)["result"]["answer"], "It says 42.", "{task:#}");
    let last = world.model().requests().last().expect("requests").json().to_string();
    assert!(last.contains("42\\n M answer") && last.contains("Mended."), "{last}");
}

#[tokio::test]
async fn a_follow_up_starts_from_the_files_of_the_chosen_attempt() {
    let script = says([Reply::command("echo $RANDOM$RANDOM > answer"), Reply::message("Thrown.")])
        .when("Show", [Reply::command("cat answer"), Reply::message("Shown.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--attempts", "2", "Throw the dice"]).await;
    world.ended(&id).await;
    let second = world.carrel(&["task", "diff", &id, "--attempt", "2"]).await.stdout;

    world.json(&["task", "follow-up", &id, "--from-attempt", "2", "Show"]).await;
    world.ended(&id).await;

    assert_eq!(world.carrel(&["task", "diff", &id]).await.stdout, second);
}

#[tokio::test]
async fn a_follow_up_has_to_wait_for_the_end() {
    let call = json!({"cmd": "sleep 1000002", "yield_time_ms": 30000});
    let world = World::new(CARREL, says([Reply::call("exec_command", call), Reply::message("Late.")])).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Wait").await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    let ran = world.carrel(&["task", "follow-up", &id, "More"]).await;
    let cancelled = world.json(&["task", "cancel", &id]).await;

    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("still being worked on"), "{ran:?}");
    assert_eq!(attempt(&cancelled)["state"], "cancelled", "{cancelled:#}");
}

#[tokio::test]
async fn stopping_what_has_ended_changes_nothing() {
    let world = World::new(CARREL, mends()).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Mend the check").await;
    let before = world.ended(&id).await;

    let ran = world.carrel(&["task", "cancel", &id]).await;

    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("nothing to stop"), "{ran:?}");
    assert_eq!(world.json(&["task", "show", &id]).await, before);
}

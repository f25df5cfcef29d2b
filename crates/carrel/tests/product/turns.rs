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
async fn a_question_a_change_and_a_question_go_on_from_one_another() {
    let script = says([Reply::command("cat answer; echo 43 > scratch"), Reply::message("It says 41.")])
        .when("Change", [Reply::command("ls scratch; echo 42 > answer"), Reply::message("Changed.")])
        .when("Ask again", [Reply::command("cat answer; echo 44 > answer"), Reply::message("It says 42.")])
        .when("Once more", [Reply::command("cat answer"), Reply::message("Still 42.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--mode", "ask", "What is it?"]).await;
    world.ended(&id).await;

    for (mode, prompt) in [("code", "Change it"), ("ask", "Ask again"), ("code", "Once more")] {
        world.json(&["task", "follow-up", &id, "--mode", mode, prompt]).await;
        world.ended(&id).await;
    }
    let task = world.json(&["task", "show", &id]).await;

    let modes: Vec<&str> = (0..4).filter_map(|turn| task["turns"][turn]["mode"].as_str()).collect();
    assert_eq!(modes, ["ask", "code", "ask", "code"]);
    let output = |index| world.model().requests().last().and_then(|last| last.output(index)).expect("a result");
    assert!(output(0).contains("Output:\n41"), "{}", output(0));
    assert!(output(1).contains("No such file"), "what a question wrote is not kept: {}", output(1));
    assert!(output(2).contains("Output:\n42"), "{}", output(2));
    assert!(output(3).contains("Output:\n42"), "what a question changed is not kept: {}", output(3));
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert!(diff.contains("-41") && diff.contains("+42") && !diff.contains("scratch"), "{diff}");
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

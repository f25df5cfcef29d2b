//! Attempts that ended without a result are made again.

use carrel_testkit::model::{Fault, Reply, Script};
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, attempt, of_type, says};

fn attempts(task: &Value) -> &[Value] {
    task["turns"][0]["attempts"].as_array().expect("attempts")
}

/// A model whose first request fails for good, and whose second does not.
fn fails_once() -> Script {
    let fault = Fault::Status { code: 400, message: "not today".to_owned(), retry_after: None };
    says([Reply::message("Done.").after(fault)])
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_in_its_turn_with_its_pins() {
    let world = World::new(CARREL, fails_once()).await;
    let repository = world.repository("api", FILES);
    let failed = world.run(&repository, "Do it").await;
    let id = failed["id"].as_str().expect("an id");
    world.json(&["environment", "edit", "default", "--setup-internet", "off"]).await;
    repository.commit("later", &[("later", "x\n")]);

    world.json(&["task", "retry", id]).await;
    let task = world.ended(id).await;

    assert_eq!(failed["state"], "failed", "{failed:#}");
    assert_eq!(task["state"], "ready", "what was made again counts no more: {task:#}");
    let [first, second] = attempts(&task) else { panic!("{task:#}") };
    assert_eq!((first["state"].as_str(), second["state"].as_str()), (Some("failed"), Some("ready")));
    assert_eq!((&second["number"], &second["retry_of"], &second["resumes"]), (&json!(2), &first["id"], &json!(false)));
    for pin in ["base_commit", "model", "environment"] {
        assert_eq!(first[pin], second[pin], "{pin}");
    }
    let list = world.json(&["task", "list"]).await;
    assert_eq!((&list["items"][0]["state"], &list["items"][0]["attempts"]), (&json!("ready"), &json!(1)), "{list:#}");
    let events = world.events(id).await;
    assert_eq!(of_type(&events, "attempt.retried")[0]["data"]["retry_of"], first["id"]);
}

#[tokio::test]
async fn a_retry_takes_the_latest_environment_when_it_is_asked_to() {
    let world = World::new(CARREL, fails_once()).await;
    let repository = world.repository("api", FILES);
    let failed = world.run(&repository, "Do it").await;
    let id = failed["id"].as_str().expect("an id");
    world.json(&["environment", "edit", "default", "--setup-internet", "off"]).await;

    world.json(&["task", "retry", id, "--latest-environment"]).await;
    let task = world.ended(id).await;

    let versions: Vec<&Value> = attempts(&task).iter().map(|each| &each["environment"]["version"]).collect();
    assert!(versions[1].as_i64() > versions[0].as_i64(), "{versions:?}");
}

#[tokio::test]
async fn an_attempt_that_is_resumed_goes_on_with_its_conversation_and_its_files() {
    let wait = json!({"cmd": "echo 42 > answer; sleep 1000021", "yield_time_ms": 60000});
    let script = says([Reply::call("exec_command", wait), Reply::message("Never.")])
        .when("was cut off", [Reply::command("cat answer"), Reply::message("Resumed.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Mend it").await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;
    // The file is written once the command is seen from outside.
    world.events_until(&id, |_| crate::limits::running("sleep 1000021")).await;
    world.json(&["task", "cancel", &id]).await;

    world.json(&["task", "retry", &id, "--resume"]).await;
    let task = world.ended(&id).await;

    let [stopped, resumed] = attempts(&task) else { panic!("{task:#}") };
    assert_eq!((stopped["state"].as_str(), resumed["state"].as_str()), (Some("cancelled"), Some("ready")), "{task:#}");
    assert_eq!(resumed["resumes"], true);
    assert_eq!(resumed["result"]["patch"]["files"][0]["path"], "answer", "{task:#}");
    let last = world.model().requests().last().expect("requests").json().to_string();
    assert!(last.contains("Mend it") && last.contains("sleep 1000021") && last.contains("Output:\\n42"), "{last}");
}

#[tokio::test]
async fn what_cannot_be_made_again_is_refused_with_the_way_out() {
    let call = json!({"cmd": "sleep 1000022", "yield_time_ms": 60000});
    let script = says([Reply::message("Done.")]).when("Wait", [Reply::call("exec_command", call)]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let done = world.run(&repository, "Do it").await;
    let done = done["id"].as_str().expect("an id");
    let waiting = world.create(&repository, "Wait").await;
    world.events_until(&waiting, |events| !of_type(events, "command.started").is_empty()).await;

    let ready = world.carrel(&["task", "retry", done]).await;
    let running = world.carrel(&["task", "retry", &waiting]).await;
    world.json(&["task", "cancel", &waiting]).await;
    world.json(&["task", "retry", &waiting]).await;
    let again = world.carrel(&["task", "retry", &waiting, "--attempt", "1"]).await;
    let stopped = world.json(&["task", "cancel", &waiting]).await;

    assert_eq!((ready.code, running.code, again.code), (3, 3, 3), "{ready:?} {running:?} {again:?}");
    assert!(ready.stderr.contains("the attempt is ready; follow up"), "{ready:?}");
    assert!(running.stderr.contains("the attempt is running; wait until it has ended"), "{running:?}");
    assert!(again.stderr.contains("made again already, as attempt 2"), "{again:?}");
    assert_eq!(attempt(&stopped)["state"], "cancelled", "{stopped:#}");
}

#[tokio::test]
async fn what_never_began_cannot_be_resumed() {
    let world = World::new(CARREL, says([Reply::message("Done.")])).await;
    let repository = world.repository("api", FILES);
    let script = world.folder().join("setup.sh");
    std::fs::write(&script, "exit 7\n").expect("a file");
    let script = script.to_str().expect("UTF-8");
    world.json(&["environment", "create", "broken", "--setup-internet", "off", "--setup-script", script]).await;
    let id = world.create_with(&repository, &["--environment", "broken", "Do it"]).await;
    world.ended(&id).await;

    let ran = world.carrel(&["task", "retry", &id, "--resume"]).await;

    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("retry it without resuming"), "{ran:?}");
}

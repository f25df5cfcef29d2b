//! What a person says to an attempt while it works.

use std::time::{Duration, Instant};

use carrel_testkit::model::{Reply, Script};
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, attempt, of_type, says};

/// A model that waits for a minute's command, and does as it is told.
fn waits() -> Script {
    let call = json!({"cmd": "sleep 1000011", "yield_time_ms": 60000});
    says([Reply::call("exec_command", call), Reply::message("Never.")])
        .when("Stop waiting", [Reply::message("As you say.")])
}

/// What the model was told by people, in order, in a request.
fn told(request: &Value) -> Vec<String> {
    let items = request["input"].as_array().expect("items").iter();
    let by_people = items.filter(|item| item["role"] == "user");
    by_people.map(|item| item["content"].to_string()).collect()
}

#[tokio::test]
async fn what_is_said_while_a_command_is_waited_for_is_heard_at_once() {
    let world = World::new(CARREL, waits()).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Wait").await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    let began = Instant::now();
    let sent = world.json(&["task", "steer", &id, "Stop waiting, and answer"]).await;
    let task = world.ended(&id).await;

    assert!(began.elapsed() < Duration::from_secs(20), "the command would have been waited for {:?}", began.elapsed());
    assert_eq!(attempt(&task)["result"]["answer"], "As you say.", "{task:#}");
    let events = world.events(&id).await;
    let (said, heard) = (of_type(&events, "message.sent"), of_type(&events, "message.delivered"));
    assert_eq!((said.len(), heard.len()), (1, 1), "{events:#?}");
    assert_eq!(said[0]["data"]["text"], "Stop waiting, and answer");
    assert_eq!(said[0]["data"]["message_id"], sent["items"][0]["id"]);
    assert_eq!(heard[0]["data"]["message_id"], sent["items"][0]["id"]);
    let result = world.model().requests()[1].output(0).expect("the command's result");
    assert!(result.contains("Process running with session ID"), "{result}");
}

#[tokio::test]
async fn an_agent_that_is_about_to_answer_goes_on_with_what_was_said_in_order() {
    let mut slow = Reply::message("Done.");
    slow.delay_ms = 2500;
    let script = says([slow]).when("third", [Reply::message("Done, and in three ways.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Do it").await;
    world.model().request(0).await;

    for text in ["A first word", "A second word", "A third word"] {
        world.json(&["task", "steer", &id, text]).await;
    }
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["result"]["answer"], "Done, and in three ways.", "{task:#}");
    let requests = world.model().requests();
    assert_eq!(requests.len(), 2, "the request that was under way is not made again");
    let told = told(&requests[1].json());
    let [first, second, third] = &told[told.len() - 3..] else { panic!("{told:?}") };
    assert!(first.contains("first") && second.contains("second") && third.contains("third"), "{told:?}");
}

#[tokio::test]
async fn what_is_said_in_the_queue_is_kept_until_the_agent_begins() {
    let call = json!({"cmd": "sleep 1000012", "yield_time_ms": 60000});
    let script = says([Reply::message("Fine.")])
        .when("Occupy", [Reply::call("exec_command", call)])
        .when("Mind the tests", [Reply::message("I minded them.")]);
    let world = World::with(CARREL, script, &[("CARREL_MAX_JOBS", "1")]).await;
    let repository = world.repository("api", FILES);
    let first = world.create(&repository, "Occupy the worker").await;
    world.events_until(&first, |events| !of_type(events, "command.started").is_empty()).await;
    let id = world.create(&repository, "Do it").await;

    world.json(&["task", "steer", &id, "Mind the tests"]).await;
    let before = of_type(&world.events(&id).await, "message.delivered").len();
    world.json(&["task", "cancel", &first]).await;
    let task = world.ended(&id).await;

    assert_eq!(before, 0, "nobody is there to hear it");
    assert_eq!(attempt(&task)["result"]["answer"], "I minded them.", "{task:#}");
    let last = world.model().requests().last().expect("requests").json();
    assert_eq!(told(&last).iter().filter(|text| text.contains("Mind the tests")).count(), 1, "{last:#}");
}

#[tokio::test]
async fn what_comes_too_late_is_refused_with_the_way_out() {
    let world = World::new(CARREL, says([Reply::message("Done.")])).await;
    let repository = world.repository("api", FILES);
    let task = world.run(&repository, "Do it").await;
    let id = task["id"].as_str().expect("an id");

    let ran = world.carrel(&["task", "steer", id, "One more thing"]).await;
    let empty = world.carrel(&["task", "steer", id, " "]).await;

    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("hears nothing any more") && ran.stderr.contains("task follow-up"), "{ran:?}");
    assert!(!ran.stderr.contains("once"), "it has ended, there is nothing to wait for: {ran:?}");
    assert!(empty.code == 3 && empty.stderr.contains("the message is empty"), "{empty:?}");
    assert!(of_type(&world.events(id).await, "message.sent").is_empty());
}

#[tokio::test]
async fn what_is_said_to_a_service_that_is_killed_is_heard_exactly_once() {
    for killed_after in ["message.sent", "message.delivered"] {
        let mut slow = Reply::message("As you say.");
        slow.delay_ms = 1500;
        let call = json!({"cmd": "sleep 1000013", "yield_time_ms": 60000});
        let script = says([Reply::call("exec_command", call), Reply::message("Never.")]).when("Stop waiting", [slow]);
        let mut world = World::new(CARREL, script).await;
        let repository = world.repository("api", FILES);
        let id = world.create(&repository, "Wait").await;
        world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

        world.json(&["task", "steer", &id, "Stop waiting"]).await;
        world.events_until(&id, |events| !of_type(events, killed_after).is_empty()).await;
        world.kill().await;
        world.start().await;
        let task = world.ended(&id).await;

        assert_eq!(attempt(&task)["result"]["answer"], "As you say.", "killed after {killed_after}: {task:#}");
        let events = world.events(&id).await;
        assert_eq!(of_type(&events, "message.delivered").len(), 1, "killed after {killed_after}: {events:#?}");
        let last = world.model().requests().last().expect("requests").json();
        let times = told(&last).iter().filter(|text| text.contains("Stop waiting")).count();
        assert_eq!(times, 1, "killed after {killed_after}: {last:#}");
    }
}

#[tokio::test]
async fn what_is_not_heard_before_a_stop_is_told_to_the_retry() {
    let call = json!({"cmd": "sleep 1000014", "yield_time_ms": 60000});
    let script = says([Reply::message("Fine.")])
        .when("Occupy", [Reply::call("exec_command", call)])
        .when("Mind the tests", [Reply::message("I minded them.")]);
    let world = World::with(CARREL, script, &[("CARREL_MAX_JOBS", "1")]).await;
    let repository = world.repository("api", FILES);
    let first = world.create(&repository, "Occupy the worker").await;
    world.events_until(&first, |events| !of_type(events, "command.started").is_empty()).await;
    let id = world.create(&repository, "Do it").await;
    world.json(&["task", "steer", &id, "Mind the tests"]).await;
    world.json(&["task", "cancel", &id]).await;
    let events = world.events(&id).await;
    let warned = of_type(&events, "attempt.warning");
    assert!(warned[0]["data"]["message"].as_str().is_some_and(|text| text.contains("not delivered")), "{events:#?}");

    world.json(&["task", "retry", &id]).await;
    world.json(&["task", "cancel", &first]).await;
    let task = world.ended(&id).await;

    let attempts = task["turns"][0]["attempts"].as_array().expect("attempts");
    assert_eq!(attempts[1]["result"]["answer"], "I minded them.", "{task:#}");
}

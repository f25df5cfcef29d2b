//! What people say while the agent works.

use std::time::{Duration, Instant};

use carrel_agent::{AgentLimits, AgentTask};
use carrel_domain::EventBody;
use carrel_testkit::model::{Reply, Script};
use serde_json::json;

use crate::world::World;

/// The words of people in a request, in order.
fn told(world: &World, request: usize) -> Vec<String> {
    let items = world.requests()[request].input();
    items.iter().filter(|item| item["role"] == "user").map(|item| item["content"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_before_the_first_request_is_in_it_behind_the_prompt() {
    let world = World::new(Script::new([Reply::message("Done.")])).await;
    world.say("mind the tests");

    let answer = world.answer("do it").await;

    assert_eq!(answer, "Done.");
    let told = told(&world, 0);
    let [.., prompt, said] = told.as_slice() else { panic!("{told:?}") };
    assert!(prompt.contains("do it") && said.contains("mind the tests"), "{told:?}");
    assert_eq!(world.kinds().iter().filter(|kind| **kind == "message.delivered").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_answer_is_not_final_while_something_was_said() {
    let mut slow = Reply::message("Done.");
    slow.delay_ms = 1000;
    let script = Script::new([slow]).when("again", [Reply::message("Done again.")]);
    let world = World::new(script).await;

    let run = world.answer("do it");
    let say = async {
        world.model.request(0).await;
        world.say("once");
        world.say("and again");
    };
    let (answer, ()) = tokio::join!(run, say);

    assert_eq!(answer, "Done again.");
    let told = told(&world, 1);
    let [.., first, second] = told.as_slice() else { panic!("{told:?}") };
    assert!(first.contains("once") && second.contains("and again"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_is_cut_short_and_the_command_runs_on() {
    let wait = json!({"cmd": "sleep 600", "yield_time_ms": 60000});
    let script = Script::new([Reply::call("exec_command", wait)])
        .when("enough", [Reply::command("pgrep -c sleep; true"), Reply::message("Fine.")]);
    let world = World::new(script).await;
    let began = Instant::now();

    let say = async {
        world.wait_for("command.started").await;
        world.say("enough");
    };
    let (answer, ()) = tokio::join!(world.answer("wait"), say);

    assert_eq!(answer, "Fine.");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(world.result(0).contains("Process running with session ID"), "{}", world.result(0));
    assert!(world.result(1).contains("Output:\n1"), "it runs on: {}", world.result(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_the_worker_died_behind_an_answer_is_taken_up() {
    let script = Script::new([Reply::message("Done.")]).when("again", [Reply::message("Done again.")]);
    let world = World::new(script).await;
    world.answer("do it").await;
    let mut task = world.task("do it");
    task.resumed = world.items();
    world.say("and again");

    let finished = world.run_task(task).await.expect("an answer");

    assert_eq!(finished.answer, "Done again.");
    let delivered = |body: &EventBody| matches!(body, EventBody::MessageDelivered { .. });
    assert_eq!(world.events().iter().filter(|body| delivered(body)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_sums_up_counts_whatever_is_said_meanwhile() {
    let mut slow = Reply::message("Summed up.");
    slow.delay_ms = 1000;
    let world = World::new(Script::new([Reply::command("echo 1"), slow])).await;
    let task = world.task("do it");
    let task = AgentTask { limits: AgentLimits { steps: 2, ..task.limits }, ..task };

    let say = async {
        world.model.request(1).await;
        world.say("and another thing");
    };
    let (finished, ()) = tokio::join!(world.run_task(task), say);

    let finished = finished.expect("an answer");
    assert_eq!(finished.answer, "Summed up.");
    assert_eq!(finished.notes.last_word.as_deref(), Some("the limit of 2 steps is all but reached"));
    assert!(!world.kinds().contains(&"message.delivered"), "nobody has heard it");
}

//! Stopping, in every stage: everything is gone when a person sees that it was stopped, and that is soon.

use std::time::{Duration, Instant};

use carrel_testkit::model::{Fault, Reply, Step};
use serde_json::json;

use crate::limits::running;
use crate::{CARREL, FILES, World, attempt, of_type, says};

/// The promise is a second, on a machine that does nothing else; nothing that is waited for here ends by itself so soon.
const SOON: Duration = Duration::from_secs(10);

/// Stops a task and says how long it took until its attempt was seen to be stopped.
async fn stop(world: &World, id: &str, what: &str) {
    let began = Instant::now();
    let stopped = world.json(&["task", "cancel", id]).await;
    let took = began.elapsed();
    assert_eq!(attempt(&stopped)["state"], "cancelled", "{what}: {stopped:#}");
    assert!(took < SOON, "{what}: {took:?}");
}

#[tokio::test]
async fn a_tree_of_processes_that_do_not_want_to_end_is_gone_with_the_stop() {
    let tree = "trap '' TERM INT HUP
        for i in $(seq 200); do (trap '' TERM; exec sleep 1000041) & done
        setsid -f sleep 1000041; setsid -f bash -c 'trap \"\" TERM INT HUP; while :; do sleep 1000041; done'
        sleep 1000041 & kill -STOP $!; echo planted; while :; do sleep 0.1 & wait; done";
    let script = says([Reply::call("exec_command", json!({"cmd": tree, "yield_time_ms": 60000}))]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Plant a forest").await;
    let planted = "planted";
    world
        .events_until(&id, |events| {
            of_type(events, "command.output").iter().any(|event| event.to_string().contains(planted))
        })
        .await;

    stop(&world, &id, "200 processes, daemons and a stopped one").await;

    assert!(!running("sleep 1000041"), "nothing of the tree lives on");
}

#[tokio::test]
async fn a_request_to_the_model_and_the_wait_for_the_next_are_stopped() {
    let mut thinking = Reply::message("Never.");
    thinking.delay_ms = 120_000;
    let busy = Fault::Status { code: 503, message: "busy".to_owned(), retry_after: Some("60".to_owned()) };
    let script = says([thinking]).when("Busy", [Step::always(busy)]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let asked = world.create(&repository, "Think").await;
    world.model().request(0).await;
    let waiting = world.create(&repository, "Busy").await;
    world.events_until(&waiting, |events| !of_type(events, "model.retrying").is_empty()).await;

    stop(&world, &asked, "a request to the model").await;
    stop(&world, &waiting, "the wait before the next request").await;
}

#[tokio::test]
async fn setup_and_the_wait_for_anothers_setup_are_stopped() {
    let world = World::new(CARREL, says([Reply::message("Never.")])).await;
    let repository = world.repository("api", FILES);
    let file = world.folder().join("setup.sh");
    std::fs::write(&file, "trap '' TERM; setsid -f sleep 1000042; sleep 1000042\n").expect("a file");
    let file = file.to_str().expect("UTF-8");
    world.json(&["environment", "create", "slow", "--setup-internet", "off", "--setup-script", file]).await;
    let building = world.create_with(&repository, &["--environment", "slow", "Do it"]).await;
    world.events_until(&building, |_| running("sleep 1000042")).await;
    let waiting = world.create_with(&repository, &["--environment", "slow", "Do it"]).await;
    let waits = "another attempt is preparing the same environment";
    world.events_until(&waiting, |events| events.iter().any(|event| event.to_string().contains(waits))).await;

    stop(&world, &waiting, "the wait for a snapshot").await;
    let still_building = running("sleep 1000042");
    stop(&world, &building, "a setup script").await;

    assert!(still_building, "one attempt's stop is none of another's");
    assert!(!running("sleep 1000042"), "nothing of setup lives on");
}

//! A model server that misbehaves: what can be waited out is, and what cannot ends with a clear reason.

use carrel_testkit::model::{Fault, Reply, Step};
use serde_json::json;

use crate::{CARREL, FILES, World, attempt, of_type, patch, reason, says};

fn answer() -> Reply {
    Reply::message("Done.")
}

async fn run(steps: Vec<Step>, variables: &[(&str, &str)]) -> (World, serde_json::Value) {
    let world = World::with(CARREL, says(steps), variables).await;
    let repository = world.repository("api", FILES);
    let task = world.run(&repository, "Do it").await;
    (world, task)
}

#[tokio::test]
async fn a_server_that_is_down_fails_the_attempt_and_names_its_address() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let url = format!("http://{closed}/v1");

    let (_world, task) = run(vec![answer().into()], &[("CARREL_MODEL_URL", &url), ("CARREL_MODEL_RETRIES", "1")]).await;

    assert!(reason(&task).contains(&closed.to_string()), "{}", reason(&task));
    assert_eq!(attempt(&task)["failure"]["retryable"], true);
}

#[tokio::test]
async fn a_wrong_key_is_final_and_says_which_setting_to_check() {
    let (world, task) = run(vec![answer().into()], &[("CARREL_MODEL_KEY", "sk-wrong-key-1234567890")]).await;

    assert!(reason(&task).contains("CARREL_MODEL_KEY"), "{}", reason(&task));
    assert!(!reason(&task).contains("sk-wrong-key-1234567890"), "{}", reason(&task));
    assert_eq!(world.model().requests().len(), 1, "a wrong key does not get better");
}

#[tokio::test]
async fn a_busy_server_is_waited_for_as_long_as_it_asks() {
    let busy = Fault::Status { code: 429, message: "slow down".to_owned(), retry_after: Some("1".to_owned()) };

    let (world, task) = run(vec![answer().after(busy)], &[]).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = world.events(task["id"].as_str().expect("an id")).await;
    let retries = of_type(&events, "model.retrying");
    assert!(retries[0]["data"]["wait_ms"].as_u64().is_some_and(|wait| wait >= 1000), "{retries:?}");
}

#[tokio::test]
async fn a_stream_that_is_cut_in_the_middle_is_asked_for_again_and_runs_nothing_twice() {
    let command = Reply::command("echo once >> answer").after(Fault::Cut { after_bytes: 700 });
    let end = answer().after(Fault::Cut { after_bytes: 300 });

    let (world, task) = run(vec![command, end], &[]).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let diff = world.carrel(&["task", "diff", task["id"].as_str().expect("an id")]).await.stdout;
    assert_eq!(diff.matches("+once").count(), 1, "{diff}");
}

#[tokio::test]
async fn calls_that_make_no_sense_are_answered_to_the_model_and_the_work_goes_on() {
    let steps = vec![
        Reply::call("exec_command", json!("{\"cmd\": ")).into(),
        Reply::call("fly_to_the_moon", json!({"when": "now"})).into(),
        Reply::call("exec_command", json!({"workdir": "/"})).into(),
        patch("*** Begin Patch\n*** Update File: answer\n@@\n-no such line\n+42\n*** End Patch\n").into(),
        patch("*** Begin Patch\n*** Update File: ../../etc/passwd\n@@\n-x\n+y\n*** End Patch\n").into(),
        answer().into(),
    ];

    let (world, task) = run(steps, &[]).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    assert_eq!(attempt(&task)["result"]["patch"], json!(null));
    let events = world.events(task["id"].as_str().expect("an id")).await;
    assert_eq!(of_type(&events, "tool.refused").len(), 3, "{events:#?}");
    assert_eq!(of_type(&events, "patch.refused").len(), 2, "{events:#?}");
    let last = world.model().requests().last().expect("requests").json().to_string();
    assert!(last.contains("fly_to_the_moon") && last.contains("no such line"), "the model is told");
}

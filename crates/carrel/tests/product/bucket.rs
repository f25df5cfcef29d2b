//! Artifacts in a bucket of a real S3 server.

use carrel_testkit::S3;
use carrel_testkit::model::Reply;
use serde_json::Value;

use crate::{CARREL, FILES, World, attempt, says};

#[tokio::test]
async fn a_patch_in_a_bucket_is_published_by_a_machine_that_has_no_copy_and_a_bucket_that_is_down_is_named() {
    let mut s3 = S3::start();
    let variables = s3.variables();
    let place = s3.place();
    let mut settings = vec![("CARREL_ARTIFACTS", place.as_str())];
    settings.extend(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let script = says([Reply::command("echo 42 > answer"), Reply::message("Done.")]);
    let mut world = World::with(CARREL, script, &settings).await;
    let repository = world.repository("api", FILES);
    let task = world.run(&repository, "Answer").await;
    let id = task["id"].as_str().expect("an id").to_owned();
    let url = format!("attempts/{}/patch", attempt(&task)["id"].as_str().expect("an id"));
    let kept = s3.files().len();

    world.kill().await;
    forget(&world);
    world.start().await;
    let pushed = world.json(&["task", "push", &id, "--branch", "fix"]).await;
    s3.crash();
    let copied = get(&world, &url).await;
    forget(&world);
    let down = get(&world, &url).await;

    assert!(kept > 0, "the bucket has it");
    assert_eq!(pushed["state"], "pushed", "{pushed}");
    assert_eq!(repository.git(&["show", "fix:answer"]), "42");
    assert_eq!(copied.0, 200, "what was used lately is here");
    assert_eq!(down.0, 503);
    let problem: Value = serde_json::from_str(&down.1).expect("a problem");
    assert_eq!(problem["type"], "urn:carrel:problem:artifacts-unavailable");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.starts_with("the artifact store s3://acme-artifacts/carrel does not answer: "), "{detail}");
}

#[tokio::test]
async fn an_attempt_whose_bucket_is_away_keeps_what_it_has_made_until_the_bucket_is_back() {
    let mut s3 = S3::start();
    let variables = s3.variables();
    let place = s3.place();
    let mut settings = vec![("CARREL_ARTIFACTS", place.as_str())];
    settings.extend(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let script = says([Reply::command("echo 42 > answer"), Reply::message("Done.")]);
    let world = World::with(CARREL, script, &settings).await;
    let repository = world.repository("api", FILES);
    s3.crash();

    let id = world.create(&repository, "Answer").await;
    let told = |event: &Value| event["data"]["message"].as_str().is_some_and(|words| words.contains("(try 3 of 18)"));
    world.events_until(&id, |events| events.iter().any(told)).await;
    let rests = world.json(&["task", "show", &id]).await;
    s3.up();
    let task = world.ended(&id).await;

    let wait = rests["waits_for"].as_str().expect("words");
    assert!(wait.starts_with("going on in "), "{wait}");
    assert!(wait.contains(" s: the artifact store s3://acme-artifacts/carrel does not answer: "), "{wait}");
    assert_eq!(task["state"], "ready", "{task:#}");
    assert_eq!(attempt(&task)["result"]["patch"]["files"][0]["path"], "answer", "{task:#}");
}

/// Removes the copies that are on this machine.
fn forget(world: &World) {
    for shelf in std::fs::read_dir(world.data().join("artifacts")).expect("a folder").flatten() {
        std::fs::remove_dir_all(shelf.path()).expect("our own folder");
    }
}

async fn get(world: &World, route: &str) -> (u16, String) {
    let url = format!("{}/api/v1/{route}", world.url().trim_end_matches('/'));
    let answer = reqwest::Client::new().get(url).bearer_auth(world.token()).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

//! Several workers on one PostgreSQL, each with a data folder of its own, as on machines of their own.

use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, World};
use serde_json::Value;

use super::{CARREL, FILES, mends};

/// What values of secrets are sealed under, the same for all of them.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn worker(postgres: &Postgres, name: &str, script: Script) -> World {
    let url = postgres.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("CARREL_SECRETS_KEY", KEY),
        ("CARREL_WORKER_NAME", name),
        ("CARREL_WORKER_GONE_SECONDS", "3"),
        ("CARREL_MAX_JOBS", "1"),
    ];
    World::with(CARREL, script, &variables).await
}

fn states(task: &Value) -> Vec<&str> {
    let attempts = task["turns"][0]["attempts"].as_array().expect("attempts");
    attempts.iter().map(|attempt| attempt["state"].as_str().expect("a state")).collect()
}

#[tokio::test]
async fn workers_share_the_queue_and_each_shows_what_the_other_does() {
    let postgres = Postgres::start();
    let slow = || Script::new([Reply::command("sleep 1"), Reply::message("Done.")]);
    let (one, two) = tokio::join!(worker(&postgres, "one", slow()), worker(&postgres, "two", slow()));
    let repository = one.repository("answers", FILES);

    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(one.create(&repository, &format!("Rest, number {number}")).await);
    }

    for id in &ids {
        let task = two.ended(id).await;
        assert_eq!(task["state"], "ready", "{task:#}");
    }
    let workers = postgres.query("select count(distinct worker_id) from attempt").expect("an answer");
    assert_eq!(workers, "2", "neither has done all of it");
}

#[tokio::test]
async fn an_attempt_whose_worker_is_gone_ends_with_the_reason_and_is_made_again_elsewhere() {
    let postgres = Postgres::start();
    let mut gone = worker(&postgres, "gone", Script::new([Reply::command("sleep 1000; echo never")])).await;
    let repository = gone.repository("answers", FILES);
    let id = gone.create(&repository, "Make the check pass").await;
    gone.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    gone.kill().await;
    let there = worker(&postgres, "there", mends()).await;
    let early = there.json(&["task", "show", &id]).await;
    assert_eq!(states(&early), ["running"], "it may come back: {early:#}");

    postgres.query("update job set lease_until = 0").expect("time passes");

    let failed = |events: &[Value]| events.iter().any(|event| event["type"] == "attempt.retried");
    there.events_until(&id, failed).await;
    let task = there.ended(&id).await;
    assert_eq!(states(&task), ["failed", "ready"], "{task:#}");
    let reason = task["turns"][0]["attempts"][0]["failure"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("`gone` was not heard of since"), "{reason}");

    // It comes back, and ends what nobody needs any more.
    gone.start().await;
    let late = gone.json(&["task", "show", &id]).await;
    assert_eq!(states(&late), ["failed", "ready"], "{late:#}");
}

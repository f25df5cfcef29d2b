//! Several workers on one PostgreSQL, each with a data folder of its own, as on machines of their own.

use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, Repository, World};
use serde_json::Value;

use super::{CARREL, FILES, mends};
use crate::recovery::touch_inside;

/// What values of secrets are sealed under, the same for all of them.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn worker(postgres: &Postgres, name: &str, script: Script) -> World {
    worker_with(postgres, name, script, &[]).await
}

pub(crate) async fn worker_with(postgres: &Postgres, name: &str, script: Script, more: &[(&str, &str)]) -> World {
    let url = postgres.url();
    let mut variables = vec![
        ("DATABASE_URL", url.as_str()),
        ("CARREL_SECRETS_KEY", KEY),
        ("CARREL_WORKER_NAME", name),
        ("CARREL_WORKER_GONE_SECONDS", "3"),
        ("CARREL_MAX_JOBS", "1"),
    ];
    variables.extend(more);
    World::with(CARREL, script, &variables).await
}

/// A task on a checkout with a file that is not pushed, done by this worker.
async fn done_from_local_changes(world: &World) -> (Repository, String) {
    let repository = world.repository("answers", FILES);
    std::fs::write(repository.path().join("note"), "not pushed\n").expect("a file");
    let arguments = ["--json", "task", "create", "--with-local-changes", "Make the check pass"];
    let created = world.carrel_in(repository.path(), &arguments).await;
    let created: Value = serde_json::from_str(&created.stdout).unwrap_or_else(|error| panic!("{error}: {created:?}"));
    let id = created["id"].as_str().expect("an id").to_owned();
    let task = world.ended(&id).await;
    assert_eq!(task["state"], "ready", "{task:#}");
    (repository, id)
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

    let watched = there.carrel(&["task", "watch", &id]).await;
    let task = there.ended(&id).await;
    assert_eq!(watched.code, 0, "it had not ended before: {watched:?}");
    assert_eq!(states(&task), ["failed", "ready"], "{task:#}");
    let reason = task["turns"][0]["attempts"][0]["failure"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("`gone` was not heard of since"), "{reason}");

    // It comes back, and ends what nobody needs any more.
    gone.start().await;
    let late = gone.json(&["task", "show", &id]).await;
    assert_eq!(states(&late), ["failed", "ready"], "{late:#}");
}

#[tokio::test]
async fn a_worker_that_stood_still_ends_what_was_made_again_elsewhere() {
    let postgres = Postgres::start();
    let still = worker(&postgres, "still", Script::new([Reply::command("sleep 1000; echo never")])).await;
    let repository = still.repository("answers", FILES);
    let id = still.create(&repository, "Make the check pass").await;
    still.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    let attempt = still.json(&["task", "show", &id]).await["turns"][0]["attempts"][0]["id"].clone();
    let sandbox = still.data().join("sandboxes").join(attempt.as_str().expect("an id"));
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args([name, &still.service_pid().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    };
    assert!(sandbox.exists(), "{}", sandbox.display());
    let there = worker(&postgres, "there", mends()).await;

    signal("-STOP");
    postgres.query("update job set lease_until = 0; update worker set seen_at = 0 where name = 'still'").expect("time");
    let task = there.ended(&id).await;
    signal("-CONT");

    assert_eq!(states(&task), ["failed", "ready"], "{task:#}");
    still.until_gone(&sandbox).await;
}

#[tokio::test]
async fn an_attempt_that_gets_on_outlives_any_number_of_restarts() {
    let postgres = Postgres::start();
    let wait = "while [ ! -e /tmp/go ]; do sleep 0.05; done";
    let first = Reply::call("exec_command", serde_json::json!({"cmd": wait, "yield_time_ms": 30000}));
    let script = Script::new([first, Reply::command("sleep 1000; echo never")]);
    let mut world = worker(&postgres, "one", script).await;
    let repository = world.repository("answers", FILES);
    let id = world.create(&repository, "Rest").await;
    let commands = |number: usize| {
        move |events: &[Value]| events.iter().filter(|event| event["type"] == "command.started").count() == number
    };
    world.events_until(&id, commands(1)).await;
    postgres.query("update job set tries = 20").expect("twenty restarts");

    touch_inside(&world);
    world.events_until(&id, commands(2)).await;
    world.kill().await;
    world.start().await;
    world.carrel(&["task", "cancel", &id]).await;
    let task = world.ended(&id).await;

    assert_eq!(task["state"], "cancelled", "it was at work until then: {task:#}");
}

#[tokio::test]
async fn what_one_worker_made_of_local_changes_another_publishes_and_goes_on_with() {
    let (postgres, shared) = (Postgres::start(), tempfile::tempdir().expect("a folder"));
    let artifacts = format!("file://{}", shared.path().display());
    let more = [("CARREL_ARTIFACTS", artifacts.as_str())];
    let mut one = worker_with(&postgres, "one", mends(), &more).await;
    let (repository, id) = done_from_local_changes(&one).await;
    let looks = Script::new([Reply::command("cat note answer"), Reply::message("Looked.")]);
    let two = worker_with(&postgres, "two", looks, &more).await;
    one.kill().await;
    postgres.query("update worker set seen_at = 0 where name = 'one'").expect("time passes");

    let pushed = two.carrel(&["task", "push", &id, "--branch", "mended"]).await;
    two.carrel(&["task", "follow-up", &id, "Look again"]).await;
    let task = two.ended(&id).await;

    assert_eq!(pushed.code, 0, "{pushed:?}");
    two.events_until(&id, |events| events.iter().any(|event| event["data"]["state"] == "pushed")).await;
    assert_eq!(repository.git(&["rev-list", "--count", "main..mended"]), "2");
    assert_eq!(repository.git(&["show", "mended:note", "mended:answer"]), "not pushed\n42");
    assert_eq!(task["turns"][1]["attempts"][0]["state"], "ready", "{task:#}");
    assert_eq!(
        task["turns"][1]["attempts"][0]["base_commit"], task["turns"][0]["attempts"][0]["base_commit"],
        "the commit is the same on both machines"
    );
    let request = two.model().requests()[1].clone();
    let seen = (0..).map_while(|number| request.output(number)).last().expect("a result");
    assert!(seen.contains("not pushed\n42\n"), "{seen}");
}

#[tokio::test]
async fn attempts_side_by_side_on_two_machines_start_from_the_same_local_changes() {
    let (postgres, shared) = (Postgres::start(), tempfile::tempdir().expect("a folder"));
    let artifacts = format!("file://{}", shared.path().display());
    let more = [("CARREL_ARTIFACTS", artifacts.as_str())];
    let rests = Script::new([Reply::command("sleep 1000; echo never")]);
    let one = worker_with(&postgres, "one", rests, &more).await;
    let repository = one.repository("answers", FILES);
    std::fs::write(repository.path().join("note"), "not pushed\n").expect("a file");
    let create = ["--json", "task", "create", "--with-local-changes", "--attempts", "2", "Look"];
    let created = one.carrel_in(repository.path(), &create).await;
    let created: Value = serde_json::from_str(&created.stdout).unwrap_or_else(|error| panic!("{error}: {created:?}"));
    let id = created["id"].as_str().expect("an id");
    one.events_until(id, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    repository.commit("The branch moves on", &[("README", "new\n")]);

    let looks = Script::new([Reply::command("cat note; ls"), Reply::message("Looked.")]);
    let two = worker_with(&postgres, "two", looks, &more).await;
    let looked = |events: &[Value]| events.iter().any(|event| event["data"]["state"] == "ready");
    two.events_until(id, looked).await;
    let task = two.json(&["task", "show", id]).await;

    let bases: Vec<&Value> =
        task["turns"][0]["attempts"].as_array().expect("two").iter().map(|attempt| &attempt["base_commit"]).collect();
    assert!(bases[0].is_string() && bases[0] == bases[1], "{task:#}");
    let seen = two.model().requests()[1].output(0).expect("a result");
    assert!(seen.contains("not pushed") && !seen.contains("README"), "{seen}");
}

#[tokio::test]
async fn a_publication_that_ends_its_workers_is_given_up() {
    let (postgres, shared) = (Postgres::start(), tempfile::tempdir().expect("a folder"));
    let artifacts = format!("file://{}", shared.path().display());
    let more = [("CARREL_ARTIFACTS", artifacts.as_str())];
    let mut one = worker_with(&postgres, "one", mends(), &more).await;
    let (_repository, id) = done_from_local_changes(&one).await;
    one.kill().await;
    let api = worker_with(&postgres, "api", mends(), &[more[0], ("CARREL_ROLE", "api")]).await;
    let push = ["task", "push", &id, "--branch", "mended"];
    let dying = async {
        let waits = |events: &[Value]| events.iter().any(|event| event["data"]["state"] == "requested");
        api.events_until(&id, waits).await;
        postgres.query("update job set tries = 20 where kind = 'publication'").expect("twenty workers die");
        one.start().await;
    };

    let (pushed, ()) = tokio::join!(api.carrel(&push), dying);

    assert_eq!(pushed.code, 1, "{pushed:?}");
    assert!(pushed.stdout.contains("21 workers have died or given up over this publication"), "{pushed:?}");
}

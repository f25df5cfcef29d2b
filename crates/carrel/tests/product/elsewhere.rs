//! Repositories that are named by a path, with several workers: one that has it not leaves the work to one that may have it.

use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, World};
use reqwest::Client;
use serde_json::{Value, json};

use super::{CARREL, FILES, MENDING, attempt, of_type, patch, reason};

/// What values of secrets are sealed under, the same for all of them.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Processes on one database, and what they share beside it.
struct Installation {
    postgres: Postgres,
    artifacts: tempfile::TempDir,
}

impl Installation {
    fn new() -> Self {
        Self { postgres: Postgres::start(), artifacts: tempfile::tempdir().expect("a folder") }
    }

    /// A process that does one attempt at a time: it rests when it is told to, and mends everything else.
    async fn process(&self, role: &str, name: &str) -> World {
        let script = Script::new([patch(MENDING), Reply::message("Done.")])
            .when("Rest", [Reply::command("sleep 1000; echo never")]);
        let (url, artifacts) = (self.postgres.url(), format!("file://{}", self.artifacts.path().display()));
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("CARREL_SECRETS_KEY", KEY),
            ("CARREL_ARTIFACTS", artifacts.as_str()),
            ("CARREL_WORKER_NAME", name),
            ("CARREL_ROLE", role),
            ("CARREL_MAX_JOBS", "1"),
        ];
        World::with(CARREL, script, &variables).await
    }
}

/// Gives whoever is free something to do until it is cancelled.
async fn occupy(api: &World) -> String {
    let id = api.create(&api.repository(&format!("rest-{}", uuid::Uuid::now_v7()), FILES), "Rest").await;
    api.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;
    id
}

fn warns(events: &[Value], words: &str) -> bool {
    let says = |event: &&Value| event["data"]["message"].as_str().is_some_and(|message| message.contains(words));
    of_type(events, "attempt.warning").iter().any(says)
}

#[tokio::test]
async fn a_path_that_one_worker_has_not_is_left_to_the_one_that_has() {
    let installation = Installation::new();
    let api = installation.process("api", "front").await;
    let _one = installation.process("worker", "one").await;
    let first = occupy(&api).await;
    let _two = installation.process("worker", "two").await;
    let second = occupy(&api).await;
    let repository = api.repository("answers", FILES);
    let away = api.folder().join("away");
    let id = api.create(&repository, "Make the check pass").await;

    std::fs::rename(repository.path(), &away).expect("it is not there");
    api.carrel(&["task", "cancel", &first]).await;
    api.events_until(&id, |events| warns(events, "on the machine of the worker `one`; left to the worker `two`")).await;
    std::fs::rename(&away, repository.path()).expect("it is there");
    api.carrel(&["task", "cancel", &second]).await;
    let task = api.ended(&id).await;

    assert_eq!(task["state"], "ready", "{task:#}");
    let sql = format!("select w.name from attempt a join worker w on w.id = a.worker_id where a.task_id = '{id}'");
    assert_eq!(installation.postgres.query(&sql).as_deref(), Some("two"));
    let pushed = api.carrel(&["task", "push", &id, "--branch", "mended"]).await;
    assert_eq!((pushed.code, repository.git(&["show", "mended:answer"]).as_str()), (0, "42"), "{pushed:?}");

    // Then nobody has it.
    std::fs::rename(repository.path(), &away).expect("it is not there");
    let pushed = api.carrel(&["task", "push", &id, "--branch", "again"]).await;
    assert_eq!(pushed.code, 1, "{pushed:?}");
    assert!(pushed.stdout.contains("looked for on the machines of the workers `one`, `two`"), "{pushed:?}");
}

#[tokio::test]
async fn a_path_that_no_worker_has_ends_with_the_names_of_those_that_were_asked() {
    let installation = Installation::new();
    let api = installation.process("api", "front").await;
    let (_one, _two) = tokio::join!(installation.process("worker", "one"), installation.process("worker", "two"));

    // Nothing is prepared where it is asked for, so that machine needs not have it. (The command line looks at its own.)
    let body = json!({"repository": "/srv/nowhere/api", "mode": "code", "prompt": "Make the check pass"});
    let request = Client::new().post(format!("{}/api/v1/tasks", api.url())).bearer_auth(api.token()).json(&body);
    let created: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let task = api.ended(created["id"].as_str().unwrap_or_else(|| panic!("{created:#}"))).await;

    let said = reason(&task);
    assert!(said.contains("there is no repository at `/srv/nowhere/api`"), "{said}");
    assert!(said.contains("(looked for on the machines of the workers `one`, `two`)"), "{said}");
    assert_eq!(attempt(&task)["failure"]["stage"], "preparing", "{task:#}");
}

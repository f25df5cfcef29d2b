//! Processes that do a part of the work each: one that serves people, and workers that serve nobody.

use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, World};
use serde_json::Value;

use super::{CARREL, FILES};

/// What values of secrets are sealed under, the same for all of them.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn process(postgres: &Postgres, role: &str, name: &str, script: Script) -> World {
    let url = postgres.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("CARREL_SECRETS_KEY", KEY),
        ("CARREL_WORKER_NAME", name),
        ("CARREL_ROLE", role),
        ("CARREL_MAX_JOBS", "1"),
    ];
    World::with(CARREL, script, &variables).await
}

async fn asked(world: &World, path: &str) -> (u16, Value) {
    let request = reqwest::Client::new().get(format!("{}{path}", world.url())).bearer_auth(world.token());
    let answer = request.send().await.expect("it answers");
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default())
}

#[tokio::test]
async fn one_process_serves_people_and_two_others_work() {
    let postgres = Postgres::start();
    let slow = || Script::new([Reply::command("sleep 1"), Reply::message("Done.")]);
    let (api, one, two) = tokio::join!(
        process(&postgres, "api", "front", Script::new([Reply::message("Done.")])),
        process(&postgres, "worker", "one", slow()),
        process(&postgres, "worker", "two", slow()),
    );
    let repository = api.repository("answers", FILES);

    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(api.create(&repository, &format!("Rest, number {number}")).await);
    }

    for id in &ids {
        let task = api.ended(id).await;
        assert_eq!(task["state"], "ready", "{task:#}");
    }
    let workers =
        postgres.query("select string_agg(distinct w.name, ' ') from attempt a join worker w on w.id = a.worker_id");
    assert_eq!(workers.as_deref(), Some("one two"), "both have worked, and the one in front has not");
    assert!(!one.model().requests().is_empty() && !two.model().requests().is_empty());
    assert!(api.model().requests().is_empty());
}

#[tokio::test]
async fn each_process_says_what_it_is_and_serves_only_that() {
    let postgres = Postgres::start();
    let (api, worker) = tokio::join!(
        process(&postgres, "api", "front", Script::new([Reply::message("Done.")])),
        process(&postgres, "worker", "back", Script::new([Reply::command("sleep 1000")])),
    );

    let (_, front) = asked(&api, "/readyz").await;
    let (_, back) = asked(&worker, "/readyz").await;
    let names = |ready: &Value| -> Vec<String> {
        let checks = ready["checks"].as_array().expect("checks");
        checks.iter().map(|check| check["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!((&front["role"], names(&front)), (&"api".into(), vec!["database".into(), "not stopping".into()]));
    assert_eq!(back["role"], "worker");
    assert_eq!(names(&back), ["database", "worker", "sandboxes", "not stopping"]);
    let (status, problem) = asked(&worker, "/api/v1/tasks").await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("is a worker")), "{problem:#}");
    let open = reqwest::get(format!("{}/metrics", worker.url())).await.expect("it answers");
    assert_eq!(open.status().as_u16(), 401);
    assert_eq!(asked(&worker, "/metrics").await.0, 200);

    let doctor = api.json(&["doctor"]).await;
    assert_eq!((&doctor["role"], &doctor["sandboxes"]), (&"api".into(), &false.into()));
}

#[tokio::test]
async fn a_terminal_on_another_machine_is_refused_with_the_worker_that_has_the_sandbox() {
    let postgres = Postgres::start();
    let (api, _worker) = tokio::join!(
        process(&postgres, "api", "front", Script::new([Reply::message("Done.")])),
        process(&postgres, "worker", "back", Script::new([Reply::command("sleep 1000")])),
    );
    let repository = api.repository("answers", FILES);
    let id = api.create(&repository, "Rest").await;
    api.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;

    let shell = api.carrel_given("true\n", &["task", "shell", &id]).await;
    let tried = api.carrel_given("true\n", &["environment", "try", "default"]).await;

    assert_eq!(shell.code, 3, "{}", shell.stderr);
    assert!(shell.stderr.contains("on the machine of the worker `back`"), "{}", shell.stderr);
    assert!(tried.stderr.contains("makes no sandboxes"), "{}", tried.stderr);
    api.carrel(&["task", "cancel", &id]).await;
    let task = api.ended(&id).await;
    assert_eq!(task["state"], "cancelled", "{task:#}");
}

#[tokio::test]
async fn a_part_of_the_work_is_refused_on_a_database_of_ones_own() {
    let world = World::new(CARREL, Script::new([Reply::message("Done.")])).await;
    let data = world.folder().join("other");
    let mut command = tokio::process::Command::new(CARREL);
    command.args(["serve", "--role", "api"]).env_clear().env("HOME", world.folder()).env("CARREL_DATA", &data);

    let ran = command.output().await.expect("it ends");

    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("DATABASE_URL"), "{said}");
    assert!(!data.exists(), "nothing was made");
}

#[tokio::test]
async fn a_planned_restart_is_not_taken_for_a_loss() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let variables = |name: &'static str| {
        [
            ("DATABASE_URL".to_owned(), url.clone()),
            ("CARREL_SECRETS_KEY".to_owned(), KEY.to_owned()),
            ("CARREL_WORKER_NAME".to_owned(), name.to_owned()),
            ("CARREL_WORKER_GONE_SECONDS".to_owned(), "1".to_owned()),
            ("CARREL_WORKER_RETURN_SECONDS".to_owned(), "600".to_owned()),
        ]
    };
    let world = async |name: &'static str, script: Script| {
        let variables = variables(name);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        World::with(CARREL, script, &variables).await
    };
    let mut one = world("one", Script::new([Reply::command("sleep 4"), Reply::message("Done.")])).await;
    let repository = one.repository("answers", FILES);
    let id = one.create(&repository, "Rest").await;
    one.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    let two = world("two", Script::new([Reply::message("Not mine.")])).await;

    one.stop().await;

    let workers = two.json(&["workers"]).await;
    let away = workers["items"].as_array().expect("workers").iter().find(|worker| worker["name"] == "one");
    let away = away.expect("it is known");
    assert_eq!(
        (&away["state"], &away["running"], &away["role"]),
        (&"away".into(), &1.into(), &"all".into()),
        "{away:#}"
    );
    // Long enough to be gone, had it only been silent.
    let marker = two.create(&repository, "Say something").await;
    assert_eq!(two.ended(&marker).await["state"], "ready");
    postgres.query("update worker set seen_at = seen_at - 60000 where name = 'one'").expect("time passes");
    let again = two.create(&repository, "Say something more").await;
    assert_eq!(two.ended(&again).await["state"], "ready");
    one.start().await;
    let task = one.ended(&id).await;
    let attempts = task["turns"][0]["attempts"].as_array().expect("attempts");
    assert_eq!((attempts.len(), &attempts[0]["state"]), (1, &"ready".into()), "{task:#}");
    let shown = two.carrel(&["workers"]).await;
    assert!(shown.stdout.contains("one  all     0 of 32 attempts  seen "), "{}", shown.stdout);
}

#[tokio::test]
async fn a_limit_is_set_by_an_owner_and_what_waits_says_so() {
    let script = Script::new([Reply::command("sleep 1000"), Reply::message("Done.")]);
    let world = World::with(CARREL, script, &[("CARREL_ATTEMPTS_PER_PERSON", "1")]).await;
    let repository = world.repository("answers", FILES);
    let first = world.create_with(&repository, &["Rest", "--priority", "high"]).await;
    world.events_until(&first, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    let second = world.create(&repository, "Rest, too").await;

    let shown = world.carrel(&["task", "show", &second]).await;
    let list = world.json(&["task", "list"]).await;
    let high = world.carrel(&["task", "show", &first]).await;

    assert!(shown.stdout.contains("queued: 1 of 1 attempts of Owner are running"), "{}", shown.stdout);
    let waits = list["items"][0]["waits_for"].as_str().expect("it waits");
    assert!(waits.contains("carrel budget set --person"), "{waits}");
    assert!(high.stdout.contains("priority high"), "{}", high.stdout);
    let set = world.json(&["budget", "set", "--person", "me", "--attempts", "2"]).await;
    assert_eq!(set["attempts"], 2);
    world.events_until(&second, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    let budgets = world.carrel(&["budget", "show"]).await;
    assert!(budgets.stdout.contains("at once: 2 attempts"), "{}", budgets.stdout);
    for id in [&first, &second] {
        world.carrel(&["task", "cancel", id]).await;
        assert_eq!(world.ended(id).await["state"], "cancelled");
    }
}

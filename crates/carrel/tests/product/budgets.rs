//! What may be spent: by an attempt, by a person, by an organization; and what is waited for is said.

use carrel_testkit::Repository;
use carrel_testkit::model::{Fault, Reply, Script, Usage};
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, assert_refused, attempt, of_type, reason, says};

/// What each answer of the model costs: 1,000 tokens.
const USAGE: Usage = Usage { input: 900, cached: 0, output: 100, reasoning: 0 };

fn step(number: usize) -> Reply {
    Reply::command(format!("echo {number} >> steps")).usage(USAGE)
}

fn steps() -> Script {
    says((0..9).map(step))
}

async fn world(script: Script, variables: &[(&str, &str)]) -> (World, Repository) {
    let world = World::with(CARREL, script, variables).await;
    let repository = world.repository("api", FILES);
    (world, repository)
}

/// The budgets of the organization and of its only member.
async fn budgets(world: &World) -> [Value; 2] {
    let list = world.json(&["budget", "show"]).await;
    let items = list["items"].as_array().expect("a list").clone();
    items.try_into().expect("two budgets")
}

#[tokio::test]
async fn an_attempt_that_reaches_its_own_limit_goes_on_with_a_higher_one() {
    let script = steps().when("was cut off", [Reply::message("Resumed.")]);
    let (world, repository) = world(script, &[]).await;
    let id = world.create_with(&repository, &["--max-steps", "3", "--max-time", "1h", "Go"]).await;
    let stopped = world.ended(&id).await;

    world.json(&["task", "retry", &id, "--resume", "--max-steps", "50"]).await;
    let resumed = world.ended(&id).await;

    let way_out = format!("to go on with more: carrel task retry {id} --resume --max-steps N");
    assert!(reason(&stopped).contains("3 steps") && reason(&stopped).contains(&way_out), "{}", reason(&stopped));
    let attempts = resumed["turns"][0]["attempts"].as_array().expect("attempts");
    let limits: Vec<&Value> = attempts.iter().map(|attempt| &attempt["limits"]).collect();
    assert_eq!(limits, [&json!({"steps": 3, "wall_clock_s": 3600}), &json!({"steps": 50, "wall_clock_s": 3600})]);
    assert_eq!((&attempts[1]["state"], &attempts[1]["result"]["answer"]), (&json!("ready"), &json!("Resumed.")));
    assert_eq!(attempts[1]["result"]["patch"]["files"][0]["path"], "steps");
    let shown = world.carrel(&["task", "show", &id]).await.stdout;
    assert!(shown.contains("may use 50 steps, 3600 s"), "{shown}");
}

#[tokio::test]
async fn a_follow_up_has_the_limits_of_before_unless_it_says_others() {
    let (world, repository) = world(says([Reply::message("Done.")]), &[]).await;
    let id = world.create_with(&repository, &["--max-steps", "9", "--max-tokens", "100000", "Go"]).await;
    world.ended(&id).await;

    world.json(&["task", "follow-up", &id, "--max-steps", "8", "And now?"]).await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["limits"], json!({"steps": 8, "tokens": 100_000}));
}

#[tokio::test]
async fn more_than_the_service_gives_is_refused() {
    let (world, repository) = world(steps(), &[("CARREL_MAX_STEPS", "5"), ("CARREL_MAX_COST_USD", "1.50")]).await;
    let path = repository.path().to_string_lossy().into_owned();
    let create = ["task", "create", "--repository", &path, "Go"];

    for (flag, value, says) in [
        (
            "--max-steps",
            "6",
            "no attempt more than 5 steps; ask for no more, or have an administrator raise it with CARREL_MAX_STEPS",
        ),
        ("--max-cost", "1.51", "no attempt more than 1.50 USD"),
        ("--max-cost", "0.50", "costs is not known, so a limit in money cannot be held: limit its tokens"),
        ("--max-time", "3h", "CARREL_MAX_ATTEMPT_SECONDS"),
        ("--max-time", "9s", "`limits.wall_clock_s` is 9, and may be 10 or more"),
    ] {
        let ran = world.carrel(&[&create[..], &[flag, value]].concat()).await;

        assert_refused(&world, &ran, says).await;
    }
}

#[tokio::test]
async fn limits_in_money_that_a_model_without_a_price_does_not_feel_are_warned_of() {
    let (world, repository) = world(says([Reply::message("Done.")]), &[("CARREL_MAX_COST_USD", "1.50")]).await;
    world.json(&["budget", "set", "--cost", "5.00"]).await;

    let task = world.run(&repository, "Go").await;

    let events = world.events(task["id"].as_str().expect("an id")).await;
    let warning = &of_type(&events, "attempt.warning")[0]["data"]["message"];
    for said in ["costs is not known", "the limit of 1.50 USD for an attempt", "the budget of", "docs/models.md"] {
        assert!(warning.as_str().is_some_and(|warning| warning.contains(said)), "{warning}");
    }
}

#[tokio::test]
async fn a_budget_that_is_used_up_ends_what_runs_and_refuses_what_comes() {
    let script = says([step(0), step(1), Reply::message("Half of it.").usage(USAGE)]);
    let (world, repository) = world(script, &[]).await;
    world.json(&["budget", "set", "--tokens", "2000"]).await;

    let task = world.run(&repository, "Go").await;
    let path = repository.path().to_string_lossy().into_owned();
    let refused = world.carrel(&["task", "create", "--repository", &path, "Go"]).await;

    let id = task["id"].as_str().expect("an id");
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    assert_eq!(attempt(&task)["result"]["answer"], "Half of it.");
    let events = world.events(id).await;
    let hit = &of_type(&events, "limit.hit")[0]["data"];
    assert_eq!(hit["limit"], "budget");
    assert!(hit["message"].as_str().is_some_and(|said| said.contains("is used up (2000 of 2000 tokens)")), "{hit}");
    assert!(
        of_type(&events, "attempt.warning")[0]["data"]["message"].as_str().is_some_and(|said| said.contains("budget"))
    );
    let last = world.model().requests().last().expect("a request").json().to_string();
    assert!(last.contains("This is your last message") && last.contains("is used up"), "{last}");
    assert_eq!(refused.code, 3, "{refused:?}");
    for said in ["the organization's budget for 20", "is used up (3000 of 2000 tokens)", "anew on", "carrel budget set"]
    {
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    let [whole, own] = budgets(&world).await;
    assert_eq!((&whole["tokens_used"], &whole["level"]), (&json!(3000), &json!("exhausted")));
    assert_eq!((&own["tokens_used"], &own["level"]), (&json!(3000), &json!("fine")));
    let raised = world.carrel(&["budget", "set", "--tokens", "none"]).await;
    assert!(raised.stdout.contains("3000 tokens, any number"), "{raised:?}");
    world.create(&repository, "Go").await;
}

#[tokio::test]
async fn a_persons_attempt_that_works_on_beyond_the_budget_stops_and_can_be_resumed() {
    let script = steps().when("was cut off", [Reply::message("Resumed.")]);
    let (world, repository) = world(script, &[]).await;
    world.json(&["budget", "set", "--person", "me", "--tokens", "2000", "--cost", "5.00"]).await;
    let task = world.run(&repository, "Go").await;
    let id = task["id"].as_str().expect("an id");

    let refused = world.carrel(&["task", "retry", id, "--resume"]).await;
    let set = world.json(&["budget", "set", "--person", "me", "--tokens", "5000"]).await;
    world.json(&["task", "retry", id, "--resume"]).await;
    let resumed = world.ended(id).await;

    let person = budgets(&world).await[1].clone();
    let flag = format!("carrel budget set --person {}", person["id"].as_str().expect("an id"));
    assert!(reason(&task).contains("the budget of Owner") && reason(&task).contains(&flag), "{}", reason(&task));
    assert!(refused.code == 3 && refused.stderr.contains(&flag), "{refused:?}");
    assert_eq!((&set["tokens"], &set["cost_usd_micros"]), (&json!(5000), &json!(5_000_000)), "the rest stays");
    assert_eq!(resumed["state"], "ready", "{resumed:#}");
}

#[tokio::test]
async fn what_was_spent_is_counted_once_however_often_the_plug_is_pulled() {
    let script = says((0..4).map(step).chain([Reply::message("Done.").usage(USAGE)]));
    let (mut world, repository) = world(script, &[]).await;
    let mut expected = 0;

    for seen in [6, 8, 10, 12] {
        let id = world.create(&repository, "Go").await;
        world.events_until(&id, |events| events.len() > seen).await;
        world.kill().await;
        world.start().await;
        let task = world.ended(&id).await;
        let events = world.events(&id).await;
        let answers = of_type(&events, "model.responded").len() as u64;
        expected += answers * 1000;
        let usage = &attempt(&task)["usage"];
        assert_eq!((&usage["requests"], &usage["input_tokens"]), (&json!(answers), &json!(answers * 900)), "{seen}");
        assert_eq!(
            budgets(&world).await.map(|budget| budget["tokens_used"].clone()),
            [json!(expected), json!(expected)]
        );
    }
}

#[tokio::test]
async fn a_model_that_is_waited_for_is_named_with_the_time_and_the_tries() {
    let busy = Fault::Status { code: 503, message: "overloaded".to_owned(), retry_after: Some("3".to_owned()) };
    let (world, repository) = world(says([Reply::message("Done.").after(busy)]), &[]).await;
    let id = world.create(&repository, "Go").await;
    world.events_until(&id, |events| !of_type(events, "model.retrying").is_empty()).await;

    let list = world.json(&["task", "list"]).await;
    let table = world.carrel(&["task", "list"]).await.stdout;
    let watched = world.carrel(&["task", "watch", &id]).await.stdout;

    let waits = list["items"][0]["waits_for"].as_str().expect("a wait");
    assert!(waits.starts_with("waiting for the model: retry 1 of 5 in "), "{waits}");
    assert!(table.contains("waiting for the model: retry 1 of 5"), "{table}");
    assert!(
        watched.contains("waiting for the model: retry 1 of 5 in 3.0 s (") && watched.contains("overloaded"),
        "{watched}"
    );
    let after = world.json(&["task", "list"]).await;
    assert_eq!(after["items"][0]["waits_for"], Value::Null);
}

#[tokio::test]
async fn an_attempt_that_waits_for_a_worker_is_told_how_many_are_before_it() {
    let call = json!({"cmd": "sleep 1000031", "yield_time_ms": 60000});
    let (world, repository) = world(says([Reply::call("exec_command", call)]), &[("CARREL_MAX_JOBS", "1")]).await;
    let first = world.create(&repository, "One").await;
    world.events_until(&first, |events| !of_type(events, "command.started").is_empty()).await;
    let second = world.create(&repository, "Two").await;
    let third = world.create(&repository, "Three").await;

    let list = world.json(&["task", "list"]).await;

    let waits: Vec<&Value> = (0..3).map(|at| &list["items"][at]["waits_for"]).collect();
    assert_eq!(
        waits,
        [
            &json!("waiting for a free worker: 1 of this person's before it"),
            &json!("waiting for a free worker: the next of this person's"),
            &Value::Null
        ]
    );
    for id in [third, second, first] {
        world.json(&["task", "cancel", &id]).await;
    }
}

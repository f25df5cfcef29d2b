//! What the model is told, and what is recorded of what it says.

use carrel_agent::AgentTask;
use carrel_domain::Mode;
use carrel_testkit::model::{Reply, Script, Usage};
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_becomes_a_command_and_an_answer() {
    let usage = Usage { input: 100, cached: 40, output: 10, reasoning: 3 };
    let script = Script::new([
        Reply::reasoning("Look first.").then(Reply::command("cat greeting.txt")).usage(usage),
        Reply::message("It says hello.").usage(usage),
    ]);
    let world = World::new(script).await;

    let finished = world.run("What does it say?").await.expect("an answer");

    assert_eq!(finished.answer, "It says hello.");
    assert_eq!((finished.usage.input_tokens, finished.usage.cached_input_tokens), (200, 80));
    assert_eq!((finished.usage.output_tokens, finished.usage.reasoning_tokens, finished.usage.requests), (20, 6, 2));
    assert!(world.result(0).ends_with("Output:\nhello\nworld\n"), "{}", world.result(0));
    assert_eq!(world.shown(), "hello\nworld\n");
    assert_eq!(
        world.kinds(),
        [
            "conversation.item",
            "conversation.item",
            "model.responded",
            "agent.reasoning",
            "conversation.item",
            "conversation.item",
            "command.started",
            "command.output",
            "command.ended",
            "conversation.item",
            "model.responded",
            "agent.message",
            "conversation.item",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_begins_with_the_one_before_and_sends_items_as_they_were() {
    let script = Script::new([
        Reply::reasoning("One.").then(Reply::command("echo 1")),
        Reply::reasoning("Two.").then(Reply::command("echo 2")),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    world.answer("Count.").await;

    let requests = world.requests();
    assert_eq!(requests.len(), 3);
    for pair in requests.windows(2) {
        let shared = &pair[0].body[..pair[0].body.len() - 2];
        assert!(pair[1].body.starts_with(shared), "the cached prefix is lost");
    }
    // The last item, the answer, was never sent.
    let mut recorded = world.items();
    recorded.pop();
    for item in &mut recorded {
        // Where it came from, and what we say it for, is only for us to know.
        let fields = item.as_object_mut().expect("an item");
        fields.retain(|name, _| name != "origin" && name != "note");
    }
    assert_eq!(requests[2].input(), recorded);
    let body = requests[0].json();
    assert_eq!(body["prompt_cache_key"], "task-1");
    assert_eq!((&body["store"], &body["stream"]), (&json!(false), &json!(true)));
    assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(requests[0].header("authorization"), Some("Bearer sk-test-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_and_the_agents_files_stand_before_the_prompt() {
    let world = World::new(Script::new([Reply::message("Done.")])).await;
    world
        .shell(
            "echo 'use tabs' > AGENTS.md; mkdir docs; echo x > docs/AGENTS.md; git add .; echo 'be kind' > ~/AGENTS.md",
        )
        .await;

    world.answer("Do it.").await;

    let input = world.requests()[0].input();
    let texts: Vec<&str> = input.iter().map(|item| item["content"][0]["text"].as_str().unwrap_or_default()).collect();
    assert_eq!(texts.len(), 3);
    assert!(texts[0].contains("workspace: /workspace/repo") && texts[0].contains("network: off"), "{}", texts[0]);
    assert!(texts[0].contains("branch: main") && texts[0].contains("mode: code"), "{}", texts[0]);
    let home = texts[1].find("be kind").expect("the home's file");
    let repository = texts[1].find("use tabs").expect("the repository's file");
    assert!(home < repository && texts[1].contains("- docs/AGENTS.md"), "{}", texts[1]);
    assert_eq!(texts[2], "Do it.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_goes_on_with_the_items_of_the_turn_before() {
    let script = Script::default()
        .when("first", [Reply::command("echo 1"), Reply::message("One.")])
        .when("second", [Reply::message("Two.")]);
    let world = World::new(script).await;
    world.answer("The first.").await;

    let task = AgentTask { history: world.items(), ..world.task("The second.") };
    let finished = world.run_task(task).await.expect("an answer");

    assert_eq!(finished.answer, "Two.");
    let requests = world.requests();
    let shared = &requests[1].body[..requests[1].body.len() - 2];
    assert!(requests[2].body.starts_with(shared), "the cached prefix is lost between turns");
    let prompts = requests[2].input().iter().filter(|item| item["role"] == "user").count();
    assert_eq!(prompts, 3, "the environment is told once, and there are two prompts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_goes_back_to_an_earlier_mode_is_told_so() {
    let world = World::new(Script::new([Reply::message("Done.")])).await;
    let modes = |world: &World| -> Vec<&'static str> {
        let items = world.items();
        let texts = items.iter().filter_map(|item| item["content"][0]["text"].as_str());
        let told = texts.filter(|text| text.starts_with("<environment_context>"));
        told.map(|text| if text.contains("mode: ask") { "ask" } else { "code" }).collect()
    };
    let mut history = Vec::new();
    let mut told = Vec::new();
    for mode in [Mode::Code, Mode::Code, Mode::Ask, Mode::Code] {
        let task = AgentTask { history: history.clone(), mode, ..world.task("Go on.") };
        let before = world.items().len();
        world.run_task(task).await.expect("an answer");
        history.extend(world.items().split_off(before));
        told = modes(&world);
    }

    assert_eq!(told, ["code", "ask", "code"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_can_go_on_from_an_attempt_that_was_cut_off() {
    let script = Script::default()
        .when("first", [Reply::reasoning("Hm.").then(Reply::command("echo 1")), Reply::message("One.")])
        .when("second", [Reply::message("Two.")]);
    let world = World::new(script).await;
    world.answer("The first.").await;
    // Everything up to the call, without its result.
    let history = world.items().into_iter().take(4).collect();

    let task = AgentTask { history, ..world.task("The second.") };
    let finished = world.run_task(task).await.expect("the server refuses a call without a result");

    assert_eq!(finished.answer, "Two.");
    assert!(world.result(0).starts_with("The attempt ended before this call was finished"), "{}", world.result(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_the_least_is_understood() {
    let script = Script::new([Reply::command("echo 1").terse(), Reply::message("Done.").terse()]);
    let world = World::new(script).await;

    let finished = world.run("Count.").await.expect("an answer");

    assert_eq!(finished.answer, "Done.");
    assert_eq!((finished.usage.requests, finished.usage.estimated_requests), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_key_appears_in_no_event_and_no_request_body() {
    let script = Script::new([
        Reply::command("echo sk-test-key; echo sk-test-key | base64"),
        Reply::call("nonsense sk-test-key", json!({})),
        Reply::message("The key is sk-test-key."),
    ]);
    let world = World::new(script).await;

    let answer = world.answer("Tell the key.").await;

    assert!(answer.contains("[redacted]"), "{answer}");
    let recorded = format!("{:?}", world.events());
    assert!(!recorded.contains("sk-test-key") && !recorded.contains("c2stdGVzdC1rZX"), "{recorded}");
    for request in world.requests() {
        assert!(!String::from_utf8_lossy(&request.body).contains("sk-test-key"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_knows_only_functions_gets_only_functions() {
    let patch = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-hello\n+goodbye\n*** End Patch";
    let script = Script::new([Reply::call("apply_patch", json!({ "input": patch })), Reply::message("Done.")]);
    let mut world = World::new(script).await;
    world.endpoint = carrel_agent::ModelEndpoint {
        name: "qwen3-coder".to_owned(),
        ..carrel_agent::ModelEndpoint::new("qwen3-coder", world.model.url(), world.endpoint.key.clone())
    };

    world.answer("Change it.").await;

    let body = world.requests()[0].json();
    let kinds: Vec<&Value> = body["tools"].as_array().expect("tools").iter().map(|tool| &tool["type"]).collect();
    assert!(kinds.iter().all(|kind| *kind == "function"), "{kinds:?}");
    assert_eq!(body["reasoning"], Value::Null);
    assert_eq!(world.shell("cat greeting.txt").await, "goodbye\nworld\n");
}

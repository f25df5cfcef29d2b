//! The same work over each of the three protocols, against the scripted server, which refuses what the real ones would.

use carrel_agent::{AgentTask, ModelEndpoint, Price, Protocol, Reasoning, Thinking};
use carrel_domain::EventBody;
use carrel_testkit::model::{Fault, Reply, Script, Usage};
use serde_json::{Value, json};

use crate::world::{World, within};

/// Each protocol with a model that reasons over it.
pub(crate) const WIRES: [(Protocol, &str); 3] = [
    (Protocol::Responses, "gpt-5-test"),
    (Protocol::ChatCompletions, "deepseek-test"),
    (Protocol::Messages, "claude-opus-5"),
];

/// A world whose model is asked over this protocol.
pub(crate) async fn speaking(protocol: Protocol, model: &str, script: Script) -> World {
    let mut world = World::new(script).await;
    speak(&mut world, protocol, model);
    world
}

fn speak(world: &mut World, protocol: Protocol, model: &str) {
    let endpoint = ModelEndpoint::speaking(protocol, model, world.model.url(), world.endpoint.key.clone());
    world.endpoint = ModelEndpoint { retries: 3, ..endpoint };
}

fn of_kind<T>(world: &World, choose: impl Fn(EventBody) -> Option<T>) -> Vec<T> {
    world.events().into_iter().filter_map(choose).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_done_over_every_wire() {
    for (protocol, model) in WIRES {
        let usage = Usage { input: 100, cached: 40, output: 10, reasoning: 3 };
        let script = Script::new([
            Reply::reasoning("Look first.")
                .then(Reply::message("Let me look."))
                .then(Reply::command("cat greeting.txt"))
                .then(Reply::command("echo two"))
                .usage(usage),
            Reply::reasoning("So it is.").then(Reply::message("It says hello.")).usage(usage),
        ]);
        let mut world = speaking(protocol, model, script).await;
        world.endpoint.price =
            Some(Price { input: 1_000_000, cached_input: 100_000, cache_write: 0, output: 10_000_000 });

        let finished = world.run("What does it say?").await.expect("an answer");

        assert_eq!(finished.answer, "It says hello.", "{protocol:?}");
        assert!(world.result(0).ends_with("Output:\nhello\nworld\n"), "{}", world.result(0));
        assert_eq!((finished.usage.input_tokens, finished.usage.cached_input_tokens), (200, 80), "{protocol:?}");
        assert_eq!((finished.usage.output_tokens, finished.usage.requests), (20, 2), "{protocol:?}");
        // 120 plain tokens, 80 cached ones, 20 produced ones.
        assert_eq!((finished.usage.cost_usd_micros, finished.usage.estimated_requests), (328, 0), "{protocol:?}");
        let thoughts = of_kind(&world, |body| match body {
            EventBody::AgentReasoning { text } => Some(text),
            _ => None,
        });
        assert_eq!(thoughts, ["Look first.", "So it is."], "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_begins_with_the_one_before_over_every_wire() {
    for (protocol, model) in WIRES {
        let step = |n: u32| Reply::reasoning(format!("Thought {n}.")).then(Reply::command(format!("echo {n}")));
        let world = speaking(protocol, model, Script::new([step(1), step(2), step(3), Reply::message("Done.")])).await;

        world.answer("Count.").await;

        let plain = |body: &[u8]| {
            let text = String::from_utf8(body.to_vec()).expect("UTF-8");
            text.replace(r#","cache_control":{"type":"ephemeral"}"#, "").trim_end_matches([']', '}']).to_owned()
        };
        for pair in world.requests().windows(2) {
            assert!(plain(&pair[1].body).starts_with(&plain(&pair[0].body)), "{protocol:?}: the cached prefix is lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_goes_where_the_protocol_has_it() {
    for (protocol, model) in WIRES {
        let world = speaking(protocol, model, Script::new([Reply::message("Done.")])).await;

        world.answer("Go.").await;

        let request = &world.requests()[0];
        let sent = (request.header("authorization"), request.header("x-api-key"), request.header("anthropic-version"));
        match protocol {
            Protocol::Messages => assert_eq!(sent, (None, Some("sk-test-key"), Some("2023-06-01"))),
            _ => assert_eq!(sent, (Some("Bearer sk-test-key"), None, None)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_over_another_wire_takes_everything_but_the_reasoning() {
    for (first, first_model) in WIRES {
        for (second, second_model) in WIRES.into_iter().filter(|(second, _)| *second != first) {
            let script = Script::default()
                .when("first", [Reply::reasoning("Hm.").then(Reply::command("echo 1")), Reply::message("One.")])
                .when("second", [Reply::message("Two.")]);
            let mut world = speaking(first, first_model, script).await;
            world.answer("The first.").await;

            speak(&mut world, second, second_model);
            let task = AgentTask { history: world.items(), ..world.task("The second.") };
            let finished = world.run_task(task).await.expect("the server refuses what it cannot verify");

            assert_eq!(finished.answer, "Two.", "{first:?} to {second:?}");
            let last = String::from_utf8(world.requests().last().expect("a request").body.to_vec()).expect("UTF-8");
            assert!(last.contains("One.") && !last.contains("Hm."), "{first:?} to {second:?}: {last}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeform_patch_of_one_model_is_told_to_another_as_a_plain_call() {
    let patch = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-hello\n+goodbye\n*** End Patch";
    let script = Script::default()
        .when("first", [Reply::custom("apply_patch", patch), Reply::message("One.")])
        .when("second", [Reply::message("Two.")]);
    let mut world = World::new(script).await;
    world.answer("The first.").await;

    speak(&mut world, Protocol::Messages, "claude-opus-5");
    let task = AgentTask { history: world.items(), ..world.task("The second.") };
    world.run_task(task).await.expect("an answer");

    let body = world.requests().last().expect("a request").json();
    let call = body["messages"].as_array().into_iter().flatten().find(|message| message["role"] == "assistant");
    assert_eq!(call.map(|call| &call["content"][0]["input"]), Some(&json!({ "input": patch })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_is_applied_over_every_wire() {
    let patch = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-hello\n+goodbye\n*** End Patch";
    for (protocol, model) in &WIRES[1..] {
        // The scripted server has only functions here, and turns a freeform call into one.
        let script = Script::new([Reply::custom("apply_patch", patch), Reply::message("Done.")]);
        let world = speaking(*protocol, model, script).await;

        world.answer("Change it.").await;

        assert_eq!(world.shell("cat greeting.txt").await, "goodbye\nworld\n", "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_the_least_or_all_at_once_is_understood_over_every_wire() {
    for (protocol, model) in WIRES {
        let script = Script::new([
            Reply::command("echo 1").terse(),
            Reply::reasoning("Hm.").then(Reply::command("echo 2")).whole(),
            Reply::message("Done.").terse(),
        ]);
        let world = speaking(protocol, model, script).await;

        let finished = world.run("Count.").await.expect("an answer");

        assert_eq!(finished.answer, "Done.", "{protocol:?}");
        assert_eq!(world.shown(), "1\n2\n", "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_counts_nothing_gets_an_estimate_that_says_so() {
    for (protocol, model) in &WIRES[..2] {
        let script = Script::new([Reply::command("echo 1").terse(), Reply::message("Done.").terse()]);
        let world = speaking(*protocol, model, script).await;

        let finished = world.run("Count.").await.expect("an answer");

        assert_eq!((finished.usage.requests, finished.usage.estimated_requests), (2, 2), "{protocol:?}");
        let bytes: usize = world.requests().iter().map(|request| request.body.len()).sum();
        let tokens = usize::try_from(finished.usage.input_tokens).expect("a few");
        assert!((bytes / 8..bytes / 2).contains(&tokens), "{tokens} for {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_is_asked_for_again_over_every_wire() {
    let status = |code| Fault::Status { code, message: "Later.".to_owned(), retry_after: Some("0".to_owned()) };
    for (protocol, model) in WIRES {
        for fault in [
            status(408),
            status(429),
            status(500),
            status(529),
            Fault::Cut { after_bytes: 150 },
            Fault::Short { after_items: 0 },
            Fault::Garbage,
            Fault::Error { code: "overloaded_error".to_owned(), message: "Overloaded".to_owned() },
        ] {
            let what = format!("{protocol:?} {fault:?}");
            let script = Script::new([Reply::command("echo 1").after(fault), Reply::message("Done.").into()]);
            let world = speaking(protocol, model, script).await;

            assert_eq!(within(30, world.answer("Go.")).await, "Done.", "{what}");

            let retries = world.kinds().into_iter().filter(|kind| *kind == "model.retrying").count();
            assert_eq!(retries, 1, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_after_a_whole_call_goes_on_with_it_over_every_wire() {
    for (protocol, model) in WIRES {
        let step = Reply::command("echo one").then(Reply::command("echo two")).after(Fault::Short { after_items: 1 });
        let world = speaking(protocol, model, Script::new([step, Reply::message("Done.").into()])).await;

        assert_eq!(world.answer("Go.").await, "Done.", "{protocol:?}");

        assert_eq!((world.requests().len(), world.shown().as_str()), (2, "one\n"), "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_answered_with_those_the_server_has() {
    for (protocol, model) in WIRES {
        let script = Script::new([Reply::message("Done.")]).models(["other-model", "gpt-5-testing"]);
        let world = speaking(protocol, model, script).await;

        let error = world.run("Go.").await.expect_err("no such model").to_string();

        let expected = format!("knows no model `{model}`; it has ");
        assert!(error.contains(&expected) && error.contains("other-model"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_asked_with_the_effort_of_the_attempt() {
    let field = |protocol: Protocol, body: &Value| match protocol {
        Protocol::Responses => body["reasoning"]["effort"].clone(),
        Protocol::ChatCompletions => body["reasoning_effort"].clone(),
        Protocol::Messages => body["output_config"]["effort"].clone(),
    };
    for (protocol, model) in
        [(Protocol::Responses, "gpt-5"), (Protocol::ChatCompletions, "gpt-5"), (Protocol::Messages, "claude-opus-5")]
    {
        let mut world = speaking(protocol, model, Script::new([Reply::message("Done.")])).await;
        world.endpoint = world.endpoint.clone().with_effort(Some("high"));

        world.answer("Go.").await;

        assert_eq!(field(protocol, &world.requests()[0].json()), "high", "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thought_that_had_a_secret_in_it_is_left_out_and_the_server_that_wants_one_is_asked_without() {
    let think = Reply::reasoning("The key is sk-test-key.").then(Reply::command("echo 1"));
    let script = Script::new([think, Reply::command("echo 2"), Reply::message("Done.")]);
    let mut world = speaking(Protocol::Messages, "claude-sonnet-4-5", script).await;
    world.endpoint.reasoning = Reasoning::On { effort: None };
    world.endpoint.thinking = Thinking::Budget;

    let finished = world.run("Go.").await.expect("an answer");

    assert_eq!((finished.answer.as_str(), world.shown().as_str()), ("Done.", "1\n2\n"));
    let thinks: Vec<bool> = world.requests().iter().map(|request| request.json()["thinking"].is_object()).collect();
    assert_eq!(thinks, [true, true, true, false, false], "as it was, without the thought, without thoughts");
}

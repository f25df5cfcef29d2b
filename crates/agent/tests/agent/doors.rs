//! The model behind the door of a sandbox: what is asked at the same time, what is refused, and what is under way when the
//! agent ends.

use std::time::{Duration, Instant};

use carrel_agent::{AgentLimits, GuestAnswer, GuestModel, GuestProtocol, GuestRequest, Limit};
use carrel_domain::{EventBody, Usage};
use carrel_testkit::model::{Fault, Reply, Script, Usage as Said};
use serde_json::json;

use crate::guests::Played;
use crate::world::{World, within};

/// A request for the Responses API, as an agent makes it.
fn request(prompt: &str) -> GuestRequest {
    let input = json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]}]);
    let body = json!({"model": "any", "input": input, "stream": true, "store": false}).to_string();
    GuestRequest { method: "POST".to_owned(), path: "/v1/responses".to_owned(), headers: Vec::new(), body: body.into() }
}

/// All of an answer: its status, and its text as far as it came.
async fn ask(model: &GuestModel, request: GuestRequest) -> (u16, String) {
    let (got, head) = tokio::sync::oneshot::channel();
    let serving = model.serve(request, |answer| got.send(answer).expect("somebody waits"));
    let reading = async {
        let Ok(GuestAnswer { status, mut body, .. }) = head.await else { return (0, String::new()) };
        let mut text = Vec::new();
        while let Some(Some(piece)) = body.recv().await {
            text.extend_from_slice(&piece);
        }
        (status, String::from_utf8_lossy(&text).into_owned())
    };
    let ((), answer) = within(30, async { tokio::join!(serving, reading) }).await;
    answer
}

fn model(world: &World, limits: AgentLimits) -> GuestModel {
    let (endpoint, client) = (world.endpoint.clone(), world.client.clone());
    GuestModel::new(endpoint, client, world.journal.clone(), world.redactor.clone(), limits, Usage::default())
}

fn responded(world: &World) -> Vec<Usage> {
    let events = world.events().into_iter();
    events
        .filter_map(|body| match body {
            EventBody::ModelResponded { usage, .. } => usage,
            _ => None,
        })
        .collect()
}

/// An answer that costs so much.
fn costs(output: u64) -> Reply {
    Reply { usage: Some(Said { input: 10, cached: 0, output, reasoning: 0 }), ..Reply::message("Done.") }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_at_the_same_time_passes_no_limit_together() {
    let slow = Reply { delay_ms: 300, ..costs(900) };
    let world = World::new(Script::new([slow.clone(), slow.clone(), slow.clone(), slow])).await;
    let model = model(&world, AgentLimits { tokens: Some(1000), ..AgentLimits::default() });

    let ask = |prompt| ask(&model, request(prompt));
    let answers = tokio::join!(ask("a"), ask("b"), ask("c"), ask("d"));

    let statuses = [answers.0.0, answers.1.0, answers.2.0, answers.3.0];
    // The first may use up all there is, and so the others wait; the second may, too, for there is something left.
    assert_eq!(world.requests().len(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{answers:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 2, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_is_a_step() {
    let world = World::new(Script::new([costs(1), costs(1), costs(1)])).await;
    let model = model(&world, AgentLimits { steps: 3, ..AgentLimits::default() });
    let odd = |body: &'static str| GuestRequest { body: body.into(), ..request("") };

    let refused = ask(&model, odd("[]")).await;
    let remote = ask(&model, odd(r#"{"input":[{"image_url":"https://evil.example"}]}"#)).await;
    let answered = ask(&model, request("a")).await;
    let ended = ask(&model, request("b")).await;

    assert_eq!((refused.0, remote.0, answered.0, ended.0), (400, 400, 200, 400));
    assert!(ended.1.contains("3 steps"), "{}", ended.1);
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_the_agent_ends_is_put_down_after_a_short_grace() {
    let world = World::new(Script::new([costs(5).after(Fault::Stall { after_bytes: 400 })])).await;
    // It ends once its request is under way, and never reads the answer.
    let script = "until_heard never";
    let played = Played::new(&world, GuestProtocol::Acp, script).await;
    let model = played.model.clone();

    let long = "word ".repeat(1000);
    let asking = tokio::spawn(async move { model.serve(request(&long), drop).await });
    let ending = async {
        while world.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        world.shell("kill $(pgrep -f agent.s[h])").await;
        Instant::now()
    };
    let (ended, began) = tokio::join!(played.run(world.task("Go.")), ending);

    let took = began.elapsed();
    assert!(ended.is_err(), "{ended:?}");
    assert!((5..10).contains(&took.as_secs()), "{took:?}");
    asking.await.expect("no panic");
    let [usage] = responded(&world)[..] else { panic!("{:?}", responded(&world)) };
    assert!(usage.input_tokens >= 1250 && usage.output_tokens > 0, "{usage:?}");
    assert_eq!((usage.requests, usage.estimated_requests), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_cancels_waits_for_the_model_of_the_agent() {
    let world = World::new(Script::new([costs(5).after(Fault::Stall { after_bytes: 0 })])).await;
    let played = Played::new(&world, GuestProtocol::Acp, "until_heard never").await;
    let model = played.model.clone();

    let asking = tokio::spawn(async move { model.serve(request("a"), drop).await });
    let cancelling = async {
        while world.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        world.cancel.cancel();
        Instant::now()
    };
    let (_ended, began) = tokio::join!(played.run(world.task("Go.")), cancelling);

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    asking.await.expect("no panic");
    assert_eq!(responded(&world).len(), 1, "it may be paid for");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_costs_no_less_than_what_was_seen_of_it() {
    let world = World::new(Script::new([costs(5).after(Fault::Cut { after_bytes: 900 })])).await;
    let model = model(&world, AgentLimits::default());

    ask(&model, request(&"word ".repeat(100))).await;

    let [usage] = responded(&world)[..] else { panic!("{:?}", responded(&world)) };
    assert!(usage.input_tokens >= 125 && usage.output_tokens >= 1, "{usage:?}");
    assert_eq!((usage.requests, usage.estimated_requests), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_can_be_told_sums_up_when_the_end_of_a_limit_is_near() {
    let world = World::new(Script::new(Vec::<Reply>::new())).await;
    let script = r#"
turn 3 one; begun one
until_heard budget_note; say '{"id":4,"result":{}}'; message 'Summed up.'; over one"#;
    let limits = AgentLimits { steps: 5, ..AgentLimits::default() };
    let played = Played::with_limits(&world, GuestProtocol::CodexAppServer, script, limits).await;

    let (ended, ()) = tokio::join!(played.run(played.task("Go.")), async {
        for _ in 0..4 {
            ask(&played.model, GuestRequest { body: "x".into(), ..request("") }).await;
        }
    });

    let finished = ended.expect("an answer");
    assert_eq!((finished.answer.as_str(), finished.notes.last_word), ("Summed up.", None));
    let hits: Vec<String> = world.events().into_iter().filter_map(hit).collect();
    assert_eq!(hits, ["steps: the limit of 5 steps is all but reached; the agent was asked to sum up"]);
}

fn hit(body: EventBody) -> Option<String> {
    match body {
        EventBody::LimitHit { limit, message } => Some(format!("{limit}: {message}")),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_budget_is_closed_has_its_last_word_and_no_more() {
    let world = World::new(Script::new([costs(1), costs(1), costs(1)])).await;
    let script = r#"
turn 3 one; begun one; message 'At work.'
until_heard budget_note; say '{"id":4,"result":{}}'; until_heard never"#;
    let played = Played::new(&world, GuestProtocol::CodexAppServer, script).await;

    let (ended, statuses) = tokio::join!(played.run(world.task("Go.")), async {
        world.wait_for("agent.message").await;
        world.journal.bell().close("the budget is spent".to_owned());
        world.wait_for("limit.hit").await;
        let mut statuses = Vec::new();
        for prompt in ["a", "b", "c"] {
            statuses.push(ask(&played.model, request(prompt)).await.0);
        }
        statuses
    });

    assert_eq!(statuses, [200, 200, 400]);
    let reason = "the budget is spent".to_owned();
    let limit = Limit::Budget { reason };
    assert!(matches!(&ended, Err(carrel_agent::AgentError::Limit(found)) if *found == limit), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_said_when_its_budget_was_closed_is_its_answer() {
    let world = World::new(Script::new(Vec::<Reply>::new())).await;
    let script = r#"
turn 3 one; begun one; message 'At work.'
until_heard budget_note; say '{"id":4,"result":{}}'; message 'Half of it.'; over one"#;
    let played = Played::new(&world, GuestProtocol::CodexAppServer, script).await;

    let (ended, ()) = tokio::join!(played.run(world.task("Go.")), async {
        world.wait_for("agent.message").await;
        world.journal.bell().close("the budget is spent".to_owned());
    });

    let finished = ended.expect("an answer");
    assert_eq!(finished.answer, "Half of it.");
    assert_eq!(finished.notes.last_word.as_deref(), Some("the budget is spent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_citations_of_an_agent_are_checked() {
    let world = World::new(Script::new(Vec::<Reply>::new())).await;
    let script = "message 'It greets【F:greeting.txt†L1-L2】 twice【F:greeting.txt†L9】.\\n\\n**Follow-ups**\\n\\n- Why?'; over 3";
    let played = Played::new(&world, GuestProtocol::Acp, script).await;

    let finished = played.run(world.task("What does it do?")).await.expect("an answer");

    let citations = &finished.notes.citations;
    assert_eq!((citations.holding, citations.failing.len()), (1, 1), "{citations:?}");
    assert_eq!(citations.failing[0].reason, "there are only 2 lines");
    assert_eq!(finished.notes.suggestions, ["Why?"]);
    assert!(finished.answer.ends_with("twice【F:greeting.txt†L9】."), "{}", finished.answer);
    assert!(world.events().iter().any(|body| matches!(body, EventBody::CitationsChecked(_))));
}

//! Conversations that become too long for their model.

use carrel_agent::{AgentError, AgentLimits, AgentTask, Limit, Protocol};
use carrel_domain::EventBody;
use carrel_testkit::model::{Exchange, Fault, Reply, Script, Step};
use serde_json::Value;

use crate::world::{World, within};

/// What only the request for a summary has in it.
const ASKED: &str = "Your context window is nearly full.";

/// A command whose output has about this many tokens.
fn prints(number: usize) -> Reply {
    Reply::command(format!("echo {number}; seq -s ' ' 100000 100200"))
}

/// A script in which each summary is followed by more commands than there is room for, and the last by the end.
fn long_work(summaries: usize) -> Script {
    let mut script = Script::new((0..60).map(prints));
    for summary in 1..=summaries {
        let mut steps: Vec<Step> = (0..60).map(|number| prints(summary * 1000 + number).into()).collect();
        if summary == summaries {
            steps = vec![Reply::message("Done.").into()];
        }
        script = script.when(format!("[Context summary {summary}]"), steps);
    }
    script.when(ASKED, [Reply::message("I looked around.")])
}

async fn world(script: Script, window: u64) -> World {
    let mut world = World::new(script).await;
    world.endpoint.context_window = Some(window);
    world
}

fn compactions(world: &World) -> Vec<EventBody> {
    world.events().into_iter().filter(|body| body.kind() == "context.compacted").collect()
}

fn is_for_a_summary(request: &Exchange) -> bool {
    String::from_utf8_lossy(&request.body).contains(ASKED)
}

fn texts(request: &Exchange) -> String {
    request.input().iter().map(Value::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_that_was_said_first_is_still_known_after_three_compactions() {
    let world = world(long_work(3), 16_000).await;

    let finished = within(60, world.run("Paint the bridge teal.")).await.expect("an answer");

    assert_eq!(finished.answer, "Done.");
    let compactions = compactions(&world);
    assert_eq!(compactions.len(), 3);
    for body in compactions {
        let EventBody::ContextCompacted { before_tokens, after_tokens, items_dropped, by_model, .. } = body else {
            panic!("another kind")
        };
        assert!(by_model && after_tokens < before_tokens && items_dropped > 5, "{before_tokens} {after_tokens}");
    }
    let requests = world.requests();
    let last = requests.last().expect("a request");
    let said = texts(last);
    assert!(said.contains("Paint the bridge teal.") && said.contains("I looked around."), "{said}");
    assert!(said.contains("seq -s ' ' 100000 100200") && !said.contains("100100"), "{said}");
    // Names of commands are never used twice.
    let ids: Vec<String> = world
        .events()
        .into_iter()
        .filter_map(|body| match body {
            EventBody::CommandStarted { command_id, .. } => Some(command_id),
            _ => None,
        })
        .collect();
    let mut unique = ids.clone();
    unique.dedup();
    assert_eq!(ids, unique);
    assert!(requests.iter().all(|request| request.body.len() < 16_000 * 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_compactions_each_request_begins_with_the_one_before() {
    let world = world(long_work(2), 16_000).await;

    within(60, world.answer("Go.")).await;

    let requests = world.requests();
    let stem = |request: &Exchange| {
        let body = String::from_utf8(request.body.to_vec()).expect("UTF-8");
        body.trim_end_matches([']', '}']).to_owned()
    };
    let breaks = requests.windows(2).filter(|pair| !stem(&pair[1]).starts_with(&stem(&pair[0]))).count();
    assert_eq!(breaks, 2);
    // A summary is asked for behind what the server has in its cache.
    assert_eq!(requests.iter().filter(|request| is_for_a_summary(request)).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_the_server_refuses_is_made_shorter_on_every_wire() {
    for protocol in [Protocol::Responses, Protocol::ChatCompletions, Protocol::Messages] {
        let full = Fault::Failed { code: "context_length_exceeded".to_owned(), message: "too long".to_owned() };
        let steps: Vec<Step> = vec![prints(1).into(), prints(2).into(), Step::always(full)];
        let script = Script::new(steps)
            .when("[Context summary 1]", [Reply::message("Done.")])
            .when(ASKED, [Reply::message("I looked around.")]);
        let mut world = World::new(script).await;
        world.endpoint.protocol = protocol;

        let finished = within(30, world.run("Go.")).await.expect("an answer");

        assert_eq!(finished.answer, "Done.", "{protocol:?}");
        assert_eq!(compactions(&world).len(), 1, "{protocol:?}");
        let last = world.requests().last().map(texts).expect("a request");
        assert!(last.contains("Go.") && last.contains("I looked around.") && !last.contains("100100"), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_summarise_goes_on_from_the_record() {
    let full = Fault::Failed { code: "context_length_exceeded".to_owned(), message: "too long".to_owned() };
    let refusal = Fault::Failed { code: "invalid_prompt".to_owned(), message: "no".to_owned() };
    let script = Script::new([Step::from(prints(1)), Step::always(full)])
        .when("[Context summary 1]", [Reply::message("Done.")])
        .when(ASKED, [Step::always(refusal)]);
    let world = World::new(script).await;

    let answer = within(30, world.answer("Go.")).await;

    assert_eq!(answer, "Done.");
    let last = world.requests().last().map(texts).expect("a request");
    assert!(last.contains("because you could not be asked") && last.contains("seq -s"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_summarises_does_not_run_in_circles_for_ever() {
    // Asked for a summary, it calls a tool; asked to go on, it does the same few things again.
    let script = Script::new((0..500).map(|number| prints(number % 7))).when(ASKED, [prints(0)]);
    let world = world(script, 16_000).await;

    let ended = within(120, world.run("Go.")).await;

    let Err(AgentError::ContextFull { reason }) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("wrote no summary"), "{reason}");
    assert_eq!(compactions(&world).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_even_the_shortest_is_given_up() {
    let full = || Fault::Failed { code: "context_length_exceeded".to_owned(), message: "too long".to_owned() };
    let script = Script::new([Step::from(prints(1)), Step::always(full())])
        .when("[Context summary", [Step::always(full())])
        .when(ASKED, [Step::always(full())]);
    let world = World::new(script).await;

    let ended = within(30, world.run("Go.")).await;

    assert!(matches!(ended, Err(AgentError::ContextFull { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_turns_go_through_a_small_window() {
    let turns = 300;
    let mut script = Script::new((0..60).map(prints));
    for summary in 1..60 {
        // Each request says how far the work is, by the number of the summary.
        let steps = (0..60).map(move |number| prints(summary * 1000 + number));
        script = script.when(format!("[Context summary {summary}]"), steps);
    }
    let script = script.when(ASKED, [Reply::message("I looked around.")]);
    let world = world(script, 16_000).await;
    let limits = AgentLimits { steps: turns, ..AgentLimits::default() };

    let ended = within(200, world.run_task(AgentTask { limits, ..world.task("Paint the bridge teal.") })).await;

    assert!(matches!(ended, Err(AgentError::Limit(Limit::Steps { .. }))), "{ended:?}");
    let requests = world.requests();
    assert!(requests.len() > 300 && compactions(&world).len() >= 8, "{}", compactions(&world).len());
    let largest = requests.iter().map(|request| request.body.len()).max();
    assert!(largest < Some(16_000 * 5), "{largest:?}");
    assert!(requests.last().map(texts).is_some_and(|said| said.contains("Paint the bridge teal.")));
}

/// What the next worker finds.
fn left_behind(world: &World, items: Vec<Value>) -> AgentTask {
    AgentTask { resumed: items, ..world.task("Go.") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_taken_up_after_a_compaction_sends_the_same_bytes() {
    let script = Script::new((0..40).map(prints))
        .when("[Context summary 1]", [prints(1000), Reply::message("Done.")])
        .when(ASKED, [Reply::message("I looked around.")]);
    let world = world(script, 16_000).await;
    within(60, world.answer("Go.")).await;
    let expected = world.requests().last().expect("a request").body.clone();
    // All but the answer.
    let mut items = world.items();
    items.pop();

    within(60, world.run_task(left_behind(&world, items))).await.expect("an answer");

    assert_eq!(world.requests().last().expect("a request").body, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_asks_for_a_summary_is_followed_by_one_that_asks_again() {
    let script = Script::new((0..40).map(prints))
        .when("[Context summary 1]", [Reply::message("Done.")])
        .when(ASKED, [Reply::message("I looked around.").after(Fault::Stall { after_bytes: 0 })]);
    let world = world(script, 16_000).await;
    within(60, async {
        let asks = async {
            let mut number = 0;
            while !is_for_a_summary(&world.model.request(number).await) {
                number += 1;
            }
        };
        tokio::select! {
            ended = world.run("Go.") => panic!("it ended first: {ended:?}"),
            () = asks => {}
        }
    })
    .await;
    assert!(compactions(&world).is_empty());

    let finished = within(60, world.run_task(left_behind(&world, world.items()))).await.expect("an answer");

    assert_eq!((finished.answer.as_str(), compactions(&world).len()), ("Done.", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_runs_goes_on_and_can_be_written_to_after_a_compaction() {
    let server = Reply::call("exec_command", serde_json::json!({"cmd": "cat", "tty": true, "yield_time_ms": 250}));
    let steps = std::iter::once(server).chain((0..40).map(prints));
    let write = Reply::call("write_stdin", serde_json::json!({"session_id": 2, "chars": "still here\n"}));
    let script = Script::new(steps)
        .when("[Context summary 1]", [write, Reply::message("Done.")])
        .when(ASKED, [Reply::message("I looked around.")]);
    let world = world(script, 16_000).await;

    within(60, world.answer("Go.")).await;

    let last = world.requests().last().map(texts).expect("a request");
    assert!(last.contains("session 2: `cat`") && world.result(0).contains("still here"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_goes_on_from_the_compacted_form() {
    let script = Script::new([Reply::message("Sure.")])
        .when("[Context summary 1]", [Reply::message("Done.")])
        .when("Go.", (0..40).map(prints))
        .when(ASKED, [Reply::message("I looked around.")])
        .when("And now?", [Reply::message("Sure.")]);
    let world = world(script, 16_000).await;
    within(60, world.answer("Go.")).await;
    let history = world.items();

    let task = AgentTask { history, ..world.task("And now?") };
    let finished = within(30, world.run_task(task)).await.expect("an answer");

    assert_eq!(finished.answer, "Sure.");
    let last = world.requests().last().map(texts).expect("a request");
    assert!(last.contains("I looked around.") && !last.contains("100100"), "{last}");
    assert_eq!(last.matches("environment_context>").count(), 2, "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_stopped_while_its_summary_is_written() {
    let script = Script::new((0..40).map(prints)).when(ASKED, [Step::always(Fault::Stall { after_bytes: 0 })]);
    let world = world(script, 16_000).await;

    let (ended, took) = within(60, async {
        tokio::join!(world.run("Go."), async {
            let mut number = 0;
            while !is_for_a_summary(&world.model.request(number).await) {
                number += 1;
            }
            let began = std::time::Instant::now();
            world.cancel.cancel();
            began
        })
    })
    .await;

    assert!(took.elapsed() < std::time::Duration::from_secs(1), "{:?}", took.elapsed());
    assert!(matches!(ended, Err(AgentError::Cancelled)), "{ended:?}");
    assert!(compactions(&world).is_empty(), "a summary that was not written is not gone on from");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_while_a_summary_is_due_does_not_cost_the_conversation() {
    let down = Fault::Status { code: 503, message: "Down.".to_owned(), retry_after: Some("0".to_owned()) };
    let script = Script::new((0..40).map(prints)).when(ASKED, [Step::always(down)]);
    let world = world(script, 16_000).await;

    let ended = within(60, world.run("Go.")).await;

    assert!(matches!(ended, Err(AgentError::Model { retryable: true, .. })), "{ended:?}");
    assert!(compactions(&world).is_empty(), "a retry goes on from all of it");
}

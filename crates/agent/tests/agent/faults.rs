//! What can go wrong with a model server, and what comes of it.

use std::time::Duration;

use carrel_agent::{AgentError, ModelTimeouts};
use carrel_domain::{EventBody, Secret};
use carrel_testkit::model::{Fault, Item, Reply, Script, Step};

use crate::world::{World, within};

fn reasons(world: &World) -> Vec<String> {
    let events = world.events().into_iter();
    events
        .filter_map(|body| match body {
            EventBody::ModelRetrying { reason, .. } => Some(reason),
            _ => None,
        })
        .collect()
}

/// The reason of the one retry that a fault leads to before the answer comes.
async fn survived(fault: Fault) -> String {
    let world = World::new(Script::new([Reply::command("echo 1").after(fault), Reply::message("Done.").into()])).await;
    assert_eq!(within(30, world.answer("Go.")).await, "Done.");
    let reasons = reasons(&world);
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    reasons.into_iter().next().unwrap_or_default()
}

/// How a run ends whose every request meets this fault, and how many requests it made.
async fn final_error(fault: Fault) -> (String, bool, usize) {
    let world = World::new(Script::new([Step::always(fault)])).await;
    match within(30, world.run("Go.")).await {
        Err(AgentError::Model { reason, retryable }) => (reason, retryable, world.requests().len()),
        other => panic!("{other:?}"),
    }
}

fn status(code: u16, message: &str) -> Fault {
    Fault::Status { code, message: message.to_owned(), retry_after: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_server_is_retried() {
    assert!(survived(status(500, "Oops.")).await.contains("HTTP 500): Oops."));
    assert!(survived(status(529, "Overloaded.")).await.contains("Overloaded."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stalled_or_broken_stream_is_retried() {
    for fault in [
        Fault::Cut { after_bytes: 100 },
        Fault::Cut { after_bytes: 9000 },
        Fault::Short { after_items: 0 },
        Fault::Garbage,
        Fault::Huge { size_bytes: 17 << 20 },
    ] {
        let what = format!("{fault:?}");
        let reason = survived(fault).await;
        assert!(reason.starts_with("the model server's answer is not whole"), "{what}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stalls_is_given_up_after_the_idle_time() {
    let script = Script::new([Reply::message("Done.").after(Fault::Stall { after_bytes: 500 })]);
    let mut world = World::new(script).await;
    world.endpoint.timeouts = ModelTimeouts { idle: Duration::from_millis(300), ..ModelTimeouts::default() };

    assert_eq!(within(20, world.answer("Go.")).await, "Done.");

    assert_eq!(reasons(&world), ["the model server stopped in the middle of its answer for 300 ms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_keeps_its_connection_alive_is_given_up_in_the_end() {
    let script = Script::new([Reply::message("Done.").after(Fault::KeepAlive { after_bytes: 500 })]);
    let mut world = World::new(script).await;
    let idle = Duration::from_secs(10);
    world.endpoint.timeouts = ModelTimeouts { idle, silent: Duration::from_millis(300), ..ModelTimeouts::default() };

    assert_eq!(within(20, world.answer("Go.")).await, "Done.");

    let reason = "the model server has only kept its connection alive, and said nothing, for 300 ms";
    assert_eq!(reasons(&world), [reason]);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_model_is_asked_no_more_is_said() {
    let busy = |retry_after: Option<&str>| Fault::Status {
        code: 503,
        message: "overloaded".to_owned(),
        retry_after: retry_after.map(str::to_owned),
    };
    for (fault, said) in [
        (busy(Some("3600")), " (it asks to be asked again in 60 min, and at most 10 min are waited)"),
        (busy(Some("0.01")), " (it was asked 3 times)"),
    ] {
        let mut world = World::new(Script::new([Step::always(fault)])).await;
        world.endpoint.retries = 2;

        let ended = within(20, world.run("Go.")).await;

        let Err(AgentError::Model { reason, retryable: true }) = ended else { panic!("{ended:?}") };
        assert!(reason.contains("overloaded") && reason.ends_with(said), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let fault = Fault::Status { code: 429, message: "Slow down.".to_owned(), retry_after: Some("0.2".to_owned()) };
    let world = World::new(Script::new([Reply::message("Done.").after(fault)])).await;

    assert_eq!(world.answer("Go.").await, "Done.");

    let events = world.events();
    let retry = events.iter().find(|body| matches!(body, EventBody::ModelRetrying { .. }));
    assert!(matches!(retry, Some(EventBody::ModelRetrying { wait_ms: 200, retry: 1, .. })), "{retry:?}");
    let requests = world.requests();
    assert!(requests[1].received_at - requests[0].received_at >= Duration::from_millis(200));
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pause_in_the_words_of_a_rate_limit_is_kept() {
    let fault = Fault::Failed {
        code: "rate_limit_exceeded".to_owned(),
        message: "Rate limit reached. Please try again in 150ms.".to_owned(),
    };
    let world = World::new(Script::new([Reply::message("Done.").after(fault)])).await;

    assert_eq!(world.answer("Go.").await, "Done.");

    assert!(world.events().iter().any(|body| matches!(body, EventBody::ModelRetrying { wait_ms: 150, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_broken_is_given_up_after_the_retries() {
    let fault = Fault::Status { code: 503, message: "Down.".to_owned(), retry_after: Some("0".to_owned()) };

    let (reason, retryable, requests) = final_error(fault).await;

    assert_eq!(reason, "the model server has an error (HTTP 503): Down. (it was asked 4 times)");
    assert!(retryable);
    assert_eq!(requests, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fail_again_is_not_tried_again() {
    for (fault, expected) in [
        (status(400, "Bad."), "the model server refused the request (HTTP 400): Bad."),
        (status(403, "No."), "the model server forbids this; check what the key in CARREL_MODEL_KEY may use: No."),
        (status(404, "No model."), "knows no model `gpt-5-test`"),
        (status(302, ""), "the model server redirects (HTTP 302)"),
        (Fault::Html, "answered with text/html, not with an event stream"),
        (
            Fault::Incomplete { reason: "content_filter".to_owned() },
            "the model's answer is incomplete (content_filter)",
        ),
        (
            Fault::Error { code: "insufficient_quota".to_owned(), message: "Pay.".to_owned() },
            "the model account has no quota left",
        ),
    ] {
        let (reason, retryable, requests) = final_error(fault).await;
        assert!(reason.contains(expected), "{reason}");
        assert!(!retryable && requests == 1, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_says_nothing_is_asked_to_go_on_and_may_have_nothing_to_say_of_work_it_did() {
    let steps = [Step::from(Reply::command("echo 1")), Reply::message("Done.").after(Fault::Empty)];
    let world = World::new(Script::default().when("Go.", steps)).await;
    let worked = [Step::from(Reply::command("echo 1")), Step::always(Fault::Empty)];
    let worked = World::new(Script::default().when("Go.", worked)).await;
    let silent = World::new(Script::new([Step::always(Fault::Empty)])).await;

    let answer = within(20, world.answer("Go.")).await;
    let none = within(20, worked.answer("Go.")).await;
    let failed = within(20, silent.run("Go.")).await;

    assert_eq!((answer.as_str(), none.as_str()), ("Done.", ""));
    let told = "the model gave 4 empty answers in a row; what it did before counts as it is";
    assert!(worked.events().iter().any(|event| matches!(event, EventBody::Warning { message } if message == told)));
    let Err(AgentError::Model { reason, retryable: true }) = failed else { panic!("{failed:?}") };
    assert_eq!(reason, "the model gave nothing but empty answers, 4 in a row");
    let last = world.requests()[2].input();
    let said = last.last().expect("an item")["content"][0]["text"].as_str().expect("a text").to_owned();
    assert!(said.starts_with("Your last answer was empty"), "{said}");
    assert_eq!(silent.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_answer_was_too_long_is_told_to_write_less() {
    let too_long = || Fault::Incomplete { reason: "max_output_tokens".to_owned() };
    let script = Script::new([Step::always(too_long())]);
    let world = World::new(script).await;

    let ended = within(20, world.run("Go.")).await;

    let Err(AgentError::Model { reason, retryable: false }) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("raise the limit for the length of an answer"), "{reason}");
    let requests = world.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[1].json().to_string().contains("cut off at the limit for its length"));
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_that_the_server_cannot_verify_is_left_out_and_the_run_goes_on() {
    let fault = Fault::Failed {
        code: "invalid_encrypted_content".to_owned(),
        message: "The encrypted content could not be verified.".to_owned(),
    };
    let think = Reply::reasoning("hm").then(Reply::command("echo 1"));
    let world = World::new(Script::new([Step::from(think), Reply::message("Done.").after(fault)])).await;

    assert_eq!(within(20, world.answer("Go.")).await, "Done.");

    let thought = |number: usize| world.requests()[number].input().iter().any(|item| item["type"] == "reasoning");
    assert_eq!((world.requests().len(), thought(1), thought(2)), (3, true, false));
    assert_eq!(world.result(0), world.requests()[2].output(0).expect("the call's result"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_is_a_failure_of_its_own() {
    let fault = Fault::Failed { code: "context_length_exceeded".to_owned(), message: "Too long.".to_owned() };
    let world = World::new(Script::new([Step::always(fault)])).await;

    let error = within(30, world.run("Go.")).await.expect_err("it does not fit");

    assert!(matches!(error, AgentError::ContextFull { .. }), "{error:?}");
    assert!(
        error.to_string().starts_with("the conversation no longer fits into the model's context window"),
        "{error}"
    );
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_said_to_be_wrong_and_not_repeated() {
    let mut world = World::new(Script::new([Reply::message("Done.")])).await;
    world.endpoint.key = Some(Secret::new("sk-wrong"));

    let error = world.run("Go.").await.expect_err("refused").to_string();

    assert!(
        error.starts_with("the model server refused the key; check CARREL_MODEL_KEY: Incorrect API key"),
        "{error}"
    );
    assert!(!error.contains("sk-wrong"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named() {
    let mut world = World::new(Script::new([Reply::message("Done.")])).await;
    world.endpoint.retries = 1;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    world.endpoint.base_url = format!("http://{closed}/v1").parse().expect("a URL");

    let error = world.run("Go.").await.expect_err("nobody is there");

    assert!(matches!(&error, AgentError::Model { retryable: true, .. }));
    let error = error.to_string();
    assert!(error.starts_with(&format!("cannot reach the model server at http://{closed}/v1/responses: ")), "{error}");
    assert!(error.to_lowercase().contains("connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_after_a_whole_call_goes_on_with_that_call() {
    let step = Reply::reasoning("Think.")
        .then(Reply::command("echo one"))
        .and(Item::Reasoning("More.".to_owned()))
        .then(Reply::command("echo two"))
        .after(Fault::Short { after_items: 3 });
    let world = World::new(Script::new([step, Reply::message("Done.").into()])).await;

    assert_eq!(world.answer("Go.").await, "Done.");

    assert_eq!(world.requests().len(), 2);
    assert_eq!(world.shown(), "one\n");
    assert!(world.kinds().contains(&"attempt.warning"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_once_is_made_shorter_once() {
    let too_large = status(413, "request entity too large");
    let steps = [Step::from(Reply::command("seq 2000")), Reply::command("echo lost").after(too_large)];
    let again = (1..6).map(|number| Reply::command(format!("echo {number}"))).chain([Reply::message("Done.")]);
    let script = Script::new(steps)
        .when("Your context window is nearly full.", [Reply::message("I counted.")])
        .when("[Context summary 1]", again);
    let world = World::new(script).await;

    assert_eq!(within(30, world.answer("Go.")).await, "Done.");

    let compactions = world.kinds().into_iter().filter(|kind| *kind == "context.compacted").count();
    assert_eq!(compactions, 1, "what follows is shorter than what was refused");
}

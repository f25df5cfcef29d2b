//! When an agent is stopped, and how.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use carrel_agent::{AgentError, AgentLimits, AgentTask, Entry, Journal, Limit, Price};
use carrel_domain::EventBody;
use carrel_domain::event::CommandEnd;
use carrel_testkit::model::{Fault, Reply, Script, Step, Usage};
use serde_json::json;

use crate::world::{World, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_agent_stops_within_a_second_and_leaves_no_process() {
    let command = "setsid sleep 1234 & (setsid setsid sleep 1234 &) ; trap '' TERM INT; echo on; sleep 1234";
    let world = World::new(Script::new([Reply::command(command), Reply::message("Done.")])).await;

    let (ended, took) = within(30, async {
        tokio::join!(world.run("Go."), async {
            world.wait_for("command.output").await;
            let began = Instant::now();
            world.cancel.cancel();
            began
        })
    })
    .await;

    let took = took.elapsed();
    assert!(matches!(ended, Err(AgentError::Cancelled)), "{ended:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(world.shell("pgrep -c sleep").await, "0\n");
    world.wait_for("command.ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_end_is_not_heard_in_time_is_recorded_as_interrupted() {
    let command = "echo on; exec sleep 4321.5";
    let world = World::new(Script::new([Reply::command(command), Reply::message("Done.")])).await;

    let (ended, supervisor) = within(30, async {
        tokio::join!(world.run("Go."), async {
            world.wait_for("command.output").await;
            let first = first_process_above("sleep\x004321.5\x00");
            signal("STOP", first);
            world.cancel.cancel();
            first
        })
    })
    .await;

    assert!(matches!(ended, Err(AgentError::Cancelled)), "{ended:?}");
    world.wait_until(|body| matches!(body, EventBody::CommandEnded { end: CommandEnd::Interrupted, .. })).await;
    signal("CONT", supervisor);
}

/// Process 1 of the sandbox that this command runs in, by its number outside.
fn first_process_above(command_line: &str) -> u32 {
    let of = |pid: u32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let field = |pid: u32, name: &str| {
        let status = of(pid, "status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a process that lives");
        line.split_whitespace().map(|number| number.parse().expect("a number")).collect::<Vec<u32>>()
    };
    let all = fs::read_dir("/proc").expect("proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut pid = all.into_iter().find(|pid| of(*pid, "cmdline") == command_line).expect("the command runs");
    while field(pid, "NSpid:").last() != Some(&1) {
        pid = field(pid, "PPid:")[0];
    }
    pid
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("kill");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_cancelled_while_the_model_thinks() {
    let world = World::new(Script::new([Step::always(Fault::Stall { after_bytes: 0 })])).await;

    let (ended, ()) = within(10, async {
        tokio::join!(world.run("Go."), async {
            world.model.request(0).await;
            world.cancel.cancel();
        })
    })
    .await;

    assert!(matches!(ended, Err(AgentError::Cancelled)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_too_many_steps_is_stopped() {
    let world = World::new(Script::new((0..9).map(|number| Reply::command(format!("echo {number}"))))).await;
    let limits = AgentLimits { steps: 3, ..AgentLimits::default() };

    let ended = world.run_task(AgentTask { limits, ..world.task("Go.") }).await;

    assert!(matches!(ended, Err(AgentError::Limit(Limit::Steps { steps: 3 }))), "{ended:?}");
    assert_eq!(world.requests().len(), 3);
}

/// What the model is told before its last request.
const NOTE: &str = "This is your last message";

fn was_told(world: &World) -> Vec<bool> {
    let told = |body: &[u8]| String::from_utf8_lossy(body).contains(NOTE);
    world.requests().iter().map(|request| told(&request.body)).collect()
}

fn limits_hit(world: &World) -> Vec<String> {
    let events = world.events().into_iter();
    events
        .filter_map(|body| match body {
            EventBody::LimitHit { limit, .. } => Some(limit),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn before_its_last_step_an_agent_is_asked_to_sum_up() {
    let steps = [Reply::command("echo 1"), Reply::command("echo 2"), Reply::message("Half of it is done.")];
    let world = World::new(Script::new(steps)).await;
    let limits = AgentLimits { steps: 3, ..AgentLimits::default() };

    let finished = world.run_task(AgentTask { limits, ..world.task("Go.") }).await.expect("an answer");

    assert_eq!(finished.answer, "Half of it is done.");
    assert_eq!(was_told(&world), [false, false, true]);
    assert_eq!(limits_hit(&world), ["steps"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_short_of_tokens_or_money_is_asked_to_sum_up() {
    let usage = Usage { input: 30_000, cached: 0, output: 1_000, reasoning: 0 };
    let tokens = AgentLimits { tokens: Some(70_000), ..AgentLimits::default() };
    let cost = AgentLimits { cost_usd_micros: Some(1_000), ..AgentLimits::default() };
    for (limits, word) in [(tokens, "tokens"), (cost, "cost")] {
        let more = (0..20).map(|number| Reply::command(format!("echo {number}")).usage(usage));
        let mut world = World::new(Script::new(more)).await;
        // Each request costs 300 millionths of a dollar.
        world.endpoint.price = Some(Price { input: 10_000, ..Price::default() });

        let ended = world.run_task(AgentTask { limits, ..world.task("Go.") }).await;

        assert!(matches!(&ended, Err(AgentError::Limit(limit)) if limit.word() == word), "{ended:?}");
        let told = was_told(&world);
        assert_eq!(told.iter().filter(|told| **told).count(), 1, "{word}: {told:?}");
        assert_eq!((told.last(), limits_hit(&world)), (Some(&true), vec![word.to_owned()]));
        assert!(told.len() < 6, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_before_a_resumption_counts() {
    let world = World::new(Script::new([Reply::command("echo 1"), Reply::message("Done.")])).await;
    let limits = AgentLimits { tokens: Some(80_000), ..AgentLimits::default() };
    world.answer("Go.").await;
    // The prompt, the call and its result, not the answer.
    let mut resumed = world.items();
    resumed.pop();
    let spent = carrel_domain::Usage { input_tokens: 90_000, ..carrel_domain::Usage::default() };

    let ended = world.run_task(AgentTask { resumed, spent, limits, ..world.task("Go.") }).await;

    assert!(matches!(ended, Err(AgentError::Limit(Limit::Tokens { tokens: 80_000 }))), "{ended:?}");
    assert_eq!(world.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_too_long_is_stopped_with_its_commands() {
    let world = World::new(Script::new([Reply::command("sleep 1234"), Reply::message("Done.")])).await;
    let limits = AgentLimits { wall_clock: Duration::from_millis(800), ..AgentLimits::default() };

    let ended = within(10, world.run_task(AgentTask { limits, ..world.task("Go.") })).await;

    assert!(matches!(ended, Err(AgentError::Limit(Limit::WallClock { .. }))), "{ended:?}");
    assert_eq!(world.shell("pgrep -c sleep").await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_prints_without_end_is_ended_and_the_agent_goes_on() {
    let world = World::new(Script::new([Reply::command("yes"), Reply::message("Done.")])).await;
    let limits = AgentLimits { output_bytes: 1 << 20, ..AgentLimits::default() };

    let ended = within(30, world.run_task(AgentTask { limits, ..world.task("Go.") })).await;

    assert_eq!(ended.expect("an answer").answer, "Done.");
    let hit = world.events().into_iter().find(|event| event.kind() == "limit.hit");
    let Some(EventBody::LimitHit { limit, message }) = hit else { panic!("no limit was hit") };
    assert_eq!(limit, "output");
    assert_eq!(message, "a command printed more than 1048576 bytes and was ended");
    assert_eq!(world.shell("pgrep -c yes").await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_a_circle_is_told_and_then_stopped() {
    let world = World::new(Script::new((0..20).map(|_| Reply::command("echo again")))).await;

    let ended = world.run("Go.").await;

    let message = ended.expect_err("stopped").to_string();
    assert!(message.contains("the same call of `exec_command`, 10 times in a row, with the same results"), "{message}");
    assert_eq!(world.requests().len(), 10);
    assert!(!world.result(3).contains("same call") && world.result(4).contains("same call"));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_long_command_is_no_circle() {
    let poll = Reply::call("write_stdin", json!({"session_id": 2, "yield_time_ms": 5000}));
    let command = Reply::call("exec_command", json!({"cmd": "sleep 0.6; echo over", "yield_time_ms": 250}));
    let world = World::new(Script::new([command, poll, Reply::message("Done.")])).await;

    within(20, world.answer("Go.")).await;

    assert!(world.result(1).ends_with("over\n"), "{}", world.result(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_that_cannot_be_recorded() {
    let mut world = World::new(Script::new([Reply::command("touch done"), Reply::message("Done.")])).await;
    let (journal, mut entries) = Journal::channel();
    world.journal = journal;
    // The preamble is stored; the model's answer is not.
    tokio::spawn(async move {
        let Some(Entry::Store { stored, .. }) = entries.recv().await else { panic!("the preamble comes first") };
        stored.send(()).expect("it is waited for");
        drop(entries.recv().await);
    });

    let ended = within(10, world.run("Go.")).await;

    assert!(matches!(ended, Err(AgentError::Journal(_))), "{ended:?}");
    assert_eq!(world.shell("ls").await, "greeting.txt\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_its_time_is_over_an_agent_is_asked_to_sum_up_though_a_command_runs() {
    let call = Reply::call("exec_command", json!({"cmd": "sleep 1235", "yield_time_ms": 60_000}));
    let world = World::new(Script::new([call, Reply::message("Half of it is done.")])).await;
    let (wall_clock, farewell) = (Duration::from_secs(12), Duration::from_millis(10_500));
    let limits = AgentLimits { wall_clock, farewell, ..AgentLimits::default() };

    let finished = within(20, world.run_task(AgentTask { limits, ..world.task("Go.") })).await.expect("an answer");

    assert_eq!(finished.answer, "Half of it is done.");
    assert_eq!((was_told(&world), limits_hit(&world)), (vec![false, true], vec!["wall clock".to_owned()]));
    let last = String::from_utf8_lossy(&world.requests()[1].body).into_owned();
    assert!(last.contains("the time of 12 s is all but over"), "{last}");
    assert_eq!(world.shell("pgrep -c sleep").await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_budget_is_used_up_makes_one_more_request_whatever_it_waits_for() {
    let call = Reply::call("exec_command", json!({"cmd": "echo on; sleep 1236", "yield_time_ms": 60_000}));
    let world = World::new(Script::new([call, Reply::message("Half of it is done.")])).await;

    let (finished, ()) = within(20, async {
        tokio::join!(world.run("Go."), async {
            world.wait_for("command.output").await;
            world.journal.bell().close("the budget of Ada is used up".to_owned());
        })
    })
    .await;

    assert_eq!(finished.expect("an answer").answer, "Half of it is done.");
    assert_eq!((was_told(&world), limits_hit(&world)), (vec![false, true], vec!["budget".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_works_on_beyond_its_budget_is_stopped_with_the_reason() {
    let world = World::new(Script::new((0..9).map(|number| Reply::command(format!("echo {number}"))))).await;
    world.journal.bell().close("the budget of Ada is used up".to_owned());

    let ended = within(20, world.run("Go.")).await;

    assert_eq!(ended.expect_err("stopped").to_string(), "the budget of Ada is used up");
    // One is made before there is any work to sum up.
    assert_eq!(was_told(&world), [false, true]);
}

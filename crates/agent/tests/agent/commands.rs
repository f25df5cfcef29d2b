//! `exec_command` and `write_stdin`, in real sandboxes.

use carrel_agent::{AgentLimits, AgentTask};
use carrel_domain::EventBody;
use carrel_domain::event::CommandEnd;
use carrel_testkit::model::{Reply, Script};
use serde_json::json;

use crate::world::{World, within};

fn exec(arguments: serde_json::Value) -> Reply {
    Reply::call("exec_command", arguments)
}

/// The session that a result speaks of.
fn session(result: &str) -> u64 {
    let line = result.lines().find_map(|line| line.strip_prefix("Process running with session ID "));
    line.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no session in {result}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_how_it_ended_and_where_it_ran() {
    let script = Script::new([
        exec(json!({"cmd": "pwd; echo oops >&2; exit 3", "workdir": "..", "login": false})),
        exec(json!({"cmd": "kill -9 $$"})),
        exec(json!({"cmd": "echo $0", "shell": "sh"})),
        exec(json!({"cmd": "true", "workdir": "nowhere"})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    world.answer("Go.").await;

    assert!(world.result(0).contains("Process exited with code 3\n"), "{}", world.result(0));
    assert!(world.result(0).ends_with("Output:\n/workspace\noops\n"), "{}", world.result(0));
    assert!(world.result(1).contains("Process exited with code 137\n"), "{}", world.result(1));
    assert!(world.result(2).ends_with("Output:\nsh\n"), "{}", world.result(2));
    assert!(world.result(3).contains("nowhere"), "{}", world.result(3));
    assert!(
        world
            .events()
            .iter()
            .any(|body| matches!(body, EventBody::CommandEnded { end: CommandEnd::Signalled { signal: 9 }, .. }))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_in_one_answer_run_side_by_side() {
    // Each waits for the other's file.
    let meet = |mine: &str, other: &str| {
        Reply::command(format!("touch /tmp/{mine}; until [ -e /tmp/{other} ]; do sleep 0.01; done; echo met"))
    };
    let world = World::new(Script::new([meet("a", "b").then(meet("b", "a")), Reply::message("Done.")])).await;

    within(20, world.answer("Go.")).await;

    assert!(world.result(0).ends_with("met\n") && world.result(1).ends_with("met\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_goes_on_can_be_polled_to_its_end() {
    let first =
        exec(json!({"cmd": "echo begun; until [ -e /tmp/go ]; do sleep 0.01; done; echo over", "yield_time_ms": 300}));
    let script = Script::new([first.clone(), Reply::message("x")]);
    let world = World::new(script).await;
    world.answer("Go.").await;
    let id = session(&world.result(0));
    assert!(world.result(0).ends_with("Output:\nbegun\n"), "{}", world.result(0));

    let poll = Reply::call("write_stdin", json!({"session_id": id, "yield_time_ms": 20_000}));
    let script = Script::new([first, Reply::command("touch /tmp/go"), poll.clone(), poll, Reply::message("Done.")]);
    let world = World::new(script).await;
    within(20, world.answer("Go.")).await;

    assert!(world.result(2).contains("Process exited with code 0\n"), "{}", world.result(2));
    assert!(world.result(2).ends_with("Output:\nover\n"), "{}", world.result(2));
    assert!(world.result(3).contains("no such session"), "{}", world.result(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_can_be_written_to_and_pipes_cannot() {
    let terminal = exec(json!({"cmd": "tty; stty size; read line; echo got $line", "tty": true, "yield_time_ms": 500}));
    let pipes = exec(json!({"cmd": "sleep 60", "yield_time_ms": 250}));
    // The sessions are the places of the calls: 0 environment, 1 prompt, 2 call, 3 result, 4 call, …
    let script = Script::new([
        terminal,
        Reply::call("write_stdin", json!({"session_id": 2, "chars": "hello\n", "yield_time_ms": 5000})),
        pipes,
        Reply::call("write_stdin", json!({"session_id": 6, "chars": "hello\n"})),
        Reply::call("write_stdin", json!({"session_id": 6, "chars": "\u{3}", "yield_time_ms": 10_000})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    within(30, world.answer("Go.")).await;

    assert!(world.result(0).contains("/dev/pts/") && world.result(0).contains("48 160"), "{}", world.result(0));
    assert!(world.result(1).contains("got hello"), "{}", world.result(1));
    assert!(world.result(3).contains("set to true"), "{}", world.result(3));
    assert!(world.result(4).contains("Process exited with code 137"), "{}", world.result(4));
    assert!(
        world.events().iter().any(|body| matches!(body, EventBody::CommandInput { text, .. } if text == "hello\n"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_answer_writes_to_a_command_comes_in_its_order() {
    let echo = "stty -echo; echo ready; while read -r line; do echo got $line; [ $line = three ] && exit; done";
    let write = |line: &str, yield_ms: u32| {
        let arguments = json!({"session_id": 2, "chars": format!("{line}\n"), "yield_time_ms": yield_ms});
        Reply::call("write_stdin", arguments)
    };
    let script = Script::new([
        exec(json!({"cmd": echo, "tty": true, "yield_time_ms": 1000})),
        write("one", 1000).then(write("two", 250)).then(write("three", 20_000)).then(write("four", 250)),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    within(30, world.answer("Go.")).await;

    for (at, said) in [(1, "got one"), (2, "got two"), (3, "got three"), (4, "no such session")] {
        assert!(world.result(at).contains(said), "{at}: {}", world.result(at));
    }
    assert!(world.result(3).contains("Process exited with code 0"), "{}", world.result(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_reads_its_input_finds_its_end() {
    let world = World::new(Script::new([Reply::command("cat; echo over"), Reply::message("Done.")])).await;

    within(20, world.answer("Go.")).await;

    assert!(world.result(0).ends_with("Output:\nover\n"), "{}", world.result(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_of_output_harms_nobody() {
    let command =
        exec(json!({"cmd": "yes 0123456789abcdef | head -c 1000000000; echo; echo THE END", "yield_time_ms": 30_000}));
    let poll = Reply::call("write_stdin", json!({"session_id": 2, "yield_time_ms": 60_000}));
    let world = World::new(Script::new([command, poll, Reply::message("Done.")])).await;

    within(100, world.answer("Go.")).await;

    let shown = world.shown();
    assert!(shown.len() < 2 << 20, "{}", shown.len());
    assert!(shown.starts_with("0123456789abcdef\n") && shown.ends_with("THE END\n"));
    let result = world.result(0);
    assert!(result.len() < 41_000, "{}", result.len());
    assert!(world.events().len() < 2000, "{}", world.events().len());
    let ended = world.events().into_iter().find_map(|body| match body {
        EventBody::CommandEnded { output_bytes, dropped_bytes, .. } => Some((output_bytes, dropped_bytes)),
        _ => None,
    });
    let (output, dropped) = ended.expect("it ended");
    assert_eq!(output, 1_000_000_009);
    assert!(dropped > 990_000_000, "{dropped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_flood_can_be_looked_at_and_ends_with_the_agent() {
    let command = exec(json!({"cmd": "yes flood", "yield_time_ms": 300, "max_output_tokens": 100}));
    let poll = Reply::call("write_stdin", json!({"session_id": 2, "max_output_tokens": 100, "yield_time_ms": 5000}));
    let world = World::new(Script::new([command, poll, Reply::message("Done.")])).await;
    let limits = AgentLimits { output_bytes: u64::MAX, ..AgentLimits::default() };

    let ended = within(30, world.run_task(AgentTask { limits, ..world.task("Go.") })).await;

    assert!(ended.is_ok(), "{ended:?}");
    assert!(world.result(1).contains("Process running with session ID 2"), "{}", world.result(1));
    assert!(world.result(1).len() < 1000);
    assert_eq!(world.shell("pgrep -c '^yes$'").await, "0\n");
    assert!(world.kinds().contains(&"command.ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_people_nor_the_model_are_told_anything_that_does_not_show() {
    let world = World::new(Script::new([
        Reply::command("printf '\\033]0;title\\007\\033[31mred\\033[0m\\033[2J\\u202e\\n\\xff'"),
        Reply::message("Done."),
    ]))
    .await;

    world.answer("Go.").await;

    assert_eq!(world.shown(), "\u{1b}[31mred\u{1b}[0m\\u{202e}\n\u{fffd}");
    let told = world.result(0);
    assert!(told.contains("\\u{1b}]0;title\\u{7}red\\u{1b}[2J\\u{202e}\n\u{fffd}"), "{told}");
    assert!(told.contains("[Note of the service: 4 characters above do not show"), "{told}");
    assert!(told.contains("2 colour sequences are left out"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_tools_and_malformed_arguments_are_answered_to_the_model() {
    let script = Script::new([
        Reply::call("rm_rf", json!({})).then(exec(json!("{\"cmd\": "))).then(Reply::custom("exec_command", "ls")),
        Reply::call("update_plan", json!({"plan": [{"step": "a", "status": "pending"}]})),
        Reply::call("update_plan", json!({"plan": 7})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    world.answer("Go.").await;

    assert!((0..3).any(|index| world.result(index).contains("there is no tool of that name; there are exec_command,")));
    assert!((0..3).any(|index| world.result(index).contains("the arguments are not understood: EOF")));
    assert_eq!(world.kinds().iter().filter(|kind| **kind == "tool.refused").count(), 4);
    assert_eq!(world.kinds().iter().filter(|kind| **kind == "plan.updated").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_shown_while_the_command_runs() {
    let command = exec(json!({"cmd": "echo early; until [ -e /tmp/go ]; do sleep 0.01; done"}));
    let world = World::new(Script::new([command, Reply::message("Done.")])).await;

    let (answer, ()) = within(20, async {
        tokio::join!(Box::pin(world.answer("Go.")), async {
            world.wait_for("command.output").await;
            assert!(!world.kinds().contains(&"command.ended"));
            world.shell("touch /tmp/go").await;
        })
    })
    .await;

    assert_eq!(answer, "Done.");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_a_command_is_told_to_the_model() {
    let script = Script::new([
        Reply::command(format!("true {}", "x".repeat(200 << 10))),
        Reply::command(format!("true {}", "x".repeat(3 << 20))),
        exec(json!({"cmd": "true", "workdir": "x".repeat(5000)})),
        exec(json!({"cmd": "true", "shell": "/no/such/shell"})),
        exec(json!({"cmd": "cat > /dev/null", "tty": true, "yield_time_ms": 250})),
        Reply::call("write_stdin", json!({"session_id": 10, "chars": "y\n".repeat(1 << 20)})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    within(60, world.answer("Go.")).await;

    for index in 0..4 {
        assert!(!world.result(index).contains("exited with code 0"), "{index}: {:.300}", world.result(index));
    }
    assert!(world.result(3).contains("/no/such/shell"), "{}", world.result(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_come_in_the_order_of_the_calls_whichever_ends_first() {
    // The first waits for the second.
    let first = Reply::command("until [ -e /tmp/second ]; do sleep 0.01; done; echo first");
    let second = Reply::command("touch /tmp/second; echo second");
    let world = World::new(Script::new([first.then(second), Reply::message("Done.")])).await;

    within(20, world.answer("Go.")).await;

    assert!(world.result(0).ends_with("first\n") && world.result(1).ends_with("second\n"));
}

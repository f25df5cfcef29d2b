//! `read_output`: what commands printed, read again.

use carrel_agent::AgentTask;
use carrel_testkit::model::{Reply, Script};
use serde_json::json;

use crate::world::{World, within};

fn read(arguments: serde_json::Value) -> Reply {
    Reply::call("read_output", arguments)
}

/// The chunk that a result is.
fn chunk(result: &str) -> String {
    let line = result.lines().find_map(|line| line.strip_prefix("Chunk ID: "));
    line.unwrap_or_else(|| panic!("no chunk in {result}")).to_owned()
}

/// The name of the chunk that the first call of any run gets.
async fn first_chunk() -> String {
    let world = World::new(Script::new([Reply::command("true"), Reply::message("Done.")])).await;
    world.answer("Go.").await;
    chunk(&world.result(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_middle_that_was_left_out_can_be_read() {
    let id = first_chunk().await;
    let script = Script::new([
        Reply::call("exec_command", json!({"cmd": "seq -f 'line %.0f' 1 20000", "max_output_tokens": 100})),
        read(json!({"chunk_id": id, "start_line": 10_000, "end_line": 10_001})),
        read(json!({"chunk_id": id, "search": "line 1999", "max_matches": "2"})),
        read(json!({"chunk_id": id, "search": "^line 7+$", "regex": true})),
        read(json!({"session_id": 2, "start_line": -1})),
        read(json!({"chunk_id": id, "start_byte": 0, "end_byte": 6})),
        read(json!({"chunk_id": "ffffff"})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    within(30, world.answer("Go.")).await;

    assert!(world.result(0).contains(&format!("read_output shows them: chunk_id {id}")), "{}", world.result(0));
    assert_eq!(world.result(1), "Lines 10000 to 10001 of 20000:\n10000:line 10000\n10001:line 10001\n");
    assert_eq!(world.result(2), "2 of 11 matching lines:\n1999:line 1999\n19990:line 19990\n");
    assert_eq!(world.result(3), "4 of 4 matching lines:\n7:line 7\n77:line 77\n777:line 777\n7777:line 7777\n");
    assert_eq!(world.result(4), "Lines 20000 to 20000 of 20000:\n20000:line 20000\n");
    assert_eq!(world.result(5), "Bytes 0 to 6 of 208894:\nline 1");
    assert!(world.result(6).contains("no chunk `ffffff`"), "{}", world.result(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_than_is_kept_both_ends_can_be_read() {
    let script = Script::new([
        Reply::call("exec_command", json!({"cmd": "seq 1 1000000", "max_output_tokens": 50, "yield_time_ms": 30_000})),
        read(json!({"session_id": 2, "start_line": -2})),
        read(json!({"session_id": 2, "start_byte": 3_000_000, "end_byte": 3_000_010})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    within(60, world.answer("Go.")).await;

    // Where the machine is too busy to follow, the numbers behind the gap are not known, and that is said.
    let last: Vec<String> = world.result(1).lines().map(str::to_owned).collect();
    let printed: Vec<_> = last[1..3].iter().filter_map(|line| line.split_once(':')).map(|(_, text)| text).collect();
    assert_eq!(printed, ["999999", "1000000"]);
    assert!(last[2].starts_with("1000000:") || last[3].contains("counted as one line"), "{last:?}");
    assert!(world.result(2).contains("what was printed here was not kept"), "{}", world.result(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_still_runs_can_be_read_and_goes_on() {
    let command = "seq 1 3; until [ -e /tmp/go ]; do sleep 0.01; done; echo over";
    let script = Script::new([
        Reply::call("exec_command", json!({"cmd": command, "yield_time_ms": 300})),
        read(json!({"session_id": 2})),
        Reply::command("touch /tmp/go"),
        Reply::call("write_stdin", json!({"session_id": 2, "yield_time_ms": 20_000})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    within(30, world.answer("Go.")).await;

    assert_eq!(world.result(1), "Lines 1 to 3 of 3:\n1:1\n2:2\n3:3\n");
    assert!(world.result(3).contains("Output continues at line 4, byte 6\nOutput:\nover\n"), "{}", world.result(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_reads_what_was_printed_before() {
    let id = first_chunk().await;
    let reading = || read(json!({"chunk_id": id, "start_line": 2}));
    let world = World::new(Script::new([Reply::command("seq 1 3"), reading(), Reply::message("Done.")])).await;
    world.answer("Go.").await;
    let items: Vec<_> = world.items().into_iter().take(4).collect();

    let kept = AgentTask { resumed: items.clone(), ..world.task("Go.") };
    world.run_task(kept).await.expect("an answer");
    assert_eq!(world.result(1), "Lines 2 to 3 of 3:\n2:2\n3:3\n");

    let anew = AgentTask { cut_off: items.len(), resumed: items, ..world.task("Go.") };
    world.run_task(anew).await.expect("an answer");
    assert!(world.result(1).ends_with("may differ a little.\nLines 2 to 3 of 3:\n2:2\n3:3\n"), "{}", world.result(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_turn_reads_the_log_of_an_earlier_one() {
    let id = first_chunk().await;
    let again = [read(json!({"chunk_id": id, "search": "3"})), Reply::message("Done again.")];
    let script = Script::new([Reply::command("seq 1 3"), Reply::message("Done.")]).when("Go on", again);
    let world = World::new(script).await;
    world.answer("Go.").await;

    let task = AgentTask { history: world.items(), ..world.task("Go on.") };
    world.run_task(task).await.expect("an answer");

    assert!(world.result(1).starts_with("From the log of an earlier turn"), "{}", world.result(1));
    assert!(world.result(1).ends_with("1 of 1 matching lines:\n3:3\n"), "{}", world.result(1));
}

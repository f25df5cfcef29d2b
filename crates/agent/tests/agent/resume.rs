//! Runs that are taken up again from what was recorded before their worker died.

use std::collections::BTreeMap;

use carrel_agent::AgentTask;
use carrel_domain::EventBody;
use carrel_testkit::model::{Reply, Script};
use serde_json::{Value, json};

use crate::world::{World, within};

/// What the next worker finds: the items, and what was shown of which command.
fn left_behind(world: &World, prompt: &str) -> AgentTask {
    let mut shown: BTreeMap<String, u64> = BTreeMap::new();
    for body in world.events() {
        match body {
            EventBody::CommandStarted { command_id, .. } => {
                shown.entry(command_id).or_default();
            }
            EventBody::CommandOutput { command_id, text } => {
                *shown.entry(command_id).or_default() += text.len() as u64;
            }
            _ => {}
        }
    }
    AgentTask { resumed: world.items(), shown, ..world.task(prompt) }
}

/// Runs until an event of this kind is recorded, then drops everything, as a dying worker does.
async fn die_after(world: &World, kind: &str) {
    within(20, async {
        tokio::select! {
            ended = world.run("Go.") => panic!("it ended first: {ended:?}"),
            () = world.wait_for(kind) => {}
        }
    })
    .await;
}

fn count(world: &World, kind: &str) -> usize {
    world.kinds().iter().filter(|known| **known == kind).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_under_way_is_taken_up_and_runs_once() {
    let command = "echo ran >> /tmp/runs; echo begun; until [ -e /tmp/go ]; do sleep 0.01; done; echo over";
    let world = World::new(Script::new([Reply::command(command), Reply::message("Done.")])).await;
    die_after(&world, "command.output").await;

    let task = left_behind(&world, "Go.");
    world.shell("touch /tmp/go").await;
    let finished = within(20, world.run_task(task)).await.expect("an answer");

    assert_eq!(finished.answer, "Done.");
    assert_eq!(world.shell("cat /tmp/runs").await, "ran\n");
    assert_eq!(world.shown(), "begun\nover\n");
    assert_eq!((count(&world, "command.started"), count(&world, "command.ended")), (1, 1));
    assert!(world.result(0).ends_with("Output:\nbegun\nover\n"), "{}", world.result(0));
    assert_eq!(world.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_before_can_still_be_polled() {
    let command = "echo begun; until [ -e /tmp/go ]; do sleep 0.01; done; echo over";
    let script = Script::new([
        Reply::call("exec_command", json!({"cmd": command, "yield_time_ms": 250})),
        Reply::command("echo 2; until [ -e /tmp/go ]; do sleep 0.01; done"),
        Reply::call("write_stdin", json!({"session_id": 2, "yield_time_ms": 10_000})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;
    within(20, async {
        tokio::select! {
            ended = world.run("Go.") => panic!("it ended first: {ended:?}"),
            () = world.wait_until(|body| matches!(body, EventBody::CommandOutput { text, .. } if text == "2\n")) => {}
        }
    })
    .await;

    let task = left_behind(&world, "Go.");
    world.shell("touch /tmp/go").await;
    within(20, world.run_task(task)).await.expect("an answer");

    assert!(world.result(2).contains("exited with code 0") && world.result(2).contains("over"), "{}", world.result(2));
    assert_eq!(count(&world, "command.started"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_died_with_its_sandbox_is_reported_and_not_run_again() {
    let world = World::new(Script::new([
        Reply::command("echo ran >> /tmp/runs; echo on; sleep 1234"),
        Reply::message("Done."),
    ]))
    .await;
    die_after(&world, "command.output").await;

    let left = left_behind(&world, "Go.");
    let task = AgentTask { cut_off: left.resumed.len(), ..left };
    within(20, world.run_task(task)).await.expect("an answer");

    assert!(world.result(0).starts_with("The sandbox was restarted while this command ran"), "{}", world.result(0));
    assert_eq!(world.shell("cat /tmp/runs").await, "ran\n");
    assert_eq!(count(&world, "command.ended"), 1);
    let told = |world: &World| {
        let items = world.items();
        items.iter().filter(|item| item.to_string().contains("was launched again on its files")).count()
    };
    assert_eq!(told(&world), 1);

    // Once more, from right after it was told: what was cut off stays cut off, and is said once.
    let items = world.items();
    let at = items.iter().position(|item| item.to_string().contains("was launched again")).expect("told");
    let again = AgentTask { resumed: items[..=at].to_vec(), cut_off: at - 1, ..world.task("Go.") };
    within(20, world.run_task(again)).await.expect("an answer");
    assert_eq!((told(&world), world.shell("cat /tmp/runs").await.as_str()), (1, "ran\n"));
}

const PATCH: &str = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n+again\n*** Add File: new.txt\n+new\n*** Update File: old.txt\n*** Move to: moved.txt\n@@\n-a\n+b\n*** Delete File: gone.txt\n*** End Patch";

/// What a worker leaves that dies while it applies a patch: the call without a result, and the note of what becomes of which
/// file.
async fn cut_in_a_patch(world: &World) -> AgentTask {
    world.shell("printf 'a\\n' > old.txt; printf 'x\\n' > gone.txt").await;
    world.answer("Go.").await;
    let mut items = world.items();
    items.truncate(3);
    let started_patch = world.events().into_iter().find_map(|body| match body {
        EventBody::PatchStarted(started) => Some(started),
        _ => None,
    });
    assert!(started_patch.is_some(), "it is noted before the first file is written");
    AgentTask { resumed: items, started_patch, ..world.task("Go.") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_was_cut_off_anywhere_is_finished_and_applied_once() {
    let undo = [
        "printf 'hello\\nworld\\n' > greeting.txt",
        "rm new.txt",
        "printf 'a\\n' > old.txt",
        "printf 'a\\n' > old.txt; rm moved.txt",
        "printf 'x\\n' > gone.txt",
    ];
    let world = World::new(Script::new([Reply::custom("apply_patch", PATCH), Reply::message("Done.")])).await;
    let task = cut_in_a_patch(&world).await;

    for undone in 0..1_u32 << undo.len() {
        let steps = undo.iter().enumerate().filter(|(at, _)| undone & (1 << at) != 0).map(|(_, step)| *step);
        world.shell(&steps.chain(["true"]).collect::<Vec<_>>().join("; ")).await;

        let finished = world.run_task(task.clone()).await.expect("an answer");

        assert_eq!(finished.answer, "Done.");
        let files = world.shell("cat greeting.txt new.txt moved.txt; ls").await;
        assert_eq!(files, "hello\nworld\nagain\nnew\nb\ngreeting.txt\nmoved.txt\nnew.txt\n", "{undone:b}");
        assert!(world.result(0).starts_with("The patch is applied."), "{undone:b}: {}", world.result(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_was_cut_off_before_it_began_is_applied() {
    let world = World::new(Script::new([Reply::custom("apply_patch", PATCH), Reply::message("Done.")])).await;
    let task = AgentTask { started_patch: None, ..cut_in_a_patch(&world).await };
    world.shell("git checkout -q .; rm new.txt moved.txt; printf 'a\\n' > old.txt; printf 'x\\n' > gone.txt").await;

    world.run_task(task).await.expect("an answer");

    assert_eq!(world.shell("cat greeting.txt; ls").await, "hello\nworld\nagain\ngreeting.txt\nmoved.txt\nnew.txt\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_told_when_files_of_a_patch_that_was_cut_off_were_changed_since() {
    let world = World::new(Script::new([Reply::custom("apply_patch", PATCH), Reply::message("Done.")])).await;
    let task = cut_in_a_patch(&world).await;
    world.shell("echo more >> greeting.txt; rm new.txt").await;

    world.run_task(task).await.expect("an answer");

    assert!(world.result(0).contains("restarted while this patch"), "{}", world.result(0));
    assert_eq!(world.shell("cat greeting.txt; ls").await, "hello\nworld\nagain\nmore\ngreeting.txt\nmoved.txt\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_recorded_is_not_asked_for_again() {
    let world = World::new(Script::new([Reply::command("echo 1"), Reply::message("Done.")])).await;
    world.answer("Go.").await;
    let before = world.events().len();

    let finished = world.run_task(left_behind(&world, "Go.")).await.expect("an answer");

    assert_eq!(finished.answer, "Done.");
    assert_eq!((world.requests().len(), world.events().len()), (2, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_sends_the_same_bytes() {
    let world = World::new(Script::new([
        Reply::reasoning("Hm.").then(Reply::command("echo 1")),
        Reply::command("echo 2"),
        Reply::message("Done."),
    ]))
    .await;
    world.answer("Go.").await;
    let requests = world.requests();
    // Everything up to the first result had been recorded.
    let items: Vec<Value> = world.items().into_iter().take(5).collect();

    world.run_task(AgentTask { resumed: items, ..world.task("Go.") }).await.expect("an answer");

    assert_eq!(world.requests()[3].body, requests[1].body);
}

//! Why a prepared environment is made anew, where there are several to tell of; and what a follow-up does when it cannot
//! start on the files it was to start on.

use carrel_testkit::model::Reply;
use serde_json::Value;

use crate::setup::{agent_printed, environment, events_of, layers, messages, runs};
use crate::{CARREL, FILES, World, attempt, of_type, says};

/// What is told when the next task in the environment looks for a prepared one. It is a question: that leaves no files which
/// would keep what they stand on.
async fn reason_of_next(world: &World, repository: &carrel_testkit::Repository) -> String {
    let id = world.create_with(repository, &["--environment", "api", "--mode", "ask", "Why?"]).await;
    let task = world.ended(&id).await;
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    let events = events_of(world, &task).await;
    of_type(&events, "snapshot.looked_up")[0]["data"]["reason"].as_str().expect("a reason").to_owned()
}

#[tokio::test]
async fn after_a_reset_the_reason_is_the_reset_also_where_something_else_was_prepared_last() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "echo one", &["--variable", "A=1"]).await;
    reason_of_next(&world, &repository).await;
    world.json(&["environment", "edit", "api", "--variable", "A=2"]).await;
    let changed = reason_of_next(&world, &repository).await;
    world.json(&["environment", "edit", "api", "--variable", "A=1"]).await;
    let reused = reason_of_next(&world, &repository).await;

    let reset = world.json(&["environment", "reset-cache", "api"]).await;
    // Their layers are collected in the background, and what is told does not depend on when.
    let list = world.json(&["task", "list"]).await;
    let id = list["items"][0]["id"].as_str().expect("a task");
    world.events_until(id, |_| layers(&world, "snapshot-").is_empty()).await;
    let told = reason_of_next(&world, &repository).await;

    assert!(changed.contains("another set of variables") && reused.starts_with("reusing"), "{changed}; {reused}");
    assert_eq!(reset, serde_json::json!({"snapshots": 2}));
    assert_eq!(told, "preparing the environment: its cache was reset");
}

#[tokio::test]
async fn a_follow_up_whose_files_cannot_be_started_on_begins_at_the_commit_with_the_changes_on_top() {
    let script = says([Reply::command("echo 42 > answer"), Reply::message("Left.")])
        .when("Look", [Reply::command("cat answer"), Reply::message("Looked.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Leave").await;
    world.ended(&id).await;
    world.events_until(&id, |_| !layers(&world, "attempt-").is_empty()).await;
    break_files(&world);

    let before = world.events(&id).await.len();
    world.json(&["task", "follow-up", &id, "Look"]).await;
    let task = world.ended(&id).await;

    let events: Vec<Value> = world.events(&id).await.split_off(before);
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{events:#?}\n{}", world.logged());
    let warned = messages(&events, "attempt.warning");
    assert!(
        warned.iter().any(|said| said.starts_with("cannot start on the files of the attempt before")),
        "{warned:?}"
    );
    assert_eq!(agent_printed(&events), "42\n");
}

/// Has the kept files of attempts be there and be nothing that can be mounted.
fn break_files(world: &World) {
    for name in layers(world, "attempt-") {
        let files = world.data().join("sandboxes/layers").join(name).join("upper");
        std::fs::remove_dir_all(&files).expect("a kept layer");
        // A file system that no overlay is made of.
        std::os::unix::fs::symlink("/proc/sys", &files).expect("a kept layer");
    }
}

//! The plug is pulled: nothing is lost, and nothing runs twice.

use carrel_testkit::model::Reply;
use serde_json::json;

use crate::{CARREL, FILES, World, attempt, of_type, says};

#[tokio::test]
async fn a_service_that_is_killed_goes_on_where_it_was_and_runs_no_command_twice() {
    let wait = "echo begun >> answer; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo ended >> answer";
    let script = says([
        Reply::call("exec_command", json!({"cmd": wait, "yield_time_ms": 30000})),
        Reply::command("cat answer"),
        Reply::message("Done."),
    ]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Wait").await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    world.kill().await;
    touch_inside(&world);
    world.start().await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert_eq!((diff.matches("+begun").count(), diff.matches("+ended").count()), (1, 1), "{diff}");
    let events = world.events(&id).await;
    assert_eq!(of_type(&events, "command.started").len(), 2, "{events:#?}");
    assert_eq!(of_type(&events, "command.ended").len(), 2, "{events:#?}");
}

#[tokio::test]
async fn a_service_that_is_killed_in_any_stage_brings_the_task_to_its_end() {
    let script = says([Reply::command("echo 42 > answer"), Reply::message("Done.")]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);

    for seen in 1..=8 {
        let id = world.create(&repository, "Mend it").await;
        world.events_until(&id, |events| events.len() > seen).await;
        world.kill().await;
        world.start().await;
        let task = world.ended(&id).await;
        assert_eq!(attempt(&task)["state"], "ready", "killed after {seen} events: {task:#}\n{}", world.logged());
        assert_eq!(attempt(&task)["result"]["patch"]["additions"], 1, "killed after {seen} events: {task:#}");
    }
}

#[tokio::test]
async fn a_second_service_on_the_same_data_is_refused() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;

    let second = world.carrel(&["serve"]).await;

    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.stderr.contains("another `carrel serve` uses the data folder"), "{second:?}");
}

/// Makes `/tmp/go` in the one sandbox there is, from outside, through its writable layer.
pub(crate) fn touch_inside(world: &World) {
    let record = std::fs::read_dir(world.data().join("sandboxes"))
        .expect("the folder")
        .flatten()
        .find_map(|entry| std::fs::read_to_string(entry.path().join("runner.json")).ok())
        .expect("a sandbox runs");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let go = format!("/proc/{}/root/tmp/go", record["pid"]);
    std::fs::write(go, "").expect("the sandbox's /tmp");
}

#[tokio::test]
async fn after_a_reboot_the_sandbox_is_launched_on_its_files_and_the_cut_command_is_told_as_interrupted() {
    let script = says([
        Reply::command("echo before > note; mkdir -p made && echo kept > made/file"),
        Reply::call("exec_command", json!({"cmd": "echo ran >> answer; sleep 1000", "yield_time_ms": 30000})),
        Reply::command("cat note made/file; pgrep sleep || echo nothing runs"),
        Reply::message("Done."),
    ]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Wait").await;
    world.events_until(&id, |events| of_type(events, "command.started").len() == 2).await;

    // The service first, then every sandbox, as when the machine loses its power.
    world.kill().await;
    stop_the_machine(&world);
    world.start().await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    let events = world.events(&id).await;
    assert_eq!(of_type(&events, "sandbox.relaunched").len(), 1, "{events:#?}");
    let ends: Vec<&str> =
        of_type(&events, "command.ended").iter().filter_map(|event| event["data"]["end"]["how"].as_str()).collect();
    assert_eq!(ends, ["exited", "interrupted", "exited"], "{events:#?}");
    let said = json!(events).to_string();
    assert!(said.contains("it was interrupted, and what it printed is lost"), "{events:#?}");
    assert!(said.contains("before\\nkept\\nnothing runs\\n"), "{events:#?}");
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert_eq!((diff.matches("+ran").count(), diff.matches("+before").count()), (1, 1), "{diff}");
}

/// Ends every sandbox from outside, and makes what they are launched on of an earlier run of the machine.
fn stop_the_machine(world: &World) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("there");
    for entry in std::fs::read_dir(world.data().join("sandboxes")).expect("a folder").flatten() {
        let Ok(record) = std::fs::read(entry.path().join("runner.json")) else { continue };
        let record: serde_json::Value = serde_json::from_slice(&record).expect("a record");
        let pid = i32::try_from(record["pid"].as_i64().expect("a process")).expect("a process");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("ours");
        let file = entry.path().join("sandbox.json");
        let text = std::fs::read_to_string(&file).expect("there").replace(boot.trim(), "another");
        std::fs::write(&file, text).expect("written");
    }
}

//! `carrel doctor`: what the machine offers, beside a running service and without one.

use std::process::Stdio;

use serde_json::Value;

use crate::{CARREL, World, says};
use carrel_testkit::model::Reply;

/// The state of a fact.
fn state<'a>(findings: &'a Value, name: &str) -> &'a str {
    let facts = findings["facts"].as_array().expect("facts");
    let found = facts.iter().find(|fact| fact["name"] == name);
    found.unwrap_or_else(|| panic!("no fact `{name}` in {findings:#}"))["state"].as_str().expect("a word")
}

#[tokio::test]
async fn the_doctor_says_what_there_is_beside_a_running_service_and_leaves_nothing() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let names = || {
        let entries = std::fs::read_dir(world.data()).expect("the data folder").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = names();

    let findings = world.json(&["doctor"]).await;
    let told = world.carrel(&["doctor"]).await;

    assert_eq!(findings["sandboxes"], true, "{findings:#}");
    for name in ["sandboxes", "data folder", "database", "artifacts", "git", "tool kit", "service", "model"] {
        assert_eq!(state(&findings, name), "ok", "{name}: {findings:#}");
    }
    for name in ["kernel", "limit of memory", "landlock", "free disk"] {
        assert!(["ok", "degraded", "missing"].contains(&state(&findings, name)), "{name}");
    }
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.contains("sandboxes can be made here"), "{told:?}");
    assert!(!told.stdout.contains(carrel_testkit::world::MODEL_KEY), "{told:?}");
    assert_eq!(names(), before);
    assert_eq!(world.carrel(&["task", "list"]).await.code, 0, "the service goes on");
}

#[tokio::test]
async fn the_doctor_says_why_there_are_no_sandboxes_and_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("not/yet");
    let mut doctor = tokio::process::Command::new("unshare");
    // In a user namespace whose own may have no further ones, an ordinary user cannot make any.
    doctor.args(["--user", "--map-root-user", "sh", "-c"]);
    doctor.arg("echo 0 > /proc/sys/user/max_user_namespaces; echo 0 > /proc/sys/user/max_mnt_namespaces; exec \"$0\" --json doctor");
    doctor.arg(CARREL).env("CARREL_DATA", &data).env("HOME", folder.path()).env_remove("CARREL_URL");
    let told = doctor.stdin(Stdio::null()).output().await.expect("unshare of util-linux");

    let findings: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert_eq!(findings["sandboxes"], false);
    assert_eq!((state(&findings, "sandboxes"), state(&findings, "service")), ("missing", "missing"));
    assert!(!data.exists(), "looking makes no data folder");
}

#[tokio::test]
async fn the_doctor_names_a_database_and_a_bucket_that_cannot_be_used_and_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut doctor = tokio::process::Command::new(CARREL);
    doctor.args(["--json", "doctor"]).env("CARREL_DATA", folder.path()).env_remove("CARREL_URL");
    doctor
        .env("DATABASE_URL", "postgres://carrel:hunter2hunter2@127.0.0.1:1/work")
        .env("CARREL_ARTIFACTS", "file:///proc/nowhere");
    let told = doctor.stdin(Stdio::null()).output().await.expect("the program can be started");

    let findings: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert_eq!((state(&findings, "database"), state(&findings, "artifacts")), ("missing", "missing"));
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(said.contains("`work` at 127.0.0.1:1") && said.contains("/proc/nowhere"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

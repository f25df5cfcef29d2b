//! What an agent is told of the repository before its first request.

use carrel_testkit::World;
use carrel_testkit::model::Reply;
use serde_json::Value;

use crate::{CARREL, FILES, attempt, mends, patch, says};

/// A small monorepository.
const PROJECT: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = [\"crates/api\"]\n"),
    ("Cargo.lock", ""),
    (".ci/build.yml", ""),
    (".github/workflows/ci.yml", ""),
    ("crates/api/Cargo.toml", ""),
    ("crates/api/src/lib.rs", ""),
    ("crates/api/src/main.rs", ""),
    ("web/package.json", r#"{"scripts": {"test": "vitest run", "build": "vite build", "postinstall": "true"}}"#),
    ("web/pnpm-lock.yaml", ""),
    ("web/src/app.ts", ""),
];

/// The messages to the model, in order.
pub(crate) fn told(request: &Value) -> Vec<String> {
    let items = request["input"].as_array().expect("items").iter();
    let texts = items.filter(|item| item["role"] == "user").map(|item| {
        let parts = item["content"].as_array().expect("parts").iter();
        parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
    });
    texts.collect()
}

fn facts(request: &Value) -> Vec<String> {
    told(request).into_iter().filter(|text| text.starts_with("<repository_facts>")).collect()
}

#[tokio::test]
async fn the_agent_is_told_what_the_repository_looks_like_before_it_is_asked() {
    let world = World::new(CARREL, says([Reply::message("Seen.")])).await;
    let repository = world.repository("api", PROJECT);

    world.run(&repository, "Look").await;

    let request = world.model().request(0).await.json();
    let told = told(&request);
    let kinds: Vec<&str> = told.iter().filter_map(|text| text.lines().next()).collect();
    assert_eq!(kinds, ["<environment_context>", "<repository_facts>", "Look"], "{told:#?}");
    assert!(told[0].contains("branch: main"), "the default branch has a name, too: {}", told[0]);
    let facts: Vec<&str> = told[1].lines().skip(2).collect();
    let expected = [
        "commit: 2026-01-02 \"Begin\"",
        "tree, folders with the number of entries in them:",
        ".ci/ (1): build.yml",
        ".github/ (1): workflows/ (1)",
        "crates/ (1): api/ (2)",
        "web/ (3): src/ (1), package.json, pnpm-lock.yaml",
        "Cargo.lock, Cargo.toml",
        "languages, by the names of all files (10): Rust 2, TypeScript 1",
        "commands that its files tell of:",
        "- cargo build --workspace (Cargo.toml)",
        "- cargo test --workspace (Cargo.toml)",
        "- cd web && pnpm run test (web/package.json)",
        "- cd web && pnpm run build (web/package.json)",
        "lock files: Cargo.lock, web/pnpm-lock.yaml",
        "continuous integration: .github/workflows/ci.yml, .ci/build.yml",
        "</repository_facts>",
    ];
    let subject = repository.git(&["log", "-1", "--format=%s"]);
    let expected: Vec<String> = expected.iter().map(|line| line.replace("Begin", &subject)).collect();
    assert_eq!(facts, expected);
}

#[tokio::test]
async fn a_follow_up_is_told_again_only_when_the_base_is_another() {
    let script = mends().when("Go on", [Reply::message("Gone on.")]).when("Anew", [Reply::message("Begun.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Mend the check").await;
    world.ended(&id).await;

    world.json(&["task", "follow-up", &id, "Go on"]).await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let last = world.model().requests().last().expect("a request").json();
    assert_eq!(facts(&last).len(), 1, "{last:#}");

    repository.commit("a third file", &[("third.go", "package x\n")]);
    let other = world.run(&repository, "Anew").await;

    assert_eq!(attempt(&other)["state"], "ready", "{other:#}");
    let last = world.model().requests().last().expect("a request").json();
    assert!(facts(&last)[0].contains("a third file") && facts(&last)[0].contains("Go 1"), "{last:#}");
}

#[tokio::test]
async fn the_facts_are_those_of_the_base_commit_after_a_crash_too() {
    let script = says([Reply::command("sleep 3; echo slept"), Reply::message("Done.")]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", PROJECT);
    let id = world.create(&repository, "Wait").await;
    world.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    let before = facts(&world.model().request(0).await.json());

    world.kill().await;
    repository.commit("meanwhile", &[("other.py", "")]);
    world.start().await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let last = world.model().requests().last().expect("a request").json();
    assert_eq!((before.len(), facts(&last)), (1, before));
}

#[tokio::test]
async fn a_file_with_characters_that_do_not_show_can_be_read_and_changed() {
    let hidden = "name = 'a\u{200b}b'  # \u{202e}txet\nplain = '👨\u{200d}👩\u{200d}👧 می\u{200c}خواهم'\n";
    let change = "*** Begin Patch\n*** Update File: hidden.py\n@@\n-name = 'a\u{200b}b'  # \u{202e}txet\n+name = 'ab'\n*** End Patch\n";
    let world =
        World::new(CARREL, says([Reply::command("cat hidden.py"), patch(change), Reply::message("Cleaned.")])).await;
    let repository = world.repository("api", &[("hidden.py", hidden)]);

    let id = world.create(&repository, "Clean").await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let seen = world.model().request(1).await.output(0).expect("a result");
    assert!(seen.contains("name = 'a\\u{200b}b'  # \\u{202e}txet\n"), "{seen}");
    assert!(
        seen.contains("plain = '👨\u{200d}👩\u{200d}👧 می\u{200c}خواهم'\n"),
        "what belongs to a script stays: {seen}"
    );
    assert!(seen.contains("[Note of the service: 2 characters above do not show and stand as \\u{…}"), "{seen}");
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert!(diff.contains("+name = 'ab'\n"), "{diff}");
}

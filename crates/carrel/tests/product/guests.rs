//! Agents that are not ours and run in the sandbox: the stock Codex CLI, and one that speaks the Agent Client Protocol,
//! both real programs from npm. Where they are not there, the tests say so and pass: `cargo xtask test` installs them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use carrel_testkit::World;
use carrel_testkit::model::{Reply, Script};
use carrel_testkit::world::MODEL_KEY;
use serde_json::{Value, json};

use crate::{CARREL, FILES, attempt, of_type, says};

/// Where `cargo xtask test` puts programs of others.
const ORACLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles");

/// A program of a package, if that was installed.
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tried")]
fn installed(path: &str) -> Option<PathBuf> {
    let path = Path::new(ORACLES).join(path);
    let found = path.canonicalize().ok();
    if found.is_none() {
        eprintln!("skipped: {} is not installed; `cargo xtask test` installs it", path.display());
    }
    found
}

fn codex() -> Option<PathBuf> {
    installed("codex/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex")
}

fn codex_acp() -> Option<PathBuf> {
    installed("acp/node_modules/@zed-industries/codex-acp-linux-x64/bin/codex-acp")
}

/// A service with an agent `guest`.
async fn world(program: &Path, protocol: &str, arguments: &str, script: Script) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("agents.toml");
    let text = format!(
        "[[agents]]\nname = \"guest\"\nprotocol = \"{protocol}\"\ncommand = [\"/opt/guest/agent\"{arguments}]\n\
         folders = {{ \"/opt/guest/agent\" = \"{}\" }}\n{}",
        program.display(),
        "env = { CODEX_HOME = \"/workspace/.agent/guest\", OPENAI_API_KEY = \"none\" }\n"
    );
    std::fs::write(&file, text).expect("the temporary folder is writable");
    let file = file.to_string_lossy().into_owned();
    let world = World::with(CARREL, script, &[("CARREL_AGENTS_FILE", &file)]).await;
    (world, folder)
}

async fn codex_world(script: Script) -> Option<(World, tempfile::TempDir)> {
    Some(world(&codex()?, "codex-app-server", ", \"app-server\"", script).await)
}

/// Reads a check, mends it, and says so, with the tools that Codex offers.
fn mends() -> Script {
    let mend = json!({"cmd": "./check.sh; sed -i s/41/42/ answer && ./check.sh"});
    says([Reply::call("exec_command", mend), Reply::message("The answer was off by one.")])
}

fn words(events: &[Value]) -> String {
    events.iter().map(|event| format!("{} {}\n", event["type"], event["data"])).collect()
}

#[tokio::test]
async fn the_stock_codex_mends_a_repository_with_the_network_off() {
    let Some((world, _folder)) = codex_world(mends()).await else { return };
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--agent", "guest", "Mend the check"]).await;
    let task = world.ended(&id).await;

    let events = world.events(&id).await;
    let attempt = attempt(&task);
    assert_eq!(attempt["state"], "ready", "{task:#} {}", words(&events));
    assert_eq!(attempt["agent"], "guest");
    assert_eq!(attempt["result"]["answer"], "The answer was off by one.");
    assert_eq!(attempt["result"]["patch"]["files"][0]["path"], "answer", "{task:#}");
    let (started, ended) = (of_type(&events, "command.started"), of_type(&events, "command.ended"));
    assert_eq!((started.len(), ended.len()), (1, 1), "{}", words(&events));
    assert_eq!(ended[0]["data"]["end"], json!({"how": "exited", "code": 0}));
    let printed: String =
        of_type(&events, "command.output").iter().filter_map(|one| one["data"]["text"].as_str()).collect();
    assert!(printed.contains("the answer is wrong") && printed.contains("fine"), "{printed:?}");
    assert_eq!(of_type(&events, "model.responded").len(), 2, "{}", words(&events));
    assert!(attempt["usage"]["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{attempt:#}");
    assert!(of_type(&events, "network.decided").is_empty(), "{}", words(&events));
}

#[tokio::test]
async fn the_key_of_the_model_is_nowhere_in_the_sandbox_of_an_agent() {
    let look = json!({"cmd": "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; grep -r sk-canary /workspace /home /tmp /opt/nothing 2>/dev/null; \
                      curl -s -m 5 http://model.carrel.internal/v1/models; curl -s -m 5 -X POST http://model.carrel.internal/v1/files; \
                      curl -s -m 5 http://model.carrel.internal:8080/v1/models; echo looked"});
    let script = says([Reply::call("exec_command", look), Reply::message("Nothing.")]);
    let Some((world, _folder)) = codex_world(script).await else { return };
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--agent", "guest", "Look around"]).await;
    let task = world.ended(&id).await;

    let events = world.events(&id).await;
    assert_eq!(attempt(&task)["state"], "ready", "{task:#} {}", words(&events));
    let all = words(&events);
    assert!(all.contains("looked") && all.contains("CODEX_HOME"), "{all}");
    assert!(!all.contains(MODEL_KEY), "the key was seen");
    assert!(!all.contains("[redacted]"), "the key was there and taken out: {all}");
    assert!(all.contains("speaks the Responses API and nothing else"), "{all}");
    for request in world.model().requests() {
        assert!(request.header("authorization").is_some_and(|value| value.contains(MODEL_KEY)), "put in outside");
    }
}

#[tokio::test]
async fn an_agent_inside_hears_what_is_said_and_stops_at_once() {
    let wait = json!({"cmd": "sleep 1000021", "yield_time_ms": 30000});
    let script = says([Reply::call("exec_command", wait), Reply::message("Never.")]);
    let Some((world, _folder)) = codex_world(script).await else { return };
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--agent", "guest", "Wait"]).await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    world.json(&["task", "steer", &id, "Mind the weather"]).await;
    let events = world.events_until(&id, |events| !of_type(events, "message.delivered").is_empty()).await;
    let began = Instant::now();
    world.carrel(&["task", "cancel", &id]).await;
    let took = began.elapsed();

    let task = world.json(&["task", "show", &id]).await;
    assert_eq!(attempt(&task)["state"], "cancelled", "{task:#} {}", words(&events));
    assert!(took < Duration::from_secs(3), "{took:?}");
    let left = std::process::Command::new("pgrep").args(["-f", "sleep 100002[1]"]).output().expect("pgrep runs");
    assert!(left.stdout.is_empty(), "a process is left");
}

#[tokio::test]
async fn an_agent_inside_goes_on_after_the_service_was_killed() {
    let wait = json!({"cmd": "echo once >> /workspace/times; sleep 1000022", "yield_time_ms": 30000});
    let count = json!({"cmd": "wc -l < /workspace/times"});
    let script = says([Reply::call("exec_command", wait), Reply::message("Never.")])
        .when("was cut off", [Reply::call("exec_command", count), Reply::message("It ran once.")]);
    let Some((mut world, _folder)) = codex_world(script).await else { return };
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--agent", "guest", "Wait"]).await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    world.kill().await;
    world.start().await;
    let task = world.ended(&id).await;

    let events = world.events(&id).await;
    assert_eq!(attempt(&task)["result"]["answer"], "It ran once.", "{task:#} {}", words(&events));
    let printed: Vec<&str> =
        of_type(&events, "command.output").iter().filter_map(|one| one["data"]["text"].as_str()).collect();
    assert_eq!(printed.concat().trim(), "1", "{}", words(&events));
    assert!(words(&events).contains("was ended and started anew"));
}

#[tokio::test]
async fn a_follow_up_keeps_its_agent_and_what_that_knows() {
    let script = says([Reply::message("First.")]).when("And then", [Reply::message("Second.")]);
    let Some((world, _folder)) = codex_world(script).await else { return };
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--agent", "guest", "Begin"]).await;
    world.ended(&id).await;

    world.json(&["task", "follow-up", &id, "And then"]).await;
    let task = world.ended(&id).await;

    let events = world.events(&id).await;
    assert_eq!(attempt(&task)["result"]["answer"], "Second.", "{task:#} {}", words(&events));
    assert_eq!(attempt(&task)["agent"], "guest");
    let requests = world.model().requests();
    let last = requests.last().expect("two requests").json()["input"].to_string();
    assert!(last.contains("Begin") && last.contains("First."), "{last}");
}

#[tokio::test]
async fn carrels_own_agent_goes_on_from_what_another_one_said() {
    let script = says([Reply::message("First.")]).when("And then", [Reply::message("Second.")]);
    let Some((world, _folder)) = codex_world(script).await else { return };
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--agent", "guest", "Begin"]).await;
    world.ended(&id).await;

    world.json(&["task", "follow-up", &id, "--agent", "carrel", "And then"]).await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["result"]["answer"], "Second.", "{task:#}");
    assert_eq!(attempt(&task)["agent"], "carrel");
    let requests = world.model().requests();
    let last = requests.last().expect("two requests").json()["input"].to_string();
    assert!(last.contains("Begin") && last.contains("First.") && !last.contains("guest_session"), "{last}");
}

#[tokio::test]
async fn what_is_said_reaches_the_model_of_an_agent_in_the_turn_that_runs() {
    let wait = json!({"cmd": "while [ ! -e /tmp/go ]; do sleep 0.1; done & sleep 2", "yield_time_ms": 3000});
    let script = says([Reply::call("exec_command", wait), Reply::message("Never.")])
        .when("Mind the weather", [Reply::message("I minded it.")]);
    let Some((world, _folder)) = codex_world(script).await else { return };
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--agent", "guest", "Wait"]).await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    world.json(&["task", "steer", &id, "Mind the weather"]).await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["result"]["answer"], "I minded it.", "{task:#} {}", words(&world.events(&id).await));
    assert_eq!(world.model().requests().len(), 2, "in the same turn");
}

#[tokio::test]
async fn an_agent_stops_at_the_limit_of_its_attempt() {
    let again = || Reply::call("exec_command", json!({"cmd": "true"}));
    let Some((world, _folder)) = codex_world(says([again(), again(), again(), again()])).await else { return };
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--agent", "guest", "--max-steps", "2", "Go on for ever"]).await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "failed", "{task:#}");
    let reason = attempt(&task)["failure"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("2 steps"), "{reason}");
    assert_eq!(world.model().requests().len(), 2);
}

#[tokio::test]
async fn an_agent_is_asked_to_sum_up_before_the_limit_of_its_attempt() {
    let again = |command: &str| Reply::call("exec_command", json!({"cmd": command}));
    // With a model that thinks for no time at all it would be at its last step before it has heard that it is to end.
    let steps = (0..7).map(|_| again("true")).chain((0..2).map(|_| again("sleep 1")));
    let script = says(steps.chain([Reply::message("Half of it.")]));
    let Some((world, _folder)) = codex_world(script).await else { return };
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--agent", "guest", "--max-steps", "10", "Go on for ever"]).await;
    let task = world.ended(&id).await;

    let events = world.events(&id).await;
    assert_eq!(attempt(&task)["result"]["answer"], "Half of it.", "{task:#} {}", words(&events));
    assert_eq!(of_type(&events, "limit.hit").len(), 1, "{}", words(&events));
    let requests = world.model().requests();
    let told: Vec<bool> =
        requests.iter().map(|request| request.json()["input"].to_string().contains("Come to your end now")).collect();
    assert_eq!((told.len(), told[7], told[9]), (10, false, true), "in time, and not before");
}

#[tokio::test]
async fn an_agent_of_the_agent_client_protocol_mends_a_repository() {
    let Some(program) = codex_acp() else { return };
    let arguments = ", \"-c\", \"model_provider=\\\"carrel\\\"\", \"-c\", \"model_providers.carrel.name=\\\"Carrel\\\"\", \
                     \"-c\", \"model_providers.carrel.base_url=\\\"http://model.carrel.internal/v1\\\"\", \
                     \"-c\", \"model_providers.carrel.wire_api=\\\"responses\\\"\", \
                     \"-c\", \"sandbox_mode=\\\"danger-full-access\\\"\", \"-c\", \"approval_policy=\\\"never\\\"\"";
    let (world, _folder) = world(&program, "acp", arguments, mends()).await;
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--agent", "guest", "Mend the check"]).await;
    let task = world.ended(&id).await;

    let events = world.events(&id).await;
    let attempt = attempt(&task);
    assert_eq!(attempt["state"], "ready", "{task:#} {}", words(&events));
    assert_eq!(attempt["result"]["answer"], "The answer was off by one.", "{}", words(&events));
    assert_eq!(attempt["result"]["patch"]["files"][0]["path"], "answer", "{task:#}");
    assert_eq!(of_type(&events, "command.ended").len(), 1, "{}", words(&events));
    // It asks for a model of its own.
    for request in world.model().requests() {
        assert_eq!(request.json()["model"], "gpt-5-codex", "what the attempt is pinned to");
    }
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_refused_with_those_that_are() {
    let world = World::new(CARREL, says([Reply::message("Never.")])).await;
    let repository = world.repository("api", FILES);
    let path = repository.path().to_string_lossy().into_owned();

    let refused = world.carrel(&["task", "create", "--repository", &path, "--agent", "goose", "x"]).await;
    let listed = world.json(&["agents"]).await;

    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("there is only `carrel`"), "{}", refused.stderr);
    assert_eq!(listed["items"][0]["name"], "carrel");
}

//! Several models of several providers, chosen task by task.

use carrel_testkit::model::{Reply, Script, ScriptedModel, Usage};
use carrel_testkit::world::MODEL_KEY;
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, attempt, says};

/// A key that is only in the file.
const INLINE_KEY: &str = "sk-inline-2b7d6a4f1c9e";

/// Two providers on one scripted server, over the two protocols that are not the default.
fn file(url: &str) -> String {
    format!(
        r#"
default = "sonnet"
[providers.one]
protocol = "messages"
base_url = "{url}"
key_variable = "FILE_KEY"
[providers.two]
protocol = "chat_completions"
base_url = "{url}"
key = "{INLINE_KEY}"
[[models]]
name = "sonnet"
provider = "one"
id = "claude-sonnet-5"
context_window = 200000
efforts = ["low", "high"]
effort = "low"
price = {{ input = 3.0, cached_input = 0.3, output = 15.0 }}
[[models]]
name = "qwen"
provider = "two"
id = "Qwen/Qwen3-Coder"
"#
    )
}

/// A world with the models of the file, and the server behind them.
async fn world(script: Script) -> (World, ScriptedModel, tempfile::TempDir) {
    let model = ScriptedModel::start(script).await.expect("a server");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("models.toml");
    std::fs::write(&path, file(model.url().as_str())).expect("written");
    let path = path.to_str().expect("UTF-8");
    let variables = [("CARREL_MODELS_FILE", path), ("FILE_KEY", MODEL_KEY)];
    let world = World::with(CARREL, says([Reply::message("Of the variables.")]), &variables).await;
    (world, model, folder)
}

#[tokio::test]
async fn models_are_listed_with_what_they_can() {
    let (world, _model, _folder) = world(says([Reply::message("Done.")])).await;

    let list = world.json(&["models"]).await;
    let told = world.carrel(&["models"]).await.stdout;

    let names: Vec<&Value> = list["items"].as_array().expect("a list").iter().map(|model| &model["name"]).collect();
    assert_eq!(names, ["sonnet", "qwen", "gpt-5-codex"]);
    let sonnet = &list["items"][0];
    assert_eq!((&sonnet["provider"], &sonnet["is_default"]), (&json!("one"), &json!(true)));
    assert_eq!((&sonnet["efforts"], &sonnet["default_effort"]), (&json!(["low", "high"]), &json!("low")));
    assert_eq!(sonnet["context_window"], 200_000);
    assert_eq!(
        sonnet["price"],
        json!({"input": 3_000_000, "cached_input": 300_000, "cache_write": 3_750_000, "output": 15_000_000})
    );
    assert!(told.contains("* sonnet") && told.contains("efforts low, high (default low)"), "{told}");
    assert!(!told.contains("recorded-demo"), "{told}");
}

#[tokio::test]
async fn a_task_chooses_its_model_and_a_follow_up_keeps_or_changes_it() {
    let usage = Usage { input: 1000, cached: 500, output: 100, reasoning: 0 };
    let script = says([Reply::message("Done.").usage(usage)]);
    let (world, model, _folder) = world(script).await;
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--effort", "high", "First"]).await;
    let first = world.ended(&id).await;
    world.json(&["task", "follow-up", &id, "Second"]).await;
    let second = world.ended(&id).await;
    world.json(&["task", "follow-up", &id, "--model", "qwen", "Third"]).await;
    let third = world.ended(&id).await;

    let pinned = |task: &Value| (attempt(task)["model"].clone(), attempt(task)["effort"].clone());
    assert_eq!(pinned(&first), (json!("sonnet"), json!("high")));
    assert_eq!(pinned(&second), (json!("sonnet"), json!("high")));
    assert_eq!(pinned(&third), (json!("qwen"), Value::Null));
    let requests = model.requests();
    let asked = |n: usize| (requests[n].path.as_str(), requests[n].json()["model"].clone());
    assert_eq!(asked(0), ("/v1/messages", json!("claude-sonnet-5")));
    assert_eq!(requests[1].json()["output_config"]["effort"], "high");
    assert_eq!(asked(2), ("/v1/chat/completions", json!("Qwen/Qwen3-Coder")));
    assert_eq!(requests[0].header("x-api-key"), Some(MODEL_KEY));
    assert_eq!(requests[2].header("authorization"), Some(format!("Bearer {INLINE_KEY}").as_str()));
    // 500 plain tokens at $3, 500 cached ones at $0.30 and 100 produced ones at $15 a million.
    assert_eq!(attempt(&first)["usage"]["cost_usd_micros"], 3150, "{first:#}");
    let shown = world.carrel(&["task", "show", &id]).await.stdout;
    assert!(shown.contains("sonnet (high)") && shown.contains("$0.0031"), "{shown}");
}

#[tokio::test]
async fn an_unknown_model_or_effort_is_answered_with_the_choices() {
    let (world, _model, _folder) = world(says([Reply::message("Done.")])).await;
    let repository = world.repository("api", FILES);
    let path = repository.path().to_string_lossy().into_owned();

    for (arguments, says) in [
        (["--model", "gpt-9"], "there are `sonnet`, `qwen`, `gpt-5-codex`"),
        (["--effort", "extreme"], "the model `sonnet` has no effort `extreme`; it has low, high"),
    ] {
        let arguments = [&["task", "create", "--repository", &path][..], &arguments[..], &["Do it"]].concat();
        let ran = world.carrel(&arguments).await;
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.stderr.contains(says), "{ran:?}");
    }
}

#[tokio::test]
async fn no_key_of_the_file_is_seen_anywhere() {
    let script =
        says([Reply::command(format!("echo {INLINE_KEY}")), Reply::message(format!("The key is {INLINE_KEY}."))]);
    let (world, _model, _folder) = world(script).await;
    let repository = world.repository("api", FILES);
    let id = world.create_with(&repository, &["--model", "qwen", "Tell"]).await;
    world.ended(&id).await;

    let shown = world.carrel(&["task", "show", &id]).await.stdout;
    let log = world.logged();

    assert!(shown.contains("[redacted]") && !shown.contains(INLINE_KEY), "{shown}");
    assert!(!log.contains(INLINE_KEY), "{log}");
}

//! The scripted model server before the vendors' own clients, which were written by others: `openai` and
//! `@anthropic-ai/sdk` of npm talk to it, and the types of `openai` and `anthropic` of PyPI check what it says.
//! `cargo xtask test` installs them below `target/oracles`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use carrel_testkit::model::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};

const NODE: &str = "npm install --prefix target/oracles/models openai@7.57.0 @anthropic-ai/sdk@1.12.0 @copilotkit/aimock@1.43.0 typescript@5.9.3";
const PYTHON: &str = "pip3 install --target target/oracles/models-python openai==2.54.0 anthropic==2.12.0";

/// A folder below `target/oracles`.
fn oracle(name: &str, install: &str) -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles")).join(name);
    assert!(folder.is_dir(), "{} is not there; `cargo xtask test` installs it, or: {install}", folder.display());
    folder
}

fn everything() -> Reply {
    Reply::reasoning("Think of something, grün und schön, that is longer than one delta.")
        .then(Reply::message("Here is a text that is longer than one delta, too."))
        .then(Reply::call("f", json!({ "cmd": "echo \"grün\" && sleep 1 && echo this is longer than one delta" })))
}

async fn server(reply: Reply) -> ScriptedModel {
    ScriptedModel::start(Script::new([reply]).key("sk-key")).await.expect("a server")
}

fn run(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end before it has read everything, with an error that is shown below.
    let _broken_pipe = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_clients_understand_every_answer() {
    let model = server(everything()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vendors/clients.mjs");
    let mut command = Command::new("timeout");
    command.args(["60", "node", script]).arg(oracle("models", NODE)).arg(model.url().as_str());

    let said = tokio::task::spawn_blocking(move || run(&mut command, "")).await.expect("it ran");

    let said: Value = serde_json::from_str(&said).expect("JSON");
    let call = json!({ "name": "f", "arguments": { "cmd": "echo \"grün\" && sleep 1 && echo this is longer than one delta" } });
    for (wire, end) in [("responses", "completed"), ("chat", "tool_calls"), ("messages", "tool_use")] {
        let answer = &said[wire];
        assert_eq!(answer["text"], "Here is a text that is longer than one delta, too.", "{wire}");
        assert_eq!((&answer["call"], &answer["end"]), (&call, &json!(end)), "{wire}");
        assert!(answer["input_tokens"].as_u64() > Some(0), "{wire}: {answer}");
    }
    for wire in ["responses", "messages"] {
        assert_eq!(said[wire]["thought"], "Think of something, grün und schön, that is longer than one delta.");
    }
    let refused = "AuthenticationError 401";
    assert_eq!(said["refusals"], json!([refused, refused, refused]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_one_of_the_vendors_types() {
    let mut lines = String::new();
    for whole in [false, true] {
        let reply = if whole { everything().whole() } else { everything() };
        let model = server(reply).await;
        for (name, path, body) in [
            ("responses", "responses", json!({ "input": [{ "role": "user", "content": "a" }] })),
            (
                "chat",
                "chat/completions",
                json!({ "messages": [{ "role": "user", "content": "a" }], "stream_options": { "include_usage": true } }),
            ),
            ("messages", "messages", json!({ "messages": [{ "role": "user", "content": "a" }], "max_tokens": 9 })),
        ] {
            let mut body = body;
            (body["model"], body["stream"]) = (json!("m"), json!(true));
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let url = format!("{}/{path}", model.url());
            let answer = client.post(url).bearer_auth("sk-key").body(body.to_string()).send().await.expect("an answer");
            let text = answer.text().await.expect("a body");
            if whole {
                lines.push_str(&format!("[\"{name} whole\",{text}]\n"));
                continue;
            }
            let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
            // The packages know the keep-alive of the stream, and have no type for it.
            let data = data.filter(|data| !data.contains(r#""type":"ping""#));
            data.for_each(|data| lines.push_str(&format!("[\"{name}\",{data}]\n")));
        }
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vendors/events.py");
    let mut command = Command::new("timeout");
    command.args(["60", "python3", script]).arg(oracle("models-python", PYTHON));

    let count = lines.lines().count();
    let checked = tokio::task::spawn_blocking(move || run(&mut command, &lines)).await.expect("it ran");

    assert!(count > 60 && checked.trim() == count.to_string(), "{checked} of {count}");
}

//! Our client before programs that others wrote: our requests before the types of the vendors' own packages, and our
//! whole loop before `@copilotkit/aimock`, a server of all three protocols with faults of its own. `cargo xtask test`
//! installs them below `target/oracles`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use carrel_agent::{AgentTask, ModelEndpoint, Protocol};
use carrel_testkit::model::{Reply, Script};
use serde_json::{Value, json};

use crate::wires::{WIRES, speaking};
use crate::world::{World, within};

/// Where npm put the packages.
fn modules() -> PathBuf {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles/models"));
    let way_out = "npm install --prefix target/oracles/models openai@7.57.0 @anthropic-ai/sdk@1.12.0 @copilotkit/aimock@1.43.0 typescript@5.9.3";
    assert!(folder.is_dir(), "{} is not there; `cargo xtask test` installs it, or: {way_out}", folder.display());
    folder.to_owned()
}

/// The requests of a task with everything in it: two calls at once, reasoning, an image, and a follow-up.
async fn requests(protocol: Protocol, model: &str) -> Vec<Value> {
    let script = Script::default()
        .when(
            "first",
            [
                Reply::reasoning("Hm.")
                    .then(Reply::message("Let me look."))
                    .then(Reply::command("echo 1"))
                    .then(Reply::command("echo 2")),
                Reply::message("One."),
            ],
        )
        .when("second", [Reply::message("Two.")]);
    let mut world = speaking(protocol, model, script).await;
    world.endpoint = world.endpoint.clone().with_effort(Some("high"));
    world.endpoint.images = true;
    world.endpoint.max_output_tokens = Some(20_000);
    world.answer("The first.").await;
    let mut history = world.items();
    let seen = history.iter_mut().find(|item| item["type"] == "function_call_output").expect("a result");
    seen["output"] = json!([
        { "type": "input_text", "text": "look" },
        { "type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=" },
    ]);
    let task = AgentTask { history, ..world.task("The second.") };
    world.run_task(task).await.expect("an answer");
    world.requests().iter().map(|request| request.json()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_of_the_type_that_its_vendor_publishes() {
    let mut source = String::from(
        "import type { ResponseCreateParamsStreaming } from \"openai/resources/responses/responses\";\n\
         import type { ChatCompletionCreateParamsStreaming } from \"openai/resources/chat/completions\";\n\
         import type { MessageCreateParamsStreaming } from \"@anthropic-ai/sdk/resources/messages\";\n",
    );
    for (protocol, model) in [WIRES[0], (Protocol::ChatCompletions, "gpt-5"), WIRES[2]] {
        let name = match protocol {
            Protocol::Responses => "ResponseCreateParamsStreaming",
            Protocol::ChatCompletions => "ChatCompletionCreateParamsStreaming",
            Protocol::Messages => "MessageCreateParamsStreaming",
        };
        // A literal may have no field that its type does not know, at any depth.
        for (number, body) in requests(protocol, model).await.into_iter().enumerate() {
            source.push_str(&format!("export const {}{number}: {name} = {body};\n", protocol.word()));
        }
    }
    let modules = modules();
    let folder = tempfile::tempdir_in(&modules).expect("a folder");
    let file = folder.path().join("requests.ts");
    std::fs::write(&file, source).expect("written");

    let checked = Command::new("timeout")
        .arg("120")
        .arg("node")
        .arg(modules.join("node_modules/typescript/bin/tsc"))
        .args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"])
        .args(["--moduleResolution", "nodenext"])
        .arg(&file)
        .output()
        .expect("it runs");

    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{}", said.chars().take(3000).collect::<String>());
}

/// A server of somebody else's, which ends with this.
struct Foreign(Child);

impl Foreign {
    /// Starts it with this chance of each fault, and says where it is.
    fn start(chaos: &Value) -> (Self, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/vendors/aimock.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(modules())
            .arg(chaos.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is there");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("it says where it is");
        (Self(child), line.trim().to_owned())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It ends by itself when its input does; this is for one that does not.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a task of two commands against a foreign server, and gives the answer and the number of retries.
async fn work(protocol: Protocol, model: &str, chaos: &Value) -> (String, usize) {
    let (_server, url) = Foreign::start(chaos);
    let mut world = World::new(Script::new([Reply::message("nobody asks")])).await;
    let base = format!("{url}/v1").parse().expect("a URL");
    world.endpoint =
        ModelEndpoint { retries: 30, ..ModelEndpoint::speaking(protocol, model, base, world.endpoint.key.clone()) };
    world.endpoint.timeouts.idle = std::time::Duration::from_secs(5);
    let answer = within(120, world.answer("Please count to two.")).await;
    // The two run side by side.
    let mut shown: Vec<String> = world.shown().lines().map(str::to_owned).collect();
    shown.sort();
    assert_eq!(shown, ["one", "two"], "{protocol:?}");
    (answer, world.kinds().into_iter().filter(|kind| *kind == "model.retrying").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_somebody_else_is_understood_over_every_wire() {
    for (protocol, model) in WIRES {
        let (answer, retries) = work(protocol, model, &json!({})).await;

        assert_eq!((answer.as_str(), retries), ("That makes two.", 0), "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drops_breaks_off_and_talks_nonsense_is_outlasted_over_every_wire() {
    let chaos = json!({ "dropRate": 0.15, "malformedRate": 0.15, "disconnectRate": 0.15 });
    for (protocol, model) in WIRES {
        let (answer, _retries) = work(protocol, model, &chaos).await;

        assert_eq!(answer, "That makes two.", "{protocol:?}");
    }
}

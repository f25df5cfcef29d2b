//! The scripted model server as a client on the wire sees it.

use std::collections::{BTreeMap, BTreeSet};

use carrel_testkit::model::{Fault, Reply, Script, ScriptedModel, Step};
use serde_json::{Value, json};

/// The required fields of each published event and object.
fn published() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    include_str!("published_events.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, fields)| (name, fields.split(' ').collect()))
        .collect()
}

async fn ask(model: &ScriptedModel, input: &Value) -> reqwest::Response {
    let body = json!({ "model": "m", "stream": true, "input": input });
    let url = format!("{}/responses", model.url());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    client.post(url).bearer_auth("sk-key").body(body.to_string()).send().await.expect("an answer")
}

async fn events(model: &ScriptedModel, input: &Value) -> Vec<Value> {
    let text = ask(model, input).await.text().await.expect("a whole body");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn prompt() -> Value {
    json!([{ "role": "user", "content": "Hello." }])
}

fn check_fields(name: &str, value: &Value, besides: &[&str]) {
    let known = published();
    let expected = known.get(name).unwrap_or_else(|| panic!("`{name}` is not among the published ones"));
    for field in expected.iter().chain(besides) {
        assert!(value.get(*field).is_some(), "{name} lacks `{field}`: {value}");
    }
}

#[tokio::test]
async fn every_event_is_one_of_the_published_ones_with_its_fields() {
    let everything = Reply::reasoning("Think.")
        .then(Reply::call("f", json!({"a": "a text that is longer than one delta, grün"})))
        .then(Reply::custom("g", "text"))
        .then(Reply::message("Hello to you."));
    let failing = |fault| Step::always(fault);
    let steps = [
        everything.clone().into(),
        failing(Fault::Incomplete { reason: "max_output_tokens".to_owned() }),
        failing(Fault::Failed { code: "server_error".to_owned(), message: "no".to_owned() }),
        failing(Fault::Error { code: "server_error".to_owned(), message: "no".to_owned() }),
    ];
    let mut seen = BTreeSet::new();
    for step in steps {
        let model = ScriptedModel::start(Script::new([step])).await.expect("a server");
        for (index, event) in events(&model, &prompt()).await.iter().enumerate() {
            let kind = event["type"].as_str().expect("a type").to_owned();
            check_fields(&kind, event, &["sequence_number"]);
            assert_eq!(event["sequence_number"], index, "{event}");
            if event["response"].is_object() {
                check_fields("object response", &event["response"], &[]);
            }
            if event["response"]["usage"].is_object() {
                check_fields("object usage", &event["response"]["usage"], &[]);
            }
            if let Some(item) = event["item"]["type"].as_str() {
                check_fields(&format!("object {item}"), &event["item"], &[]);
            }
            seen.insert(kind);
        }
    }
    let known = published();
    let never: Vec<_> = known.keys().filter(|name| !name.starts_with("object") && !seen.contains(**name)).collect();
    assert!(never.is_empty(), "never sent: {never:?}");
}

#[tokio::test]
async fn deltas_add_up_to_what_they_announce() {
    let text = "A text that is longer than one delta, grün und schön, so that it comes in pieces.";
    let model = ScriptedModel::start(Script::new([Reply::message(text)])).await.expect("a server");

    let events = events(&model, &prompt()).await;

    let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, text);
    let done = events.iter().find(|event| event["type"] == "response.output_item.done").expect("an item");
    assert_eq!(done["item"]["content"][0]["text"], text);
    let last = events.last().expect("an end");
    assert_eq!((&last["type"], &last["response"]["output"][0]), (&json!("response.completed"), &done["item"]));
}

#[tokio::test]
async fn a_request_that_is_made_again_gets_the_same_answer() {
    let model = ScriptedModel::start(Script::new([Reply::command("ls")])).await.expect("a server");

    let first = events(&model, &prompt()).await;
    let second = events(&model, &prompt()).await;

    assert_eq!(first[2..first.len() - 1], second[2..second.len() - 1]);
}

#[tokio::test]
async fn faults_come_once_each_before_the_answer() {
    let fault = |code| Fault::Status { code, message: "no".to_owned(), retry_after: None };
    let script = Script::new([Reply::message("Done.").after(fault(500)).after(fault(429))]);
    let model = ScriptedModel::start(script).await.expect("a server");

    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&model, &prompt()).await.status().as_u16());
    }

    assert_eq!(statuses, [500, 429, 200, 200]);
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_the_published_form() {
    let model = ScriptedModel::start(Script::new([Reply::message("Done.")]).key("sk-other")).await.expect("a server");

    let response = ask(&model, &prompt()).await;

    assert_eq!(response.status().as_u16(), 401);
    let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
    assert_eq!(body["error"]["code"], "invalid_api_key");
    assert_eq!(model.requests()[0].header("authorization"), Some("Bearer sk-key"));
}

#[tokio::test]
async fn a_script_that_has_nothing_to_say_says_so() {
    let model = ScriptedModel::start(Script::default().when("fix", [Reply::message("Done.")])).await.expect("a server");

    let response = ask(&model, &prompt()).await;

    assert_eq!(response.status().as_u16(), 400);
    assert!(response.text().await.expect("a body").contains("no conversation for this prompt"));
}

#[test]
fn a_recorded_script_is_read_and_a_wrong_one_is_refused_with_its_place() {
    let recorded = r#"{"key": "k", "conversations": [{"when": "fix", "steps": [
        {"faults": [{"status": {"code": 429, "retry_after": "1"}}, "garbage"],
         "reply": {"items": [{"reasoning": "Hm."}, {"call": {"name": "exec_command", "arguments": {"cmd": "ls"}}}], "delay_ms": 5}},
        {"reply": {"items": [{"message": "Done."}], "usage": {"input": 3, "output": 1}}}
    ]}]}"#;

    assert!(Script::from_json(recorded).is_ok());
    let error = Script::from_json(&recorded.replace("reasoning", "thought")).expect_err("no such item").to_string();
    assert!(error.contains("unknown variant `thought`") && error.contains("line 3"), "{error}");
}

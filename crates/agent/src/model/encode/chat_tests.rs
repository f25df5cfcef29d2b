//! Conversations as a Chat Completions server gets them.

use super::*;
use crate::Protocol;

fn endpoint(name: &str) -> ModelEndpoint {
    ModelEndpoint::speaking(Protocol::ChatCompletions, name, "http://localhost/v1".parse().expect("a URL"), None)
}

fn sent(endpoint: &ModelEndpoint, items: &[Value]) -> Value {
    let mut encoder = Encoder::new(endpoint, "be good", &[], "key");
    items.iter().for_each(|item| encoder.push(item));
    serde_json::from_slice(&encoder.request()).expect("JSON")
}

fn user(text: &str) -> Value {
    json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
}

fn said(text: &str) -> Value {
    json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
}

fn call(id: &str) -> Value {
    json!({"type": "function_call", "call_id": id, "name": "x", "arguments": "{\"n\":1}"})
}

fn output(id: &str, output: Value) -> Value {
    json!({"type": "function_call_output", "call_id": id, "output": output})
}

fn image() -> Value {
    json!({"type": "input_image", "image_url": "data:image/png;base64,AA=="})
}

#[test]
fn turns_are_taken_whatever_the_number_of_items() {
    let items = [
        user("a"),
        user("b"),
        said("Let me look."),
        call("1"),
        call("2"),
        output("1", json!("one")),
        output("2", json!("two")),
    ];

    let body = sent(&endpoint("qwen3"), &items);

    let told = |id: &str| json!({"id": id, "type": "function", "function": {"name": "x", "arguments": "{\"n\":1}"}});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "be good"},
            {"role": "user", "content": "a\n\nb"},
            {"role": "assistant", "content": "Let me look.", "tool_calls": [told("1"), told("2")]},
            {"role": "tool", "tool_call_id": "1", "content": "one"},
            {"role": "tool", "tool_call_id": "2", "content": "two"},
        ])
    );
}

#[test]
fn the_head_has_only_what_the_server_takes() {
    let plain = sent(&endpoint("qwen3"), &[]);
    let mut asked = endpoint("gpt-oss-120b").with_effort(Some("high"));
    asked.parallel_calls = false;
    asked.max_output_tokens = Some(99);
    asked.stream_usage = false;
    let asked = sent(&asked, &[]);

    assert_eq!(plain["stream_options"], json!({"include_usage": true}));
    assert_eq!((&plain["prompt_cache_key"], &plain["parallel_tool_calls"]), (&Value::Null, &Value::Null));
    assert_eq!((&asked["reasoning_effort"], &asked["max_tokens"]), (&json!("high"), &json!(99)));
    assert_eq!((&asked["parallel_tool_calls"], &asked["stream_options"]), (&json!(false), &Value::Null));
}

#[test]
fn freeform_tools_are_not_offered_and_their_calls_are_plain() {
    let tools = [
        json!({"type": "custom", "name": "p"}),
        json!({"type": "function", "name": "f", "description": "d", "parameters": {}, "strict": false}),
    ];
    let mut encoder = Encoder::new(&endpoint("qwen3"), "be good", &tools, "key");
    encoder.push(&json!({"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** x"}));
    encoder.push(&json!({"type": "custom_tool_call_output", "call_id": "c", "output": "done"}));

    let body: Value = serde_json::from_slice(&encoder.request()).expect("JSON");

    assert_eq!(
        body["tools"],
        json!([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}])
    );
    assert_eq!(body["messages"][1]["tool_calls"][0]["function"]["arguments"], "{\"input\":\"*** x\"}");
    assert_eq!(body["messages"][2], json!({"role": "tool", "tool_call_id": "c", "content": "done"}));
}

#[test]
fn images_of_results_follow_in_a_message_once_all_results_are_there() {
    let parts = json!([{"type": "input_text", "text": "seen"}, image()]);
    let items = [user("look"), call("1"), call("2"), output("1", parts), output("2", json!("two"))];

    let body = sent(&endpoint("qwen3-vl"), &items);

    assert_eq!(body["messages"][3], json!({"role": "tool", "tool_call_id": "1", "content": "seen"}));
    assert_eq!(body["messages"][4]["role"], "tool");
    assert_eq!(
        body["messages"][5]["content"],
        json!([
            {"type": "text", "text": "<image result_of=\"1\"/>"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ])
    );
    assert_eq!(body["messages"].as_array().map(Vec::len), Some(6));
}

#[test]
fn images_that_wait_are_kept_at_their_place_by_what_follows() {
    let items = [user("look"), call("1"), output("1", json!([image()])), user("and?"), said("Well.")];
    let mut encoder = Encoder::new(&endpoint("qwen3-vl"), "be good", &[], "key");
    let mut before = String::new();
    for item in &items {
        encoder.push(item);
        // Only requests before an answer are made.
        if item["type"] != "function_call" && item["role"] != "user" {
            let now = String::from_utf8(encoder.request()).expect("UTF-8");
            assert!(now.starts_with(before.trim_end_matches([']', '}'])), "{before}\n{now}");
            before = now;
        }
    }
    let body: Value = serde_json::from_str(&before).expect("JSON");

    assert_eq!(body["messages"][4]["content"].as_array().map(Vec::len), Some(3));
    assert_eq!(body["messages"][5]["content"], "Well.");
}

#[test]
fn a_persons_image_is_sent_to_a_model_that_sees() {
    let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"}, image()]});

    let seen = sent(&endpoint("gpt-4o"), std::slice::from_ref(&item));
    let unseen = sent(&endpoint("qwen3"), &[item]);

    assert_eq!(seen["messages"][1]["content"][1]["type"], "image_url");
    assert_eq!(unseen["messages"][1]["content"], format!("look\n\n{}", super::super::content::NO_IMAGES));
}

#[test]
fn reasoning_goes_back_only_where_it_is_wanted_and_to_the_same_model() {
    let reasoning = |origin: &str| json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}], "field": "reasoning_content", "origin": origin});
    let of = |name: &str, origin: &str| {
        sent(&endpoint(name), &[user("a"), reasoning(origin), call("1")])["messages"][2]["reasoning_content"].take()
    };

    assert_eq!(of("deepseek-chat", "chat_completions localhost deepseek-chat"), "hm");
    // Where it is wanted it is wanted with every message: empty, when there was none or it was another model's.
    assert_eq!(of("deepseek-chat", "chat_completions localhost other"), "");
    assert_eq!(sent(&endpoint("kimi-k2.5"), &[user("a"), call("1")])["messages"][2]["reasoning_content"], "");
    assert_eq!(of("qwen3", "chat_completions localhost qwen3"), Value::Null);
}

#[test]
fn reasoning_details_go_back_as_they_were_to_the_same_model() {
    let details = json!([{"type": "reasoning.encrypted", "data": "x"}]);
    let of = |origin: &str| {
        let reasoning =
            json!({"type": "reasoning", "summary": [], "content": [], "details": details, "origin": origin});
        sent(&endpoint("google/gemini-3-pro"), &[user("a"), reasoning, call("1")])["messages"][2].take()
    };

    let same = of("chat_completions localhost google/gemini-3-pro");
    assert_eq!((&same["reasoning_details"], &same["tool_calls"][0]["id"]), (&details, &json!("1")));
    assert_eq!(of("chat_completions localhost other")["reasoning_details"], Value::Null);
}

#[test]
fn arguments_that_are_no_object_do_not_reach_the_servers_template() {
    let broken = json!({"type": "function_call", "call_id": "c", "name": "x", "arguments": "{\"cmd\": "});

    let body = sent(&endpoint("qwen3"), &[broken]);

    let arguments = body["messages"][1]["tool_calls"][0]["function"]["arguments"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(arguments).expect("JSON"), json!({"malformed_arguments": "{\"cmd\": "}));
}

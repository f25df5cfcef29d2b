//! Conversations as a Messages server gets them.

use super::*;
use crate::Protocol;

fn endpoint(name: &str) -> ModelEndpoint {
    ModelEndpoint::speaking(Protocol::Messages, name, "http://localhost".parse().expect("a URL"), None)
}

fn tools() -> [Value; 2] {
    ["f", "g"].map(|name| json!({"type": "function", "name": name, "description": "d", "parameters": {"type": "object"}, "strict": false}))
}

fn sent(endpoint: &ModelEndpoint, items: &[Value]) -> Value {
    let mut encoder = Encoder::new(endpoint, "be good", &tools());
    items.iter().for_each(|item| encoder.push(item));
    serde_json::from_slice(&encoder.request()).expect("JSON")
}

fn user(text: &str) -> Value {
    json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
}

fn call(id: &str) -> Value {
    json!({"type": "function_call", "call_id": id, "name": "x", "arguments": "{\"n\":1}"})
}

fn output(id: &str) -> Value {
    json!({"type": "function_call_output", "call_id": id, "output": "done"})
}

fn mark() -> Value {
    json!({"type": "ephemeral"})
}

#[test]
fn turns_are_taken_whatever_the_number_of_items() {
    let items = [user("a"), user("b"), call("1"), call("2"), output("1"), output("2")];

    let body = sent(&endpoint("claude-opus-4-7"), &items);

    let text = |text: &str| json!({"type": "text", "text": text});
    let used = |id: &str| json!({"type": "tool_use", "id": id, "name": "x", "input": {"n": 1}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": [text("done")]});
    let marked = |mut block: Value| {
        block["cache_control"] = mark();
        block
    };
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [text("a"), marked(text("b"))]},
            {"role": "assistant", "content": [used("1"), used("2")]},
            {"role": "user", "content": [result("1"), marked(result("2"))]},
        ])
    );
}

#[test]
fn at_most_four_places_are_marked_and_the_last_two_turns_are_among_them() {
    let mut items = vec![user("a")];
    for turn in 0..5 {
        items.extend([call(&format!("c{turn}")), output(&format!("c{turn}"))]);
    }

    let body = sent(&endpoint("claude-opus-4-7"), &items);

    assert_eq!(body.to_string().matches("cache_control").count(), 4);
    assert_eq!((&body["system"][0]["cache_control"], &body["tools"][1]["cache_control"]), (&mark(), &mark()));
    for message in [8, 10] {
        assert_eq!(body["messages"][message]["content"][0]["cache_control"], mark(), "message {message}");
    }
}

#[test]
fn the_head_asks_for_thoughts_in_the_form_the_model_knows() {
    let adaptive = sent(&endpoint("claude-opus-4-7").with_effort(Some("high")), &[user("a")]);
    let budget = sent(&endpoint("claude-sonnet-4-5").with_effort(Some("high")), &[user("a")]);
    let none = sent(&endpoint("other"), &[user("a")]);

    assert_eq!(adaptive["thinking"], json!({"type": "adaptive", "display": "summarized"}));
    assert_eq!(adaptive["output_config"], json!({"effort": "high"}));
    assert_eq!(budget["thinking"], json!({"type": "enabled", "budget_tokens": 16_000}));
    assert_eq!((&none["thinking"], &none["max_tokens"]), (&Value::Null, &json!(32_000)));
}

#[test]
fn a_budget_fits_into_a_short_answer_or_is_left_out() {
    let with = |tokens| {
        let endpoint = ModelEndpoint { max_output_tokens: Some(tokens), ..endpoint("claude-sonnet-4-5") };
        sent(&endpoint, &[user("a")])["thinking"]["budget_tokens"].take()
    };

    assert_eq!((with(2000), with(1024)), (json!(1024), Value::Null));
}

#[test]
fn thoughts_go_back_as_they_were_to_the_model_that_had_them() {
    let origin = "messages localhost claude-opus-4-7";
    let thought = |origin: &str| json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}], "signature": "s", "origin": origin});
    let hidden = json!({"type": "reasoning", "summary": [], "redacted": "data", "origin": origin});
    let encrypted =
        json!({"type": "reasoning", "summary": [], "encrypted_content": "x", "origin": "responses localhost gpt-5"});

    let body = sent(
        &endpoint("claude-opus-4-7"),
        &[user("a"), thought(origin), hidden, thought("messages localhost other"), encrypted, call("1")],
    );

    assert_eq!(
        body["messages"][1]["content"],
        json!([
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "data"},
            {"type": "tool_use", "id": "1", "name": "x", "input": {"n": 1}},
        ])
    );
}

#[test]
fn images_are_sources_in_base64() {
    let image = json!({"type": "input_image", "image_url": "data:image/png;base64,AA=="});
    let seen = json!({"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "look"}, image]});

    let body = sent(&endpoint("claude-opus-4-7"), &[user("a"), call("1"), seen]);

    assert_eq!(
        body["messages"][2]["content"][0]["content"],
        json!([
            {"type": "text", "text": "look"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        ])
    );
}

#[test]
fn texts_of_nothing_but_space_are_left_out() {
    let empty = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": " \n"}]});
    let result = json!({"type": "function_call_output", "call_id": "1", "output": ""});

    let body = sent(&endpoint("claude-opus-4-7"), &[user("a"), empty, call("1"), result]);

    assert_eq!(body["messages"][1]["content"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["messages"][2]["content"][0]["content"], json!([]));
}

#[test]
fn a_model_that_calls_one_tool_at_a_time_is_told_to() {
    let endpoint = ModelEndpoint { parallel_calls: false, ..endpoint("claude-opus-4-7") };

    assert_eq!(sent(&endpoint, &[])["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
}

//! What the Messages API sends, and what may be missing or strange in it.

use super::*;
use crate::Protocol;
use crate::model::answer::Remark;
use crate::model::decode::Decoder as Any;
use crate::model::failure::Again;

fn feed(events: &[Value]) -> Result<Answer, Failure> {
    let mut decoder = Any::new(Protocol::Messages);
    for event in events {
        match decoder.event(event.to_string().as_bytes()) {
            Ok(false) => {}
            Ok(true) => return decoder.finish(),
            Err(failure) => return decoder.broken(failure),
        }
    }
    decoder.broken(Failure::cut("it ended".to_owned()))
}

fn start(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn ended(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ]
}

fn tool(index: u64) -> [Value; 4] {
    [
        start(index, json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": "x", "input": {}})),
        delta(index, json!({"type": "input_json_delta", "partial_json": "{\"n\":"})),
        delta(index, json!({"type": "input_json_delta", "partial_json": "1}"})),
        stop(index),
    ]
}

fn text(index: u64, said: &str) -> [Value; 3] {
    [
        start(index, json!({"type": "text", "text": ""})),
        delta(index, json!({"type": "text_delta", "text": said})),
        stop(index),
    ]
}

#[test]
fn thoughts_text_and_calls_become_items() {
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "usage": {
            "input_tokens": 5, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 20, "output_tokens": 1,
        }}}),
        json!({"type": "ping"}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "Think."})),
        delta(0, json!({"type": "signature_delta", "signature": "sig"})),
        stop(0),
        start(1, json!({"type": "redacted_thinking", "data": "hidden"})),
        stop(1),
    ];
    events.extend(text(2, "Hi."));
    events.extend(tool(3));
    events.extend(ended("tool_use"));

    let answer = feed(&events).expect("an answer");

    let usage = answer.usage.expect("usage");
    assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens), (95, 70, 20));
    assert_eq!((usage.output_tokens, answer.id.as_str()), (9, "msg_1"));
    assert_eq!(
        answer.items,
        [
            json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Think."}], "signature": "sig"}),
            json!({"type": "reasoning", "summary": [], "redacted": "hidden"}),
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi.", "annotations": []}]}),
            json!({"type": "function_call", "call_id": "toolu_3", "name": "x", "arguments": "{\"n\":1}"}),
        ]
    );
}

#[test]
fn a_call_without_arguments_has_none() {
    let mut events = vec![start(0, json!({"type": "tool_use", "id": "t", "name": "x", "input": {}})), stop(0)];
    events.extend(ended("tool_use"));

    assert_eq!(feed(&events).expect("an answer").items[0]["arguments"], "{}");
}

#[test]
fn blocks_and_events_of_unknown_kinds_are_passed_over() {
    let mut events = vec![
        json!({"type": "unheard_of"}),
        start(0, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
        delta(0, json!({"type": "unheard_of_delta", "x": 1})),
        stop(0),
        stop(7),
    ];
    events.extend(text(1, "Hi."));
    events.extend(ended("unheard_of"));

    let answer = feed(&events).expect("an answer");

    assert_eq!((answer.items.len(), answer.usage), (1, None));
}

#[test]
fn an_overloaded_server_is_asked_again() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});

    let failure = feed(&[tool(0).to_vec(), vec![error]].concat()).expect_err("a failure");

    assert_eq!((failure.again, failure.reason.as_str()), (Again::Later, "the model server gave up: Overloaded"));
}

#[test]
fn an_answer_that_was_too_long_keeps_its_whole_calls() {
    // The block that is cut is ended properly all the same.
    for cut in [tool(1)[..2].to_vec(), [tool(1)[..2].to_vec(), vec![stop(1)]].concat()] {
        let events = [tool(0).to_vec(), cut, ended("max_tokens").to_vec()].concat();
        let answer = feed(&events).expect("an answer");

        assert_eq!((answer.items.len(), answer.remark), (1, Some(Remark::TooLong)));
        assert!(answer.cut_short.is_some_and(|reason| reason.contains("max_output_tokens")));
    }
}

#[test]
fn a_stream_that_ends_once_it_was_said_why_has_said_all() {
    let answer = feed(&[text(0, "Hi.").to_vec(), ended("end_turn")[..1].to_vec()].concat()).expect("an answer");

    assert_eq!((answer.items.len(), answer.cut_short), (1, None));
}

#[test]
fn a_stream_that_breaks_off_keeps_its_whole_calls() {
    let answer = feed(&[tool(0).to_vec(), tool(1)[..3].to_vec()].concat()).expect("an answer");

    assert_eq!(answer.items.len(), 1);
    assert!(feed(&text(0, "Hi.")).is_err());
}

#[test]
fn a_refusal_and_a_full_window_are_said_to_be_that() {
    let ends = |reason| feed(&[text(0, "I").to_vec(), ended(reason).to_vec()].concat()).expect_err("a failure");

    let (refusal, full) = (ends("refusal"), ends("model_context_window_exceeded"));

    assert!(refusal.reason.starts_with("the model refused to answer") && refusal.again == Again::Declined);
    assert_eq!(full.again, Again::ContextFull);
}

#[test]
fn a_paused_turn_is_gone_on_with() {
    let answer = feed(&[text(0, "Wait.").to_vec(), ended("pause_turn").to_vec()].concat()).expect("an answer");

    assert!(answer.is_paused);
}

#[test]
fn an_answer_may_come_in_one_piece() {
    let whole = |body: Value| Any::new(Protocol::Messages).whole(body.to_string().as_bytes());
    let content =
        json!([{"type": "text", "text": "Hi."}, {"type": "tool_use", "id": "t", "name": "x", "input": {"n": 1}}]);

    let answer = whole(json!({"id": "m", "type": "message", "content": content, "stop_reason": "tool_use"}));

    let items = answer.expect("an answer").items;
    assert_eq!((&items[0]["content"][0]["text"], &items[1]["arguments"]), (&json!("Hi."), &json!("{\"n\":1}")));
    assert!(whole(json!({"type": "error", "error": {"type": "api_error", "message": "no"}})).is_err());
}

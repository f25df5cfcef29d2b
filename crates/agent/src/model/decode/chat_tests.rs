//! What servers make of the Chat Completions API, and what we make of that.

use super::*;
use crate::Protocol;
use crate::model::answer::Remark;
use crate::model::decode::Decoder as Any;

/// Feeds these chunks and lets the stream end there.
fn feed(chunks: &[Value]) -> Result<Answer, Failure> {
    let mut decoder = Any::new(Protocol::ChatCompletions);
    for chunk in chunks {
        let data = chunk.as_str().map_or_else(|| chunk.to_string(), str::to_owned);
        match decoder.event(data.as_bytes()) {
            Ok(false) => {}
            Ok(true) => return decoder.finish(),
            Err(failure) => return decoder.broken(failure),
        }
    }
    decoder.broken(Failure::cut("it ended".to_owned()))
}

fn delta(delta: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn stop(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn piece(index: Value, id: Value, name: Value, arguments: &str) -> Value {
    delta(
        json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]}),
    )
}

/// The names and arguments of the calls in an answer.
fn calls(answer: &Answer) -> Vec<(String, String)> {
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    answer
        .items
        .iter()
        .filter(|item| item["type"] == "function_call")
        .map(|item| (text(item, "name"), text(item, "arguments")))
        .collect()
}

fn pair(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[test]
fn text_comes_in_pieces_and_usage_in_a_last_chunk_without_choices() {
    let answer = feed(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "Hel"})),
        delta(json!({"content": "lo."})),
        stop("stop"),
        json!({"id": "c1", "choices": [], "usage": {
            "prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 1},
        }}),
        json!("[DONE]"),
    ])
    .expect("an answer");

    let usage = answer.usage.expect("usage");
    assert_eq!(answer.items[0]["content"][0]["text"], "Hello.");
    assert_eq!(answer.id, "c1");
    assert_eq!((usage.input_tokens, usage.cached_input_tokens), (10, 8));
    assert_eq!((usage.output_tokens, usage.reasoning_tokens, usage.requests), (4, 1, 1));
}

#[test]
fn an_end_without_done_is_an_end() {
    let answer = feed(&[delta(json!({"content": "Hi."})), stop("stop")]).expect("an answer");

    assert_eq!((answer.items.len(), answer.usage, answer.cut_short), (1, None, None));
}

#[test]
fn whatever_the_end_is_called_what_was_said_counts() {
    for reason in ["eos", "end_turn", "STOP", "tool_calls", "unheard_of"] {
        assert!(feed(&[delta(json!({"content": "Hi."})), stop(reason)]).is_ok(), "{reason}");
    }
}

#[test]
fn text_without_an_end_is_no_answer() {
    assert!(feed(&[delta(json!({"content": "Hel"}))]).is_err());
    assert!(feed(&[delta(json!({"content": "Hel"})), stop("")]).is_err());
    assert!(feed(&[json!("[DONE]")]).is_err());
}

#[test]
fn done_is_an_end_even_if_nobody_says_why() {
    let text = feed(&[delta(json!({"content": "Hi."})), stop(""), json!("[DONE]")]).expect("an answer");
    let call = feed(&[piece(json!(0), json!("a"), json!("x"), "{}"), json!("[DONE]")]).expect("an answer");

    assert_eq!((text.items[0]["content"][0]["text"].as_str(), calls(&call).len()), (Some("Hi."), 1));
}

#[test]
fn a_message_of_all_that_was_said_at_the_end_of_a_stream_says_nothing_new() {
    let all = json!({"content": "Hi.", "tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}}]});

    let answer = feed(&[
        delta(json!({"content": "Hi."})),
        piece(json!(0), json!("a"), json!("x"), "{}"),
        json!({"object": "chat.completion", "choices": [{"message": all, "finish_reason": "tool_calls"}]}),
    ])
    .expect("an answer");

    assert_eq!((answer.items[0]["content"][0]["text"].as_str(), calls(&answer)), (Some("Hi."), vec![pair("x", "{}")]));
}

#[test]
fn a_new_id_with_every_piece_of_a_call_begins_no_other() {
    let answer = feed(&[
        piece(json!(0), json!("a"), json!("x"), "{\"n\""),
        piece(json!(0), json!("b"), Value::Null, ":1}"),
        stop("tool_calls"),
    ])
    .expect("an answer");

    assert_eq!((calls(&answer), &answer.items[0]["call_id"]), (vec![pair("x", "{\"n\":1}")], &json!("a")));
}

#[test]
fn reasoning_details_are_put_together_and_kept_to_be_sent_back() {
    let detail = |detail: Value| delta(json!({"reasoning_details": [detail]}));

    let answer = feed(&[
        detail(json!({"type": "reasoning.text", "index": 0, "text": "Think", "format": "f"})),
        detail(json!({"type": "reasoning.text", "index": 0, "text": " hard.", "signature": null})),
        detail(json!({"type": "reasoning.text", "index": 0, "signature": "s"})),
        detail(json!({"type": "reasoning.encrypted", "index": 1, "data": "x", "id": "t"})),
        piece(json!(0), json!("a"), json!("x"), "{}"),
        stop("tool_calls"),
    ])
    .expect("an answer");

    assert_eq!(
        answer.items[0]["details"],
        json!([
            {"type": "reasoning.text", "index": 0, "text": "Think hard.", "format": "f", "signature": "s"},
            {"type": "reasoning.encrypted", "index": 1, "data": "x", "id": "t"},
        ])
    );
}

#[test]
fn calls_are_put_together_by_their_index() {
    let answer = feed(&[
        piece(json!(0), json!("a"), json!("exec_command"), ""),
        piece(json!(1), json!("b"), json!("update_plan"), "{\"pl"),
        piece(json!(0), Value::Null, Value::Null, "{\"cmd\":"),
        piece(json!(1), json!(""), json!(""), "an\":[]}"),
        piece(json!(0), Value::Null, Value::Null, "\"ls\"}"),
        stop("tool_calls"),
    ])
    .expect("an answer");

    assert_eq!(calls(&answer), [pair("exec_command", "{\"cmd\":\"ls\"}"), pair("update_plan", "{\"plan\":[]}")]);
    assert_eq!((&answer.items[0]["call_id"], &answer.items[1]["call_id"]), (&json!("a"), &json!("b")));
}

#[test]
fn names_may_come_in_pieces_or_again_with_every_piece() {
    let in_pieces = feed(&[
        piece(json!(0), json!("a"), json!("exec_"), ""),
        piece(json!(0), Value::Null, json!("command"), "{}"),
        stop("tool_calls"),
    ]);
    let repeated = feed(&[
        piece(json!(0), json!("a"), json!("exec_command"), "{"),
        piece(json!(0), json!("a"), json!("exec_command"), "}"),
        stop("tool_calls"),
    ]);

    for answer in [in_pieces, repeated] {
        assert_eq!(calls(&answer.expect("an answer")), [pair("exec_command", "{}")]);
    }
}

#[test]
fn calls_that_all_have_the_same_index_or_none_are_told_apart() {
    for index in [json!(0), Value::Null] {
        let answer = feed(&[
            piece(index.clone(), json!("a"), json!("x"), "{\"n\":1}"),
            piece(index.clone(), json!("b"), json!("x"), "{\"n\":2}"),
            stop("stop"),
        ])
        .expect("an answer");

        assert_eq!(calls(&answer), [pair("x", "{\"n\":1}"), pair("x", "{\"n\":2}")], "{index}");
    }
    let nameless = feed(&[
        piece(Value::Null, Value::Null, json!("x"), "{\"n\":1}"),
        piece(Value::Null, Value::Null, json!("x"), "{\"n\":2}"),
        stop("stop"),
    ]);
    assert_eq!(calls(&nameless.expect("an answer")).len(), 2);
}

#[test]
fn two_calls_of_the_same_id_and_different_indexes_are_two() {
    let answer = feed(&[
        piece(json!(0), json!("a"), json!("x"), "{}"),
        piece(json!(1), json!("a"), json!("y"), "{}"),
        stop("tool_calls"),
    ])
    .expect("an answer");

    assert_eq!(calls(&answer), [pair("x", "{}"), pair("y", "{}")]);
}

#[test]
fn arguments_may_be_an_object_and_may_be_missing() {
    let call = |function: Value| delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": function}]}));

    let object = feed(&[call(json!({"name": "x", "arguments": {"n": 1}})), stop("stop")]).expect("an answer");
    let none = feed(&[call(json!({"name": "x"})), stop("stop")]).expect("an answer");

    assert_eq!((calls(&object), calls(&none)), (vec![pair("x", "{\"n\":1}")], vec![pair("x", "{}")]));
}

#[test]
fn a_stream_that_breaks_off_keeps_the_calls_that_are_whole() {
    let answer = feed(&[
        piece(json!(0), json!("a"), json!("x"), "{\"n\":1}"),
        piece(json!(1), json!("b"), json!("x"), "{\"n\":"),
    ])
    .expect("an answer");

    assert_eq!(calls(&answer), [pair("x", "{\"n\":1}")]);
    assert_eq!(answer.cut_short.as_deref(), Some("the model server's answer is not whole: it ended"));
}

#[test]
fn an_answer_that_was_too_long_keeps_the_calls_that_are_whole() {
    let answer = feed(&[
        piece(json!(0), json!("a"), json!("x"), "{\"n\":1}"),
        piece(json!(1), json!("b"), json!("x"), "{\"n\":"),
        stop("length"),
    ]);
    let text = feed(&[delta(json!({"content": "and so"})), stop("length")]).expect("an answer");

    let answer = answer.expect("an answer");
    assert_eq!((calls(&answer).len(), answer.remark), (1, Some(Remark::TooLong)));
    assert_eq!(text.remark, Some(Remark::TooLong));
    assert!(text.cut_short.is_some_and(|reason| reason.contains("incomplete (max_output_tokens)")));
}

#[test]
fn reasoning_is_kept_with_the_name_of_its_field() {
    for field in ["reasoning_content", "reasoning"] {
        let answer = feed(&[
            delta(json!({field: "Think", "content": null})),
            delta(json!({field: " hard."})),
            delta(json!({"content": "Hi."})),
            stop("stop"),
        ])
        .expect("an answer");

        assert_eq!(answer.items[0]["content"][0]["text"], "Think hard.");
        assert_eq!((&answer.items[0]["field"], &answer.items[1]["type"]), (&json!(field), &json!("message")));
    }
}

#[test]
fn content_may_come_in_parts_with_thoughts_among_them() {
    let parts = json!([
        {"type": "thinking", "thinking": [{"type": "text", "text": "Think."}]},
        {"type": "text", "text": "Hi."},
    ]);

    let answer = feed(&[delta(json!({"content": parts})), stop("stop")]).expect("an answer");

    assert_eq!(answer.items[0]["content"][0]["text"], "Think.");
    assert_eq!(answer.items[1]["content"][0]["text"], "Hi.");
}

#[test]
fn an_error_in_the_middle_disowns_the_rest() {
    for error in [
        json!({"error": {"message": "no", "code": 502}}),
        json!({"error": "no"}),
        json!({"object": "error", "message": "no"}),
        json!({"choices": [{"error": {"message": "no"}}]}),
    ] {
        let failure = feed(&[piece(json!(0), json!("a"), json!("x"), "{}"), error.clone()]).expect_err("a failure");
        assert!(failure.reason.ends_with(": no"), "{error}: {}", failure.reason);
    }
}

#[test]
fn an_answer_may_come_in_one_piece() {
    let whole = |body: Value| Any::new(Protocol::ChatCompletions).whole(body.to_string().as_bytes());
    let message = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "x", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "y", "arguments": "{}"}},
    ]});

    let answer = whole(json!({"id": "c", "choices": [{"message": message, "finish_reason": "tool_calls"}]}));

    assert_eq!(calls(&answer.expect("an answer")), [pair("x", "{}"), pair("y", "{}")]);
    assert!(whole(json!({"hello": "world"})).is_err());
    assert!(whole(json!({"error": {"message": "no"}})).is_err());
}

#[test]
fn what_some_servers_want_back_with_a_call_is_kept() {
    let call =
        json!({"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}, "extra_content": {"sign": "s"}});

    let answer = feed(&[delta(json!({"tool_calls": [call]})), stop("tool_calls")]).expect("an answer");

    assert_eq!(answer.items[0]["extra_content"], json!({"sign": "s"}));
}

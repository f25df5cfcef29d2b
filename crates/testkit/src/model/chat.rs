//! An answer as the Chat Completions API streams it: `openai` on PyPI (2.54.0) and npm (7.57.0) take it chunk by chunk.
//! Reasoning comes in `reasoning_content`, which is not OpenAI's but many servers'.

use serde_json::{Value, json};

use super::events::Ending;
use super::turn::{Told, Turn, arguments, deltas};
use super::{Item, Reply, Usage};

/// The chunks of an answer.
pub(super) fn events(turn: &Turn<'_>, told: &Told<'_>) -> Vec<Value> {
    let first = chunk(turn, json!({ "role": "assistant", "content": "", "refusal": null }), None);
    match told {
        Told::Failed(code, message) | Told::Error(code, message) => {
            vec![first, json!({ "error": { "message": message, "type": code, "param": null, "code": code } })]
        }
        Told::Reply(reply, items, ending) => {
            let mut chunks = if reply.terse { Vec::new() } else { vec![first] };
            for (index, item) in reply.items.iter().take(*items).enumerate() {
                say(turn, reply, index, item, &mut chunks);
            }
            let reason = match ending {
                Ending::None => return chunks,
                Ending::Incomplete("content_filter") => "content_filter",
                Ending::Incomplete(_) => "length",
                Ending::Completed => finish_reason(reply),
            };
            chunks.push(chunk(turn, json!({}), Some(reason)));
            if !reply.terse && turn.request["stream_options"]["include_usage"] == true {
                let mut last = chunk(turn, json!({}), None);
                last["choices"] = json!([]);
                last["usage"] = usage(turn.usage(reply));
                chunks.push(last);
            }
            chunks
        }
    }
}

/// An answer in one piece.
pub(super) fn whole(turn: &Turn<'_>, reply: &Reply) -> Value {
    let texts = |wanted: fn(&Item) -> Option<&String>| -> String {
        reply.items.iter().filter_map(wanted).map(String::as_str).collect()
    };
    let text = texts(|item| if let Item::Message(text) = item { Some(text) } else { None });
    let reasoning = texts(|item| if let Item::Reasoning(text) = item { Some(text) } else { None });
    let mut message = json!({ "role": "assistant", "content": (!text.is_empty()).then_some(text), "refusal": null });
    if !reasoning.is_empty() {
        message["reasoning_content"] = json!(reasoning);
    }
    let calls: Vec<Value> = reply
        .items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let name = called(item)?;
            let function = json!({ "name": name, "arguments": arguments(item) });
            Some(json!({ "id": turn.call_id(index), "type": "function", "function": function }))
        })
        .collect();
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    let mut body = chunk(turn, json!({}), None);
    body["object"] = json!("chat.completion");
    body["choices"] =
        json!([{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(reply) }]);
    body["usage"] = usage(turn.usage(reply));
    body
}

fn say(turn: &Turn<'_>, reply: &Reply, index: usize, item: &Item, chunks: &mut Vec<Value>) {
    match item {
        Item::Message(text) => {
            chunks.extend(deltas(text).into_iter().map(|text| chunk(turn, json!({ "content": text }), None)));
        }
        Item::Reasoning(text) => {
            let told = deltas(text).into_iter().map(|text| chunk(turn, json!({ "reasoning_content": text }), None));
            chunks.extend(told);
        }
        Item::Call { name, .. } | Item::Custom { name, .. } => {
            // Calls are counted by themselves.
            let at = reply.items[..index].iter().filter(|item| called(item).is_some()).count();
            let piece = |piece: Value| chunk(turn, json!({ "tool_calls": [piece] }), None);
            chunks.push(piece(json!({
                "index": at, "id": turn.call_id(index), "type": "function",
                "function": { "name": name, "arguments": "" },
            })));
            for text in deltas(&arguments(item)) {
                chunks.push(piece(json!({ "index": at, "function": { "arguments": text } })));
            }
        }
    }
}

fn called(item: &Item) -> Option<&String> {
    match item {
        Item::Call { name, .. } | Item::Custom { name, .. } => Some(name),
        Item::Message(_) | Item::Reasoning(_) => None,
    }
}

fn finish_reason(reply: &Reply) -> &'static str {
    if reply.items.iter().any(|item| called(item).is_some()) { "tool_calls" } else { "stop" }
}

fn chunk(turn: &Turn<'_>, delta: Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": format!("chatcmpl-{}-{}", turn.tag, turn.input.len()),
        "object": "chat.completion.chunk",
        "created": turn.created_at,
        "model": turn.request["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
        "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason }],
    })
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": { "cached_tokens": usage.cached, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

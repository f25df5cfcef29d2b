//! An answer as the Messages API streams it: `@anthropic-ai/sdk` on npm (1.12.0) takes it event by event.

use serde_json::{Value, json};

use super::events::Ending;
use super::turn::{Told, Turn, arguments, deltas};
use super::{Item, Reply, Usage};

/// What vouches for a thought: the server takes it back only together with the thought it belongs to.
pub(super) fn signature(thought: &str) -> String {
    let sum = thought.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("scripted-{sum:016x}")
}

/// The events of an answer.
pub(super) fn events(turn: &Turn<'_>, told: &Told<'_>) -> Vec<Value> {
    let nothing = Reply::default();
    let reply = if let Told::Reply(reply, ..) = told { *reply } else { &nothing };
    let counted = turn.usage(reply);
    let mut events = vec![
        json!({ "type": "message_start", "message": message(turn, Vec::new(), None, counted, 1) }),
        json!({ "type": "ping" }),
    ];
    match told {
        Told::Failed(code, words) | Told::Error(code, words) => {
            let error = json!({ "type": code, "message": words });
            events.push(json!({ "type": "error", "error": error, "request_id": "req_scripted" }));
        }
        Told::Reply(reply, items, ending) => {
            for (index, item) in reply.items.iter().take(*items).enumerate() {
                block(turn, index, item, &mut events);
            }
            let reason = match ending {
                Ending::None => return events,
                Ending::Incomplete("content_filter") => "refusal",
                Ending::Incomplete("max_output_tokens") => "max_tokens",
                Ending::Incomplete(reason) => reason,
                Ending::Completed => stop_reason(reply),
            };
            events.push(json!({
                "type": "message_delta",
                "delta": { "container": null, "stop_details": null, "stop_reason": reason, "stop_sequence": null },
                "usage": delta_usage(counted),
            }));
            events.push(json!({ "type": "message_stop" }));
        }
    }
    events
}

/// An answer in one piece.
pub(super) fn whole(turn: &Turn<'_>, reply: &Reply) -> Value {
    let blocks = reply.items.iter().enumerate().map(|(index, item)| content(turn, index, item, true)).collect();
    let counted = turn.usage(reply);
    message(turn, blocks, Some(stop_reason(reply)), counted, counted.output)
}

fn block(turn: &Turn<'_>, index: usize, item: &Item, events: &mut Vec<Value>) {
    let block = content(turn, index, item, false);
    events.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
    let mut grow = |delta: Value| events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
    match item {
        Item::Message(text) => {
            deltas(text).into_iter().for_each(|text| grow(json!({ "type": "text_delta", "text": text })));
        }
        Item::Reasoning(text) => {
            deltas(text).into_iter().for_each(|text| grow(json!({ "type": "thinking_delta", "thinking": text })));
            grow(json!({ "type": "signature_delta", "signature": signature(text) }));
        }
        Item::Call { .. } | Item::Custom { .. } => {
            grow(json!({ "type": "input_json_delta", "partial_json": "" }));
            let pieces = deltas(&arguments(item)).into_iter();
            pieces.for_each(|text| grow(json!({ "type": "input_json_delta", "partial_json": text })));
        }
    }
    events.push(json!({ "type": "content_block_stop", "index": index }));
}

/// A block, filled or as it begins.
fn content(turn: &Turn<'_>, index: usize, item: &Item, is_filled: bool) -> Value {
    let text = |text: &str| if is_filled { text.to_owned() } else { String::new() };
    match item {
        Item::Message(said) => json!({ "type": "text", "text": text(said), "citations": null }),
        Item::Reasoning(thought) => {
            json!({ "type": "thinking", "thinking": text(thought), "signature": text(&signature(thought)) })
        }
        Item::Call { name, .. } | Item::Custom { name, .. } => {
            let input = if is_filled { arguments(item) } else { "{}".to_owned() };
            let input: Value = serde_json::from_str(&input).unwrap_or_else(|_| json!({}));
            let caller = json!({ "type": "direct" });
            json!({ "type": "tool_use", "id": turn.call_id(index), "name": name, "input": input, "caller": caller })
        }
    }
}

fn stop_reason(reply: &Reply) -> &'static str {
    let calls = reply.items.iter().any(|item| matches!(item, Item::Call { .. } | Item::Custom { .. }));
    if calls { "tool_use" } else { "end_turn" }
}

fn message(turn: &Turn<'_>, content: Vec<Value>, stop_reason: Option<&str>, usage: Usage, output: u64) -> Value {
    json!({
        "id": format!("msg_{}_{}", turn.tag, turn.input.len()),
        "type": "message",
        "role": "assistant",
        "model": turn.request["model"],
        "content": content,
        "container": null,
        "diagnostics": null,
        "stop_reason": stop_reason,
        "stop_details": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": usage.input.saturating_sub(usage.cached),
            "cache_read_input_tokens": usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_creation": { "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 },
            "output_tokens": output,
            "output_tokens_details": null,
            "server_tool_use": null,
            "service_tier": "standard",
            "inference_geo": null,
            "speed": "standard",
        },
    })
}

fn delta_usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached),
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.output,
        "output_tokens_details": { "thinking_tokens": usage.reasoning },
        "server_tool_use": null,
    })
}

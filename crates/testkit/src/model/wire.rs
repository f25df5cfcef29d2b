//! The three APIs the server speaks. A request of any of them is read as the items that the Responses API would have
//! had, so that one script and one set of rules serves all.

use serde_json::{Value, json};

/// An API, by the path of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Responses,
    Chat,
    Messages,
}

impl Wire {
    /// The API whose requests go to this path.
    pub(super) fn at(path: &str) -> Self {
        match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/messages" => Self::Messages,
            _ => Self::Responses,
        }
    }

    /// The conversation of a request as items.
    pub(super) fn items(self, request: &Value) -> Vec<Value> {
        let field = if self == Self::Responses { "input" } else { "messages" };
        let messages = request[field].as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Self::Responses => messages.to_vec(),
            Self::Chat => messages.iter().enumerate().flat_map(|(at, message)| chat(at, message)).collect(),
            Self::Messages => messages.iter().enumerate().flat_map(|(at, message)| blocks(at, message)).collect(),
        }
    }
}

fn chat(at: usize, message: &Value) -> Vec<Value> {
    match message["role"].as_str() {
        Some("user") => match &message["content"] {
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).flat_map(texts).collect(),
            content => texts(content.as_str().unwrap_or_default()),
        },
        Some("assistant") => {
            let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
            let answer = answer(at, calls.first());
            let mut items = Vec::new();
            if let Some(text) = message["content"].as_str() {
                items.push(said(&answer, text));
            }
            items.extend(calls.iter().map(|call| {
                let function = &call["function"];
                json!({
                    "type": "function_call", "call_id": call["id"],
                    "name": function["name"], "arguments": function["arguments"],
                })
            }));
            items
        }
        Some("tool") => vec![json!({
            "type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"],
        })],
        _ => Vec::new(),
    }
}

fn blocks(at: usize, message: &Value) -> Vec<Value> {
    let whole = [json!({ "type": "text", "text": message["content"] })];
    let blocks = message["content"].as_array().map_or(&whole[..], Vec::as_slice);
    let is_ours = message["role"] == "user";
    let answer = answer(at, blocks.iter().find(|block| block["type"] == "tool_use"));
    let mut items = Vec::new();
    for block in blocks {
        let text = block["text"].as_str().unwrap_or_default();
        match block["type"].as_str() {
            Some("text") if is_ours => items.extend(texts(text)),
            Some("text") => items.push(said(&answer, text)),
            Some("thinking" | "redacted_thinking") => {
                items.push(json!({ "type": "reasoning", "id": format!("rs_{answer}_0"), "summary": [] }));
            }
            Some("tool_use") => items.push(json!({
                "type": "function_call", "call_id": block["id"],
                "name": block["name"], "arguments": block["input"].to_string(),
            })),
            Some("tool_result") => items.push(json!({
                "type": "function_call_output", "call_id": block["tool_use_id"], "output": result(&block["content"]),
            })),
            _ => {}
        }
    }
    items
}

/// The text of a tool's result.
fn result(content: &Value) -> String {
    match content {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        content => content.as_str().unwrap_or_default().to_owned(),
    }
}

/// What tells an answer from others: the part in the middle of its calls' names, or else the place of its message.
fn answer(at: usize, call: Option<&Value>) -> String {
    let named = call.and_then(|call| call["id"].as_str()).and_then(|id| id.split('_').nth(1));
    named.map_or_else(|| format!("m{at}"), str::to_owned)
}

fn said(answer: &str, text: &str) -> Value {
    let part = json!({ "type": "output_text", "text": text });
    json!({ "type": "message", "role": "assistant", "id": format!("msg_{answer}_0"), "content": [part] })
}

/// Texts that a client has put together into one are told apart again: frames such as `<environment_context>` end with
/// their tag, and what follows is another.
fn texts(text: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(name) = rest.strip_prefix('<').and_then(|rest| rest.split(['>', ' ', '\n']).next()) {
        let end = format!("</{name}>\n\n");
        let Some((frame, more)) = rest.split_once(&end) else { break };
        all.push(format!("{frame}</{name}>"));
        rest = more;
    }
    all.push(rest.to_owned());
    all.into_iter()
        .map(|text| json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(items: &[Value]) -> Vec<&str> {
        items.iter().map(|item| item["type"].as_str().unwrap_or_default()).collect()
    }

    #[test]
    fn a_chat_is_read_as_items() {
        let request = json!({"messages": [
            {"role": "system", "content": "be good"},
            {"role": "user", "content": "<environment_context>\nx\n</environment_context>\n\nfix it"},
            {"role": "assistant", "content": "Well.", "tool_calls": [{"id": "call_2_1", "function": {"name": "x", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_2_1", "content": "done"},
        ]});

        let items = Wire::Chat.items(&request);

        assert_eq!(kinds(&items), ["message", "message", "message", "function_call", "function_call_output"]);
        assert_eq!(items[1]["content"][0]["text"], "fix it");
        assert_eq!((&items[2]["id"], &items[4]["output"]), (&json!("msg_2_0"), &json!("done")));
    }

    #[test]
    fn messages_are_read_as_items() {
        let request = json!({"messages": [
            {"role": "user", "content": "fix it"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "call_1_0", "name": "x", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1_0", "content": [{"type": "text", "text": "done"}]}]},
        ]});

        let items = Wire::Messages.items(&request);

        assert_eq!(kinds(&items), ["message", "reasoning", "function_call", "function_call_output"]);
        assert_eq!((&items[2]["arguments"], &items[3]["output"]), (&json!("{\"a\":1}"), &json!("done")));
    }
}

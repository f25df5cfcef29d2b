//! What the real servers of the Chat Completions and the Messages API refuse, beyond what concerns every conversation.

use serde_json::Value;

use super::check::{Refusal, refuse};
use super::messages::signature;

/// Checks a request of the Chat Completions API.
pub(super) fn chat(body: &Value) -> Result<(), Refusal> {
    begins(body)?;
    let messages = list(body);
    for (index, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
        if tool["type"] != "function" || !tool["function"]["name"].is_string() {
            return refuse(format!("tools[{index}]"), "This server knows only functions.");
        }
    }
    for (index, message) in messages.iter().enumerate() {
        let param = format!("messages[{index}]");
        match message["role"].as_str() {
            Some("system" | "developer") => {}
            Some("user") if message["content"].is_string() || message["content"].is_array() => {}
            Some("tool") if message["tool_call_id"].is_string() && message["content"].is_string() => {}
            Some("assistant") => {
                let calls = message["tool_calls"].as_array().map(Vec::as_slice);
                if calls.is_some_and(<[Value]>::is_empty) {
                    return refuse(param, "[] is too short - 'messages.tool_calls'");
                }
                if calls.is_none() && !message["content"].is_string() {
                    return refuse(param, "An assistant message needs content or tool calls.");
                }
                arguments(&param, calls.unwrap_or_default())?;
            }
            _ => return refuse(param, "Invalid value for a message."),
        }
    }
    turns(messages.iter().filter(|message| message["role"] == "user" || message["role"] == "assistant"), messages)
}

/// Checks a request of the Messages API.
pub(super) fn messages(body: &Value) -> Result<(), Refusal> {
    begins(body)?;
    if !body["max_tokens"].is_u64() {
        return refuse("max_tokens", "max_tokens: Field required");
    }
    let budget = &body["thinking"]["budget_tokens"];
    if budget.as_u64().is_some_and(|budget| budget < 1024 || Some(budget) >= body["max_tokens"].as_u64()) {
        return refuse("thinking", "`max_tokens` must be greater than `thinking.budget_tokens`");
    }
    if body.to_string().matches(r#""cache_control":{"#).count() > 4 {
        return refuse("cache_control", "A maximum of 4 blocks with cache_control may be provided.");
    }
    let messages = list(body);
    thinks_first(body, messages)?;
    for (index, message) in messages.iter().enumerate() {
        for (at, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            let param = format!("messages.{index}.content.{at}");
            match block["type"].as_str() {
                Some("text") if block["text"].as_str().is_none_or(|text| text.trim().is_empty()) => {
                    return refuse(param, "text content blocks must contain non-whitespace text");
                }
                Some("thinking") if block["signature"] != signature(block["thinking"].as_str().unwrap_or_default()) => {
                    return refuse(param, "Invalid `signature` in `thinking` block");
                }
                Some("tool_use") if !block["input"].is_object() => {
                    return refuse(param, "tool_use.input: Input should be a valid dictionary");
                }
                Some("text" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result" | "image") => {}
                _ => return refuse(param, "Input tag does not match any of the expected tags"),
            }
        }
    }
    turns(messages.iter(), messages)
}

/// A model that must think has thought before the calls whose results are the last word.
fn thinks_first(body: &Value, messages: &[Value]) -> Result<(), Refusal> {
    let [.., said, results] = messages else { return Ok(()) };
    let has = |message: &Value, kind: &str| {
        message["content"].as_array().into_iter().flatten().any(|block| block["type"] == kind)
    };
    let first = said["content"][0]["type"].as_str().unwrap_or_default();
    let is_open = has(said, "tool_use") && has(results, "tool_result");
    if body["thinking"]["type"] == "enabled" && is_open && !matches!(first, "thinking" | "redacted_thinking") {
        let param = format!("messages.{}.content.0.type", messages.len() - 2);
        return refuse(
            param,
            format!(
                "Expected `thinking` or `redacted_thinking`, but found `{first}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block."
            ),
        );
    }
    Ok(())
}

fn begins(body: &Value) -> Result<(), Refusal> {
    if !body["model"].is_string() {
        return refuse("model", "you must provide a model parameter");
    }
    if body["stream"] != Value::Bool(true) {
        return refuse("stream", "This server only streams: set 'stream' to true.");
    }
    if list(body).is_empty() {
        return refuse("messages", "[] is too short - 'messages'");
    }
    Ok(())
}

fn list(body: &Value) -> &[Value] {
    body["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The templates of many models read the arguments of earlier calls, and break on what is no object.
fn arguments(param: &str, calls: &[Value]) -> Result<(), Refusal> {
    for call in calls {
        let text = call["function"]["arguments"].as_str().unwrap_or_default();
        if !matches!(serde_json::from_str(text), Ok(Value::Object(_))) {
            return refuse(param, "The arguments of a call are the text of a JSON object.");
        }
    }
    Ok(())
}

/// The templates of many models insist on turns.
fn turns<'a>(messages: impl Iterator<Item = &'a Value>, all: &[Value]) -> Result<(), Refusal> {
    let mut before: Option<&Value> = None;
    for message in messages {
        // Two answers with the results of tools between them are turns.
        let with_tools = before.is_some_and(|before| before["tool_calls"].is_array());
        if before.is_some_and(|before| before["role"] == message["role"]) && !with_tools {
            return refuse("messages", "Conversation roles must alternate user/assistant/user/assistant/...");
        }
        before = Some(message);
    }
    match all.last() {
        Some(last) if last["role"] == "assistant" => refuse("messages", "The last message is the model's own."),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(result: Result<(), Refusal>) -> String {
        result.expect_err("a refusal").message
    }

    #[test]
    fn turns_must_be_taken() {
        let twice = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);

        let chatted = chat(&json!({"model": "m", "stream": true, "messages": twice}));
        let messaged = messages(&json!({"model": "m", "stream": true, "max_tokens": 1, "messages": twice}));

        assert!(refusal(chatted).contains("alternate") && refusal(messaged).contains("alternate"));
    }

    #[test]
    fn a_thought_that_was_changed_is_refused() {
        let thought = json!({"type": "thinking", "thinking": "changed", "signature": signature("hm")});
        let said = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": [thought]}, {"role": "user", "content": "b"}]);

        let refused = messages(&json!({"model": "m", "stream": true, "max_tokens": 1, "messages": said}));

        assert!(refusal(refused).contains("signature"));
    }

    #[test]
    fn five_marks_are_too_many() {
        let block = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
        let content = vec![block; 5];

        let refused = messages(
            &json!({"model": "m", "stream": true, "max_tokens": 1, "messages": [{"role": "user", "content": content}]}),
        );

        assert!(refusal(refused).contains("maximum of 4"));
    }
}

//! What an agent inside a sandbox may ask its model for. A model server does much on behalf of whoever asks: it searches the
//! web, calls servers, fetches images by their address, keeps conversations. All of that would lead round the network
//! policy of the sandbox, so what reaches the server is only what the agent says itself, and tools that it runs itself.

use serde_json::{Map, Value, json};

use crate::Protocol;

/// What a request of each protocol may have; anything else is left out. `model` is put in afterwards.
const RESPONSES: &[&str] = &[
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
];
const CHAT_COMPLETIONS: &[&str] = &[
    "chat_template_kwargs",
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_p",
];
const MESSAGES: &[&str] = &[
    "max_tokens",
    "messages",
    "output_config",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// What changes the meaning of a request so much that it is refused rather than left out.
const REFUSED: &[&str] = &["background", "previous_response_id", "conversation", "container"];

/// Kinds of tools that whoever asks runs itself; of Messages, beginnings of such.
const OWN_TOOLS: &[&str] = &["function", "custom", "local_shell", "namespace"];
const OWN_MESSAGES_TOOLS: &[&str] = &["custom", "bash_", "text_editor_", "memory_"];

/// Under what names a server is given an address, or a file of its own.
const ADDRESSES: &[&str] = &["image_url", "file_url", "url", "server_url", "file_id", "audio_url", "video_url"];

/// Leaves of a request what the agent may ask for.
///
/// # Errors
/// Names what it may not.
pub(super) fn allowed(protocol: Protocol, body: &mut Map<String, Value>) -> Result<(), String> {
    if let Some(field) = REFUSED.iter().find(|field| body.get(**field).is_some_and(|value| !is_nothing(value))) {
        return Err(format!("`{field}` is not available to an agent in a sandbox"));
    }
    let known = match protocol {
        Protocol::Responses => RESPONSES,
        Protocol::ChatCompletions => CHAT_COMPLETIONS,
        Protocol::Messages => MESSAGES,
    };
    body.retain(|field, _| known.contains(&field.as_str()));
    for field in ["input", "messages", "system"] {
        if let Some(said) = body.get_mut(field) {
            if let Value::Array(items) = said {
                items.retain(|item| !is_of_the_server(item));
            }
            refuse_addresses(said)?;
        }
    }
    if let Some(Value::Array(tools)) = body.get_mut("tools") {
        own_tools(protocol, tools);
    }
    let has_tools = body.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
    let choice = body.get("tool_choice").and_then(|choice| choice["type"].as_str());
    let is_own = |kind: &str| ["function", "custom", "tool", "auto", "any", "none", "required"].contains(&kind);
    if !has_tools || choice.is_some_and(|kind| !is_own(kind)) {
        body.remove("tool_choice");
    }
    if protocol == Protocol::Responses {
        body.insert("store".to_owned(), json!(false));
        if let Some(Value::Array(include)) = body.get_mut("include") {
            include.retain(|what| what.as_str().is_some_and(|what| what.starts_with("reasoning.")));
        }
    }
    Ok(())
}

fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

/// Items that stand for something the server has, or has done.
fn is_of_the_server(item: &Value) -> bool {
    item["type"].as_str().is_some_and(|kind| kind == "item_reference" || kind.starts_with("mcp_"))
}

fn own_tools(protocol: Protocol, tools: &mut Vec<Value>) {
    tools.retain_mut(|tool| {
        let is_own = match (protocol, tool["type"].as_str()) {
            (Protocol::Messages, None) => true,
            (Protocol::Messages, Some(kind)) => OWN_MESSAGES_TOOLS.iter().any(|own| kind.starts_with(own)),
            (_, Some(kind)) => OWN_TOOLS.contains(&kind),
            (_, None) => false,
        };
        // A namespace is a list of tools with a name.
        if let Some(Value::Array(inner)) = tool.get_mut("tools") {
            inner.retain(|tool| tool["type"] == "function" || tool["type"] == "custom");
        }
        is_own
    });
}

/// Refuses addresses that the server would fetch from. What is sent along with the request itself may stay.
fn refuse_addresses(value: &Value) -> Result<(), String> {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => {
                let is_call = fields.get("type").is_some_and(|kind| kind == "tool_use");
                for (name, value) in fields {
                    // What a tool of the agent's own is called with is the agent's business.
                    if is_call && name == "input" {
                        continue;
                    }
                    match value {
                        Value::String(text) if ADDRESSES.contains(&name.as_str()) && !text.starts_with("data:") => {
                            return Err(format!(
                                "`{name}` may only hold the data itself (`data:…`): the model server is not asked to fetch \
                                 anything for a sandbox"
                            ));
                        }
                        // What an earlier answer said it had found where.
                        Value::Array(_) if name == "annotations" => {}
                        other => left.push(other),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: Protocol, body: Value) -> Result<Value, String> {
        let Value::Object(mut body) = body else { panic!("an object") };
        allowed(protocol, &mut body).map(|()| Value::Object(body))
    }

    #[test]
    fn tools_that_the_server_would_run_are_left_out_and_those_of_the_agent_stay() {
        let namespace = json!({"type": "namespace", "name": "n", "tools": [{"type": "function"}, {"type": "mcp"}]});
        let tools = json!([{"type": "function", "name": "shell"}, {"type": "mcp", "server_url": "https://evil.example"},
            {"type": "web_search"}, {"type": "custom", "name": "apply_patch"}, namespace, {"type": "code_interpreter"}]);

        let responses = asked(Protocol::Responses, json!({"input": "hi", "tools": tools})).expect("allowed");
        let messages = json!({"messages": [], "mcp_servers": [{"url": "https://evil.example"}], "tools": [{"name": "a"},
            {"type": "bash_20250124"}, {"type": "web_fetch_20250910"}, {"type": "code_execution_20250522"}]});
        let messages = asked(Protocol::Messages, messages).expect("allowed");

        let kinds: Vec<&Value> =
            responses["tools"].as_array().expect("tools").iter().map(|tool| &tool["type"]).collect();
        assert_eq!(kinds, ["function", "custom", "namespace"]);
        assert_eq!(responses["tools"][2]["tools"], json!([{"type": "function"}]));
        assert_eq!(messages, json!({"messages": [], "tools": [{"name": "a"}, {"type": "bash_20250124"}]}));
    }

    #[test]
    fn nothing_is_fetched_or_kept_by_the_server() {
        let remote = [
            json!({"role": "user", "content": [{"type": "input_image", "image_url": "https://evil.example/?d=1"}]}),
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://evil.example"}}]}),
            json!({"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://e.example"}}]}),
            json!({"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}),
        ];
        for item in remote {
            for (protocol, field) in [
                (Protocol::Responses, "input"),
                (Protocol::ChatCompletions, "messages"),
                (Protocol::Messages, "messages"),
            ] {
                let refused = asked(protocol, json!({ field: [item.clone()] }));
                assert!(refused.is_err(), "{item} by {protocol:?}: {refused:?}");
            }
        }
        let call = json!({"messages": [{"role": "assistant", "content": [
            {"type": "tool_use", "id": "1", "name": "fetch", "input": {"url": "https://a.example"}}]}]});
        assert!(asked(Protocol::Messages, call).is_ok(), "it is the agent that fetches, if its network lets it");
        for field in ["background", "previous_response_id", "conversation"] {
            let refused = asked(Protocol::Responses, json!({"input": [], field: "x"}));
            assert!(refused.is_err_and(|why| why.contains(field)));
        }
        let sent = json!({"input": [{"type": "item_reference", "id": "x"}, {"role": "user", "content": "see https://a.example"},
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}],
            "store": true, "service_tier": "priority", "previous_response_id": null,
            "include": ["reasoning.encrypted_content", "web_search_call.action.sources"]});
        let kept = asked(Protocol::Responses, sent).expect("allowed");
        assert_eq!(kept["input"].as_array().map(Vec::len), Some(2));
        assert_eq!((&kept["store"], &kept["service_tier"]), (&json!(false), &Value::Null));
        assert_eq!(kept["include"], json!(["reasoning.encrypted_content"]));
    }

    #[test]
    fn a_choice_of_a_tool_that_is_not_there_is_left_to_the_model() {
        let hosted = json!({"input": [], "tools": [{"type": "function"}], "tool_choice": {"type": "web_search"}});
        let own = json!({"input": [], "tools": [{"type": "function"}], "tool_choice": "required"});

        assert_eq!(asked(Protocol::Responses, hosted).expect("allowed")["tool_choice"], Value::Null);
        assert_eq!(asked(Protocol::Responses, own).expect("allowed")["tool_choice"], "required");
    }
}

//! Refuses requests that the real server would refuse, so that our own client is checked with every test.

use std::collections::BTreeSet;

use serde_json::Value;

/// Why a request is refused, and the parameter it is about: what goes into the error body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// In words.
    pub(super) message: String,
    /// Such as `input[3].call_id`.
    pub(super) param: String,
}

pub(super) fn refuse(param: impl Into<String>, message: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { message: message.into(), param: param.into() })
}

/// Checks a whole request of the Responses API.
pub(super) fn request(body: &Value) -> Result<(), Refusal> {
    if !body["model"].is_string() {
        return refuse("model", "Missing required parameter: 'model'.");
    }
    if body["stream"] != Value::Bool(true) {
        return refuse("stream", "This server only streams: set 'stream' to true.");
    }
    let Some(items) = body["input"].as_array().filter(|items| !items.is_empty()) else {
        return refuse("input", "Invalid type for 'input': expected an array with at least one item.");
    };
    tools(&body["tools"])?;
    for (index, item) in items.iter().enumerate() {
        item_form(index, item)?;
    }
    conversation(items)
}

/// Checks what holds for a conversation over every API.
pub(super) fn conversation(items: &[Value]) -> Result<(), Refusal> {
    pairs(items)?;
    reasoning_is_followed(items)
}

fn tools(tools: &Value) -> Result<(), Refusal> {
    for (index, tool) in tools.as_array().map(Vec::as_slice).unwrap_or_default().iter().enumerate() {
        match tool["type"].as_str() {
            Some("function") => {
                tool_name(index, tool)?;
                parameters(index, &tool["parameters"])?;
            }
            Some("custom") => {
                tool_name(index, tool)?;
                let format = &tool["format"];
                let is_grammar = format["type"] == "grammar";
                if is_grammar && (format["syntax"] != "lark" || !format["definition"].is_string()) {
                    return refuse(format!("tools[{index}].format"), "A grammar needs a syntax and a definition.");
                }
            }
            // Tools that the server itself would run: they are taken and never called.
            Some(_) => {}
            None => return refuse(format!("tools[{index}].type"), "Missing required parameter: 'type'."),
        }
    }
    Ok(())
}

fn tool_name(index: usize, tool: &Value) -> Result<(), Refusal> {
    let name = tool["name"].as_str().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return refuse(format!("tools[{index}].name"), format!("Invalid tool name '{name}'."));
    }
    Ok(())
}

fn parameters(index: usize, parameters: &Value) -> Result<(), Refusal> {
    let param = format!("tools[{index}].parameters");
    if parameters["type"] != "object" {
        return refuse(param, "The parameters of a function are an object.");
    }
    for required in parameters["required"].as_array().map(Vec::as_slice).unwrap_or_default() {
        if parameters["properties"][required.as_str().unwrap_or_default()].is_null() {
            return refuse(param, format!("{required} is required but not a property."));
        }
    }
    Ok(())
}

fn item_form(index: usize, item: &Value) -> Result<(), Refusal> {
    let missing =
        |field: &str| refuse(format!("input[{index}].{field}"), format!("Missing required parameter: '{field}'."));
    let needs = |fields: &[&str]| match fields.iter().find(|field| !item[**field].is_string()) {
        Some(field) => missing(field),
        None => Ok(()),
    };
    match item["type"].as_str() {
        Some("message") | None => message(index, item),
        Some("function_call") => needs(&["call_id", "name", "arguments"]),
        Some("custom_tool_call") => needs(&["call_id", "name", "input"]),
        Some("function_call_output" | "custom_tool_call_output") if item["output"].is_array() => {
            needs(&["call_id"])?;
            parts(index, &item["output"])
        }
        Some("function_call_output" | "custom_tool_call_output") => needs(&["call_id", "output"]),
        Some("reasoning") if !item["summary"].is_array() => missing("summary"),
        Some("reasoning") => {
            let id = item["id"].as_str().unwrap_or_default();
            let expected = super::events::encrypted(id);
            // A client may leave out the id, but not change the content.
            if item["encrypted_content"].as_str().is_some_and(|content| content.starts_with(&expected)) {
                return Ok(());
            }
            refuse(
                format!("input[{index}].encrypted_content"),
                format!("The encrypted content for item {id} could not be verified."),
            )
        }
        Some(other) => refuse(format!("input[{index}].type"), format!("Invalid value: '{other}'.")),
    }
}

/// The parts of a tool's output.
fn parts(index: usize, output: &Value) -> Result<(), Refusal> {
    for (at, part) in output.as_array().into_iter().flatten().enumerate() {
        let is_whole = match part["type"].as_str() {
            Some("input_text") => part["text"].is_string(),
            Some("input_image") => part["image_url"].is_string(),
            _ => false,
        };
        if !is_whole {
            return refuse(format!("input[{index}].output[{at}]"), "Expected a text or an image.");
        }
    }
    Ok(())
}

fn message(index: usize, item: &Value) -> Result<(), Refusal> {
    let expected = match item["role"].as_str() {
        Some("user" | "system" | "developer") => "input_text",
        Some("assistant") => "output_text",
        _ => return refuse(format!("input[{index}].role"), "A message needs a role."),
    };
    match &item["content"] {
        Value::String(_) => Ok(()),
        Value::Array(parts) => {
            let is_image = |part: &Value| expected == "input_text" && part["type"] == "input_image";
            let is_text = |part: &Value| part["type"] == expected && part["text"].is_string();
            match parts.iter().position(|part| !is_text(part) && !is_image(part)) {
                Some(at) => {
                    refuse(format!("input[{index}].content[{at}]"), format!("Expected a part of type '{expected}'."))
                }
                None => Ok(()),
            }
        }
        _ => refuse(format!("input[{index}].content"), "Missing required parameter: 'content'."),
    }
}

/// Every call has one output of its kind after it, and every output one call before it.
fn pairs(items: &[Value]) -> Result<(), Refusal> {
    let mut open = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let kind = item["type"].as_str().unwrap_or_default();
        let call_id = item["call_id"].as_str().unwrap_or_default();
        if let Some(call) = kind.strip_suffix("_output") {
            if !open.remove(&(call, call_id)) {
                return refuse(
                    format!("input[{index}].call_id"),
                    format!("No tool call found for {} output with call_id {call_id}.", call.replace('_', " ")),
                );
            }
        } else if kind.ends_with("_call") && !open.insert((kind, call_id)) {
            return refuse(format!("input[{index}].call_id"), format!("The call_id {call_id} is open already."));
        }
    }
    match open.first() {
        Some((call, call_id)) => {
            refuse("input", format!("No tool output found for {} {call_id}.", call.replace('_', " ")))
        }
        None => Ok(()),
    }
}

/// A reasoning item stands before what it led to.
fn reasoning_is_followed(items: &[Value]) -> Result<(), Refusal> {
    for (index, item) in items.iter().enumerate().filter(|(_, item)| item["type"] == "reasoning") {
        let next = items.get(index + 1);
        let by_model = next.is_some_and(|next| {
            next["role"] == "assistant"
                || matches!(next["type"].as_str(), Some("reasoning" | "function_call" | "custom_tool_call"))
        });
        if !by_model {
            return refuse(
                format!("input[{index}]"),
                format!(
                    "Item '{}' of type 'reasoning' was provided without its required following item.",
                    item["id"].as_str().unwrap_or_default()
                ),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(items: Value) -> String {
        request(&json!({"model": "m", "stream": true, "input": items})).expect_err("a refusal").message
    }

    #[test]
    fn a_call_without_output_is_refused() {
        let call = json!({"type": "function_call", "call_id": "c1", "name": "x", "arguments": "{}"});

        assert_eq!(refusal(json!([call])), "No tool output found for function call c1.");
    }

    #[test]
    fn an_output_without_call_is_refused_and_so_is_one_of_the_other_kind() {
        let output = json!({"type": "function_call_output", "call_id": "c1", "output": ""});
        let custom = json!({"type": "custom_tool_call", "call_id": "c1", "name": "x", "input": ""});

        assert_eq!(refusal(json!([output])), "No tool call found for function call output with call_id c1.");
        assert_eq!(refusal(json!([custom, output])), "No tool call found for function call output with call_id c1.");
    }

    #[test]
    fn an_unknown_item_is_refused() {
        assert_eq!(refusal(json!([{"type": "thought"}])), "Invalid value: 'thought'.");
    }

    #[test]
    fn reasoning_that_was_changed_or_stands_alone_is_refused() {
        let encrypted = super::super::events::encrypted("rs_1");
        let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted});

        assert!(refusal(json!([reasoning])).contains("without its required following item"));
        assert!(
            refusal(json!([{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "other"}]))
                .contains("could not be verified")
        );
    }
}

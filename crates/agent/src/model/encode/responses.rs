//! The Responses API. Items are sent as they were, but for what only concerns us, and for what another model said: its
//! reasoning is left out, and its freeform calls are told as plain ones to a server that knows only functions.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::super::item::{Call, PRIVATE, is_foreign};
use super::content::{NO_IMAGES, arguments, call_id};
use super::head;
use crate::{ModelEndpoint, PatchTool, Reasoning};

/// The longest name of a call that OpenAI takes.
const LONGEST_CALL_ID: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    body: String,
    is_empty: bool,
    origin: String,
    knows_freeform: bool,
    sees: bool,
}

impl Encoder {
    pub(super) fn new(endpoint: &ModelEndpoint, instructions: &str, tools: &[Value], cache_key: &str) -> Self {
        let mut fields = json!({
            "model": endpoint.name,
            "instructions": instructions,
            "tools": tools,
            "tool_choice": "auto",
            "store": false,
            "stream": true,
        });
        fields["parallel_tool_calls"] = json!(endpoint.parallel_calls);
        if endpoint.cache_key {
            fields["prompt_cache_key"] = json!(cache_key);
        }
        if let Some(tokens) = endpoint.max_output_tokens {
            fields["max_output_tokens"] = json!(tokens);
        }
        match &endpoint.reasoning {
            Reasoning::Off => {}
            Reasoning::On { effort } => {
                fields["include"] = json!(["reasoning.encrypted_content"]);
                fields["reasoning"] = json!({ "summary": "auto" });
                if let Some(effort) = effort {
                    fields["reasoning"]["effort"] = json!(effort);
                }
            }
        }
        Self {
            body: head(&fields, "input"),
            is_empty: true,
            origin: endpoint.origin(),
            knows_freeform: endpoint.patch_tool == PatchTool::Freeform,
            sees: endpoint.images,
        }
    }

    pub(super) fn push(&mut self, item: &Value) {
        let Some(item) = self.fit(item) else { return };
        if !std::mem::replace(&mut self.is_empty, false) {
            self.body.push(',');
        }
        self.body.push_str(&item.to_string());
    }

    pub(super) fn request(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body.len() + 2);
        body.extend_from_slice(self.body.as_bytes());
        body.extend_from_slice(b"]}");
        body
    }

    /// The item as this server takes it.
    fn fit<'a>(&self, item: &'a Value) -> Option<Cow<'a, Value>> {
        let is_foreign = is_foreign(item, &self.origin);
        if is_foreign && item["type"] == "reasoning" {
            return None;
        }
        let mut item = Cow::Borrowed(item);
        if PRIVATE.iter().any(|field| item.get(field).is_some())
            && let Some(fields) = item.to_mut().as_object_mut()
        {
            for field in PRIVATE {
                fields.remove(field);
            }
            // Another server's names of its items mean nothing here.
            if is_foreign {
                fields.remove("id");
                fields.remove("status");
            }
        }
        if let Some(long) = item["call_id"].as_str().filter(|id| id.len() > LONGEST_CALL_ID) {
            let short = call_id(long).into_owned();
            item.to_mut()["call_id"] = json!(short);
        }
        if !self.knows_freeform {
            plain(&mut item);
        }
        if !self.sees {
            blind(&mut item);
        }
        Some(item)
    }
}

/// A freeform call, or its result, as one of a function.
fn plain(item: &mut Cow<'_, Value>) {
    match item["type"].as_str() {
        Some("custom_tool_call") => {
            if let Some(call) = Call::of(item) {
                *item = Cow::Owned(json!({
                    "type": "function_call",
                    "call_id": call.call_id,
                    "name": call.name,
                    "arguments": arguments(&call).to_string(),
                }));
            }
        }
        Some("custom_tool_call_output") => item.to_mut()["type"] = json!("function_call_output"),
        _ => {}
    }
}

/// An item without its images.
fn blind(item: &mut Cow<'_, Value>) {
    let is_image = |part: &Value| part["type"] == "input_image";
    for field in ["content", "output"] {
        if !item[field].as_array().is_some_and(|parts| parts.iter().any(is_image)) {
            continue;
        }
        for part in item.to_mut()[field].as_array_mut().into_iter().flatten().filter(|part| is_image(part)) {
            *part = json!({ "type": "input_text", "text": NO_IMAGES });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, items: &[Value]) -> Value {
        let endpoint = ModelEndpoint::new(name, "http://localhost/v1".parse().expect("a URL"), None);
        let mut encoder = Encoder::new(&endpoint, "be good", &[], "key");
        items.iter().for_each(|item| encoder.push(item));
        serde_json::from_slice(&encoder.request()).expect("JSON")
    }

    #[test]
    fn a_reasoning_model_is_asked_for_what_can_be_sent_back() {
        let body = sent("gpt-5", &[json!({"role": "user", "content": "a"})]);

        assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
        assert_eq!((&body["store"], &body["stream"]), (&json!(false), &json!(true)));
        assert_eq!((&body["prompt_cache_key"], &body["parallel_tool_calls"]), (&json!("key"), &json!(true)));
    }

    #[test]
    fn a_model_that_does_not_reason_is_sent_nothing_about_it() {
        let body = sent("qwen3-coder", &[]);

        assert_eq!((&body["include"], &body["reasoning"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn only_the_same_model_sees_its_reasoning_again() {
        let reasoning = |origin: &str| json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x", "origin": origin});
        let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "x", "arguments": "{}", "origin": "responses localhost gpt-4"});

        let body =
            sent("gpt-5", &[reasoning("responses localhost gpt-5"), reasoning("responses localhost gpt-4"), call]);

        assert_eq!(
            body["input"],
            json!([
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                {"type": "function_call", "call_id": "c", "name": "x", "arguments": "{}"},
            ])
        );
    }

    #[test]
    fn ids_that_are_longer_than_the_server_takes_are_shortened_alike_in_call_and_result() {
        let long = "x".repeat(200);
        let call = json!({"type": "function_call", "call_id": long, "name": "x", "arguments": "{}"});
        let result = json!({"type": "function_call_output", "call_id": long, "output": "y"});

        let body = sent("gpt-5", &[call, result]);

        let ids = [&body["input"][0]["call_id"], &body["input"][1]["call_id"]];
        assert!(ids[0].as_str().is_some_and(|id| id.len() <= 64) && ids[0] == ids[1], "{ids:?}");
    }

    #[test]
    fn freeform_calls_are_told_as_plain_ones_to_a_model_that_has_only_functions() {
        let call = json!({"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** x"});
        let output = json!({"type": "custom_tool_call_output", "call_id": "c", "output": "done"});

        let kinds = |name| {
            let input = sent(name, &[call.clone(), output.clone()])["input"].take();
            (input[0]["type"].clone(), input[0]["arguments"].clone(), input[1]["type"].clone())
        };

        assert_eq!(kinds("gpt-5"), (json!("custom_tool_call"), Value::Null, json!("custom_tool_call_output")));
        let arguments = json!(r#"{"input":"*** x"}"#);
        assert_eq!(kinds("qwen3"), (json!("function_call"), arguments, json!("function_call_output")));
    }

    #[test]
    fn images_are_for_models_that_see() {
        let image = json!({"type": "input_image", "image_url": "data:image/png;base64,AA=="});
        let output = json!({"type": "function_call_output", "call_id": "c", "output": [image]});

        assert_eq!(sent("gpt-5", std::slice::from_ref(&output))["input"][0], output);
        assert_eq!(sent("qwen3", &[output])["input"][0]["output"][0]["text"], NO_IMAGES);
    }
}

//! What items say, apart from how the Responses API says it: what the encoders of the other protocols write down.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};

use serde_json::{Value, json};

use super::super::item::{Call, message_text};

/// The longest name of a call that every server takes.
const MAX_CALL_ID: usize = 40;

/// What stands in for an image that the model cannot see.
pub(super) const NO_IMAGES: &str = "[an image was left out here, because this model takes none]";

/// What one item says.
pub(super) enum Said<'a> {
    /// By a person, or by us for one.
    Ours(Vec<Part<'a>>),
    /// By the model, as text.
    Text(String),
    /// By the model, to itself.
    Reasoning,
    /// A call.
    Call(Call),
    /// The result of a call of this name.
    Result(Cow<'a, str>, Vec<Part<'a>>),
    /// Something that only the Responses API has.
    Unknown,
}

/// A part of what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// By its URL, usually `data:image/png;base64,…`.
    Image(&'a str),
}

impl<'a> Said<'a> {
    /// What an item says to a model that does or does not see images.
    pub(super) fn of(item: &'a Value, sees: bool) -> Self {
        if let Some(call) = Call::of(item) {
            return Self::Call(call);
        }
        match item["type"].as_str() {
            Some("reasoning") => Self::Reasoning,
            Some("function_call_output" | "custom_tool_call_output") => {
                Self::Result(call_id(item["call_id"].as_str().unwrap_or_default()), parts(&item["output"], sees))
            }
            Some("message") | None => match message_text(item) {
                Some(text) => Self::Text(text),
                None if item["role"] == "assistant" => {
                    Self::Text(item["content"].as_str().unwrap_or_default().to_owned())
                }
                None => Self::Ours(parts(&item["content"], sees)),
            },
            Some(_) => Self::Unknown,
        }
    }
}

/// The parts of a message or of a result.
fn parts(content: &Value, sees: bool) -> Vec<Part<'_>> {
    match content {
        Value::String(text) => vec![Part::Text(text)],
        Value::Array(parts) => parts.iter().filter_map(|part| one(part, sees)).collect(),
        _ => Vec::new(),
    }
}

fn one(part: &Value, sees: bool) -> Option<Part<'_>> {
    match (part["image_url"].as_str(), part["text"].as_str()) {
        (Some(url), _) if sees => Some(Part::Image(url)),
        (Some(_), _) => Some(Part::Text(NO_IMAGES)),
        (None, text) => text.map(Part::Text),
    }
}

/// The texts among some parts, one after the other.
pub(super) fn texts(parts: &[Part<'_>]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(*text),
        Part::Image(_) => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

/// The name of a call as every server takes it: letters, digits, `_` and `-`, and not too many.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.len() <= MAX_CALL_ID && id.bytes().all(is_plain) {
        return Cow::Borrowed(id);
    }
    // The hasher without a key: a call and its result must agree, in every process.
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    Cow::Owned(format!("call_{:016x}", hasher.finish()))
}

/// The arguments of a call as an object. The text of a freeform tool is what the function of the same name takes as
/// its `input`. What is no object is kept for the model to see, in one that its server takes.
pub(super) fn arguments(call: &Call) -> Value {
    if call.kind == super::super::item::CallKind::Custom {
        return json!({ "input": call.input });
    }
    match serde_json::from_str(&call.input) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        _ => json!({ "malformed_arguments": call.input }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_and_its_result_agree_on_a_name_that_every_server_takes() {
        assert_eq!(call_id("call_1-a"), "call_1-a");
        for odd in ["", "functions.exec:0", &"x".repeat(64)] {
            let name = call_id(odd);
            assert_eq!(name, call_id(odd));
            assert!(name.len() <= MAX_CALL_ID && !name.contains(['.', ':']), "{name}");
        }
        assert_ne!(call_id("a.b"), call_id("a:b"));
    }

    #[test]
    fn arguments_are_an_object_whatever_the_model_wrote() {
        let call = |input: &str, kind: &str, field: &str| {
            Call::of(&json!({"type": kind, "call_id": "c", "name": "x", field: input})).expect("a call")
        };

        assert_eq!(arguments(&call(r#"{"a":1}"#, "function_call", "arguments")), json!({"a": 1}));
        assert_eq!(arguments(&call("[1]", "function_call", "arguments")), json!({"malformed_arguments": "[1]"}));
        assert_eq!(arguments(&call("*** x", "custom_tool_call", "input")), json!({"input": "*** x"}));
    }

    #[test]
    fn an_image_is_mentioned_to_a_model_that_sees_none() {
        let item = json!({"type": "function_call_output", "call_id": "c", "output": [
            {"type": "input_text", "text": "a picture"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        ]});
        let parts = |sees| match Said::of(&item, sees) {
            Said::Result(_, parts) => parts,
            _ => Vec::new(),
        };

        assert_eq!(parts(true), [Part::Text("a picture"), Part::Image("data:image/png;base64,AA==")]);
        assert_eq!(parts(false), [Part::Text("a picture"), Part::Text(NO_IMAGES)]);
    }
}

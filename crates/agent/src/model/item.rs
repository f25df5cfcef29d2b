//! What the items of a conversation mean. Whatever the wire, they are stored in the form of the Responses API; what a
//! model said is marked with its origin, and fields that only another wire knows are kept beside:
//!
//! | field | of | is |
//! |---|---|---|
//! | `origin` | everything a model said | which model behind which server said it |
//! | `signature`, `redacted` | `reasoning` | what the Messages API wants back, as it was |
//! | `field` | `reasoning` | the field a Chat Completions server sent it in |
//! | `details` | `reasoning` | what OpenRouter wants back as `reasoning_details` |
//! | `extra_content` | `function_call` | what some Chat Completions servers want back |
//! | `stands_for` | our messages | which are summaries of what is no longer shown |
//! | `note` | our messages | what we tell the model on our own, such as that it is to sum up |
//! | `is_paused` | the last item of an answer | that its server wants to be asked again to go on |

use carrel_domain::event::CONTEXT_COMPACTED;
use serde_json::{Value, json};

/// Marks what a model said with where it came from.
pub(crate) const ORIGIN: &str = "origin";

/// The fields that are ours or another wire's, and unknown to the Responses API.
pub(super) const PRIVATE: [&str; 9] =
    [ORIGIN, "signature", "redacted", "field", "details", "extra_content", STANDS_FOR, NOTE, PAUSED];

/// Marks what we tell the model on our own, and says what it is: a person may write the same words.
pub(crate) const NOTE: &str = "note";

/// Marks the end of an answer that is to be gone on with although it calls nothing.
pub(crate) const PAUSED: &str = "is_paused";

/// Marks a message of ours that takes the place of items the model is no longer shown.
pub(crate) const STANDS_FOR: &str = "stands_for";

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Names it in its output.
    pub(crate) call_id: String,
    /// The tool.
    pub(crate) name: String,
    /// The arguments of a function, as JSON text; the text for a freeform tool.
    pub(crate) input: String,
    /// How it was called, which decides how it is answered.
    pub(crate) kind: CallKind,
}

/// How a tool was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// As a function.
    Function,
    /// As a freeform tool.
    Custom,
}

impl Call {
    /// The call in an item, if it is one. Every call that has been through a decoder is complete.
    pub(crate) fn of(item: &Value) -> Option<Self> {
        let (kind, field) = match item["type"].as_str()? {
            "function_call" => (CallKind::Function, "arguments"),
            "custom_tool_call" => (CallKind::Custom, "input"),
            _ => return None,
        };
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        Some(Self { call_id: text("call_id"), name: text("name"), input: text(field), kind })
    }

    /// The item that answers it: with a text, or with an array of `input_text` and `input_image` parts.
    pub(crate) fn output(&self, output: impl Into<Value>) -> Value {
        let kind = match self.kind {
            CallKind::Function => "function_call_output",
            CallKind::Custom => "custom_tool_call_output",
        };
        json!({ "type": kind, "call_id": self.call_id, "output": output.into() })
    }
}

/// Whether an item is what we tell the model on our own, of this kind.
pub(crate) fn is_note(item: &Value, kind: &str) -> bool {
    item["role"] == "user" && item[NOTE] == kind
}

/// The calls among some items.
pub(crate) fn calls_in(items: &[Value]) -> Vec<Call> {
    items.iter().filter_map(Call::of).collect()
}

/// The text of an assistant's message, if the item is one.
pub(crate) fn message_text(item: &Value) -> Option<String> {
    if item["type"] != "message" || item["role"] != "assistant" {
        return None;
    }
    Some(match &item["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str().or_else(|| part["refusal"].as_str()))
            .collect::<Vec<_>>()
            .join(""),
        _ => String::new(),
    })
}

/// What a person may read of a reasoning item: its summary, or the reasoning itself where a server sends it in plain.
pub(crate) fn reasoning_text(item: &Value) -> Option<String> {
    if item["type"] != "reasoning" {
        return None;
    }
    let texts = |field: &str| {
        let parts = item[field].as_array().map(Vec::as_slice).unwrap_or_default();
        parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n\n")
    };
    [texts("summary"), texts("content")].into_iter().find(|text| !text.trim().is_empty())
}

/// The reasoning itself, as it came in plain.
pub(super) fn plain_reasoning(item: &Value) -> String {
    let parts = item["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

/// Whether an item can be sent back. Reasoning of which neither the encrypted nor the plain content came along is only
/// a reference to something the server was asked not to store.
pub(crate) fn can_be_sent_back(item: &Value) -> bool {
    item["type"] != "reasoning"
        || ["encrypted_content", "signature", "redacted"].iter().any(|field| item[*field].is_string())
        || ["content", "details"].iter().any(|field| item[*field].as_array().is_some_and(|parts| !parts.is_empty()))
}

/// Whether this is no item, but the mark of where the conversation was compacted.
pub(crate) fn is_compaction(item: &Value) -> bool {
    item["type"] == CONTEXT_COMPACTED
}

/// Whether an item came from the model, not from us.
pub(crate) fn is_by_model(item: &Value) -> bool {
    match item["type"].as_str() {
        Some("message") => item["role"] == "assistant",
        Some(CONTEXT_COMPACTED) => false,
        Some(kind) => !kind.ends_with("_output"),
        None => item["role"] == "assistant",
    }
}

/// Whether the model that said this is another than the one of this origin. What was stored before origins were is
/// taken for the same one's.
pub(super) fn is_foreign(item: &Value, origin: &str) -> bool {
    item[ORIGIN].as_str().is_some_and(|known| known != origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_without_its_content_is_not_sent_back() {
        let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null});

        assert!(!can_be_sent_back(&reasoning));
        for content in [
            json!({"type": "reasoning", "summary": [], "encrypted_content": "x"}),
            json!({"type": "reasoning", "summary": [], "signature": "x"}),
            json!({"type": "reasoning", "summary": [], "redacted": "x"}),
            json!({"type": "message", "role": "assistant", "content": "hi"}),
        ] {
            assert!(can_be_sent_back(&content), "{content}");
        }
    }

    #[test]
    fn people_read_the_summary_or_else_the_reasoning_itself() {
        let plain = json!([{"type": "reasoning_text", "text": "plain"}]);
        let summed = json!({"type": "reasoning", "summary": [{"text": "short"}], "content": plain});
        let whole = json!({"type": "reasoning", "summary": [], "content": plain});

        assert_eq!(reasoning_text(&summed).as_deref(), Some("short"));
        assert_eq!(reasoning_text(&whole).as_deref(), Some("plain"));
        assert_eq!(reasoning_text(&json!({"type": "reasoning", "summary": []})), None);
    }

    #[test]
    fn an_output_is_a_text_or_parts() {
        let call =
            Call { call_id: "c".to_owned(), name: "x".to_owned(), input: String::new(), kind: CallKind::Function };

        assert_eq!(call.output("done")["output"], "done");
        let parts = json!([{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]);
        assert_eq!(call.output(parts.clone())["output"], parts);
    }
}

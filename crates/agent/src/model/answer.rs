//! An answer put together from its events, and what its items mean.

use carrel_domain::Usage;
use serde_json::{Value, json};

use super::Failure;

/// More items than any model sends; a server that sends more is broken.
const MAX_ITEMS: usize = 1024;

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The server's id of it.
    pub(crate) id: String,
    /// Its items, whole, in order.
    pub(crate) items: Vec<Value>,
    /// What it cost, if the server said so.
    pub(crate) usage: Option<Usage>,
    /// Why it is not all that the model had to say, if so. There is at least one tool call to go on with.
    pub(crate) cut_short: Option<String>,
}

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
    /// The call in an item, if it is one. Every call that has been through [`Builder`] is complete.
    pub(crate) fn of(item: &Value) -> Option<Self> {
        let (kind, field) = match item["type"].as_str()? {
            "function_call" => (CallKind::Function, "arguments"),
            "custom_tool_call" => (CallKind::Custom, "input"),
            _ => return None,
        };
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        Some(Self { call_id: text("call_id"), name: text("name"), input: text(field), kind })
    }

    /// The item that answers it.
    pub(crate) fn output(&self, text: &str) -> Value {
        let kind = match self.kind {
            CallKind::Function => "function_call_output",
            CallKind::Custom => "custom_tool_call_output",
        };
        json!({ "type": kind, "call_id": self.call_id, "output": text })
    }
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

/// The summary of a reasoning item, if the item is one and has one.
pub(crate) fn reasoning_text(item: &Value) -> Option<String> {
    if item["type"] != "reasoning" {
        return None;
    }
    let parts = item["summary"].as_array()?.iter().filter_map(|part| part["text"].as_str());
    let text = parts.collect::<Vec<_>>().join("\n\n");
    (!text.trim().is_empty()).then_some(text)
}

/// Whether an item can be sent back. Reasoning of which neither the encrypted nor the plain content came along is only
/// a reference to something the server was asked not to store.
pub(crate) fn can_be_sent_back(item: &Value) -> bool {
    item["type"] != "reasoning"
        || item["encrypted_content"].is_string()
        || item["content"].as_array().is_some_and(|parts| !parts.is_empty())
}

/// Whether an item came from the model, not from us.
pub(crate) fn is_by_model(item: &Value) -> bool {
    match item["type"].as_str() {
        Some("message") => item["role"] == "assistant",
        Some(kind) => !kind.ends_with("_output"),
        None => item["role"] == "assistant",
    }
}

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Builder {
    id: String,
    items: Vec<Value>,
    usage: Option<Usage>,
    incomplete: Option<String>,
    /// Whether the server itself said that the answer came to nothing.
    disowned: bool,
}

impl Builder {
    /// Takes the data of one event. Returns whether it was the last one.
    pub(super) fn event(&mut self, data: &[u8]) -> Result<bool, Failure> {
        if data.trim_ascii() == b"[DONE]" {
            return Ok(false);
        }
        let mut event: Value = serde_json::from_slice(data)
            .map_err(|error| Failure::cut(format!("it has an event that is no JSON ({error})")))?;
        match event["type"].as_str().unwrap_or_default() {
            "response.output_item.done" => self.item(event["item"].take())?,
            "response.completed" | "response.done" => {
                self.end(event["response"].take())?;
                return Ok(true);
            }
            "response.incomplete" => {
                let reason = event["response"]["incomplete_details"]["reason"].as_str().unwrap_or("no reason given");
                self.incomplete = Some(reason.to_owned());
                self.end(event["response"].take())?;
                return Ok(true);
            }
            "response.failed" => return Err(self.disown(&event["response"]["error"])),
            // Some servers nest what OpenAI's send flat.
            "error" if event["error"].is_object() => return Err(self.disown(&event["error"])),
            "error" => return Err(self.disown(&event)),
            _ => {}
        }
        Ok(false)
    }

    /// An answer that came in one piece.
    pub(super) fn whole(mut self, body: &[u8]) -> Result<Answer, Failure> {
        let response: Value =
            serde_json::from_slice(body).map_err(|error| Failure::cut(format!("it is no JSON ({error})")))?;
        if response["error"].is_object() {
            return Err(self.disown(&response["error"]));
        }
        if !response["output"].is_array() {
            return Err(Failure::cut("it has no output".to_owned()));
        }
        self.incomplete = response["incomplete_details"]["reason"].as_str().map(str::to_owned);
        self.end(response)?;
        self.finish()
    }

    /// The answer, now that its end has been seen.
    pub(super) fn finish(self) -> Result<Answer, Failure> {
        let Some(reason) = self.incomplete.clone() else {
            let says_something = self
                .items
                .iter()
                .any(|item| Call::of(item).is_some() || message_text(item).is_some_and(|text| !text.trim().is_empty()));
            if !says_something {
                return Err(Failure::cut("it has neither a message nor a tool call".to_owned()));
            }
            return Ok(self.into_answer(None));
        };
        self.salvage(Failure::incomplete(&reason))
    }

    /// What can be gone on with although the answer broke off: everything up to its last whole tool call. Without one
    /// there is nothing to go on with.
    pub(super) fn salvage(mut self, failure: Failure) -> Result<Answer, Failure> {
        match self.items.iter().rposition(|item| Call::of(item).is_some()) {
            Some(last) if !self.disowned => {
                self.items.truncate(last + 1);
                Ok(self.into_answer(Some(failure.reason)))
            }
            _ => Err(failure),
        }
    }

    fn disown(&mut self, error: &Value) -> Failure {
        self.disowned = true;
        Failure::reported(error)
    }

    fn into_answer(self, cut_short: Option<String>) -> Answer {
        Answer { id: self.id, items: self.items, usage: self.usage, cut_short }
    }

    fn end(&mut self, mut response: Value) -> Result<(), Failure> {
        self.id = response["id"].as_str().unwrap_or_default().to_owned();
        self.usage = usage(&response["usage"]);
        if self.items.is_empty()
            && let Value::Array(items) = response["output"].take()
        {
            for item in items {
                self.item(item)?;
            }
        }
        Ok(())
    }

    fn item(&mut self, mut item: Value) -> Result<(), Failure> {
        if self.items.len() == MAX_ITEMS {
            return Err(Failure::cut(format!("it has more than {MAX_ITEMS} items")));
        }
        let field = match item["type"].as_str() {
            None => return Err(Failure::cut("it has an item without a type".to_owned())),
            Some("function_call") => Some("arguments"),
            Some("custom_tool_call") => Some("input"),
            Some(_) => None,
        };
        if let Some(field) = field {
            complete_call(&mut item, field, self.items.len())?;
        }
        self.items.push(item);
        Ok(())
    }
}

/// Makes a call whole: arguments as text even when a server sends an object, and an id even when it sends none.
fn complete_call(item: &mut Value, field: &str, index: usize) -> Result<(), Failure> {
    if item["name"].as_str().is_none_or(str::is_empty) {
        return Err(Failure::cut("it has a tool call without a name".to_owned()));
    }
    match &item[field] {
        Value::String(_) => {}
        Value::Null => item[field] = json!("{}"),
        given => item[field] = json!(given.to_string()),
    }
    if item["call_id"].as_str().is_none_or(str::is_empty) {
        item["call_id"] = match item["id"].as_str() {
            Some(id) if !id.is_empty() => json!(id),
            _ => json!(format!("call_{index}")),
        };
    }
    Ok(())
}

fn usage(usage: &Value) -> Option<Usage> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    usage.is_object().then(|| Usage {
        input_tokens: number(&usage["input_tokens"]),
        cached_input_tokens: number(&usage["input_tokens_details"]["cached_tokens"]),
        output_tokens: number(&usage["output_tokens"]),
        reasoning_tokens: number(&usage["output_tokens_details"]["reasoning_tokens"]),
        requests: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(events: &[Value]) -> Result<Answer, Failure> {
        let mut builder = Builder::default();
        for event in events {
            match builder.event(event.to_string().as_bytes()) {
                Ok(false) => {}
                Ok(true) => return builder.finish(),
                Err(failure) => return builder.salvage(failure),
            }
        }
        builder.salvage(Failure::cut("test".to_owned()))
    }

    fn done(item: Value) -> Value {
        json!({"type": "response.output_item.done", "item": item})
    }

    fn call(call_id: &str) -> Value {
        json!({"type": "function_call", "call_id": call_id, "name": "x", "arguments": "{}"})
    }

    fn message() -> Value {
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]})
    }

    #[test]
    fn the_least_a_server_may_send_is_an_answer() {
        let answer = feed(&[
            json!({"type": "response.unheard_of", "x": [1]}),
            json!({"nothing": true}),
            done(message()),
            json!({"type": "response.completed", "response": {"id": "r1"}}),
        ])
        .expect("an answer");

        assert_eq!(answer, Answer { id: "r1".to_owned(), items: vec![message()], usage: None, cut_short: None });
    }

    #[test]
    fn items_may_come_with_the_end_only() {
        let end = json!({"type": "response.completed", "response": {"id": "r", "output": [message()]}});

        assert_eq!(feed(&[end]).expect("an answer").items, [message()]);
    }

    #[test]
    fn an_answer_may_come_in_one_piece() {
        let whole = |body: Value| Builder::default().whole(body.to_string().as_bytes());

        let answer = whole(json!({"id": "r", "error": null, "output": [message()]})).expect("an answer");
        assert_eq!((answer.id.as_str(), answer.items), ("r", vec![message()]));
        assert!(whole(json!({"error": {"message": "no"}})).is_err());
        assert!(whole(json!({"hello": "world"})).is_err());
    }

    #[test]
    fn an_answer_that_breaks_off_after_a_call_goes_on_with_the_call() {
        let reasoning = json!({"type": "reasoning", "summary": []});
        let answer = feed(&[done(reasoning.clone()), done(call("a")), done(reasoning.clone())]).expect("an answer");

        assert_eq!(answer.items, [reasoning, call("a")]);
        assert!(answer.cut_short.is_some());
    }

    #[test]
    fn an_answer_that_breaks_off_without_a_call_is_none() {
        assert!(feed(&[done(message())]).is_err());
    }

    #[test]
    fn an_answer_that_says_nothing_is_none() {
        assert!(feed(&[json!({"type": "response.completed", "response": {"id": "r"}})]).is_err());
    }

    #[test]
    fn reasoning_without_its_content_is_not_sent_back() {
        let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null});

        assert!(!can_be_sent_back(&reasoning));
        assert!(can_be_sent_back(&json!({"type": "reasoning", "summary": [], "encrypted_content": "x"})));
        assert!(can_be_sent_back(&message()));
    }

    #[test]
    fn a_call_is_made_whole() {
        let item = json!({"type": "function_call", "id": "fc_1", "name": "x", "arguments": {"a": 1}});
        let end = json!({"type": "response.completed", "response": {}});

        let calls = calls_in(&feed(&[done(item), end]).expect("an answer").items);

        assert_eq!(calls[0].call_id, "fc_1");
        assert_eq!(calls[0].input, r#"{"a":1}"#);
    }
}

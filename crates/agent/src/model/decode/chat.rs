//! The Chat Completions API as OpenAI's and as the many servers speak it that imitate it: text and calls come in
//! pieces, calls by an index that some servers leave out or repeat, and the end is whatever follows `finish_reason`.

use carrel_domain::Usage;
use serde_json::{Value, json};

use super::super::Failure;
use super::super::answer::{Answer, Draft, MAX_ITEMS, count, take};

/// The fields in which servers send reasoning in plain.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];

#[derive(Debug, Default)]
pub(in super::super) struct Decoder {
    draft: Draft,
    text: String,
    refusal: String,
    reasoning: String,
    /// The field the reasoning came in.
    field: Option<&'static str>,
    /// The reasoning as OpenRouter tells it, to be sent back as it was.
    details: Vec<Value>,
    /// Whether anything came in pieces.
    is_streamed: bool,
    calls: Vec<Piecemeal>,
    is_all_said: bool,
}

/// A call in the making.
#[derive(Debug, Default)]
struct Piecemeal {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    extra_content: Value,
}

impl Decoder {
    pub(super) fn event(&mut self, mut event: Value) -> Result<bool, Failure> {
        if event["error"].is_object() || event["error"].is_string() {
            return Err(self.draft.disown(&event["error"]));
        }
        if event["object"] == "error" {
            return Err(self.draft.disown(&event));
        }
        self.head(&event);
        let mut choices = take(&mut event, "choices");
        let mut choice = choices.get_mut(0).map(Value::take).unwrap_or_default();
        if choice["error"].is_object() {
            return Err(self.draft.disown(&choice["error"]));
        }
        let delta = take(&mut choice, "delta");
        self.is_streamed |= delta.as_object().is_some_and(|fields| !fields.is_empty());
        self.say(&delta)?;
        // Some end a stream with a message of all that they have sent in pieces.
        if !self.is_streamed {
            self.say(&take(&mut choice, "message"))?;
        }
        self.stopped(choice["finish_reason"].as_str().unwrap_or_default());
        Ok(false)
    }

    /// The stream says that it is done, which is an end even if nobody said why the model stopped.
    pub(super) fn done(&mut self) -> bool {
        let says_something = !self.text.trim().is_empty() || !self.refusal.trim().is_empty();
        self.is_all_said |= says_something || !self.calls.is_empty();
        self.is_all_said
    }

    pub(super) const fn is_all_said(&self) -> bool {
        self.is_all_said
    }

    pub(super) fn whole(mut self, body: Value) -> Result<Answer, Failure> {
        if !body["choices"].is_array() && !body["error"].is_object() && !body["error"].is_string() {
            return Err(Failure::cut("it has no choices".to_owned()));
        }
        self.event(body)?;
        self.finish()
    }

    pub(super) fn finish(mut self) -> Result<Answer, Failure> {
        let is_cut = self.draft.incomplete.is_some();
        self.assemble(is_cut)?;
        self.draft.finish()
    }

    pub(super) fn salvage(mut self, failure: Failure) -> Result<Answer, Failure> {
        match self.assemble(true) {
            Ok(()) => self.draft.salvage(failure),
            Err(_) => Err(failure),
        }
    }

    fn head(&mut self, event: &Value) {
        if let Some(id) = event["id"].as_str() {
            id.clone_into(&mut self.draft.id);
        }
        for usage in [&event["usage"], &event["x_groq"]["usage"]] {
            self.draft.usage = usage_of(usage).or(self.draft.usage);
        }
    }

    fn say(&mut self, delta: &Value) -> Result<(), Failure> {
        match &delta["content"] {
            Value::String(text) => self.text.push_str(text),
            Value::Array(parts) => self.parts(parts),
            _ => {}
        }
        self.refusal.push_str(delta["refusal"].as_str().unwrap_or_default());
        // Some send the same text in both fields.
        if let Some((field, text)) = REASONING.into_iter().find_map(|field| Some((field, delta[field].as_str()?))) {
            self.reasoning.push_str(text);
            self.field.get_or_insert(field);
        }
        for detail in delta["reasoning_details"].as_array().map(Vec::as_slice).unwrap_or_default() {
            self.detail(detail)?;
        }
        for piece in delta["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
            self.call(piece)?;
        }
        if delta["function_call"].is_object() {
            self.call(&json!({ "index": 0, "function": delta["function_call"] }))?;
        }
        Ok(())
    }

    /// A piece of reasoning as OpenRouter tells it: one of the same index and kind goes on with the one before.
    fn detail(&mut self, piece: &Value) -> Result<(), Failure> {
        let same = |known: &Value| known["index"] == piece["index"] && known["type"] == piece["type"];
        let Some(known) = self.details.last_mut().filter(|known| piece["index"].is_u64() && same(known)) else {
            if self.details.len() == MAX_ITEMS {
                return Err(Failure::cut(format!("it has more than {MAX_ITEMS} pieces of reasoning")));
            }
            self.details.push(piece.clone());
            return Ok(());
        };
        for (field, value) in piece.as_object().into_iter().flatten() {
            let grows = matches!(field.as_str(), "text" | "summary" | "data");
            match (grows, known[field].as_str(), value.as_str()) {
                (true, Some(before), Some(more)) => known[field] = json!(format!("{before}{more}")),
                _ if value.is_null() => {}
                _ => known[field] = value.clone(),
            }
        }
        Ok(())
    }

    /// Content in parts, among which there may be thoughts.
    fn parts(&mut self, parts: &[Value]) {
        for part in parts {
            if let Value::Array(thoughts) = &part["thinking"] {
                self.reasoning.extend(thoughts.iter().filter_map(|thought| thought["text"].as_str()));
            } else {
                self.text.push_str(part["text"].as_str().unwrap_or_default());
            }
        }
    }

    fn call(&mut self, piece: &Value) -> Result<(), Failure> {
        let index = piece["index"].as_u64();
        let id = piece["id"].as_str().unwrap_or_default();
        let name = piece["function"]["name"].as_str().unwrap_or_default();
        let at = self.calls.iter().rposition(|call| call.goes_on(index, id, name));
        let at = match at {
            Some(at) => at,
            None if self.calls.len() == MAX_ITEMS => {
                return Err(Failure::cut(format!("it has more than {MAX_ITEMS} items")));
            }
            None => {
                self.calls.push(Piecemeal { index, ..Piecemeal::default() });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        // Most send a name once, some in pieces, and some again with every piece.
        if call.name != name {
            call.name.push_str(name);
        }
        match &piece["function"]["arguments"] {
            Value::String(text) => call.arguments.push_str(text),
            Value::Null => {}
            whole => call.arguments = whole.to_string(),
        }
        if piece["extra_content"].is_object() {
            call.extra_content = piece["extra_content"].clone();
        }
        Ok(())
    }

    fn stopped(&mut self, reason: &str) {
        self.is_all_said |= !reason.is_empty();
        let incomplete = match reason {
            "length" | "max_tokens" | "model_length" => "max_output_tokens",
            "content_filter" | "safety" | "SAFETY" => "content_filter",
            "error" | "network_error" => {
                self.draft.incomplete = Some(Failure::cut("the server says that it ended in an error".to_owned()));
                return;
            }
            // Whatever it is called: what the model has said by then counts.
            _ => return,
        };
        self.draft.incomplete = Some(Failure::incomplete(incomplete));
    }

    /// Makes items of what was said. Of an answer that broke off, only calls whose arguments have an end are taken.
    fn assemble(&mut self, is_cut: bool) -> Result<(), Failure> {
        let has_reasoning = !self.reasoning.trim().is_empty();
        if has_reasoning || !self.details.is_empty() {
            let mut item = json!({ "type": "reasoning", "summary": [], "content": [] });
            if has_reasoning {
                item["content"] = json!([{ "type": "reasoning_text", "text": self.reasoning }]);
                item["field"] = json!(self.field.unwrap_or(REASONING[0]));
            }
            if !self.details.is_empty() {
                item["details"] = json!(self.details);
            }
            self.draft.push(item)?;
        }
        let mut content = Vec::new();
        if !self.text.trim().is_empty() {
            content.push(json!({ "type": "output_text", "text": self.text, "annotations": [] }));
        }
        if !self.refusal.trim().is_empty() {
            content.push(json!({ "type": "refusal", "refusal": self.refusal }));
        }
        if !content.is_empty() {
            self.draft.push(json!({ "type": "message", "role": "assistant", "content": content }))?;
        }
        for call in std::mem::take(&mut self.calls) {
            if is_cut && !matches!(serde_json::from_str(&call.arguments), Ok(Value::Object(_))) {
                break;
            }
            let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
            let mut item = json!({
                "type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments,
            });
            if call.extra_content.is_object() {
                item["extra_content"] = call.extra_content;
            }
            self.draft.push(item)?;
        }
        Ok(())
    }
}

impl Piecemeal {
    /// Whether a piece belongs to this call. Some servers number all calls 0, or none of them: then a new id, or a
    /// name after arguments, begins another.
    fn goes_on(&self, index: Option<u64>, id: &str, name: &str) -> bool {
        let same_index = self.index == index || index.is_none() || self.index.is_none();
        // A piece without a name under another id goes on all the same: some make a new id for every piece.
        let another_id = !id.is_empty() && !self.id.is_empty() && id != self.id && !name.is_empty();
        let begins_anew = index.is_none() && id.is_empty() && !name.is_empty() && !self.arguments.is_empty();
        same_index && !another_id && !begins_anew
    }
}

fn usage_of(usage: &Value) -> Option<Usage> {
    let cached = count(&usage["prompt_tokens_details"]["cached_tokens"]);
    (count(&usage["prompt_tokens"]) > 0).then(|| Usage {
        input_tokens: count(&usage["prompt_tokens"]),
        cached_input_tokens: cached.max(count(&usage["prompt_cache_hit_tokens"])),
        output_tokens: count(&usage["completion_tokens"]),
        reasoning_tokens: count(&usage["completion_tokens_details"]["reasoning_tokens"]),
        requests: 1,
        ..Usage::default()
    })
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;

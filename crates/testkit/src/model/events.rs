//! A response as the stream of events in which it is published: `openai` on PyPI (2.54.0) and npm (7.57.0) take it
//! event by event. The fields are those of OpenAI's API reference, "Streaming events" of the Responses API.

use serde_json::{Value, json};

use super::turn::deltas;
use super::{Item, Reply, Usage};

/// The events of one response, in order.
pub(super) struct Events {
    request: Value,
    response_id: String,
    created_at: u64,
    /// Told apart by the position of the request's last item, so that ids never repeat in a conversation.
    position: usize,
    sequence: u64,
    output: Vec<Value>,
    events: Vec<Value>,
}

/// How a response ends.
pub(super) enum Ending<'a> {
    /// As it should.
    Completed,
    /// Early, for this reason.
    Incomplete(&'a str),
    /// Not at all: the stream just ends.
    None,
}

/// What a reasoning item of this id carries as its encrypted content.
pub(super) fn encrypted(id: &str) -> String {
    format!("gAAAA-scripted-{id}")
}

impl Events {
    /// Begins a response to this request. `tag` names it, `created_at` is in seconds since 1970.
    pub(super) fn begin(request: &Value, tag: &str, created_at: u64) -> Self {
        let position = request["input"].as_array().map_or(0, Vec::len);
        let response_id = format!("resp_{tag}_{position}");
        let mut events = Self {
            request: request.clone(),
            response_id,
            created_at,
            position,
            sequence: 0,
            output: Vec::new(),
            events: Vec::new(),
        };
        for kind in ["response.created", "response.in_progress"] {
            let response = events.response("in_progress", None);
            events.push(kind, json!({ "response": response }));
        }
        events
    }

    /// The whole of a reply. Returns what must be sent.
    pub(super) fn reply(mut self, reply: &Reply, items: usize, ending: &Ending<'_>) -> Vec<Value> {
        for item in reply.items.iter().take(items) {
            self.item(item);
        }
        let usage = reply.usage.unwrap_or_else(|| self.counted_usage());
        match ending {
            Ending::Completed => {
                let response = self.response("completed", Some(usage));
                self.push("response.completed", json!({ "response": response }));
            }
            Ending::Incomplete(reason) => {
                let mut response = self.response("incomplete", Some(usage));
                response["incomplete_details"] = json!({ "reason": reason });
                self.push("response.incomplete", json!({ "response": response }));
            }
            Ending::None => {}
        }
        self.events
    }

    /// A response that fails.
    pub(super) fn failed(mut self, code: &str, message: &str) -> Vec<Value> {
        let mut response = self.response("failed", None);
        response["error"] = json!({ "code": code, "message": message });
        self.push("response.failed", json!({ "response": response }));
        self.events
    }

    /// A stream that ends in an error event.
    pub(super) fn error(mut self, code: &str, message: &str) -> Vec<Value> {
        self.push("error", json!({ "code": code, "message": message, "param": null }));
        self.events
    }

    fn push(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        self.events.push(event);
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.position, self.output.len())
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Message(text) => self.message(text),
            Item::Reasoning(text) => self.reasoning(text),
            Item::Call { name, arguments } => {
                let arguments = match arguments {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                self.call("function_call", "fc", name, ("arguments", "response.function_call_arguments"), &arguments);
            }
            Item::Custom { name, input } => {
                self.call("custom_tool_call", "ctc", name, ("input", "response.custom_tool_call_input"), input);
            }
        }
    }

    fn message(&mut self, text: &str) {
        let id = self.id("msg");
        let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
        let item = |status: &str, content: Vec<Value>| json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content });
        let at = json!({ "item_id": id, "output_index": self.output.len(), "content_index": 0 });
        self.added(item("in_progress", Vec::new()));
        self.push("response.content_part.added", with(&at, json!({ "part": part("") })));
        for delta in deltas(text) {
            self.push("response.output_text.delta", with(&at, json!({ "delta": delta, "logprobs": [] })));
        }
        self.push("response.output_text.done", with(&at, json!({ "text": text, "logprobs": [] })));
        self.push("response.content_part.done", with(&at, json!({ "part": part(text) })));
        self.done(item("completed", vec![part(text)]));
    }

    fn reasoning(&mut self, text: &str) {
        let id = self.id("rs");
        let part = |text: &str| json!({ "type": "summary_text", "text": text });
        let item = |summary: Vec<Value>| json!({ "id": id, "type": "reasoning", "summary": summary, "encrypted_content": encrypted(&id) });
        let at = json!({ "item_id": id, "output_index": self.output.len(), "summary_index": 0 });
        self.added(item(Vec::new()));
        self.push("response.reasoning_summary_part.added", with(&at, json!({ "part": part("") })));
        for delta in deltas(text) {
            self.push("response.reasoning_summary_text.delta", with(&at, json!({ "delta": delta })));
        }
        self.push("response.reasoning_summary_text.done", with(&at, json!({ "text": text })));
        self.push("response.reasoning_summary_part.done", with(&at, json!({ "part": part(text) })));
        self.done(item(vec![part(text)]));
    }

    fn call(&mut self, kind: &str, prefix: &str, name: &str, (field, event): (&str, &str), text: &str) {
        let id = self.id(prefix);
        let call_id = self.id("call");
        let item = |status: &str, text: &str| json!({ "id": id, "type": kind, "status": status, "call_id": call_id, "name": name, field: text });
        let at = json!({ "item_id": id, "output_index": self.output.len() });
        self.added(item("in_progress", ""));
        for delta in deltas(text) {
            self.push(&format!("{event}.delta"), with(&at, json!({ "delta": delta })));
        }
        let mut done = with(&at, json!({ field: text }));
        if kind == "function_call" {
            done["name"] = json!(name);
        }
        self.push(&format!("{event}.done"), done);
        self.done(item("completed", text));
    }

    fn added(&mut self, item: Value) {
        self.push("response.output_item.added", json!({ "output_index": self.output.len(), "item": item }));
    }

    fn done(&mut self, item: Value) {
        self.push("response.output_item.done", json!({ "output_index": self.output.len(), "item": item }));
        self.output.push(item);
    }

    /// A token is taken for four bytes.
    fn counted_usage(&self) -> Usage {
        let tokens = |value: &Value| value.to_string().len().div_ceil(4) as u64;
        Usage {
            input: tokens(&self.request["input"]),
            cached: 0,
            output: self.output.iter().map(tokens).sum(),
            reasoning: self.output.iter().filter(|item| item["type"] == "reasoning").map(tokens).sum(),
        }
    }

    fn response(&self, status: &str, usage: Option<Usage>) -> Value {
        let asked = |field: &str, default: Value| match &self.request[field] {
            Value::Null => default,
            given => given.clone(),
        };
        json!({
            "id": self.response_id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": asked("instructions", Value::Null),
            "max_output_tokens": null,
            "max_tool_calls": null,
            "metadata": {},
            "model": self.request["model"],
            "output": self.output,
            "parallel_tool_calls": asked("parallel_tool_calls", json!(true)),
            "previous_response_id": null,
            "prompt_cache_key": asked("prompt_cache_key", Value::Null),
            "reasoning": { "effort": null, "summary": null },
            "service_tier": "default",
            "store": asked("store", json!(true)),
            "temperature": 1.0,
            "text": { "format": { "type": "text" }, "verbosity": "medium" },
            "tool_choice": asked("tool_choice", json!("auto")),
            "tools": asked("tools", json!([])),
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage.map(|usage| json!({
                "input_tokens": usage.input,
                "input_tokens_details": { "cached_tokens": usage.cached, "cache_write_tokens": 0 },
                "output_tokens": usage.output,
                "output_tokens_details": { "reasoning_tokens": usage.reasoning },
                "total_tokens": usage.input + usage.output,
            })),
            "user": null,
        })
    }
}

/// The least that a server may send of these events: whole items without ids, and the end without usage.
pub(super) fn least(events: Vec<Value>) -> Vec<Value> {
    let kept = events.into_iter().filter_map(|mut event| match event["type"].as_str() {
        Some("response.output_item.done") => {
            let mut item = event["item"].take();
            if let Some(fields) = item.as_object_mut()
                && fields.get("type").is_some_and(|kind| kind != "reasoning")
            {
                fields.remove("id");
                fields.remove("status");
            }
            Some(json!({ "type": "response.output_item.done", "item": item }))
        }
        Some("response.completed") => {
            Some(json!({ "type": "response.completed", "response": { "id": event["response"]["id"] } }))
        }
        _ => None,
    });
    kept.collect()
}

fn with(at: &Value, more: Value) -> Value {
    let mut event = at.clone();
    if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
    event
}

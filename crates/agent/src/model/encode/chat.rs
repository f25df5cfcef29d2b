//! The Chat Completions API. What a model said in one answer is one message, and so is what we say before the next,
//! because the templates of many models insist on turns. Only text may be in the result of a tool, so its images follow
//! in a message of ours once all results are there.

use serde_json::{Value, json};

use super::super::item::{is_foreign, plain_reasoning};
use super::content::{Part, Said, arguments, call_id, texts};
use super::head;
use crate::{ModelEndpoint, Reasoning};

/// The field of most servers that want reasoning back.
const REASONING_CONTENT: &str = "reasoning_content";

#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    body: String,
    /// The message that may still grow.
    open: Open,
    /// Images of results, as parts, that wait for the last of these results.
    waiting: Vec<String>,
    origin: String,
    returns_reasoning: bool,
    sees: bool,
}

/// A message in the making. Everything in it has been serialised.
#[derive(Debug, Clone, Default)]
enum Open {
    #[default]
    Nothing,
    Ours {
        texts: Vec<String>,
        /// The whole content in parts, once there is an image in it.
        parts: Vec<String>,
        has_images: bool,
    },
    Model {
        text: String,
        reasoning: Option<(String, String)>,
        /// What OpenRouter calls `reasoning_details`.
        details: Vec<Value>,
        calls: Vec<String>,
    },
}

impl Encoder {
    pub(super) fn new(endpoint: &ModelEndpoint, instructions: &str, tools: &[Value], cache_key: &str) -> Self {
        let is_openai = endpoint.base_url.host_str().is_some_and(|host| host.ends_with("openai.com"));
        let mut fields = json!({
            "model": endpoint.name,
            "stream": true,
            "tools": tools.iter().filter_map(tool).collect::<Vec<_>>(),
            "tool_choice": "auto",
        });
        if endpoint.stream_usage {
            fields["stream_options"] = json!({ "include_usage": true });
        }
        // It is the servers' default, and OpenAI's first reasoning models refuse the field.
        if !endpoint.parallel_calls {
            fields["parallel_tool_calls"] = json!(false);
        }
        if endpoint.cache_key {
            fields["prompt_cache_key"] = json!(cache_key);
        }
        if let Some(tokens) = endpoint.max_output_tokens {
            // OpenAI's reasoning models refuse the older name, and other servers do not know the newer one.
            fields[if is_openai { "max_completion_tokens" } else { "max_tokens" }] = json!(tokens);
        }
        if let Reasoning::On { effort: Some(effort) } = &endpoint.reasoning {
            fields["reasoning_effort"] = json!(effort);
        }
        let mut body = head(&fields, "messages");
        body.push_str(&json!({ "role": "system", "content": instructions }).to_string());
        Self {
            body,
            open: Open::Nothing,
            waiting: Vec::new(),
            origin: endpoint.origin(),
            returns_reasoning: endpoint.returns_reasoning,
            sees: endpoint.images,
        }
    }

    pub(super) fn push(&mut self, item: &Value) {
        match Said::of(item, self.sees) {
            Said::Ours(parts) => self.ours(&parts),
            Said::Text(said) => {
                let Open::Model { text, .. } = self.model() else { return };
                if !text.is_empty() && !said.is_empty() {
                    text.push_str("\n\n");
                }
                text.push_str(&said);
            }
            Said::Reasoning => self.reasoning(item),
            Said::Call(call) => {
                let mut told = json!({
                    "id": call_id(&call.call_id),
                    "type": "function",
                    "function": { "name": call.name, "arguments": arguments(&call).to_string() },
                });
                if item["extra_content"].is_object() && !is_foreign(item, &self.origin) {
                    told["extra_content"] = item["extra_content"].clone();
                }
                if let Open::Model { calls, .. } = self.model() {
                    calls.push(told.to_string());
                }
            }
            Said::Result(call_id, parts) => {
                self.close();
                let told = json!({ "role": "tool", "tool_call_id": call_id, "content": texts(&parts) });
                self.body.push_str(&format!(",{told}"));
                let images: Vec<&Part<'_>> = parts.iter().filter(|part| matches!(part, Part::Image(_))).collect();
                if !images.is_empty() {
                    let what = format!("<image result_of=\"{call_id}\"/>");
                    self.waiting.push(part(&Part::Text(&what)));
                    self.waiting.extend(images.into_iter().map(part));
                }
            }
            Said::Unknown => {}
        }
    }

    pub(super) fn request(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body.len() + 256);
        body.extend_from_slice(self.body.as_bytes());
        body.extend_from_slice(self.tail().as_bytes());
        body.extend_from_slice(b"]}");
        body
    }

    fn ours(&mut self, said: &[Part<'_>]) {
        if !matches!(self.open, Open::Ours { .. }) {
            self.close();
            self.open = self.images().unwrap_or(Open::Ours { texts: Vec::new(), parts: Vec::new(), has_images: false });
            self.waiting.clear();
        }
        if let Open::Ours { texts, parts, has_images } = &mut self.open {
            for one in said {
                match one {
                    Part::Text(text) => texts.push((*text).to_owned()),
                    Part::Image(_) => *has_images = true,
                }
                parts.push(part(one));
            }
        }
    }

    fn reasoning(&mut self, item: &Value) {
        if is_foreign(item, &self.origin) {
            return;
        }
        let said = plain_reasoning(item);
        let told = item["details"].as_array().cloned().unwrap_or_default();
        let is_returned = self.returns_reasoning && !said.is_empty();
        if told.is_empty() && !is_returned {
            return;
        }
        let Open::Model { reasoning, details, .. } = self.model() else { return };
        details.extend(told);
        if is_returned {
            let (name, all) = reasoning.get_or_insert_default();
            item["field"].as_str().unwrap_or(REASONING_CONTENT).clone_into(name);
            all.push_str(&said);
        }
    }

    /// The model's message that is in the making.
    fn model(&mut self) -> &mut Open {
        if !matches!(self.open, Open::Model { .. }) {
            let tail = self.tail();
            self.body.push_str(&tail);
            self.waiting.clear();
            // Servers that want reasoning back want it with each message, of whomever it is and whether there was any.
            let reasoning = self.returns_reasoning.then(|| (REASONING_CONTENT.to_owned(), String::new()));
            self.open = Open::Model { text: String::new(), reasoning, details: Vec::new(), calls: Vec::new() };
        }
        &mut self.open
    }

    /// Ends the message that may still grow.
    fn close(&mut self) {
        let message = message(&self.open);
        self.body.push_str(&message);
        self.open = Open::Nothing;
    }

    /// What there is beyond the body: the message in the making, and the images that wait.
    fn tail(&self) -> String {
        format!("{}{}", message(&self.open), self.images().as_ref().map(message).unwrap_or_default())
    }

    /// A message of the images that wait, if there are any.
    fn images(&self) -> Option<Open> {
        let parts = self.waiting.clone();
        (!parts.is_empty()).then_some(Open::Ours { texts: Vec::new(), parts, has_images: true })
    }
}

/// A message with the comma before it; nothing when there is nothing in it.
fn message(open: &Open) -> String {
    match open {
        Open::Nothing => String::new(),
        Open::Ours { parts, .. } if parts.is_empty() => String::new(),
        Open::Ours { parts, has_images: true, .. } => {
            format!(r#",{{"role":"user","content":[{}]}}"#, parts.join(","))
        }
        // One text is what every server takes; some know nothing of parts.
        Open::Ours { texts, .. } => format!(",{}", json!({ "role": "user", "content": texts.join("\n\n") })),
        Open::Model { text, reasoning, details, calls } => {
            if text.is_empty() && calls.is_empty() {
                return String::new();
            }
            let mut fields = json!({ "role": "assistant", "content": (!text.is_empty()).then_some(text) });
            if let Some((name, said)) = reasoning {
                fields[name] = json!(said);
            }
            if !details.is_empty() {
                fields["reasoning_details"] = json!(details);
            }
            if calls.is_empty() {
                return format!(",{fields}");
            }
            let mut told = head(&fields, "tool_calls");
            told.push_str(&calls.join(","));
            format!(",{told}]}}")
        }
    }
}

fn part(part: &Part<'_>) -> String {
    let part = match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Image(url) => json!({ "type": "image_url", "image_url": { "url": url } }),
    };
    part.to_string()
}

/// A function as this API has it. Freeform tools are not offered here.
fn tool(tool: &Value) -> Option<Value> {
    (tool["type"] == "function").then(|| {
        json!({
            "type": "function",
            "function": {
                "name": tool["name"], "description": tool["description"], "parameters": tool["parameters"],
            },
        })
    })
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;

//! The Messages API. Messages take turns: all blocks of one answer are one message, and all results and texts before
//! the next are another.
//!
//! The server caches up to a mark, and looks for what it has from there. Marks stand behind the tools, behind the
//! instructions, and at the end of our last two messages: the second to last is where the request before had its last
//! one. The body stays without them; they are put in while a request is copied, so that it only ever grows.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::item::{is_foreign, plain_reasoning};
use super::content::{Part, Said, arguments, call_id};
use super::head;
use crate::{ModelEndpoint, Reasoning, Thinking};

/// What marks the end of what is to be cached, inside of a block.
const MARK: &str = r#","cache_control":{"type":"ephemeral"}"#;

/// The length of an answer when none is configured: what models from Claude 4 on can do at least.
const MAX_TOKENS: u64 = 32_000;

#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    body: String,
    /// How the body begins when no thoughts are asked for; nothing when none are.
    thoughtless: Option<Arc<str>>,
    /// Whose message is open at the body's end.
    open: Option<Role>,
    /// Where marks go: the end of the last block of each of our last two messages.
    marks: Vec<usize>,
    origin: String,
    returns_reasoning: bool,
    sees: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ours,
    Model,
}

impl Encoder {
    pub(super) fn new(endpoint: &ModelEndpoint, instructions: &str, tools: &[Value]) -> Self {
        let mark = json!({ "type": "ephemeral" });
        let mut tools: Vec<Value> = tools.iter().filter_map(tool).collect();
        if let Some(last) = tools.last_mut() {
            last["cache_control"] = mark.clone();
        }
        let max_tokens = endpoint.max_output_tokens.unwrap_or(MAX_TOKENS);
        let mut fields = json!({
            "model": endpoint.name,
            "max_tokens": max_tokens,
            "stream": true,
            "system": [{ "type": "text", "text": instructions, "cache_control": mark }],
            "tools": tools,
            "tool_choice": { "type": "auto" },
        });
        if !endpoint.parallel_calls {
            fields["tool_choice"]["disable_parallel_tool_use"] = json!(true);
        }
        let mut thoughtless = None;
        if let Reasoning::On { effort } = &endpoint.reasoning {
            thoughtless = Some(head(&fields, "messages").into());
            think(&mut fields, endpoint.thinking, effort.as_deref(), max_tokens);
        }
        Self {
            body: head(&fields, "messages"),
            thoughtless,
            open: None,
            marks: Vec::new(),
            origin: endpoint.origin(),
            returns_reasoning: endpoint.returns_reasoning,
            sees: endpoint.images,
        }
    }

    pub(super) fn push(&mut self, item: &Value) {
        match Said::of(item, self.sees) {
            Said::Ours(parts) => {
                for block in parts.iter().filter_map(block) {
                    self.block(Role::Ours, &block);
                }
            }
            // A text of nothing but space is refused.
            Said::Text(text) if text.trim().is_empty() => {}
            Said::Text(text) => self.block(Role::Model, &json!({ "type": "text", "text": text })),
            Said::Reasoning => {
                if let Some(block) = self.thoughts(item) {
                    self.block(Role::Model, &block);
                }
            }
            Said::Call(call) => self.block(
                Role::Model,
                &json!({
                    "type": "tool_use",
                    "id": call_id(&call.call_id),
                    "name": call.name,
                    "input": arguments(&call),
                }),
            ),
            Said::Result(call_id, parts) => {
                let content: Vec<Value> = parts.iter().filter_map(block).collect();
                self.block(Role::Ours, &json!({ "type": "tool_result", "tool_use_id": call_id, "content": content }));
            }
            Said::Unknown => {}
        }
    }

    pub(super) fn stop_thinking(&mut self) {
        debug_assert!(self.open.is_none(), "what was thought before stays in the items");
        if let Some(head) = self.thoughtless.take() {
            self.body = head.as_ref().to_owned();
        }
    }

    pub(super) fn request(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body.len() + 2 * MARK.len() + 8);
        let mut from = 0;
        for &mark in &self.marks {
            body.extend_from_slice(&self.body.as_bytes()[from..mark]);
            body.extend_from_slice(MARK.as_bytes());
            from = mark;
        }
        body.extend_from_slice(&self.body.as_bytes()[from..]);
        body.extend_from_slice(if self.open.is_some() { b"]}]}" } else { b"]}" });
        body
    }

    /// Appends a block, to the open message if that is of the same role.
    fn block(&mut self, role: Role, block: &Value) {
        let is_new = self.open != Some(role);
        match (self.open, is_new) {
            (_, false) => self.body.push(','),
            (Some(_), true) => self.body.push_str("]},"),
            (None, true) => {}
        }
        if is_new {
            self.body.push_str(match role {
                Role::Ours => r#"{"role":"user","content":["#,
                Role::Model => r#"{"role":"assistant","content":["#,
            });
            self.open = Some(role);
        }
        self.body.push_str(&block.to_string());
        if role == Role::Ours {
            if !is_new {
                self.marks.pop();
            } else if self.marks.len() == 2 {
                self.marks.remove(0);
            }
            self.marks.push(self.body.len() - 1);
        }
    }

    /// What this very model thought, as it was. What another thought it could not verify.
    fn thoughts(&self, item: &Value) -> Option<Value> {
        if is_foreign(item, &self.origin) {
            return None;
        }
        if let Some(data) = item["redacted"].as_str() {
            return Some(json!({ "type": "redacted_thinking", "data": data }));
        }
        // Servers that only imitate this API sign nothing, and some want the thoughts back all the same.
        let signature = item["signature"].as_str().or(self.returns_reasoning.then_some(""))?;
        Some(json!({ "type": "thinking", "thinking": plain_reasoning(item), "signature": signature }))
    }
}

/// Asks for thoughts.
fn think(fields: &mut Value, thinking: Thinking, effort: Option<&str>, max_tokens: u64) {
    match thinking {
        Thinking::Adaptive => {
            fields["thinking"] = json!({ "type": "adaptive", "display": "summarized" });
            if let Some(effort) = effort {
                fields["output_config"] = json!({ "effort": effort });
            }
        }
        Thinking::Budget => {
            let share = match effort {
                Some("minimal" | "low") => 8,
                Some("high" | "xhigh" | "max") => 2,
                _ => 4,
            };
            // At least 1,024, and less than the whole.
            let budget = (max_tokens / share).max(1024);
            if budget < max_tokens {
                fields["thinking"] = json!({ "type": "enabled", "budget_tokens": budget });
            }
        }
    }
}

/// A part as a block; `None` for a text of nothing but space, which is refused.
fn block(part: &Part<'_>) -> Option<Value> {
    match part {
        Part::Text(text) => (!text.trim().is_empty()).then(|| json!({ "type": "text", "text": text })),
        Part::Image(url) => {
            let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
            let source = match data {
                Some((kind, data)) => json!({ "type": "base64", "media_type": kind, "data": data }),
                None => json!({ "type": "url", "url": url }),
            };
            Some(json!({ "type": "image", "source": source }))
        }
    }
}

/// A function as this API has it. Freeform tools are not offered here.
fn tool(tool: &Value) -> Option<Value> {
    (tool["type"] == "function").then(
        || json!({ "name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"] }),
    )
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;

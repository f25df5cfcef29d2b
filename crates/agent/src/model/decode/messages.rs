//! The Messages API: content comes in blocks, each begun, filled in pieces and ended. Blocks become items when they
//! end, and a block of a kind we know nothing of is passed over.

use std::collections::BTreeMap;

use carrel_domain::Usage;
use serde_json::{Value, json};

use super::super::Failure;
use super::super::answer::{Answer, Draft, count, take};

#[derive(Debug, Default)]
pub(in super::super) struct Decoder {
    draft: Draft,
    open: BTreeMap<u64, Block>,
    counted: Counted,
    is_all_said: bool,
}

/// A block in the making.
#[derive(Debug, Default)]
struct Block {
    start: Value,
    text: String,
    signature: String,
}

/// Tokens as they were last told: in parts at the beginning, and again, as sums, towards the end.
#[derive(Debug, Default)]
struct Counted {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
}

impl Decoder {
    pub(super) fn event(&mut self, mut event: Value) -> Result<bool, Failure> {
        let index = event["index"].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                event["message"]["id"].as_str().unwrap_or_default().clone_into(&mut self.draft.id);
                self.counted.take(&event["message"]["usage"]);
            }
            "content_block_start" => {
                let start = take(&mut event, "content_block");
                self.open.insert(index, Block { start, ..Block::default() });
            }
            "content_block_delta" => self.open.entry(index).or_default().grow(&event["delta"]),
            "content_block_stop" => {
                if let Some(block) = self.open.remove(&index) {
                    self.end(block)?;
                }
            }
            "message_delta" => {
                self.counted.take(&event["usage"]);
                self.stopped(&event["delta"]);
            }
            "message_stop" => return Ok(true),
            "error" => return Err(self.draft.disown(&event["error"])),
            _ if event["error"].is_object() => return Err(self.draft.disown(&event["error"])),
            _ => {}
        }
        Ok(false)
    }

    pub(super) fn whole(mut self, mut body: Value) -> Result<Answer, Failure> {
        if body["error"].is_object() {
            return Err(self.draft.disown(&body["error"]));
        }
        let Value::Array(blocks) = take(&mut body, "content") else {
            return Err(Failure::cut("it has no content".to_owned()));
        };
        body["id"].as_str().unwrap_or_default().clone_into(&mut self.draft.id);
        self.counted.take(&body["usage"]);
        for start in blocks {
            self.end(Block { start, ..Block::default() })?;
        }
        self.stopped(&body);
        self.finish()
    }

    pub(super) fn finish(mut self) -> Result<Answer, Failure> {
        // A block that has begun and not ended when the message does is one whose end was forgotten.
        if self.draft.incomplete.is_none() {
            for (_, block) in std::mem::take(&mut self.open) {
                self.end(block)?;
            }
        }
        self.draft.usage = self.counted.usage();
        self.draft.finish()
    }

    pub(super) fn salvage(mut self, failure: Failure) -> Result<Answer, Failure> {
        self.draft.usage = self.counted.usage();
        self.draft.salvage(failure)
    }

    fn end(&mut self, block: Block) -> Result<(), Failure> {
        match block.item() {
            Some(item) => self.draft.push(item),
            None => Ok(()),
        }
    }

    pub(super) const fn is_all_said(&self) -> bool {
        self.is_all_said
    }

    fn stopped(&mut self, delta: &Value) {
        self.is_all_said |= delta["stop_reason"].is_string();
        match delta["stop_reason"].as_str().unwrap_or_default() {
            "max_tokens" => self.draft.incomplete = Some(Failure::incomplete("max_output_tokens")),
            "refusal" => {
                let why = delta["stop_details"]["explanation"].as_str().unwrap_or_default();
                self.draft.incomplete = Some(Failure::refusal(why));
            }
            "model_context_window_exceeded" => {
                self.draft.incomplete = Some(Failure::context_full("the answer did not fit any more"));
            }
            "pause_turn" => self.draft.is_paused = true,
            // `end_turn`, `tool_use`, `stop_sequence`, and what may come.
            _ => {}
        }
    }
}

impl Block {
    fn grow(&mut self, delta: &Value) {
        for field in ["text", "thinking", "partial_json"] {
            self.text.push_str(delta[field].as_str().unwrap_or_default());
        }
        self.signature.push_str(delta["signature"].as_str().unwrap_or_default());
    }

    /// The item it makes, if it is of a kind we know.
    fn item(self) -> Option<Value> {
        let Self { start, text, signature } = self;
        let all = |field: &str| format!("{}{text}", start[field].as_str().unwrap_or_default());
        match start["type"].as_str() {
            Some("text") => {
                let text = all("text");
                let part = json!({ "type": "output_text", "text": text, "annotations": [] });
                (!text.trim().is_empty()).then(|| json!({ "type": "message", "role": "assistant", "content": [part] }))
            }
            Some("thinking") => {
                let thinking = all("thinking");
                let signature = format!("{}{signature}", start["signature"].as_str().unwrap_or_default());
                let content = if thinking.is_empty() {
                    json!([])
                } else {
                    json!([{ "type": "reasoning_text", "text": thinking }])
                };
                let mut item = json!({ "type": "reasoning", "summary": [], "content": content });
                if !signature.is_empty() {
                    item["signature"] = json!(signature);
                }
                Some(item)
            }
            Some("redacted_thinking") => {
                Some(json!({ "type": "reasoning", "summary": [], "redacted": start["data"].as_str()? }))
            }
            Some("tool_use") => Some(json!({
                "type": "function_call",
                "call_id": start["id"].as_str().unwrap_or_default(),
                "name": start["name"],
                "arguments": if text.trim().is_empty() { start["input"].clone() } else { json!(text) },
            })),
            _ => None,
        }
    }
}

impl Counted {
    fn take(&mut self, usage: &Value) {
        let take = |known: &mut u64, value: &Value| {
            // A later count of nothing is a count left out.
            if let Some(number) = value.as_u64().filter(|number| *number > 0) {
                *known = number;
            }
        };
        take(&mut self.input, &usage["input_tokens"]);
        take(&mut self.cache_read, &usage["cache_read_input_tokens"]);
        take(&mut self.cache_write, &usage["cache_creation_input_tokens"]);
        take(&mut self.output, &usage["output_tokens"]);
        let reasoning = count(&usage["output_tokens_details"]["thinking_tokens"]);
        self.reasoning = self.reasoning.max(reasoning);
    }

    /// The parts of the input are counted apart here, and together everywhere else.
    fn usage(&self) -> Option<Usage> {
        let input = self.input.saturating_add(self.cache_read).saturating_add(self.cache_write);
        (input > 0).then(|| Usage {
            input_tokens: input,
            cached_input_tokens: self.cache_read,
            cache_write_tokens: self.cache_write,
            output_tokens: self.output,
            reasoning_tokens: self.reasoning,
            requests: 1,
            ..Usage::default()
        })
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;

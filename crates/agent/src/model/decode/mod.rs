//! Answers out of the events of a stream, or out of one piece, for each protocol. Lenient in what is not needed
//! (unknown events and fields, missing ids and usage, `[DONE]` or none) and strict in what is: what a model said
//! arrives whole, and an answer has an end.

mod chat;
mod messages;
mod responses;

use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use super::answer::Answer;
use crate::Protocol;

/// The longest event that is looked at for whether it says nothing, in bytes.
const MAX_KEEP_ALIVE: usize = 400;

/// Whether an event only keeps the connection alive.
pub(super) fn is_keep_alive(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind<'d> {
        #[serde(rename = "type")]
        kind: &'d str,
    }
    let kind = || serde_json::from_slice::<Kind<'_>>(data).map(|Kind { kind }| kind);
    data.len() <= MAX_KEEP_ALIVE && kind().is_ok_and(|kind| matches!(kind, "ping" | "keepalive" | "heartbeat"))
}

/// What reads the answer of one request.
#[derive(Debug)]
pub(super) enum Decoder {
    Responses(responses::Decoder),
    Chat(chat::Decoder),
    Messages(messages::Decoder),
}

impl Decoder {
    pub(super) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Responses => Self::Responses(responses::Decoder::default()),
            Protocol::ChatCompletions => Self::Chat(chat::Decoder::default()),
            Protocol::Messages => Self::Messages(messages::Decoder::default()),
        }
    }

    /// Takes the data of one event. Returns whether it was the last one.
    pub(super) fn event(&mut self, data: &[u8]) -> Result<bool, Failure> {
        if data.trim_ascii() == b"[DONE]" {
            return Ok(match self {
                Self::Chat(decoder) => decoder.done(),
                Self::Responses(_) | Self::Messages(_) => false,
            });
        }
        let event: Value = serde_json::from_slice(data)
            .map_err(|error| Failure::cut(format!("it has an event that is no JSON ({error})")))?;
        match self {
            Self::Responses(decoder) => decoder.event(event),
            Self::Chat(decoder) => decoder.event(event),
            Self::Messages(decoder) => decoder.event(event),
        }
    }

    /// Whether the model has come to its end, though the stream may say more, such as what it cost.
    pub(super) fn is_all_said(&self) -> bool {
        match self {
            Self::Chat(decoder) => decoder.is_all_said(),
            Self::Messages(decoder) => decoder.is_all_said(),
            Self::Responses(_) => false,
        }
    }

    /// An answer that came in one piece.
    pub(super) fn whole(self, body: &[u8]) -> Result<Answer, Failure> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| Failure::cut(format!("it is no JSON ({error})")))?;
        match self {
            Self::Responses(decoder) => decoder.whole(body),
            Self::Chat(decoder) => decoder.whole(body),
            Self::Messages(decoder) => decoder.whole(body),
        }
    }

    /// The answer, now that its last event has been seen.
    pub(super) fn finish(self) -> Result<Answer, Failure> {
        match self {
            Self::Responses(decoder) => decoder.finish(),
            Self::Chat(decoder) => decoder.finish(),
            Self::Messages(decoder) => decoder.finish(),
        }
    }

    /// What there is of the answer when the stream has broken off.
    pub(super) fn broken(self, failure: Failure) -> Result<Answer, Failure> {
        if self.is_all_said() {
            return self.finish();
        }
        match self {
            Self::Responses(decoder) => decoder.salvage(failure),
            Self::Chat(decoder) => decoder.salvage(failure),
            Self::Messages(decoder) => decoder.salvage(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_keeps_the_connection_alive_is_known() {
        assert!(is_keep_alive(br#"{"type": "ping"}"#) && is_keep_alive(br#"{"type":"keepalive","sequence_number":3}"#));
        for other in [&b"[DONE]"[..], b"{}", br#"{"type":"response.output_text.delta","delta":"ping"}"#, b"\xff"] {
            assert!(!is_keep_alive(other));
        }
    }

    const PROTOCOLS: [Protocol; 3] = [Protocol::Responses, Protocol::ChatCompletions, Protocol::Messages];

    /// Values where others are expected, and where none is.
    fn odd() -> Vec<Value> {
        vec![
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!("x"),
            json!([]),
            json!([[]]),
            json!({}),
            json!([1, "x", {}]),
        ]
    }

    /// Everything that is like a real event but for one value, at whatever depth.
    fn spoiled(event: &Value) -> Vec<Value> {
        let mut all = odd();
        match event {
            Value::Object(fields) => {
                for (name, value) in fields {
                    all.extend(spoiled(value).into_iter().map(|odd| {
                        let mut fields = fields.clone();
                        fields.insert(name.clone(), odd);
                        Value::Object(fields)
                    }));
                }
            }
            Value::Array(values) => {
                for (at, value) in values.iter().enumerate() {
                    all.extend(spoiled(value).into_iter().map(|odd| {
                        let mut values = values.clone();
                        values[at] = odd;
                        Value::Array(values)
                    }));
                }
            }
            _ => {}
        }
        all
    }

    fn real() -> Vec<Value> {
        let item = json!({"type": "function_call", "id": "i", "call_id": "c", "name": "x", "arguments": "{}"});
        let usage = json!({"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 1}});
        let call = json!({"index": 0, "id": "c", "function": {"name": "x", "arguments": "{}"}});
        let delta = json!({"content": [{"type": "text", "text": "x"}], "reasoning": "x", "tool_calls": [call]});
        vec![
            json!({"type": "response.output_item.done", "item": item}),
            json!({"type": "response.completed", "response": {"id": "r", "output": [item], "usage": usage}}),
            json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "x"}}}),
            json!({"type": "response.failed", "response": {"error": {"code": "x", "message": "x"}}}),
            json!({"type": "error", "error": {"type": "x", "message": "x"}}),
            json!({"id": "c", "choices": [{"delta": delta, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}),
            json!({"choices": [{"message": {"content": "x", "tool_calls": [call]}, "error": {"message": "x"}}]}),
            json!({"type": "message_start", "message": {"id": "m", "usage": usage}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "x", "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": {"explanation": "x"}}, "usage": usage}),
            json!({"id": "m", "content": [{"type": "thinking", "thinking": "x", "signature": "x"}], "output": [item]}),
        ]
    }

    #[test]
    fn nothing_a_server_sends_takes_the_service_down() {
        let events = real();
        let spoiled: Vec<Value> = events.iter().flat_map(spoiled).collect();
        assert!(spoiled.len() > 1000);
        for protocol in PROTOCOLS {
            for odd in &spoiled {
                let data = odd.to_string();
                // What comes of it is told elsewhere; here it only has to come to something.
                let _ = Decoder::new(protocol).whole(data.as_bytes());
                let mut decoder = Decoder::new(protocol);
                for event in [&events[8], odd, &events[9], odd, &events[10]] {
                    if decoder.event(event.to_string().as_bytes()).is_err() {
                        break;
                    }
                }
                let _ = decoder.broken(Failure::cut("test".to_owned()));
            }
        }
    }
}

//! Requests out of a conversation, for each protocol: a head that stays as it is, the items, each serialised once and
//! appended, and a short end. So a request begins with the bytes of the one before, which is what prompt caches go by,
//! and costs no more than copying it.

mod chat;
mod content;
mod messages;
mod responses;

use serde_json::Value;

use crate::{ModelEndpoint, Protocol};

/// What writes the requests of one conversation.
#[derive(Debug, Clone)]
pub(crate) enum Encoder {
    Responses(responses::Encoder),
    Chat(chat::Encoder),
    Messages(messages::Encoder),
}

impl Encoder {
    /// A conversation without an item.
    pub(crate) fn new(endpoint: &ModelEndpoint, instructions: &str, tools: &[Value], cache_key: &str) -> Self {
        match endpoint.protocol {
            Protocol::Responses => Self::Responses(responses::Encoder::new(endpoint, instructions, tools, cache_key)),
            Protocol::ChatCompletions => Self::Chat(chat::Encoder::new(endpoint, instructions, tools, cache_key)),
            Protocol::Messages => Self::Messages(messages::Encoder::new(endpoint, instructions, tools)),
        }
    }

    /// Appends an item.
    pub(crate) fn push(&mut self, item: &Value) {
        match self {
            Self::Responses(encoder) => encoder.push(item),
            Self::Chat(encoder) => encoder.push(item),
            Self::Messages(encoder) => encoder.push(item),
        }
    }

    /// Asks for no thoughts any more. Only of one without an item.
    pub(crate) fn stop_thinking(&mut self) {
        match self {
            Self::Responses(_) | Self::Chat(_) => {}
            Self::Messages(encoder) => encoder.stop_thinking(),
        }
    }

    /// The request that asks for what comes next.
    pub(crate) fn request(&self) -> Vec<u8> {
        match self {
            Self::Responses(encoder) => encoder.request(),
            Self::Chat(encoder) => encoder.request(),
            Self::Messages(encoder) => encoder.request(),
        }
    }
}

/// The head of a body, ready for the items of its last field.
fn head(fields: &Value, list: &str) -> String {
    let mut body = fields.to_string();
    body.pop();
    body.push_str(&format!(",\"{list}\":["));
    body
}

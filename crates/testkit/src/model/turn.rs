//! One answer on its way to the wire: what every form of it is made from.

use serde_json::Value;

use super::events::{Ending, Events, least};
use super::wire::Wire;
use super::{Item, Reply, Usage, chat, messages};

/// Characters in one delta, unless that made too many.
const DELTA_CHARS: usize = 24;

/// Deltas of one item.
const MAX_DELTAS: usize = 200;

/// The answer to one request.
pub(super) struct Turn<'a> {
    /// The API.
    pub(super) wire: Wire,
    /// The request.
    pub(super) request: &'a Value,
    /// Its conversation.
    pub(super) input: &'a [Value],
    /// Names the place in the script.
    pub(super) tag: String,
    /// In seconds since 1970.
    pub(super) created_at: u64,
}

/// How a stream of events is written down.
pub(super) enum Told<'a> {
    /// A reply, or as many of its items, with its end.
    Reply(&'a Reply, usize, Ending<'a>),
    /// A failure right after the beginning: `response.failed`, where there is such a thing.
    Failed(&'a str, &'a str),
    /// An error event right after the beginning.
    Error(&'a str, &'a str),
}

impl Turn<'_> {
    /// The bytes of an event stream.
    pub(super) fn stream(&self, told: &Told<'_>) -> Vec<u8> {
        let terse = matches!(told, Told::Reply(reply, ..) if reply.terse);
        let ends_whole = !matches!(told, Told::Reply(_, _, Ending::None) | Told::Failed(..) | Told::Error(..));
        let events = self.events(told);
        let mut text = String::new();
        for event in events {
            if !terse
                && self.wire != Wire::Chat
                && let Some(kind) = event["type"].as_str()
            {
                text.push_str(&format!("event: {kind}\n"));
            }
            text.push_str(&format!("data: {event}\n\n"));
        }
        if terse {
            text.insert_str(0, ": welcome\n\n");
        }
        let says_done = match self.wire {
            Wire::Responses => terse,
            Wire::Chat => !terse && ends_whole,
            Wire::Messages => false,
        };
        if says_done {
            text.push_str("data: [DONE]\n\n");
        }
        text.into_bytes()
    }

    /// The answer in one piece, as from a server that does not stream.
    pub(super) fn whole(&self, reply: &Reply) -> Value {
        match self.wire {
            Wire::Responses => {
                let mut events = self.events(&Told::Reply(reply, usize::MAX, Ending::Completed));
                events.pop().map(|mut last| last["response"].take()).unwrap_or_default()
            }
            Wire::Chat => chat::whole(self, reply),
            Wire::Messages => messages::whole(self, reply),
        }
    }

    fn events(&self, told: &Told<'_>) -> Vec<Value> {
        match self.wire {
            Wire::Responses => {
                let events = Events::begin(self.request, &self.tag, self.created_at);
                match told {
                    Told::Reply(reply, items, ending) if reply.terse => least(events.reply(reply, *items, ending)),
                    Told::Reply(reply, items, ending) => events.reply(reply, *items, ending),
                    Told::Failed(code, message) => events.failed(code, message),
                    Told::Error(code, message) => events.error(code, message),
                }
            }
            Wire::Chat => chat::events(self, told),
            Wire::Messages => messages::events(self, told),
        }
    }

    /// The name of the call that is this item of the answer. The length of the conversation is in it, so that names
    /// never repeat.
    pub(super) fn call_id(&self, index: usize) -> String {
        format!("call_{}_{index}", self.input.len())
    }

    /// What it is said to have cost: a token is taken for four bytes.
    pub(super) fn usage(&self, reply: &Reply) -> Usage {
        let tokens = |bytes: usize| bytes.div_ceil(4) as u64;
        let thoughts = |item: &Item| matches!(item, Item::Reasoning(_));
        let output = |item: &Item| match item {
            Item::Message(text) | Item::Reasoning(text) => text.len(),
            Item::Call { name, .. } => name.len() + arguments(item).len(),
            Item::Custom { name, input } => name.len() + input.len(),
        };
        reply.usage.unwrap_or_else(|| Usage {
            input: tokens(self.input.iter().map(|item| item.to_string().len()).sum()),
            cached: 0,
            output: reply.items.iter().map(|item| tokens(output(item))).sum(),
            reasoning: reply.items.iter().filter(|item| thoughts(item)).map(|item| tokens(output(item))).sum(),
        })
    }
}

/// The arguments of a call as text. A freeform tool is a function with one string where there are only functions.
pub(super) fn arguments(item: &Item) -> String {
    match item {
        Item::Call { arguments: Value::String(text), .. } => text.clone(),
        Item::Call { arguments, .. } => arguments.to_string(),
        Item::Custom { input, .. } => serde_json::json!({ "input": input }).to_string(),
        Item::Message(_) | Item::Reasoning(_) => String::new(),
    }
}

/// A text in pieces.
pub(super) fn deltas(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(DELTA_CHARS.max(characters.len().div_ceil(MAX_DELTAS)))
        .map(|piece| piece.iter().collect())
        .collect()
}

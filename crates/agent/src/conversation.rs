//! The conversation as the model gets it again and again. How it is written down is the encoders'; here items are
//! counted, calls get names that are theirs alone, and what the model says is marked with its origin.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::ModelEndpoint;
use crate::model::{Encoder, ORIGIN, is_by_model, is_compaction};
use crate::tokens::Meter;

/// The body of the next request, but for its end, and how many items are in it.
#[derive(Debug)]
pub(crate) struct Conversation {
    encoder: Encoder,
    /// One without an item, to begin anew with.
    empty: Encoder,
    origin: String,
    items: usize,
    meter: Meter,
    /// The names of all calls.
    call_ids: HashSet<String>,
}

impl Conversation {
    /// A conversation without an item.
    pub(crate) fn new(endpoint: &ModelEndpoint, instructions: &str, tools: &[Value], cache_key: &str) -> Self {
        let empty = Encoder::new(endpoint, instructions, tools, cache_key);
        Self {
            encoder: empty.clone(),
            empty,
            origin: endpoint.origin(),
            items: 0,
            meter: Meter::new(endpoint, instructions, tools),
            call_ids: HashSet::new(),
        }
    }

    /// Appends an item. Returns its position: items are counted from 0 over the whole conversation, also those that a
    /// compaction has dropped. Its mark is one of them, and empties the request.
    pub(crate) fn push(&mut self, item: &Value) -> usize {
        self.items += 1;
        if is_compaction(item) {
            self.encoder = self.empty.clone();
            self.meter.reset();
            return self.items - 1;
        }
        if let (true, Some(id)) = (is_by_model(item), item["call_id"].as_str()) {
            self.call_ids.insert(id.to_owned());
        }
        self.encoder.push(item);
        self.meter.push(item);
        self.items - 1
    }

    /// Makes what a model has just said fit to be recorded and pushed: marked with its origin, and with calls that have
    /// names of their own. Some servers give none, and some the same ones again with every answer.
    pub(crate) fn admit(&self, items: &mut [Value]) {
        let mut fresh: HashSet<String> = HashSet::new();
        for (index, item) in items.iter_mut().enumerate() {
            item[ORIGIN] = json!(self.origin);
            let Some(asked) = item["call_id"].as_str() else { continue };
            let is_taken = |id: &str| id.is_empty() || self.call_ids.contains(id) || fresh.contains(id);
            let mut name = if is_taken(asked) { format!("call_{}_{index}", self.items) } else { asked.to_owned() };
            while is_taken(&name) {
                name.push('_');
            }
            item["call_id"] = json!(name);
            fresh.insert(name);
        }
    }

    /// How many items there ever were.
    pub(crate) const fn len(&self) -> usize {
        self.items
    }

    /// What counts its tokens.
    pub(crate) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The same, to teach it.
    pub(crate) const fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// Writes the request anew from these items, which it is of, without what the model thought so far and without its
    /// server's names of items, which belong to that.
    pub(crate) fn forget_reasoning(&mut self, items: &[Value]) {
        self.encoder = self.empty.clone();
        for item in items.iter().filter(|item| item["type"] != "reasoning") {
            let mut item = item.clone();
            if let Some(fields) = item.as_object_mut() {
                fields.remove("id");
            }
            self.encoder.push(&item);
        }
    }

    /// A request with one more item that is not kept.
    pub(crate) fn request_with(&self, item: &Value) -> Bytes {
        let mut encoder = self.encoder.clone();
        encoder.push(item);
        Bytes::from(encoder.request())
    }

    /// A request with other items than there are.
    pub(crate) fn request_of(&self, items: &[Value]) -> Bytes {
        let mut encoder = self.empty.clone();
        items.iter().for_each(|item| encoder.push(item));
        Bytes::from(encoder.request())
    }

    /// The request that asks for what comes next.
    pub(crate) fn request(&self) -> Bytes {
        Bytes::from(self.encoder.request())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    const PROTOCOLS: [Protocol; 3] = [Protocol::Responses, Protocol::ChatCompletions, Protocol::Messages];

    fn conversation(protocol: Protocol) -> Conversation {
        let base = "http://localhost/v1".parse().expect("a URL");
        Conversation::new(&ModelEndpoint::speaking(protocol, "m", base, None), "be good", &[], "key")
    }

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "call_id": id, "name": "x", "arguments": "{}"})
    }

    fn output(id: &str) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": "done"})
    }

    /// A request without the marks of what is to be cached and without its end.
    fn settled(request: &[u8]) -> String {
        let text = String::from_utf8(request.to_vec()).expect("UTF-8");
        text.replace(r#","cache_control":{"type":"ephemeral"}"#, "").trim_end_matches([']', '}']).to_owned()
    }

    #[test]
    fn each_request_begins_with_the_one_before_on_every_wire() {
        for protocol in PROTOCOLS {
            let mut conversation = conversation(protocol);
            conversation.push(&json!({"type": "message", "role": "user", "content": "a"}));
            conversation.push(&json!({"type": "message", "role": "user", "content": "b"}));
            let mut before = settled(&conversation.request());
            for turn in 0..5 {
                let ids = [format!("c{turn}_0"), format!("c{turn}_1")];
                for id in &ids {
                    conversation.push(&call(id));
                }
                for id in &ids {
                    conversation.push(&output(id));
                }
                let request = conversation.request();
                let _: Value = serde_json::from_slice(&request).expect("JSON");
                let now = settled(&request);
                assert!(now.starts_with(&before), "{protocol:?}\n{before}\n{now}");
                before = now;
            }
        }
    }

    #[test]
    fn two_hundred_turns_are_serialised_once_each() {
        for protocol in PROTOCOLS {
            let mut conversation = conversation(protocol);
            conversation.push(&json!({"type": "message", "role": "user", "content": "a"}));
            let mut growth = Vec::new();
            for turn in 0..200 {
                let before = conversation.request().len();
                conversation.push(&call(&format!("c{turn:03}")));
                conversation.push(&output(&format!("c{turn:03}")));
                growth.push(conversation.request().len() - before);
            }

            assert!(growth[3..].iter().all(|bytes| *bytes == growth[3]), "{protocol:?}: {growth:?}");
        }
    }

    #[test]
    fn a_compacted_conversation_begins_anew_and_counts_on() {
        for protocol in PROTOCOLS {
            let mut long = conversation(protocol);
            let (user, mark) =
                (json!({"type": "message", "role": "user", "content": "b"}), json!({"type": "context_compacted"}));
            for item in [&user, &call("c"), &output("c"), &mark] {
                long.push(item);
            }
            let mut short = conversation(protocol);
            short.push(&user);

            assert_eq!(long.push(&user), 4, "{protocol:?}");
            assert_eq!((long.request(), long.meter().tokens()), (short.request(), short.meter().tokens()));
            assert_eq!(long.request_with(&call("d")), {
                short.push(&call("d"));
                short.request()
            });
            assert_eq!(long.request_of(&[user, call("d")]), short.request());
        }
    }

    #[test]
    fn calls_have_names_of_their_own_whatever_the_server_sends() {
        let mut conversation = conversation(Protocol::ChatCompletions);
        conversation.push(&call("call_0"));
        let mut items = [call(""), call("a"), call("a"), call("call_0")];

        conversation.admit(&mut items);

        let names: HashSet<&str> = items.iter().filter_map(|item| item["call_id"].as_str()).collect();
        assert!(
            names.len() == 4 && names.contains("a") && !names.contains("") && !names.contains("call_0"),
            "{names:?}"
        );
        assert!(items.iter().all(|item| item[ORIGIN] == "chat_completions localhost m"));
    }
}

//! The conversation as the model gets it again and again. How it is written down is the encoders'; here items are
//! counted, calls get names that are theirs alone, what the model says is marked with its origin, and images are kept
//! within what its server takes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::ModelEndpoint;
use crate::model::{Encoder, ORIGIN, is_by_model, is_compaction};
use crate::tokens::{self, Meter};

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
    images: Images,
}

/// What is known of the images of a conversation.
#[derive(Debug)]
struct Images {
    /// The longest side one may have, if any is taken.
    side: Option<u32>,
    /// What they take in the request, in bytes of base64, and what they may take.
    bytes: usize,
    most: usize,
    /// Which ones are left out from now on, by what they hash to.
    forgotten: HashSet<u64>,
}

/// How much all images of a conversation may take, in base64: each goes along with every request.
const MAX_IMAGES: usize = 24 << 20;

/// What stands in for an image that is left out for its size.
const LEFT_OUT: &str = "[an image was left out here, because the model's server takes none so large]";

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
            images: Images { side: endpoint.image_side(), bytes: 0, most: MAX_IMAGES, forgotten: HashSet::new() },
        }
    }

    /// Appends an item. Returns its position: items are counted from 0 over the whole conversation, also those that a
    /// compaction has dropped. Its mark is one of them, and empties the request.
    pub(crate) fn push(&mut self, item: &Value) -> usize {
        self.items += 1;
        if is_compaction(item) {
            self.encoder = self.empty.clone();
            self.meter.reset();
            self.images.bytes = 0;
            return self.items - 1;
        }
        if let (true, Some(id)) = (is_by_model(item), item["call_id"].as_str()) {
            self.call_ids.insert(id.to_owned());
        }
        let item = self.images.fitting(item);
        self.images.bytes += images_of(&item).map(str::len).sum::<usize>();
        self.encoder.push(&item);
        self.meter.push(&item);
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
    /// server's names of items, which belong to that. Some servers want thoughts before a call whose result is the last
    /// word, unless their model `stops_thinking`.
    pub(crate) fn forget_reasoning(&mut self, items: &[Value], stops_thinking: bool) {
        if stops_thinking {
            self.empty.stop_thinking();
        }
        self.encoder = self.empty.clone();
        for item in items.iter().filter(|item| item["type"] != "reasoning") {
            let mut item = self.images.fitting(item).into_owned();
            if let Some(fields) = item.as_object_mut() {
                fields.remove("id");
            }
            self.encoder.push(&item);
        }
    }

    /// Whether there is an image in the request.
    pub(crate) const fn has_images(&self) -> bool {
        self.images.bytes > 0
    }

    /// How much more the images may take, in bytes of base64.
    pub(crate) const fn image_room(&self) -> usize {
        self.images.most.saturating_sub(self.images.bytes)
    }

    /// Writes the request anew from these items, which it is of, without the images it has so far. Those to come may take
    /// half of what these took.
    pub(crate) fn forget_images(&mut self, items: &[Value]) {
        self.images.forgotten.extend(items.iter().flat_map(images_of).map(hash));
        self.images.most = self.images.bytes / 2;
        self.images.bytes = 0;
        self.encoder = self.empty.clone();
        for item in items {
            self.encoder.push(&self.images.fitting(item));
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
        items.iter().for_each(|item| encoder.push(&self.images.fitting(item)));
        Bytes::from(encoder.request())
    }

    /// The request that asks for what comes next.
    pub(crate) fn request(&self) -> Bytes {
        Bytes::from(self.encoder.request())
    }
}

impl Images {
    /// The item with a text in the place of each image that does not fit. What a model that sees none gets instead is the
    /// encoders'.
    fn fitting<'a>(&self, item: &'a Value) -> Cow<'a, Value> {
        let Some(side) = self.side else { return Cow::Borrowed(item) };
        let is_left_out = |url: &str| {
            self.forgotten.contains(&hash(url))
                || tokens::image_size(url).is_some_and(|(width, height)| width.max(height) > side)
        };
        if !images_of(item).any(is_left_out) {
            return Cow::Borrowed(item);
        }
        let mut item = item.clone();
        for field in ["content", "output"] {
            for part in item.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                if part["image_url"].as_str().is_some_and(is_left_out) {
                    *part = json!({ "type": "input_text", "text": LEFT_OUT });
                }
            }
        }
        Cow::Owned(item)
    }
}

/// The images of an item, as data URLs.
fn images_of(item: &Value) -> impl Iterator<Item = &str> {
    let parts = ["content", "output"].into_iter().filter_map(|field| item[field].as_array()).flatten();
    parts.filter_map(|part| part["image_url"].as_str())
}

fn hash(url: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    url.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

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

    #[test]
    fn an_image_that_the_next_model_takes_none_of_is_left_out_and_others_count() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend(9000_u32.to_be_bytes());
        png.extend(10_u32.to_be_bytes());
        png.resize(64, 0);
        let url = |bytes: &[u8]| format!("data:image/png;base64,{}", STANDARD.encode(bytes));
        let wide = url(&png);
        png[18..20].copy_from_slice(&[0, 9]);
        let small = url(&png);
        let image = |url: &str| json!({"type": "input_image", "image_url": url});
        let item = json!({"type": "message", "role": "user", "content": [image(&wide), image(&small)]});

        for protocol in PROTOCOLS {
            let base = "http://localhost/v1".parse().expect("a URL");
            let endpoint = ModelEndpoint { images: true, ..ModelEndpoint::speaking(protocol, "m", base, None) };
            let mut conversation = Conversation::new(&endpoint, "be good", &[], "key");
            conversation.push(&item);

            let request = String::from_utf8(conversation.request().to_vec()).expect("UTF-8");
            let has = |url: &str| request.contains(url.rsplit(',').next().expect("its data"));
            assert!(has(&small) && !has(&wide) && request.contains(LEFT_OUT), "{protocol:?}: {request}");
            assert_eq!(conversation.image_room(), MAX_IMAGES - small.len());

            conversation.forget_images(std::slice::from_ref(&item));
            assert!(!conversation.has_images() && conversation.image_room() == small.len() / 2);
            conversation.push(&json!({"type": "context_compacted"}));
            conversation.push(&item);
            assert!(!conversation.has_images(), "it stays left out");
        }
    }
}

//! The conversation as the model gets it again and again: every item is serialised once and appended, so each request
//! begins with the bytes of the one before, which is what prompt caches go by, and costs no more than copying it.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{ModelEndpoint, Reasoning};

/// The body of the next request, but for its end, and how many items are in it.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// Everything up to and including the last item.
    body: String,
    items: usize,
}

impl Conversation {
    /// A conversation without an item.
    pub(crate) fn new(endpoint: &ModelEndpoint, instructions: &str, tools: &[Value], cache_key: &str) -> Self {
        let mut fields = json!({
            "model": endpoint.name,
            "instructions": instructions,
            "tools": tools,
            "tool_choice": "auto",
            "parallel_tool_calls": true,
            "store": false,
            "stream": true,
            "prompt_cache_key": cache_key,
        });
        match &endpoint.reasoning {
            Reasoning::Off => {}
            Reasoning::On { effort } => {
                fields["include"] = json!(["reasoning.encrypted_content"]);
                fields["reasoning"] = json!({ "summary": "auto" });
                if let Some(effort) = effort {
                    fields["reasoning"]["effort"] = json!(effort);
                }
            }
        }
        let mut body = fields.to_string();
        body.pop();
        body.push_str(r#","input":["#);
        Self { body, items: 0 }
    }

    /// Appends an item. Returns its position: items are counted from 0 over the whole conversation.
    pub(crate) fn push(&mut self, item: &Value) -> usize {
        if self.items > 0 {
            self.body.push(',');
        }
        self.body.push_str(&item.to_string());
        self.items += 1;
        self.items - 1
    }

    /// The request that asks for what comes next.
    pub(crate) fn request(&self) -> Bytes {
        let mut body = Vec::with_capacity(self.body.len() + 2);
        body.extend_from_slice(self.body.as_bytes());
        body.extend_from_slice(b"]}");
        Bytes::from(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_begins_with_the_one_before() {
        let endpoint = ModelEndpoint::new("gpt-5", "http://localhost/v1".parse().expect("a URL"), None);
        let mut conversation = Conversation::new(&endpoint, "be good", &[], "key");
        conversation.push(&json!({"role": "user", "content": "a"}));
        let first = conversation.request();
        conversation.push(&json!({"role": "assistant", "content": "b"}));
        let second = conversation.request();

        assert_eq!(second[..first.len() - 2], first[..first.len() - 2]);
        let body: Value = serde_json::from_slice(&second).expect("JSON");
        assert_eq!(body["input"].as_array().map(Vec::len), Some(2));
        assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
        assert_eq!((&body["store"], &body["stream"]), (&json!(false), &json!(true)));
    }

    #[test]
    fn a_model_that_does_not_reason_is_sent_nothing_about_it() {
        let endpoint = ModelEndpoint::new("qwen3-coder", "http://localhost/v1".parse().expect("a URL"), None);
        let conversation = Conversation::new(&endpoint, "be good", &[], "key");

        let body: Value = serde_json::from_slice(&conversation.request()).expect("JSON");

        assert_eq!((&body["include"], &body["reasoning"]), (&Value::Null, &Value::Null));
    }
}

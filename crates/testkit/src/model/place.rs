//! Finds out where in the script a request stands, from nothing but the request.

use serde_json::Value;

use super::{Conversation, Script, Step};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which conversation.
    pub(super) conversation: usize,
    /// Which of its steps.
    pub(super) step: usize,
}

impl Script {
    /// The place of a request with this input; `None` when no conversation is for it.
    pub(super) fn place(&self, input: &[Value]) -> Option<Place> {
        for (at, item) in input.iter().enumerate().rev() {
            let Some(text) = person_says(item) else { continue };
            if let Some(conversation) = self.conversations.iter().position(|known| text.contains(&known.when)) {
                return Some(Place { conversation, step: answers(&input[at..]) });
            }
        }
        None
    }

    /// The step at a place, if the script goes on so far.
    pub(super) fn step(&self, place: Place) -> Option<&Step> {
        self.conversations.get(place.conversation).and_then(|known: &Conversation| known.steps.get(place.step))
    }
}

/// What a person, or the program for a person, says in this item. Frames such as `<environment_context>` do not count.
fn person_says(item: &Value) -> Option<String> {
    if item["role"] != "user" {
        return None;
    }
    let text = match &item["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => return None,
    };
    (!text.starts_with('<') && !text.starts_with("# AGENTS.md")).then_some(text)
}

/// How many answers of the model there are: groups of its items with something of ours between them.
fn answers(input: &[Value]) -> usize {
    let by_model = |item: &Value| {
        item["role"] == "assistant"
            || matches!(item["type"].as_str(), Some("reasoning" | "function_call" | "custom_tool_call"))
    };
    input.chunk_by(|one, next| by_model(one) == by_model(next)).filter(|group| by_model(&group[0])).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Reply;

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    fn call_and_output() -> [Value; 3] {
        [
            json!({"type": "reasoning"}),
            json!({"type": "function_call", "call_id": "1"}),
            json!({"type": "function_call_output", "call_id": "1"}),
        ]
    }

    #[test]
    fn a_step_is_the_number_of_answers_since_the_prompt() {
        let script = Script::default().when("fix", [Reply::message("a")]).when("", [Reply::message("b")]);
        let mut input = vec![user("<environment_context>fix"), user("please fix it")];
        assert_eq!(script.place(&input), Some(Place { conversation: 0, step: 0 }));

        input.extend(call_and_output());
        input.extend(call_and_output());
        assert_eq!(script.place(&input), Some(Place { conversation: 0, step: 2 }));

        input.push(user("and now something else"));
        assert_eq!(script.place(&input), Some(Place { conversation: 1, step: 0 }));
    }

    #[test]
    fn a_prompt_nobody_waits_for_has_no_place() {
        assert_eq!(Script::default().when("fix", [Reply::message("a")]).place(&[user("hello")]), None);
    }
}

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

/// How many answers of the model there are. Ids tell them apart wherever a client puts the results; where it sends no
/// ids, something of ours stands between two answers.
fn answers(input: &[Value]) -> usize {
    let mut answers = 0;
    let mut last_id = None;
    let mut follows_ours = true;
    for item in input {
        let by_model = item["role"] == "assistant"
            || matches!(item["type"].as_str(), Some("reasoning" | "function_call" | "custom_tool_call"));
        if by_model {
            let id = answer_id(item);
            if if id.is_some() { id != last_id } else { follows_ours } {
                answers += 1;
            }
            last_id = id.or(last_id);
        }
        follows_ours = !by_model;
    }
    answers
}

/// What the ids of all items of one answer have in common: `2` in `call_2_0`.
fn answer_id(item: &Value) -> Option<&str> {
    let id = item["call_id"].as_str().or_else(|| item["id"].as_str())?;
    id.split('_').nth(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Reply;

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    /// One answer with two calls, their results in between.
    fn answer(id: usize) -> [Value; 5] {
        [
            json!({"type": "reasoning", "id": format!("rs_{id}_0")}),
            json!({"type": "function_call", "call_id": format!("call_{id}_1")}),
            json!({"type": "function_call_output", "call_id": format!("call_{id}_1")}),
            json!({"type": "function_call", "call_id": format!("call_{id}_2")}),
            json!({"type": "function_call_output", "call_id": format!("call_{id}_2")}),
        ]
    }

    #[test]
    fn a_step_is_the_number_of_answers_since_the_prompt() {
        let script = Script::default().when("fix", [Reply::message("a")]).when("", [Reply::message("b")]);
        let mut input = vec![user("<environment_context>fix"), user("please fix it")];
        assert_eq!(script.place(&input), Some(Place { conversation: 0, step: 0 }));

        input.extend(answer(2));
        input.extend(answer(7));
        assert_eq!(script.place(&input), Some(Place { conversation: 0, step: 2 }));

        input.push(user("and now something else"));
        assert_eq!(script.place(&input), Some(Place { conversation: 1, step: 0 }));
    }

    #[test]
    fn a_prompt_nobody_waits_for_has_no_place() {
        assert_eq!(Script::default().when("fix", [Reply::message("a")]).place(&[user("hello")]), None);
    }
}

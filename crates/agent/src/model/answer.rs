//! An answer, and the draft of one that every decoder fills.

use carrel_domain::Usage;
use serde_json::{Value, json};

use super::Failure;
use super::item::{Call, message_text};

/// More items than any model sends; a server that sends more is broken.
pub(super) const MAX_ITEMS: usize = 1024;

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The server's id of it.
    pub(crate) id: String,
    /// Its items, whole, in order, in the form of the Responses API.
    pub(crate) items: Vec<Value>,
    /// What it cost, if the server said so.
    pub(crate) usage: Option<Usage>,
    /// Why it is not all that the model had to say, if so. There is at least one tool call to go on with.
    pub(crate) cut_short: Option<String>,
    /// Whether the server wants to be asked again to go on, although the model has called nothing.
    pub(crate) is_paused: bool,
}

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) items: Vec<Value>,
    pub(super) usage: Option<Usage>,
    /// Why the model stopped before it was done, if it did.
    pub(super) incomplete: Option<Failure>,
    pub(super) is_paused: bool,
    /// Whether the server itself said that the answer came to nothing.
    disowned: bool,
}

impl Draft {
    /// Adds an item, and makes it whole if it is a call.
    pub(super) fn push(&mut self, mut item: Value) -> Result<(), Failure> {
        if self.items.len() == MAX_ITEMS {
            return Err(Failure::cut(format!("it has more than {MAX_ITEMS} items")));
        }
        let field = match item["type"].as_str() {
            None => return Err(Failure::cut("it has an item without a type".to_owned())),
            Some("function_call") => Some("arguments"),
            Some("custom_tool_call") => Some("input"),
            Some(_) => None,
        };
        if let Some(field) = field {
            complete_call(&mut item, field)?;
        }
        self.items.push(item);
        Ok(())
    }

    /// The server says that the answer came to nothing.
    pub(super) fn disown(&mut self, error: &Value) -> Failure {
        self.disowned = true;
        Failure::reported(error)
    }

    /// The answer, now that its end has been seen.
    pub(super) fn finish(mut self) -> Result<Answer, Failure> {
        if let Some(failure) = self.incomplete.take() {
            return self.salvage(failure);
        }
        let says_something = self
            .items
            .iter()
            .any(|item| Call::of(item).is_some() || message_text(item).is_some_and(|text| !text.trim().is_empty()));
        let goes_on = self.is_paused && !self.items.is_empty();
        if !says_something && !goes_on {
            return Err(Failure::cut("it has neither a message nor a tool call".to_owned()));
        }
        Ok(self.into_answer(None))
    }

    /// What can be gone on with although the answer broke off: everything up to its last whole tool call. Without one
    /// there is nothing to go on with.
    pub(super) fn salvage(mut self, failure: Failure) -> Result<Answer, Failure> {
        match self.items.iter().rposition(|item| Call::of(item).is_some()) {
            Some(last) if !self.disowned => {
                self.items.truncate(last + 1);
                Ok(self.into_answer(Some(failure.reason)))
            }
            _ => Err(failure),
        }
    }

    fn into_answer(self, cut_short: Option<String>) -> Answer {
        let Self { id, items, usage, is_paused, .. } = self;
        Answer { id, items, usage, is_paused: is_paused && cut_short.is_none(), cut_short }
    }
}

/// Makes a call whole: arguments as text even when a server sends an object, and the id of the item when the call has
/// none of its own. The conversation names what has no name even then.
fn complete_call(item: &mut Value, field: &str) -> Result<(), Failure> {
    if item["name"].as_str().is_none_or(str::is_empty) {
        return Err(Failure::cut("it has a tool call without a name".to_owned()));
    }
    match &item[field] {
        Value::String(_) => {}
        Value::Null => item[field] = json!("{}"),
        given => item[field] = json!(given.to_string()),
    }
    if item["call_id"].as_str().is_none_or(str::is_empty) {
        item["call_id"] = json!(item["id"].as_str().unwrap_or_default());
    }
    Ok(())
}

/// Takes a field out of what should be an object: indexing one that is not would panic.
pub(super) fn take(value: &mut Value, field: &str) -> Value {
    value.get_mut(field).map(Value::take).unwrap_or_default()
}

/// The whole number in a field, 0 when there is none.
pub(super) fn count(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_f64().map(|number| number as u64)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call_id: &str) -> Value {
        json!({"type": "function_call", "call_id": call_id, "name": "x", "arguments": "{}"})
    }

    fn draft(items: &[Value]) -> Draft {
        let mut draft = Draft::default();
        for item in items {
            draft.push(item.clone()).expect("an item");
        }
        draft
    }

    #[test]
    fn an_answer_that_breaks_off_after_a_call_goes_on_with_the_call() {
        let reasoning = json!({"type": "reasoning", "summary": []});
        let cut = Failure::cut("test".to_owned());

        let answer = draft(&[reasoning.clone(), call("a"), reasoning.clone()]).salvage(cut).expect("an answer");

        assert_eq!(answer.items, [reasoning, call("a")]);
        assert!(answer.cut_short.is_some());
    }

    #[test]
    fn an_answer_that_says_nothing_is_none() {
        let reasoning = json!({"type": "reasoning", "summary": []});

        assert!(draft(&[]).finish().is_err());
        assert!(draft(std::slice::from_ref(&reasoning)).finish().is_err());
        let paused = Draft { is_paused: true, ..draft(&[reasoning]) };
        assert!(paused.finish().expect("it goes on").is_paused);
    }

    #[test]
    fn a_call_is_made_whole() {
        let mut draft = draft(&[json!({"type": "function_call", "id": "fc_1", "name": "x", "arguments": {"a": 1}})]);

        assert_eq!(draft.items[0]["call_id"], "fc_1");
        assert_eq!(draft.items[0]["arguments"], r#"{"a":1}"#);
        assert!(draft.push(json!({"type": "function_call", "name": ""})).is_err());
    }

    #[test]
    fn what_the_server_disowned_is_not_gone_on_with() {
        let mut draft = draft(&[call("a")]);
        let failure = draft.disown(&json!({"message": "no"}));

        assert!(draft.salvage(failure).is_err());
    }
}

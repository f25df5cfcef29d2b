//! An answer, and the draft of one that every decoder fills.

use carrel_domain::Usage;
use serde_json::{Value, json};

use super::Failure;
use super::failure::Again;
use super::item::{Call, CallKind, message_text};

/// More items than any model sends; a server that sends more is broken.
pub(super) const MAX_ITEMS: usize = 1024;

/// The longest name of a tool that every server takes.
const MAX_NAME: usize = 64;

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
    /// What the model has to be told before it goes on, beside the results of its calls.
    pub(crate) remark: Option<Remark>,
}

/// What was wrong with an answer, though it came whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remark {
    /// There was nothing in it.
    Empty,
    /// It was cut off at the limit for its length. Calls that were cut are not in it.
    TooLong,
}

impl Remark {
    /// In words for the model.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Empty => "Your last answer was empty. Go on with the task; if it is done, give your final answer.",
            Self::TooLong => {
                "Your last answer was cut off at the limit for its length; a tool call that was cut has not been made. \
                 Go on in smaller pieces: write a large file or patch in several calls. If it was your final answer, \
                 give it again, shorter."
            }
        }
    }
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
    /// Whether the server itself said that the answer came to nothing, or is to come to nothing.
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
            // Sent once more: what has been called is not called twice.
            let call = Call::of(&item).filter(|call| !call.call_id.is_empty());
            if call.is_some() && self.items.iter().any(|known| Call::of(known) == call) {
                return Ok(());
            }
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
            self.items.retain(is_whole);
            if failure.again == Again::Shorter {
                return Ok(self.told(Remark::TooLong, Some(failure.reason)));
            }
            self.disowned |= failure.again == Again::Declined;
            return self.salvage(failure);
        }
        if let Some(why) = refusal_in(&self.items) {
            return Err(Failure { usage: self.usage, ..Failure::refusal(&why) });
        }
        let says_something = self
            .items
            .iter()
            .any(|item| Call::of(item).is_some() || message_text(item).is_some_and(|text| !text.trim().is_empty()));
        let goes_on = self.is_paused && !self.items.is_empty();
        if !says_something && !goes_on {
            return Ok(self.told(Remark::Empty, None));
        }
        Ok(self.into_answer(None))
    }

    /// What can be gone on with although the answer broke off: everything up to its last whole tool call. Without one
    /// there is nothing to go on with.
    pub(super) fn salvage(mut self, mut failure: Failure) -> Result<Answer, Failure> {
        match self.items.iter().rposition(|item| Call::of(item).is_some()) {
            Some(last) if !self.disowned => {
                self.items.truncate(last + 1);
                Ok(self.into_answer(Some(failure.reason)))
            }
            _ => {
                failure.usage = self.usage;
                Err(failure)
            }
        }
    }

    /// The answer that the model is told something about. Thoughts that led to nothing are not sent back: servers refuse
    /// them alone.
    fn told(mut self, remark: Remark, cut_short: Option<String>) -> Answer {
        let end = self.items.iter().rposition(|item| item["type"] != "reasoning").map_or(0, |last| last + 1);
        self.items.truncate(end);
        Answer { remark: Some(remark), ..self.into_answer(cut_short) }
    }

    fn into_answer(self, cut_short: Option<String>) -> Answer {
        let Self { id, items, usage, is_paused, .. } = self;
        Answer { id, items, usage, is_paused: is_paused && cut_short.is_none(), cut_short, remark: None }
    }
}

/// Why a model does not want to go on, if that is all that it says.
fn refusal_in(items: &[Value]) -> Option<String> {
    let said: Vec<String> = items.iter().filter_map(message_text).filter(|text| !text.trim().is_empty()).collect();
    let parts = items.iter().filter_map(|item| item["content"].as_array().filter(|_| item["type"] == "message"));
    let refused: Vec<&str> = parts.flatten().filter_map(|part| part["refusal"].as_str()).collect();
    let is_all = said.concat() == refused.concat() && !items.iter().any(|item| Call::of(item).is_some());
    (is_all && !said.is_empty()).then(|| refused.join(" "))
}

/// Whether all of an item of an answer that was too long has come: the call at its end may be cut in the middle.
fn is_whole(item: &Value) -> bool {
    let Some(call) = Call::of(item) else { return true };
    let is_json = || matches!(serde_json::from_str(&call.input), Ok(Value::Object(_)));
    item["status"] != "incomplete" && (call.kind == CallKind::Custom || is_json())
}

/// Makes a call whole: arguments as text even when a server sends an object, and the id of the item when the call has
/// none of its own. The conversation names what has no name even then.
fn complete_call(item: &mut Value, field: &str) -> Result<(), Failure> {
    let Some(name) = item["name"].as_str().filter(|name| !name.is_empty()).map(plain_name) else {
        return Err(Failure::cut("it has a tool call without a name".to_owned()));
    };
    item["name"] = json!(name);
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

/// A tool's name as every server takes it back. Models that were trained on another form let some of it through:
/// `functions.exec_command`, `exec_command<|channel|>json`.
fn plain_name(name: &str) -> String {
    let name = name.strip_prefix("functions.").unwrap_or(name);
    let name = name.split_once("<|").map_or(name, |(name, _)| name).trim();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let plain: String = name.chars().take(MAX_NAME).map(|one| if is_plain(one) { one } else { '_' }).collect();
    if plain.is_empty() { "_".to_owned() } else { plain }
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
    fn a_model_that_says_nothing_is_told_so() {
        let reasoning = json!({"type": "reasoning", "summary": []});

        for items in [&[][..], std::slice::from_ref(&reasoning)] {
            let answer = draft(items).finish().expect("an answer");
            assert_eq!((answer.remark, answer.items), (Some(Remark::Empty), Vec::new()));
        }
        let paused = Draft { is_paused: true, ..draft(&[reasoning]) };
        assert!(paused.finish().expect("it goes on").is_paused);
    }

    #[test]
    fn a_call_that_is_sent_twice_is_one() {
        assert_eq!(draft(&[call("a"), call("b"), call("a")]).items, [call("a"), call("b")]);
    }

    #[test]
    fn a_call_is_made_whole() {
        let mut draft = draft(&[json!({"type": "function_call", "id": "fc_1", "name": "x", "arguments": {"a": 1}})]);

        assert_eq!(draft.items[0]["call_id"], "fc_1");
        assert_eq!(draft.items[0]["arguments"], r#"{"a":1}"#);
        assert!(draft.push(json!({"type": "function_call", "name": ""})).is_err());
        for odd in ["functions.exec_command", "exec_command<|channel|>json", " exec_command"] {
            assert_eq!(plain_name(odd), "exec_command");
        }
        assert_eq!((plain_name("a b.ü").as_str(), plain_name(&"x".repeat(99)).len()), ("a_b__", 64));
    }

    #[test]
    fn an_answer_that_was_too_long_keeps_what_came_whole_and_the_model_is_told() {
        let cut = json!({"type": "function_call", "call_id": "b", "name": "x", "arguments": "{\"a\": \"b"});
        let marked =
            json!({"type": "custom_tool_call", "call_id": "c", "name": "x", "input": "*** B", "status": "incomplete"});
        let said = json!({"type": "message", "role": "assistant", "content": "I will"});
        let too_long = |items: &[Value]| {
            let incomplete = Some(Failure::incomplete("max_output_tokens"));
            Draft { incomplete, ..draft(items) }.finish().expect("an answer")
        };

        assert_eq!(too_long(&[call("a"), cut.clone()]).items, [call("a")]);
        assert_eq!(too_long(&[said.clone(), marked]).items, [said]);
        let nothing = too_long(&[json!({"type": "reasoning", "summary": []}), cut]);
        assert_eq!((nothing.items, nothing.remark), (Vec::new(), Some(Remark::TooLong)));
        assert!(nothing.cut_short.is_some_and(|reason| reason.contains("max_output_tokens")));
    }

    #[test]
    fn what_a_failed_answer_cost_is_kept() {
        let usage = Some(Usage { input_tokens: 7, ..Usage::default() });

        let failure = Draft { usage, incomplete: Some(Failure::refusal("")), ..Draft::default() }.finish();

        assert_eq!(failure.expect_err("a refusal").usage, usage);
    }

    #[test]
    fn a_refusal_that_is_all_there_is_fails_and_one_beside_work_does_not() {
        let refusal = json!({"type": "refusal", "refusal": "I cannot help with that."});
        let text = json!({"type": "output_text", "text": "Done, but for one thing."});
        let says = |parts: &[&Value]| json!({"type": "message", "role": "assistant", "content": parts});

        let refused = draft(&[says(&[&refusal])]).finish().expect_err("a refusal");
        assert_eq!(refused.again, Again::Declined);
        assert!(refused.reason.ends_with(": I cannot help with that."), "{}", refused.reason);
        for items in [vec![says(&[&text, &refusal])], vec![says(&[&refusal]), call("a")], vec![says(&[&text])]] {
            assert!(draft(&items).finish().is_ok(), "{items:?}");
        }
    }

    #[test]
    fn what_the_server_disowned_is_not_gone_on_with() {
        let mut draft = draft(&[call("a")]);
        let failure = draft.disown(&json!({"message": "no"}));

        assert!(draft.salvage(failure).is_err());
    }

    #[test]
    fn what_a_model_had_begun_before_it_refused_is_not_done() {
        for declined in [Failure::refusal("no"), Failure::incomplete("content_filter")] {
            let refused = Draft { incomplete: Some(declined), ..draft(&[call("a")]) }.finish();
            assert_eq!(refused.expect_err("a refusal").again, Again::Declined);
        }
    }
}

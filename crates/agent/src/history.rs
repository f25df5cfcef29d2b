//! The conversation of earlier turns, made fit to go on from. An attempt may have been cancelled or have failed at any
//! point, and servers refuse a call without its result, or reasoning without what it led to.

use serde_json::Value;

use crate::model::{Call, is_by_model, is_compaction};

/// What the model is told about a call that was never finished.
const UNFINISHED: &str = "The attempt ended before this call was finished; what it did or printed is not known.";

/// The items with every call answered, and without reasoning that leads nowhere.
pub(crate) fn settled(items: Vec<Value>) -> Vec<Value> {
    let mut settled: Vec<Value> = Vec::with_capacity(items.len());
    let mut open: Vec<Call> = Vec::new();
    for item in items {
        if !is_by_model(&item) {
            drop_trailing_reasoning(&mut settled);
        }
        if item["role"] == "user" || is_compaction(&item) {
            settled.extend(open.drain(..).map(|call| call.output(UNFINISHED)));
        } else if let Some(call) = Call::of(&item) {
            open.push(call);
        } else if let Some(call_id) = item["call_id"].as_str() {
            match open.iter().position(|call| call.call_id == call_id) {
                Some(at) => drop(open.remove(at)),
                // A result nobody asked for.
                None => continue,
            }
        }
        settled.push(item);
    }
    drop_trailing_reasoning(&mut settled);
    settled.extend(open.into_iter().map(|call| call.output(UNFINISHED)));
    settled
}

/// The items that the model is still shown: those behind the last compaction.
pub(crate) fn live(items: &[Value]) -> &[Value] {
    let mark = items.iter().rposition(is_compaction);
    &items[mark.map_or(0, |at| at + 1)..]
}

fn drop_trailing_reasoning(items: &mut Vec<Value>) {
    while items.last().is_some_and(|item| item["type"] == "reasoning") {
        items.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "call_id": id, "name": "x", "arguments": "{}"})
    }

    fn output(id: &str, text: &str) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": text})
    }

    fn user() -> Value {
        json!({"type": "message", "role": "user", "content": "a"})
    }

    #[test]
    fn a_whole_conversation_stays_as_it_is() {
        let items =
            vec![user(), json!({"type": "reasoning"}), call("a"), call("b"), output("b", "1"), output("a", "2")];

        assert_eq!(settled(items.clone()), items);
    }

    #[test]
    fn calls_that_were_cut_off_are_answered_before_the_next_prompt() {
        let items = vec![user(), call("a"), call("b"), output("b", "1"), user(), call("c")];

        assert_eq!(
            settled(items),
            [
                user(),
                call("a"),
                call("b"),
                output("b", "1"),
                output("a", UNFINISHED),
                user(),
                call("c"),
                output("c", UNFINISHED)
            ]
        );
    }

    #[test]
    fn what_the_model_is_shown_begins_behind_the_last_compaction() {
        let mark = || json!({"type": "context_compacted"});
        let items = settled(vec![user(), call("a"), mark(), user(), mark(), user(), call("b"), output("b", "1")]);

        assert_eq!(items[2], output("a", UNFINISHED));
        assert_eq!(live(&items), [user(), call("b"), output("b", "1")]);
        assert_eq!(live(&items[..3]), [user(), call("a"), output("a", UNFINISHED)]);
    }

    #[test]
    fn reasoning_that_leads_nowhere_and_results_of_nothing_are_left_out() {
        let items = vec![user(), json!({"type": "reasoning"}), user(), output("z", "1"), json!({"type": "reasoning"})];

        assert_eq!(settled(items), [user(), user()]);
    }
}

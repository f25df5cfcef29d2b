//! The Responses API: items come whole, in `response.output_item.done` or with the end.

use carrel_domain::Usage;
use serde_json::Value;

use super::super::Failure;
use super::super::answer::{Answer, Draft, count, take};

#[derive(Debug, Default)]
pub(in super::super) struct Decoder {
    draft: Draft,
}

impl Decoder {
    pub(super) fn event(&mut self, mut event: Value) -> Result<bool, Failure> {
        match event["type"].as_str().unwrap_or_default() {
            "response.output_item.done" => self.draft.push(take(&mut event, "item"))?,
            kind @ ("response.completed" | "response.done" | "response.incomplete") => {
                if kind == "response.incomplete" {
                    self.draft.incomplete = Some(Failure::incomplete("no reason given"));
                }
                self.end(take(&mut event, "response"))?;
                return Ok(true);
            }
            "response.failed" => return Err(self.draft.disown(&event["response"]["error"])),
            // Some servers nest what OpenAI's send flat, and some send nothing but the error.
            _ if event["error"].is_object() => return Err(self.draft.disown(&event["error"])),
            "error" => return Err(self.draft.disown(&event)),
            _ => {}
        }
        Ok(false)
    }

    pub(super) fn whole(mut self, response: Value) -> Result<Answer, Failure> {
        if response["error"].is_object() {
            return Err(self.draft.disown(&response["error"]));
        }
        if !response["output"].is_array() {
            return Err(Failure::cut("it has no output".to_owned()));
        }
        self.end(response)?;
        self.finish()
    }

    pub(super) fn finish(self) -> Result<Answer, Failure> {
        self.draft.finish()
    }

    pub(super) fn salvage(self, failure: Failure) -> Result<Answer, Failure> {
        self.draft.salvage(failure)
    }

    fn end(&mut self, mut response: Value) -> Result<(), Failure> {
        self.draft.id = response["id"].as_str().unwrap_or_default().to_owned();
        self.draft.usage = usage(&response["usage"]);
        // Some say so in an event that announces a whole answer.
        if let Some(reason) = response["incomplete_details"]["reason"].as_str() {
            self.draft.incomplete = Some(Failure::incomplete(reason));
        }
        // The model has said what it will do next, and is not done.
        self.draft.is_paused |= response["end_turn"] == false;
        if self.draft.items.is_empty()
            && let Value::Array(items) = take(&mut response, "output")
        {
            for item in items {
                self.draft.push(item)?;
            }
        }
        Ok(())
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    (count(&usage["input_tokens"]) > 0).then(|| Usage {
        input_tokens: count(&usage["input_tokens"]),
        cached_input_tokens: count(&usage["input_tokens_details"]["cached_tokens"]),
        cache_write_tokens: count(&usage["input_tokens_details"]["cache_write_tokens"]),
        output_tokens: count(&usage["output_tokens"]),
        reasoning_tokens: count(&usage["output_tokens_details"]["reasoning_tokens"]),
        requests: 1,
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::answer::Remark;

    fn feed(events: &[Value]) -> Result<Answer, Failure> {
        let mut decoder = Decoder::default();
        for event in events {
            match decoder.event(event.clone()) {
                Ok(false) => {}
                Ok(true) => return decoder.finish(),
                Err(failure) => return decoder.salvage(failure),
            }
        }
        decoder.salvage(Failure::cut("test".to_owned()))
    }

    fn done(item: Value) -> Value {
        json!({"type": "response.output_item.done", "item": item})
    }

    fn message() -> Value {
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]})
    }

    #[test]
    fn the_least_a_server_may_send_is_an_answer() {
        let answer = feed(&[
            json!({"type": "response.unheard_of", "x": [1]}),
            json!({"nothing": true}),
            done(message()),
            json!({"type": "response.completed", "response": {"id": "r1"}}),
        ])
        .expect("an answer");

        assert_eq!((answer.id.as_str(), answer.items, answer.usage), ("r1", vec![message()], None));
        assert!(answer.cut_short.is_none() && !answer.is_paused);
    }

    #[test]
    fn items_may_come_with_the_end_only() {
        let end = json!({"type": "response.completed", "response": {"id": "r", "output": [message()]}});

        assert_eq!(feed(&[end]).expect("an answer").items, [message()]);
    }

    #[test]
    fn an_answer_may_come_in_one_piece() {
        let whole = |body: Value| Decoder::default().whole(body);

        let answer = whole(json!({"id": "r", "error": null, "output": [message()]})).expect("an answer");
        assert_eq!((answer.id.as_str(), answer.items), ("r", vec![message()]));
        assert!(whole(json!({"error": {"message": "no"}})).is_err());
        assert!(whole(json!({"hello": "world"})).is_err());
    }

    #[test]
    fn an_answer_that_was_too_long_is_one_whatever_the_event_is_called() {
        let details = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}});
        for kind in ["response.incomplete", "response.completed"] {
            let answer = feed(&[done(message()), json!({"type": kind, "response": details})]).expect("an answer");
            assert_eq!((answer.remark, answer.items), (Some(Remark::TooLong), vec![message()]), "{kind}");
        }
    }

    #[test]
    fn a_turn_that_has_not_ended_is_gone_on_with() {
        let end = |goes_on: Value| json!({"type": "response.completed", "response": {"id": "r", "end_turn": goes_on}});
        let is_paused = |end: Value| feed(&[done(message()), end]).expect("an answer").is_paused;

        assert!(is_paused(end(json!(false))) && !is_paused(end(json!(true))) && !is_paused(end(Value::Null)));
    }

    #[test]
    fn an_answer_that_breaks_off_without_a_call_is_none() {
        assert!(feed(&[done(message())]).is_err());
    }

    #[test]
    fn an_error_ends_it_however_it_is_wrapped() {
        for event in [
            json!({"type": "error", "code": "server_error", "message": "no"}),
            json!({"type": "error", "error": {"message": "no"}}),
            json!({"error": {"message": "no"}}),
            json!({"type": "response.failed", "response": {"error": {"message": "no"}}}),
        ] {
            let failure = feed(&[done(message()), event.clone()]).expect_err("a failure");
            assert!(failure.reason.ends_with(": no"), "{event}: {}", failure.reason);
        }
    }
}

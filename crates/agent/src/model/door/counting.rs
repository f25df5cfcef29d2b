//! Reads an answer, beside handing it on, for what it cost.

use carrel_domain::Usage;

use super::super::Failure;
use super::super::decode::Decoder;
use super::super::events::{EventDecoder, MAX_EVENT_BYTES};
use crate::Protocol;

/// Bytes of text that make a token, where a server does not count.
pub(super) const BYTES_OF_A_TOKEN: usize = 4;

/// Bytes of an event that are not text: names, ids, numbers.
const BYTES_AROUND: usize = 200;

/// What an answer cost, by its own word.
pub(super) struct Counted {
    pub(super) id: String,
    usage: Option<Usage>,
    /// Whether the answer has come to its end, so that its count is the last.
    is_complete: bool,
    /// What it may have been, in tokens.
    output_estimate: u64,
}

/// Reads an answer for what it cost. One that cannot be read goes on all the same: it is the agent's to understand.
pub(super) struct Counting {
    decoder: Option<Decoder>,
    events: EventDecoder,
    /// All of it, where it does not come in events.
    whole: Option<Vec<u8>>,
    bytes: usize,
    seen_events: usize,
    has_ended: bool,
}

impl Counted {
    /// What it is put down as, where so many tokens were sent: the server's word; of an answer that was cut, the greater of
    /// that and the estimate.
    pub(super) fn usage(&self, sent_tokens: u64) -> Usage {
        let output_tokens = self.output_estimate;
        let estimate =
            Usage { input_tokens: sent_tokens, output_tokens, requests: 1, estimated_requests: 1, ..Usage::default() };
        let Some(seen) = self.usage else { return estimate };
        let seen = Usage { requests: 1, ..seen };
        if self.is_complete || (seen.input_tokens >= sent_tokens && seen.output_tokens >= output_tokens) {
            return seen;
        }
        Usage {
            input_tokens: seen.input_tokens.max(sent_tokens),
            output_tokens: seen.output_tokens.max(output_tokens),
            estimated_requests: 1,
            ..seen
        }
    }

    /// Of a request to which no answer began.
    pub(super) const fn none() -> Self {
        Self { id: String::new(), usage: None, is_complete: false, output_estimate: 0 }
    }
}

impl Counting {
    pub(super) fn new(protocol: Protocol, kind: &str) -> Self {
        let is_whole = kind.to_ascii_lowercase().starts_with("application/json");
        let (decoder, whole) = (Some(Decoder::new(protocol)), is_whole.then(Vec::new));
        Self { decoder, events: EventDecoder::default(), whole, bytes: 0, seen_events: 0, has_ended: false }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len();
        if let Some(whole) = &mut self.whole {
            if self.decoder.is_some() && self.bytes <= MAX_EVENT_BYTES {
                whole.extend_from_slice(chunk);
            } else {
                (self.decoder, *whole) = (None, Vec::new());
            }
            return;
        }
        if self.events.push(chunk).is_err() {
            self.decoder = None;
        }
        while let Some(data) = self.events.next() {
            self.seen_events += 1;
            let Some(decoder) = &mut self.decoder else { continue };
            match decoder.event(&data) {
                Ok(is_last) => self.has_ended |= is_last,
                Err(_) => self.decoder = None,
            }
        }
    }

    /// What it cost, now that all has come or, with `is_cut`, no more will.
    pub(super) fn finish(self, is_cut: bool) -> Counted {
        let text = self.bytes.saturating_sub(self.seen_events.saturating_mul(BYTES_AROUND)) / BYTES_OF_A_TOKEN;
        let output_estimate = text.max(self.seen_events) as u64;
        let is_complete = !is_cut || self.has_ended || self.decoder.as_ref().is_some_and(Decoder::is_all_said);
        let cut = || Failure::cut(String::new());
        let answer = match (self.decoder, self.whole) {
            (Some(decoder), Some(whole)) if !is_cut => decoder.whole(&whole),
            (Some(decoder), None) if is_complete => decoder.finish(),
            (Some(decoder), None) => decoder.broken(cut()),
            (None, _) | (Some(_), Some(_)) => Err(cut()),
        };
        let (id, usage) = match answer {
            Ok(answer) => (answer.id, answer.usage),
            Err(failure) => (String::new(), failure.usage),
        };
        Counted { id, usage, is_complete, output_estimate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m1\",\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n";
    const DELTA: &str =
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
    const END: &str = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
                       data: {\"type\":\"message_stop\"}\n\n";

    fn counted(text: &str, is_cut: bool) -> Counted {
        let mut counting = Counting::new(Protocol::Messages, "text/event-stream");
        counting.push(text.as_bytes());
        counting.finish(is_cut)
    }

    #[test]
    fn a_whole_answer_costs_what_its_server_says() {
        let usage = counted(&format!("{START}{}{END}", DELTA.repeat(50)), false).usage(1000);

        assert_eq!((usage.input_tokens, usage.output_tokens, usage.estimated_requests), (7, 2, 0));
    }

    #[test]
    fn an_answer_that_was_cut_costs_no_less_than_what_was_seen_of_it() {
        let usage = counted(&format!("{START}{}", DELTA.repeat(50)), true).usage(3);

        assert_eq!((usage.input_tokens, usage.output_tokens), (7, 51), "an event is a token, and more");
        assert_eq!((usage.requests, usage.estimated_requests), (1, 1));
    }

    #[test]
    fn an_answer_that_is_cut_behind_its_end_is_whole() {
        let usage = counted(&format!("{START}{DELTA}{END}"), true).usage(1000);

        assert_eq!((usage.input_tokens, usage.output_tokens, usage.estimated_requests), (7, 2, 0));
    }

    #[test]
    fn what_cannot_be_read_is_estimated_by_its_length() {
        let usage = counted(&"x".repeat(4000), false).usage(10);
        let mut long = Counting::new(Protocol::Messages, "application/json");
        for _ in 0..3 {
            long.push(&vec![b'x'; MAX_EVENT_BYTES / 2]);
        }

        assert_eq!((usage.input_tokens, usage.output_tokens, usage.estimated_requests), (10, 1000, 1));
        assert_eq!(long.whole.as_ref().map(Vec::len), Some(0), "no more is held than can be read");
        assert!(long.finish(false).usage(1).output_tokens > 5_000_000);
    }
}

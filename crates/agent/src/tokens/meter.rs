//! Our count of a conversation, held against the server's: its number for the last request, and for what came since ours
//! times the ratio that the two had.

use serde_json::Value;

use super::{Count, ImageRule, of_tools};
use crate::{ModelEndpoint, Protocol};

/// Ratios beyond are no other vocabulary but a server that counts something else.
const RATIOS: std::ops::RangeInclusive<f64> = 0.4..=2.5;

/// What Anthropic's vocabulary makes of English and code, against the one we count with, until its server has said.
const ANTHROPIC_RATIO: f64 = 1.2;

/// What is around the instructions, and where the answer begins.
const HEAD: u64 = 8;

/// Measures one conversation.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    count: Count,
    images: ImageRule,
    instructions: String,
    tools: Vec<Value>,
    /// What every request has: instructions and tools, by our count.
    head: u64,
    /// All of it, by our count.
    counted: u64,
    items: usize,
    ratio: f64,
    said: Option<Said>,
}

/// The server's number for a request, ours for the same, and how many items were in it.
#[derive(Debug, Clone, Copy)]
struct Said {
    tokens: u64,
    counted: u64,
    items: usize,
}

impl Meter {
    /// That of a conversation without an item.
    pub(crate) fn new(endpoint: &ModelEndpoint, instructions: &str, tools: &[Value]) -> Self {
        let ratio = if endpoint.protocol == Protocol::Messages { ANTHROPIC_RATIO } else { 1.0 };
        let images = ImageRule::of(endpoint.protocol, &endpoint.name);
        let (instructions, tools) = (instructions.to_owned(), tools.to_vec());
        let mut meter =
            Self { count: Count::Rough, images, instructions, tools, head: 0, counted: 0, items: 0, ratio, said: None };
        meter.count_head();
        meter.reset();
        meter
    }

    /// Takes an item in.
    pub(crate) fn push(&mut self, item: &Value) {
        self.counted += self.count.of_item(item, self.images);
        self.items += 1;
    }

    /// Begins anew. What was learnt of the server stays.
    pub(crate) fn reset(&mut self) {
        (self.counted, self.items, self.said) = (self.head, 0, None);
    }

    /// Whether it counts by the vocabulary.
    pub(crate) fn is_exact(&self) -> bool {
        self.count == Count::Exact
    }

    /// Counts by the vocabulary from now on, and what it has taken in so far once more: these items. [`super::load`]
    /// comes first.
    pub(crate) fn be_exact(&mut self, items: &[Value]) {
        let said = self.said;
        self.count = Count::Exact;
        self.count_head();
        self.reset();
        for item in items {
            self.push(item);
            if let Some(said) = said.filter(|said| said.items == self.items) {
                self.learn(said.tokens);
            }
        }
    }

    /// How many tokens the next request has.
    pub(crate) fn tokens(&self) -> u64 {
        match self.said {
            Some(said) => said.tokens + self.corrected(self.counted - said.counted),
            None => self.corrected(self.counted),
        }
    }

    /// How many tokens an item has.
    pub(crate) fn of_item(&self, item: &Value) -> u64 {
        self.corrected(self.count.of_item(item, self.images))
    }

    /// Learns what the server counted for the request as it stands now. A number that cannot be is passed over.
    pub(crate) fn learn(&mut self, tokens: u64) {
        let ratio = tokens as f64 / self.counted.max(1) as f64;
        if RATIOS.contains(&ratio) {
            self.ratio = ratio;
            self.said = Some(Said { tokens, counted: self.counted, items: self.items });
        }
    }

    fn count_head(&mut self) {
        self.head = HEAD + self.count.of_text(&self.instructions) + of_tools(&self.tools, self.count);
    }

    fn corrected(&self, counted: u64) -> u64 {
        (counted as f64 * self.ratio).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meter(protocol: Protocol) -> Meter {
        let base = "http://localhost/v1".parse().expect("a URL");
        Meter::new(&ModelEndpoint::speaking(protocol, "m", base, None), "be good", &[])
    }

    fn says(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    #[test]
    fn what_a_server_counts_is_the_base_and_the_ratio_of_what_follows() {
        let mut meter = meter(Protocol::ChatCompletions);
        meter.push(&says(&"lorem ipsum ".repeat(500)));
        let ours = meter.tokens();
        meter.learn(ours * 3 / 2);
        let more = says(&"dolor sit amet ".repeat(100));

        meter.push(&more);

        let expected = (ours * 3 / 2) as f64 + 1.5 * Count::Rough.of_item(&more, meter.images) as f64;
        assert!((meter.tokens() as f64 - expected).abs() < 2.0, "{} {expected}", meter.tokens());
        meter.reset();
        assert_eq!(meter.tokens(), meter.corrected(meter.head));
    }

    /// A server with another vocabulary, which counts something around each item as well.
    fn of_server(items: &[Value]) -> u64 {
        items.iter().map(|item| Count::Exact.of_item(item, ImageRule::NONE) * 118 / 100 + 11).sum::<u64>() + 60
    }

    #[test]
    fn what_is_estimated_is_within_five_percent_of_what_the_server_says() {
        let code = "let total = items.iter().map(|item| item.size).sum::<u64>();\n";
        let log = "test api::tasks::cancel ... FAILED (0.034s)\n";
        for count in [Count::Rough, Count::Exact] {
            let mut meter = meter(Protocol::ChatCompletions);
            meter.count = count;
            let mut items = vec![says(&code.repeat(40))];
            meter.push(&items[0]);
            meter.learn(of_server(&items));
            for turn in 0..200 {
                let text = if turn % 3 == 0 { log.repeat(turn % 20 + 1) } else { code.repeat(turn % 7 + 1) };
                items.push(says(&text));
                meter.push(&items[turn + 1]);

                let (ours, theirs) = (meter.tokens(), of_server(&items));

                assert!(ours.abs_diff(theirs) * 20 <= theirs, "{count:?} {turn}: {ours} {theirs}");
                meter.learn(theirs);
            }
        }
    }

    #[test]
    fn a_number_that_cannot_be_is_not_learnt() {
        let mut meter = meter(Protocol::Responses);
        meter.push(&says(&"lorem ipsum ".repeat(500)));
        let ours = meter.tokens();

        meter.learn(0);
        meter.learn(u64::MAX);
        meter.learn(7);

        assert_eq!(meter.tokens(), ours);
    }

    #[test]
    fn counting_exactly_keeps_what_the_server_said() {
        let mut meter = meter(Protocol::ChatCompletions);
        let items = [says(&"lorem ipsum ".repeat(500)), says("dolor")];
        meter.push(&items[0]);
        meter.learn(1_700);
        meter.push(&items[1]);

        meter.be_exact(&items);

        assert!(meter.is_exact() && (1_704..1_716).contains(&meter.tokens()), "{}", meter.tokens());
    }

    #[test]
    fn anthropics_vocabulary_is_expected_to_make_more_of_the_same() {
        assert!(meter(Protocol::Messages).tokens() > meter(Protocol::Responses).tokens());
    }
}

//! What a model's work cost, in the units its server counts.

use serde::{Deserialize, Serialize};

/// Tokens of one or several model responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Tokens sent that the server had in its cache.
    pub cached_input_tokens: u64,
    /// Tokens sent that the server put into its cache, where it counts them.
    pub cache_write_tokens: u64,
    /// Tokens produced, reasoning included.
    pub output_tokens: u64,
    /// Tokens of reasoning.
    pub reasoning_tokens: u64,
    /// Responses asked for.
    pub requests: u64,
    /// Responses whose tokens we have estimated, because their server does not count them.
    pub estimated_requests: u64,
    /// Millionths of a US dollar, as far as prices are configured.
    pub cost_usd_micros: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        // The numbers are a server's word, and no sum of them may take the service down.
        let add = |one: &mut u64, more: u64| *one = one.saturating_add(more);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.cached_input_tokens, other.cached_input_tokens);
        add(&mut self.cache_write_tokens, other.cache_write_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
        add(&mut self.requests, other.requests);
        add(&mut self.estimated_requests, other.estimated_requests);
        add(&mut self.cost_usd_micros, other.cost_usd_micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_before_there_were_prices_is_read() {
        let stored =
            r#"{"input_tokens":7,"cached_input_tokens":3,"output_tokens":2,"reasoning_tokens":1,"requests":1}"#;

        let usage: Usage = serde_json::from_str(stored).expect("readable");

        assert_eq!((usage.input_tokens, usage.cost_usd_micros, usage.estimated_requests), (7, 0, 0));
    }

    #[test]
    fn a_sum_of_nonsense_is_the_largest_number() {
        let mut sum = Usage { input_tokens: u64::MAX, ..Usage::default() };

        sum += Usage { input_tokens: 1, requests: 1, ..Usage::default() };

        assert_eq!((sum.input_tokens, sum.requests), (u64::MAX, 1));
    }
}

//! What tokens cost, and what an answer has cost.

use carrel_domain::Usage;

/// Prices in millionths of a US dollar per million tokens: `1_250_000` is $1.25 a million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// Tokens sent.
    pub input: u64,
    /// Tokens sent that the server had in its cache.
    pub cached_input: u64,
    /// Tokens sent that the server put into its cache, where that has a price of its own.
    pub cache_write: u64,
    /// Tokens produced.
    pub output: u64,
}

impl Price {
    /// What this much costs, in millionths of a US dollar.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> u64 {
        let (cached, written) = (usage.cached_input_tokens, usage.cache_write_tokens);
        let plain = usage.input_tokens.saturating_sub(cached).saturating_sub(written);
        let sum = [(plain, self.input), (cached, self.cached_input), (written, self.cache_write)]
            .into_iter()
            .chain([(usage.output_tokens, self.output)])
            .fold(0_u128, |sum, (tokens, price)| sum + u128::from(tokens) * u128::from(price));
        u64::try_from(sum.saturating_add(500_000) / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_and_written_tokens_have_prices_of_their_own() {
        let price = Price { input: 3_000_000, cached_input: 300_000, cache_write: 3_750_000, output: 15_000_000 };
        let usage = Usage {
            input_tokens: 1000,
            cached_input_tokens: 700,
            cache_write_tokens: 200,
            output_tokens: 10,
            ..Usage::default()
        };

        assert_eq!(price.of(&usage), 300 + 210 + 750 + 150);
    }

    #[test]
    fn nonsense_of_a_server_does_not_overflow() {
        let price = Price { input: u64::MAX, output: u64::MAX, ..Price::default() };
        let usage =
            Usage { input_tokens: 1, cached_input_tokens: u64::MAX, output_tokens: u64::MAX, ..Usage::default() };

        assert_eq!(price.of(&usage), u64::MAX);
    }
}

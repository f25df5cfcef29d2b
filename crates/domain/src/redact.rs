//! Takes known secrets out of text before it reaches any sink: an event, a log line, an error body.

use std::borrow::Cow;

use crate::Secret;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// The shortest value that is looked for: shorter ones would black out ordinary words.
const SHORTEST: usize = 6;

/// Knows the installation's secrets, in the forms in which they leak: as they are, in base64 (whatever stands before
/// them), in hexadecimal and percent-encoded.
#[derive(Clone, Default)]
pub struct Redactor {
    needles: Vec<String>,
}

impl Redactor {
    /// A redactor for these secrets. Values of fewer than six bytes are not looked for.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            let value = secret.expose().trim();
            if value.len() < SHORTEST {
                continue;
            }
            needles.push(value.to_owned());
            needles.push(percent_encoded(value));
            needles.push(with_small_escapes(&percent_encoded(value)));
            needles.push(value.bytes().map(|byte| format!("{byte:02x}")).collect());
            needles.push(value.bytes().map(|byte| format!("{byte:02X}")).collect());
            for core in (0..3).filter_map(|offset| base64_core(value.as_bytes(), offset)) {
                needles.push(core.replace('+', "-").replace('/', "_"));
                needles.push(core);
            }
        }
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        needles.dedup();
        Self { needles }
    }

    /// The text without any of the secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for needle in &self.needles {
            if text.contains(needle.as_str()) {
                text = Cow::Owned(text.replace(needle.as_str(), REDACTED));
            }
        }
        text
    }

    /// Whether the text holds a secret.
    #[must_use]
    pub fn finds_in(&self, text: &str) -> bool {
        self.needles.iter().any(|needle| text.contains(needle.as_str()))
    }

    /// The length, in bytes, of the end of the text that may be the beginning of a secret: whoever shows a stream piece by
    /// piece keeps that much back until the next piece tells.
    #[must_use]
    pub fn undecided(&self, text: &str) -> usize {
        let begun = |needle: &String| {
            let longest = needle.len().saturating_sub(1).min(text.len());
            (1..=longest).rev().find(|length| needle.is_char_boundary(*length) && text.ends_with(&needle[..*length]))
        };
        self.needles.iter().filter_map(begun).max().unwrap_or(0)
    }

    /// Every string of a JSON value, keys included, without the secrets.
    #[must_use]
    pub fn redact_json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        if self.needles.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.redact(&text).into_owned()),
            Value::Array(values) => Value::Array(values.into_iter().map(|value| self.redact_json(value)).collect()),
            Value::Object(fields) => Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (self.redact(&key).into_owned(), self.redact_json(value)))
                    .collect(),
            ),
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar,
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Redactor({} forms)", self.needles.len())
    }
}

fn percent_encoded(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// `%2F` as `%2f`: both are written.
fn with_small_escapes(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escape, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        text.push('%');
        text.push_str(&escape.to_ascii_lowercase());
        text.push_str(rest);
    }
    text
}

/// The part of the base64 form of `value` that does not depend on its neighbours, when `offset` bytes stand before it
/// in the encoder's group of three.
fn base64_core(value: &[u8], offset: usize) -> Option<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let start = (3 - offset) % 3;
    let whole = value.get(start..)?;
    let whole = &whole[..whole.len() - whole.len() % 3];
    let core: String = whole
        .chunks_exact(3)
        .flat_map(|group| {
            let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
            [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize] as char)
        })
        .collect();
    (core.len() >= SHORTEST).then_some(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_it_leaks_in() {
        let redactor = Redactor::new([&Secret::new("s3cret/key+1")]);

        // base64 of `s3cret/key+1`, of `x:s3cret/key+1` and of `xy:s3cret/key+1`; then plain, percent and hex.
        for leak in [
            "czNjcmV0L2tleSsx",
            "eDpzM2NyZXQva2V5KzE=",
            "eHk6czNjcmV0L2tleSsx",
            "s3cret/key+1",
            "s3cret%2Fkey%2B1",
            "s3cret%2fkey%2b1",
            "czNjcmV0L2tleSsx",
            "7333637265742f6b65792b31",
        ] {
            let text = format!("before {leak} after");
            assert!(redactor.finds_in(&text), "{leak}");
            assert!(redactor.redact(&text).contains(REDACTED), "{leak}");
        }
    }

    #[test]
    fn text_without_a_secret_is_not_copied() {
        let redactor = Redactor::new([&Secret::new("s3cret/key+1")]);

        assert!(matches!(redactor.redact("nothing here"), Cow::Borrowed("nothing here")));
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_text_is_undecided() {
        let redactor = Redactor::new([&Secret::new("s3cret/key+1")]);

        assert_eq!(redactor.undecided("the key is s3cre"), 5);
        assert_eq!(redactor.undecided("s3cret/key+1"), 0, "a whole one is taken out");
        assert_eq!(redactor.undecided("nothing here\n"), 0);
    }

    #[test]
    fn short_values_black_out_nothing() {
        assert!(!Redactor::new([&Secret::new("a")]).finds_in("banana"));
    }
}

//! Takes known secrets out of text before it reaches any sink: an event, a log line, an error body.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

use crate::Secret;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// The shortest value that is looked for: shorter ones would black out ordinary words.
const SHORTEST: usize = 6;

/// Longer forms are looked for one by one: in the automaton every byte of them would cost a state.
const LONGEST_TOGETHER: usize = 2048;

/// Knows the installation's secrets, in the forms in which they leak: as they are, in base64 (whatever stands before
/// them), in hexadecimal, percent-encoded and escaped as in JSON.
///
/// Clones share what they know: what one of them [learns](Redactor::learn), all of them take out from then on.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Arc<Forms>>>,
}

/// All forms of all secrets, and how they are found: most of them in one pass over the text, however many they are.
#[derive(Default)]
struct Forms {
    /// In order, so that those that begin with some text stand together.
    sorted: BTreeSet<String>,
    together: Option<AhoCorasick>,
    /// Those too long for that, longest first.
    long: Vec<String>,
    longest: usize,
}

impl Forms {
    fn new(sorted: BTreeSet<String>) -> Self {
        let longest = sorted.iter().map(String::len).max().unwrap_or(0);
        let (short, mut long): (Vec<&String>, Vec<&String>) =
            sorted.iter().partition(|form| form.len() <= LONGEST_TOGETHER);
        long.sort_by_key(|form| std::cmp::Reverse(form.len()));
        let long = long.into_iter().cloned().collect();
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&short);
        // The builder refuses nothing but more states than 31 bits count; then each is looked for by itself.
        let (together, long) = match built {
            Ok(together) => ((!short.is_empty()).then_some(together), long),
            Err(_) => (None, sorted.iter().rev().cloned().collect()),
        };
        Self { sorted, together, long, longest }
    }

    fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for form in &self.long {
            if text.contains(form.as_str()) {
                text = Cow::Owned(text.replace(form.as_str(), REDACTED));
            }
        }
        let Some(together) = self.together.as_ref().filter(|together| together.is_match(text.as_ref())) else {
            return text;
        };
        let mut clean = String::with_capacity(text.len());
        together.replace_all_with(&text, &mut clean, |_, _, clean| {
            clean.push_str(REDACTED);
            true
        });
        Cow::Owned(clean)
    }

    fn finds_in(&self, text: &str) -> bool {
        self.together.as_ref().is_some_and(|together| together.is_match(text))
            || self.long.iter().any(|form| text.contains(form.as_str()))
    }

    /// Whether some form begins with this text and goes on after it.
    fn goes_on_after(&self, text: &str) -> bool {
        let mut behind = self.sorted.range::<str, _>((std::ops::Bound::Excluded(text), std::ops::Bound::Unbounded));
        behind.next().is_some_and(|form| form.starts_with(text))
    }

    fn redact_json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
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

impl Redactor {
    /// A redactor for these secrets. Values of fewer than six bytes are not looked for.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let redactor = Self::default();
        redactor.learn(secrets);
        redactor
    }

    /// Takes these secrets out, too, from now on, and with it every clone. What is known is not forgotten: a value that
    /// is used no more may still stand in what is yet to be told.
    pub fn learn<'a>(&self, secrets: impl IntoIterator<Item = &'a Secret>) {
        let forms: Vec<String> = secrets.into_iter().flat_map(forms_of).collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if forms.iter().all(|form| known.sorted.contains(form)) {
            return;
        }
        let mut sorted = known.sorted.clone();
        sorted.extend(forms);
        *known = Arc::new(Forms::new(sorted));
    }

    /// The text without any of the secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.known().redact(text)
    }

    /// Whether the text holds a secret.
    #[must_use]
    pub fn finds_in(&self, text: &str) -> bool {
        self.known().finds_in(text)
    }

    /// The length, in bytes, of the end of the text that may be the beginning of a secret: whoever shows a stream piece by
    /// piece keeps that much back until the next piece tells.
    #[must_use]
    pub fn undecided(&self, text: &str) -> usize {
        let known = self.known();
        let from = text.floor_char_boundary(text.len().saturating_sub(known.longest));
        let ends = text[from..].char_indices().map(|(index, _)| &text[from + index..]);
        ends.into_iter().find(|end| known.goes_on_after(end)).map_or(0, str::len)
    }

    /// Every string of a JSON value, keys included, without the secrets.
    #[must_use]
    pub fn redact_json(&self, value: serde_json::Value) -> serde_json::Value {
        let known = self.known();
        if known.is_empty() { value } else { known.redact_json(value) }
    }

    /// Every form that is looked for: for who searches what is no text.
    #[must_use]
    pub fn forms(&self) -> Vec<String> {
        self.known().sorted.iter().cloned().collect()
    }

    fn known(&self) -> Arc<Forms> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Redactor({} forms)", self.known().sorted.len())
    }
}

/// The forms in which a secret leaks; none of one that is too short to be looked for.
fn forms_of(secret: &Secret) -> Vec<String> {
    let value = secret.expose().trim();
    if value.len() < SHORTEST {
        return Vec::new();
    }
    let percent = percent_encoded(value);
    let mut forms = vec![
        value.to_owned(),
        with_small_escapes(&percent),
        percent,
        value.bytes().map(|byte| format!("{byte:02x}")).collect(),
        value.bytes().map(|byte| format!("{byte:02X}")).collect(),
    ];
    let quoted = serde_json::Value::from(value).to_string();
    forms.push(quoted[1..quoted.len() - 1].to_owned());
    for core in (0..3).filter_map(|offset| base64_core(value.as_bytes(), offset)) {
        forms.push(core.replace('+', "-").replace('/', "_"));
        forms.push(core);
    }
    forms
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
    fn what_one_clone_learns_every_clone_takes_out() {
        let early = Redactor::new([&Secret::new("s3cret/key+1")]);
        let other = early.clone();

        early.learn([&Secret::new("later-secret")]);

        assert_eq!(other.redact("s3cret/key+1 and later-secret"), "[redacted] and [redacted]");
        assert_eq!(other.undecided("it is later-se"), 8);
        assert!(!Redactor::default().finds_in("later-secret"), "only clones share");
    }

    proptest::proptest! {
        #[test]
        fn what_is_undecided_is_the_longest_end_that_some_form_begins_with(
            secrets in proptest::collection::vec("[abé]{6,9}", 1..5),
            text in "[abé]{0,24}",
        ) {
            let secrets: Vec<Secret> = secrets.into_iter().map(Secret::new).collect();
            let redactor = Redactor::new(&secrets);

            let clean = redactor.redact(&text);

            for secret in &secrets {
                proptest::prop_assert!(!clean.contains(secret.expose()), "{clean}");
            }
            let ends = clean.char_indices().map(|(index, _)| &clean[index..]);
            let begins = |end: &&str| redactor.forms().iter().any(|form| form.len() > end.len() && form.starts_with(*end));
            let expected = ends.into_iter().find(begins).map_or(0, str::len);
            proptest::prop_assert_eq!(redactor.undecided(&clean), expected);
        }
    }

    #[test]
    fn the_longer_of_two_secrets_is_taken_out_whole() {
        let redactor = Redactor::new([&Secret::new("hunter2-hunter2"), &Secret::new("hunter2-hunter2-and-more")]);

        assert_eq!(redactor.redact("hunter2-hunter2-and-more hunter2-hunter2"), "[redacted] [redacted]");
        assert_eq!(redactor.undecided("hunter2-hunter2"), 15, "the longer one may go on");
    }

    #[test]
    fn a_key_of_many_lines_is_taken_out_whole_and_escaped() {
        let key = format!("-----BEGIN KEY-----\n{}\n-----END KEY-----\n", "QUJDREVG\n".repeat(600));
        let redactor = Redactor::new([&Secret::new(key.clone())]);

        assert_eq!(redactor.redact(&format!("a {} b", key.trim())), "a [redacted] b");
        let line = serde_json::Value::from(key.trim()).to_string();
        assert_eq!(redactor.redact(&line), "\"[redacted]\"");
        assert_eq!(redactor.undecided(&key[..5000]), 5000);
    }

    #[test]
    fn short_values_black_out_nothing() {
        assert!(!Redactor::new([&Secret::new("a")]).finds_in("banana"));
    }
}

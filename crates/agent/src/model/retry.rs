//! How long to wait before a request is made again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The first wait, which doubles with each retry.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait of our own choice.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The longest wait a server may ask for. Whoever asks for more is not waited for.
pub(crate) const MAX_ASKED_WAIT: Duration = Duration::from_mins(10);

/// The wait before the given retry, counted from 1: exponential, and a random half of it left out, so that many
/// attempts that failed together do not ask again together.
pub(crate) fn backoff(retry: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << retry.saturating_sub(1).min(16)).min(MAX_BACKOFF);
    let chance = RandomState::new().build_hasher().finish() % 1000;
    full.mul_f64(0.5 + 0.0005 * chance as f64)
}

/// The wait before the given retry when a server asks for one. It is believed once; from then on, and when it asks for
/// none, the wait is not less than ours: some always ask for none.
pub(crate) fn asked(wait: Duration, retry: u32) -> Duration {
    if retry == 1 && !wait.is_zero() { wait } else { wait.max(backoff(retry)) }
}

/// What a server asks for in `retry-after-ms` (milliseconds) or `retry-after` (seconds, or a date: RFC 9110, 10.2.3).
pub(super) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok()) {
        return seconds(ms / 1000.0);
    }
    let value = text(RETRY_AFTER.as_str())?;
    if let Ok(number) = value.parse::<f64>() {
        return seconds(number);
    }
    let until = date(value)?;
    let now = text("date").and_then(date).unwrap_or_else(Timestamp::now);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text).ok()
}

/// The wait in `Please try again in 1.2s.` and in what other servers write for that.
pub(super) fn wait_in_words_of(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    let rest = ["try again in ", "retry after ", "retry in ", "try again after "]
        .into_iter()
        .find_map(|words| Some(message.split_once(words)?.1))?;
    let mut words = rest.split_whitespace();
    let first = words.next()?.trim_end_matches(['.', ',', ';']);
    parse_wait(first).or_else(|| {
        let unit = words.next()?.trim_end_matches(['.', ',', ';']);
        parse_wait(&format!("{first}{unit}"))
    })
}

/// `1.2s`, `350ms`, `1m30s`, `2h`.
fn parse_wait(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end =
            rest[end..].find(|character: char| !character.is_ascii_alphabetic()).map_or(rest.len(), |at| end + at);
        let factor = match &rest[end..unit_end] {
            "ms" | "milliseconds" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(seconds(number * factor)?)?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

/// A duration from what a server wrote: never negative, never more than a year.
fn seconds(number: f64) -> Option<Duration> {
    (0.0..=31_536_000.0).contains(&number).then(|| Duration::from_secs_f64(number))
}

/// A duration for a person.
pub(crate) fn wait_in_words(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn a_server_asks_in_seconds_milliseconds_or_by_date() {
        let date = [("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")];
        let past = [("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")];

        assert_eq!(asked_wait(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        assert_eq!(asked_wait(&headers(&[("retry-after-ms", "70")])), Some(Duration::from_millis(70)));
        assert_eq!(asked_wait(&headers(&date)), Some(Duration::from_secs(30)));
        assert_eq!(asked_wait(&headers(&past)), Some(Duration::ZERO));
    }

    #[test]
    fn a_server_that_asks_for_no_wait_at_all_is_not_asked_again_at_once() {
        let short = Duration::from_millis(10);
        assert!(asked(Duration::ZERO, 1) >= FIRST_WAIT / 2 && asked(short, 3) >= FIRST_WAIT);
        assert_eq!(asked(short, 1), short);
        assert_eq!(asked(Duration::from_mins(2), 3), Duration::from_mins(2));
    }

    #[test]
    fn nonsense_is_not_waited_for() {
        for value in ["-1", "soon", "1e300", "NaN", "inf"] {
            assert_eq!(asked_wait(&headers(&[("retry-after", value)])), None, "{value}");
        }
    }

    #[test]
    fn a_wait_in_words_is_read() {
        for (text, ms) in [("1.2s", 1200), ("350ms", 350), ("1m30s", 90_000), ("2h", 7_200_000)] {
            assert_eq!(parse_wait(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_wait("a while"), None);
        assert_eq!(parse_wait("5 parsecs"), None);
    }

    #[test]
    fn the_backoff_grows_and_has_an_end() {
        for retry in 1..40 {
            let wait = backoff(retry);
            assert!(wait >= FIRST_WAIT / 2 && wait <= MAX_BACKOFF, "{retry}: {wait:?}");
        }
        assert!(backoff(7) > backoff(1));
    }
}

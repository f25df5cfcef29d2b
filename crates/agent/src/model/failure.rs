//! What went wrong with a request, in words for a person, and whether asking again may help.

use std::error::Error;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

use super::retry::{asked_wait, wait_in_words};
use crate::ModelEndpoint;

/// The most that is repeated of a server's own words, in characters.
const MAX_WORDS: usize = 1000;

/// A request that did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What went wrong and, where there is one, the way out.
    pub(crate) reason: String,
    /// Whether to ask again.
    pub(crate) again: Again,
}

/// Whether to ask again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would fail again.
    Never,
    /// After a time that grows with each retry.
    Later,
    /// After the time the server asked for.
    After(Duration),
}

impl Failure {
    /// No connection, or it broke before the answer began.
    pub(super) fn unreachable(url: &Url, error: reqwest::Error) -> Self {
        if error.is_builder() {
            let reason = "the model key has characters that no HTTP header can have; check CARREL_MODEL_KEY".to_owned();
            return Self { reason, again: Again::Never };
        }
        let cannot = if error.is_connect() { "cannot reach the model server" } else { "lost the model server" };
        let reason = format!("{cannot} at {}: {}", shown(url), causes(&error.without_url()));
        Self { reason, again: Again::Later }
    }

    /// The answer broke off.
    pub(super) fn cut(what: String) -> Self {
        Self { reason: format!("the model server's answer is not whole: {what}"), again: Again::Later }
    }

    /// Nothing came for too long.
    pub(super) fn stalled(what: &str, limit: Duration) -> Self {
        Self { reason: format!("the model server {what} for {}", wait_in_words(limit)), again: Again::Later }
    }

    /// The model stopped before it was done.
    pub(super) fn incomplete(reason: &str) -> Self {
        let way_out = match reason {
            "max_output_tokens" => "; raise the server's limit for the length of an answer",
            "content_filter" => "; its content filter stopped it, so put the task in other words",
            _ => "",
        };
        Self { reason: format!("the model's answer is incomplete ({}){way_out}", bounded(reason)), again: Again::Never }
    }

    /// A `200` that is something else than an event stream.
    pub(super) fn not_a_stream(url: &Url, kind: &str) -> Self {
        let reason = format!(
            "the model server at {} answered with {}, not with an event stream; check that the URL is the base of a Responses API",
            shown(url),
            bounded(kind)
        );
        Self { reason, again: Again::Never }
    }

    /// An error inside the stream.
    pub(super) fn reported(error: &Value) -> Self {
        let code = error["code"].as_str().or_else(|| error["type"].as_str()).unwrap_or_default();
        let message = error["message"].as_str().unwrap_or("no reason given");
        if let Some(failure) = Self::known_code(code, message) {
            return failure;
        }
        let again = match (code, wait_in_words_of(message)) {
            ("invalid_prompt" | "invalid_request_error" | "content_policy_violation" | "bio_policy", _) => Again::Never,
            (_, Some(wait)) => Again::After(wait),
            (_, None) => Again::Later,
        };
        Self { reason: format!("the model server gave up: {}", bounded(message)), again }
    }

    /// An HTTP status other than 200.
    pub(super) fn refused(endpoint: &ModelEndpoint, status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let (code, message) = words(body);
        if let Some(failure) = Self::known_code(&code, &message) {
            return failure;
        }
        let says = if message.is_empty() { String::new() } else { format!(": {}", bounded(&message)) };
        let reason = match status {
            401 if endpoint.key.is_none() => {
                format!("the model server wants a key; give one in CARREL_MODEL_KEY{says}")
            }
            401 => format!("the model server refused the key; check CARREL_MODEL_KEY{says}"),
            403 => format!("the model server forbids this; check what the key in CARREL_MODEL_KEY may use{says}"),
            404 => format!(
                "the model server at {} knows no model `{}`, or has no Responses API there; check its URL and the model's name{says}",
                shown(&endpoint.base_url),
                endpoint.name
            ),
            300..400 => format!("the model server redirects (HTTP {status}); give the URL that it redirects to"),
            429 => format!("the model server asks to slow down (HTTP 429){says}"),
            400..500 => format!("the model server refused the request (HTTP {status}){says}"),
            _ => format!("the model server has an error (HTTP {status}){says}"),
        };
        let again = match status {
            408 | 409 | 425 | 429 | 500.. => {
                asked_wait(headers).or_else(|| wait_in_words_of(&message)).map_or(Again::Later, Again::After)
            }
            _ => Again::Never,
        };
        Self { reason, again }
    }

    /// The codes that mean something of their own, wherever they come.
    fn known_code(code: &str, message: &str) -> Option<Self> {
        let message = bounded(message);
        let reason = match code {
            "context_length_exceeded" => format!(
                "the conversation no longer fits into the model's context window; split the task, or choose a model with a larger window: {message}"
            ),
            "insufficient_quota" => {
                format!(
                    "the model account has no quota left; add credit, or give another key in CARREL_MODEL_KEY: {message}"
                )
            }
            _ => return None,
        };
        Some(Self { reason, again: Again::Never })
    }
}

/// The code and the words of an error body: OpenAI's form, the shorter ones of others, or whatever text it is.
fn words(body: &[u8]) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), String::from_utf8_lossy(body).trim().to_owned());
    };
    let error = &body["error"];
    let message = [&error["message"], error, &body["message"], &body["detail"]]
        .into_iter()
        .find_map(|candidate| candidate.as_str().filter(|words| !words.is_empty()));
    let code = if error["code"].is_string() { text(&error["code"]) } else { text(&error["type"]) };
    (code, message.unwrap_or_default().to_owned())
}

/// The wait in `Please try again in 1.2s.`, also with `ms`, `m` and `h`.
fn wait_in_words_of(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("try again in ")?;
    super::retry::parse_wait(rest.split_whitespace().next()?.trim_end_matches(['.', ',']))
}

/// An error's message and those of its causes.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    bounded(&text)
}

/// A URL without what may be a credential.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

/// A server's words on one line, without anything invisible, and not too many.
fn bounded(text: &str) -> String {
    let plain = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|character| !character.is_control() && !carrel_domain::git::is_invisible(*character))
        .collect::<String>();
    match plain.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use carrel_domain::Secret;
    use serde_json::json;

    use super::*;

    fn refused(status: u16, body: &str) -> Failure {
        let endpoint =
            ModelEndpoint::new("m", "http://localhost:1/v1".parse().expect("a URL"), Some(Secret::new("sk-key")));
        Failure::refused(&endpoint, status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn what_a_server_says_is_repeated_with_what_to_do() {
        let failure = refused(401, r#"{"error": {"message": "Incorrect API key provided."}}"#);

        assert_eq!(failure.again, Again::Never);
        assert_eq!(
            failure.reason,
            "the model server refused the key; check CARREL_MODEL_KEY: Incorrect API key provided."
        );
    }

    #[test]
    fn every_servers_form_of_an_error_is_understood() {
        for body in
            [r#"{"error": "no"}"#, r#"{"message": "no"}"#, r#"{"detail": "no"}"#, "no", r#"{"error":{"message":"no"}}"#]
        {
            assert!(refused(400, body).reason.ends_with(": no"), "{body}");
        }
    }

    #[test]
    fn a_full_window_and_an_empty_account_are_final_wherever_they_are_said() {
        for code in ["context_length_exceeded", "insufficient_quota"] {
            let error = json!({"code": code, "message": "so"});
            assert_eq!(Failure::reported(&error).again, Again::Never);
            assert_eq!(refused(429, &json!({ "error": error }).to_string()).again, Again::Never);
        }
    }

    #[test]
    fn the_wait_is_read_from_the_words_of_a_rate_limit() {
        let error =
            json!({"code": "rate_limit_exceeded", "message": "Limit 30000. Please try again in 1.2s. Visit us."});

        assert_eq!(Failure::reported(&error).again, Again::After(Duration::from_millis(1200)));
    }

    #[test]
    fn a_servers_words_are_bounded_and_plain() {
        let failure = refused(500, &format!("a\u{202e}\u{1b}[2J{}", "x".repeat(100_000)));

        assert!(failure.reason.len() < 1200);
        assert!(!failure.reason.contains(['\u{202e}', '\u{1b}']));
    }
}

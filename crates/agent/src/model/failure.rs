//! What went wrong with a request, in words for a person, and whether asking again may help.

use std::error::Error;
use std::time::Duration;

use carrel_domain::Usage;
use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

use super::retry::{asked_wait, wait_in_words, wait_in_words_of};
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
    /// What it cost all the same, if the server said so.
    pub(crate) usage: Option<Usage>,
}

/// Whether to ask again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would fail again.
    Never,
    /// The model, or who serves it, does not want to: what it had begun is not to be done either.
    Declined,
    /// Only with a shorter conversation: this one no longer fits.
    ContextFull,
    /// Only with a request of fewer bytes.
    TooLarge,
    /// When the model is told that its answer was too long.
    Shorter,
    /// Without the reasoning of before, which the server cannot verify: another key's, say.
    Unverified,
    /// After a time that grows with each retry.
    Later,
    /// After the time the server asked for.
    After(Duration),
}

impl Failure {
    const fn of(reason: String, again: Again) -> Self {
        Self { reason, again, usage: None }
    }

    /// No connection, or it broke before the answer began.
    pub(super) fn unreachable(endpoint: &ModelEndpoint, url: &Url, error: reqwest::Error) -> Self {
        if error.is_builder() {
            let reason = format!(
                "the model key or a header has characters that no HTTP header can have; check {}",
                endpoint.key_from
            );
            return Self::of(reason, Again::Never);
        }
        let cannot = if error.is_connect() { "cannot reach the model server" } else { "lost the model server" };
        let reason = format!("{cannot} at {}: {}", shown(url), causes(&error.without_url()));
        Self::of(reason, Again::Later)
    }

    /// The answer broke off.
    pub(super) fn cut(what: String) -> Self {
        Self::of(format!("the model server's answer is not whole: {what}"), Again::Later)
    }

    /// Nothing came for too long.
    pub(super) fn stalled(what: &str, limit: Duration) -> Self {
        Self::of(format!("the model server {what} for {}", wait_in_words(limit)), Again::Later)
    }

    /// The model stopped before it was done.
    pub(super) fn incomplete(reason: &str) -> Self {
        let (way_out, again) = match reason {
            "max_output_tokens" => (
                "; raise the limit for the length of an answer, at the server or as `max_output_tokens`",
                Again::Shorter,
            ),
            "content_filter" => ("; its content filter stopped it, so put the task in other words", Again::Declined),
            _ => ("", Again::Never),
        };
        Self::of(format!("the model's answer is incomplete ({}){way_out}", bounded(reason)), again)
    }

    /// The model, or who serves it, does not want to.
    pub(super) fn refusal(why: &str) -> Self {
        let why = if why.is_empty() { String::new() } else { format!(": {}", bounded(why)) };
        Self::of(format!("the model refused to answer; put the task in other words{why}"), Again::Declined)
    }

    /// The conversation does not fit.
    pub(super) fn context_full(message: &str) -> Self {
        let reason = format!(
            "the conversation no longer fits into the model's context window; split the task, or choose a model with a larger window: {}",
            bounded(message)
        );
        Self::of(reason, Again::ContextFull)
    }

    /// A `200` that is something else than an event stream.
    pub(super) fn not_a_stream(endpoint: &ModelEndpoint, url: &Url, kind: &str) -> Self {
        let reason = format!(
            "the model server at {} answered with {}, not with an event stream; check that the URL is the base of a {}",
            shown(url),
            bounded(kind),
            endpoint.protocol.title()
        );
        Self::of(reason, Again::Never)
    }

    /// An error inside the stream.
    pub(super) fn reported(error: &Value) -> Self {
        let (code, message) = code_and_words(error);
        let message = if message.is_empty() { "no reason given".to_owned() } else { message };
        if let Some(failure) = Self::known(&code, &message) {
            return failure;
        }
        let again = match (code.as_str(), wait_in_words_of(&message)) {
            (
                "invalid_prompt"
                | "invalid_request_error"
                | "authentication_error"
                | "permission_error"
                | "not_found_error"
                | "400"
                | "401"
                | "403"
                | "404"
                | "422",
                _,
            ) => Again::Never,
            (_, Some(wait)) => Again::After(wait),
            (_, None) => Again::Later,
        };
        Self::of(format!("the model server gave up: {}", bounded(&message)), again)
    }

    /// An HTTP status other than 200. `listed` are the models that the server says it has, if it was asked.
    pub(super) fn refused(
        endpoint: &ModelEndpoint,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        listed: &[String],
    ) -> Self {
        let (code, message) = words(body);
        if let Some(failure) = Self::known(&code, &message) {
            return failure;
        }
        let says = if message.is_empty() { String::new() } else { format!(": {}", bounded(&message)) };
        let key_from = &endpoint.key_from;
        let reason = match status {
            401 if endpoint.key.is_none() => format!("the model server wants a key; give one in {key_from}{says}"),
            401 => format!("the model server refused the key; check {key_from}{says}"),
            402 => format!("the model account cannot pay; add credit, or give another key in {key_from}{says}"),
            403 => format!("the model server forbids this; check what the key in {key_from} may use{says}"),
            404 => format!("{}{says}", not_found(endpoint, listed)),
            413 => {
                let reason = format!("the request is too large for the model server (HTTP 413); split the task{says}");
                return Self::of(reason, Again::TooLarge);
            }
            300..400 => format!("the model server redirects (HTTP {status}); give the URL that it redirects to"),
            429 => format!("the model server asks to slow down (HTTP 429){says}"),
            529 => format!("the model server has too much to do (HTTP 529){says}"),
            400..500 => format!("the model server refused the request (HTTP {status}){says}"),
            _ => format!("the model server has an error (HTTP {status}){says}"),
        };
        let asked = || asked_wait(headers).or_else(|| wait_in_words_of(&message)).map_or(Again::Later, Again::After);
        let again = match (should_retry(headers), status) {
            (Some(false), _) => Again::Never,
            // One bad call among many good ones, as the server sees it.
            (None, 400) if code == "tool_use_failed" => Again::Later,
            (Some(true), _) | (None, 408 | 409 | 425 | 429 | 500..) => asked(),
            (None, _) => Again::Never,
        };
        Self::of(reason, again)
    }

    /// What means something of its own, wherever and by whomever it is said.
    fn known(code: &str, message: &str) -> Option<Self> {
        if is_context_full(code, message) {
            return Some(Self::context_full(message));
        }
        if is_unverified(code, message) {
            let reason = format!("the model server cannot verify reasoning of before: {}", bounded(message));
            return Some(Self::of(reason, Again::Unverified));
        }
        let message = bounded(message);
        let reason = match code {
            "insufficient_quota" | "billing_error" | "exceeded_current_quota_error" | "402" => {
                format!("the model account has no quota left; add credit, or give another key: {message}")
            }
            "content_policy_violation" | "content_filter" | "bio_policy" | "cyber_policy" => {
                format!("the model server's content policy forbids this; put the task in other words: {message}")
            }
            _ if message.contains("credit balance is too low") => {
                format!("the model account has no quota left; add credit, or give another key: {message}")
            }
            _ => return None,
        };
        Some(Self::of(reason, Again::Never))
    }
}

/// Whether a server says that the conversation does not fit: by its code, or by what the servers that have none for
/// this write instead.
fn is_context_full(code: &str, message: &str) -> bool {
    const CODES: [&str; 3] = ["context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"];
    const WORDS: [&str; 9] = [
        "maximum context length",
        "context length exceeded",
        "exceeds the available context size",
        "exceeds the context window",
        "exceed context limit",
        "prompt is too long",
        "exceeds the maximum number of tokens",
        "context window exceeds",
        "longer than the model's context",
    ];
    let message = message.to_ascii_lowercase();
    CODES.contains(&code) || WORDS.iter().any(|words| message.contains(words))
}

/// Whether a server says that the reasoning it is sent back is none of its own, or is not there.
fn is_unverified(code: &str, message: &str) -> bool {
    const WORDS: [&str; 6] = [
        "encrypted content could not be",
        "encrypted_content could not be",
        "invalid `signature` in `thinking`",
        "invalid signature in thinking",
        // It was left out where the server wants it: before a call whose result is the last word.
        "must start with a thinking block",
        "expected `thinking` or `redacted_thinking`",
    ];
    let message = message.to_ascii_lowercase();
    code == "invalid_encrypted_content" || WORDS.iter().any(|words| message.contains(words))
}

/// What OpenAI's and Anthropic's servers know better than their status says.
fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.to_str().ok()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn not_found(endpoint: &ModelEndpoint, listed: &[String]) -> String {
    let (at, name) = (shown(&endpoint.base_url), &endpoint.name);
    if listed.is_empty() || listed.contains(name) {
        let api = endpoint.protocol.title();
        return format!(
            "the model server at {at} knows no model `{name}`, or has no {api} there; check its URL and the model's name"
        );
    }
    let choices: Vec<String> = listed.iter().map(|one| bounded(one)).collect();
    format!("the model server at {at} knows no model `{name}`; it has {}", choices.join(", "))
}

/// The code and the words of an error body: OpenAI's form, Anthropic's, the shorter ones of others, or whatever text it
/// is.
fn words(body: &[u8]) -> (String, String) {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), String::from_utf8_lossy(body).trim().to_owned());
    };
    // Some answer with a list of one.
    let body = if body.is_array() { &body[0] } else { &body };
    if body["error"].is_object() {
        return code_and_words(&body["error"]);
    }
    let message = [&body["error"], &body["message"], &body["detail"]]
        .into_iter()
        .find_map(|candidate| candidate.as_str().filter(|words| !words.is_empty()));
    let (code, _) = code_and_words(body);
    (code, message.unwrap_or_default().to_owned())
}

/// The code, which some call the type and some give as a number, and the words of an error.
fn code_and_words(error: &Value) -> (String, String) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    // A word says more than a number, which is often only the status again.
    let words =
        [&error["code"], &error["type"]].into_iter().find(|code| code.as_str().is_some_and(|code| !code.is_empty()));
    let code = words.or(Some(&error["code"])).map(text);
    let message = if error.is_string() { text(error) } else { text(&error["message"]) };
    (code.unwrap_or_default(), message)
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
        Failure::refused(&endpoint, status, &HeaderMap::new(), body.as_bytes(), &[])
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
    fn a_full_window_is_known_whoever_says_so() {
        let said = [
            r#"{"error": {"code": "context_length_exceeded", "message": "so"}}"#,
            r#"{"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400}"#,
            r#"{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}"#,
            r#"{"error": {"code": 400, "type": "exceed_context_size_error", "message": "too much"}}"#,
        ];

        for body in said {
            assert_eq!(refused(400, body).again, Again::ContextFull, "{body}");
        }
        assert_eq!(refused(413, "").again, Again::TooLarge);
        let error = json!({"code": "context_length_exceeded", "message": "so"});
        assert_eq!(Failure::reported(&error).again, Again::ContextFull);
    }

    #[test]
    fn reasoning_that_cannot_be_verified_is_known_whoever_says_so() {
        for body in [
            r#"{"error": {"code": "invalid_encrypted_content", "message": "The encrypted content gAAA could not be verified."}}"#,
            r#"{"type": "error", "error": {"type": "invalid_request_error", "message": "messages.1.content.0: Invalid `signature` in `thinking` block"}}"#,
        ] {
            assert_eq!(refused(400, body).again, Again::Unverified, "{body}");
        }
    }

    #[test]
    fn an_empty_account_and_a_policy_are_final_wherever_they_are_said() {
        for code in ["insufficient_quota", "billing_error", "content_filter"] {
            let error = json!({"code": code, "message": "so"});
            assert_eq!(Failure::reported(&error).again, Again::Never);
            assert_eq!(refused(429, &json!({ "error": error }).to_string()).again, Again::Never);
        }
    }

    #[test]
    fn an_overloaded_server_is_asked_again() {
        let error = json!({"type": "overloaded_error", "message": "Overloaded"});

        assert_eq!(Failure::reported(&error).again, Again::Later);
        for status in [408, 409, 425, 429, 500, 502, 529] {
            assert_eq!(refused(status, "").again, Again::Later, "{status}");
        }
    }

    #[test]
    fn a_server_may_say_itself_whether_to_ask_again() {
        let endpoint = ModelEndpoint::new("m", "http://localhost:1/v1".parse().expect("a URL"), None);
        let says = |status, value: &'static str| {
            let headers =
                HeaderMap::from_iter([("x-should-retry".parse().expect("a name"), value.parse().expect("a value"))]);
            Failure::refused(&endpoint, status, &headers, b"", &[]).again
        };

        assert_eq!((says(500, "false"), says(400, "true")), (Again::Never, Again::Later));
    }

    #[test]
    fn a_model_nobody_knows_is_answered_with_those_there_are() {
        let endpoint = ModelEndpoint::new("gpt-9", "http://localhost:1/v1".parse().expect("a URL"), None);
        let listed = ["gpt-5".to_owned(), "gpt-5-mini".to_owned()];

        let failure = Failure::refused(&endpoint, 404, &HeaderMap::new(), b"", &listed);

        assert!(failure.reason.ends_with("knows no model `gpt-9`; it has gpt-5, gpt-5-mini"), "{}", failure.reason);
    }

    #[test]
    fn the_wait_is_read_from_the_words_of_a_rate_limit() {
        for (message, ms) in [
            ("Limit 30000. Please try again in 1.2s. Visit us.", 1200),
            ("Please retry after 26 seconds.", 26_000),
            ("Quota exceeded. Please retry in 32.5s.", 32_500),
        ] {
            let error = json!({"code": "rate_limit_exceeded", "message": message});
            assert_eq!(Failure::reported(&error).again, Again::After(Duration::from_millis(ms)), "{message}");
        }
    }

    #[test]
    fn a_servers_words_are_bounded_and_plain() {
        let failure = refused(500, &format!("a\u{202e}\u{1b}[2J{}", "x".repeat(100_000)));

        assert!(failure.reason.len() < 1200);
        assert!(!failure.reason.contains(['\u{202e}', '\u{1b}']));
    }
}

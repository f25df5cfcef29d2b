//! What a registry wants to know of who asks: challenges are read here, and tokens are fetched.
//!
//! RFC 9110 section 11 for challenges, and the distribution project's "token authentication specification". The scope
//! that is asked for is always the one this pull needs, whatever the challenge says.

use carrel_domain::Secret;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;

/// Longest token, in bytes: it must fit in a header.
const MAX_TOKEN_BYTES: usize = 32 << 10;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from this server.
    Bearer { realm: Url, service: Option<String> },
    /// A user and a password.
    Basic,
}

/// The best challenge of an answer: a token is preferred, as its server may give one to everybody.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut found = None;
    for header in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = header.to_str() else { continue };
        for (scheme, parameters) in challenges(text) {
            let parameter = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            if scheme == "bearer" {
                let Some(realm) = parameter("realm").and_then(|realm| Url::parse(&realm).ok()) else { continue };
                return Some(Challenge::Bearer { realm, service: parameter("service") });
            }
            if scheme == "basic" {
                found = Some(Challenge::Basic);
            }
        }
    }
    found
}

/// The URL that gives out a token for pulling from this repository.
pub(crate) fn token_url(realm: &Url, service: Option<&str>, repository: &str) -> Url {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &format!("repository:{repository}:pull"));
    }
    url.set_fragment(None);
    url
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in a token server's answer, as a header's value.
pub(crate) fn token_in(body: &[u8]) -> Option<Secret> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty())?;
    let is_plain = token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| Secret::new(format!("Bearer {token}")))
}

/// A secret as the value of a header that debug output does not show.
pub(crate) fn header_value(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Schemes, in lower case, with their parameters.
fn challenges(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let word = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start_matches([' ', '\t']);
        if word.is_empty() {
            return found;
        }
        let Some(value) = rest.strip_prefix('=') else {
            found.push((word, Vec::new()));
            continue;
        };
        let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
        rest = after;
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((word, value));
        }
    }
}

/// A parameter's value, quoted or not, and what follows.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, char) in quoted.char_indices() {
        match char {
            _ if is_escaped => {
                value.push(char);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        challenge(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        let realm = Url::parse(realm).expect("a URL");
        Some(Challenge::Bearer { realm, service: service.map(str::to_owned) })
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b,c:pull""#;
        assert_eq!(of(&[docker]), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(of(&[r#"Basic realm="x, Bearer y""#]), Some(Challenge::Basic));
        assert_eq!(of(&[r#"Basic realm="a", bearer realm="https://t/""#]), bearer("https://t/", None));
        assert_eq!(of(&["Basic", "Bearer realm=https://t/ , service = s"]), bearer("https://t/", Some("s")));
        assert_eq!(of(&[r#"Bearer realm="https://t/\"q""#]), bearer("https://t/\"q", None));
        assert_eq!(of(&["Negotiate", "Bearer", "Bearer realm=nothing", ",,="]), None);
        assert_eq!(of(&[r#"Bearer realm="https://t/"#]), bearer("https://t/", None));
    }

    #[test]
    fn a_token_is_asked_for_pulling_this_repository_only() {
        let realm = Url::parse("https://t/token?account=a#f").expect("a URL");

        let url = token_url(&realm, Some("s t"), "a/b");

        assert_eq!(url.as_str(), "https://t/token?account=a&service=s+t&scope=repository%3Aa%2Fb%3Apull");
    }

    #[test]
    fn a_token_that_would_break_a_header_is_none() {
        let token = |body: &str| token_in(body.as_bytes()).map(|token| token.expose().to_owned());

        assert_eq!(token(r#"{"token": "a.b-c"}"#), Some("Bearer a.b-c".to_owned()));
        assert_eq!(token(r#"{"token": "", "access_token": "x"}"#), Some("Bearer x".to_owned()));
        for body in ["", "{}", r#"{"token": "a\r\nX: y"}"#, r#"{"token": "a b"}"#, r#"{"token": ""}"#] {
            assert_eq!(token(body), None, "{body}");
        }
        assert_eq!(token(&format!("{{\"token\": \"{}\"}}", "a".repeat(40_000))), None);
    }
}

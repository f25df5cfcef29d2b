//! What every request must hold to, whoever sends it: a `Host` that is ours, so that no foreign name can be pointed at
//! the service, and an `Origin` that is ours on whatever a browser changes. And the headers every answer carries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use url::Url;

use crate::Shared;
use crate::problem::ApiError;

/// The names and addresses under which the service may be addressed, without ports.
#[derive(Debug, Clone)]
pub struct Hosts {
    names: BTreeSet<String>,
    any_address: bool,
}

impl Hosts {
    /// This machine's own names, the address that is listened on, and the public URL's host. When every address is
    /// listened on, every address (but still no other name) is taken.
    #[must_use]
    pub fn new(listen: IpAddr, public_url: &Url) -> Self {
        let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into();
        names.insert(match listen {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        names.extend(public_url.host_str().map(str::to_ascii_lowercase));
        Self { names, any_address: listen.is_unspecified() }
    }

    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let is_address = || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        self.names.contains(&name) || (self.any_address && is_address())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Checks `Host`, and `Origin` where there is one.
pub(crate) async fn check(State(shared): State<Shared>, request: Request, next: Next) -> Result<Response, ApiError> {
    let host = host(&request);
    if !host.as_deref().is_some_and(|host| shared.hosts.knows(host)) {
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "unknown-host").detail(format!(
            "the service does not answer to `{}`; set CARREL_PUBLIC_URL to the address people use",
            host.unwrap_or_default().chars().take(200).collect::<String>()
        )));
    }
    if changes_something(request.method(), request.headers()) && request.headers().contains_key(header::ORIGIN) {
        require_own_origin(&shared, request.method(), request.headers())?;
    }
    Ok(next.run(request).await)
}

fn host(request: &Request) -> Option<String> {
    let mut values = request.headers().get_all(header::HOST).iter();
    match (values.next(), values.next()) {
        (Some(host), None) => host.to_str().ok().map(str::to_owned),
        (None, None) => request.uri().authority().map(ToString::to_string),
        _ => None,
    }
}

/// Refuses a change whose `Origin` is missing or not the service's own. A WebSocket is one, whatever comes through it: a
/// browser lets every page open one, with the cookies, and only its `Origin` tells whose page it was.
pub(crate) fn require_own_origin(shared: &Shared, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if !changes_something(method, headers) {
        return Ok(());
    }
    let refusal = |detail: &str| Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin").detail(detail));
    let Some(origin) = headers.get(header::ORIGIN) else {
        return refusal("the request has no `Origin`; programs send a token instead of a cookie");
    };
    let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.is_some_and(|origin| {
        origin.origin() == shared.public_url.origin()
            || (matches!(origin.scheme(), "http" | "https") && host.is_some_and(|host| same_place(&origin, host)))
    });
    if own { Ok(()) } else { refusal("the request's `Origin` is not the address it is sent to") }
}

/// Whether an origin is the host a request was sent to. A browser leaves out the port that belongs to the scheme.
fn same_place(origin: &Url, host: &str) -> bool {
    Url::parse(&format!("{}://{host}", origin.scheme())).is_ok_and(|target| target.origin() == origin.origin())
}

fn changes_something(method: &Method, headers: &HeaderMap) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || headers.contains_key(header::UPGRADE)
}

/// Headers of every answer of the API: it is data, never a page, and nobody keeps it.
pub(crate) async fn api_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox");
    set(headers, header::CACHE_CONTROL, "no-store");
    set(headers, header::REFERRER_POLICY, "no-referrer");
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listen: &str) -> Hosts {
        let public = Url::parse("https://carrel.example.com/").expect("a URL");
        Hosts::new(listen.parse().expect("an address"), &public)
    }

    #[test]
    fn own_names_are_known_with_any_port() {
        for host in ["localhost", "LOCALHOST:7070", "127.0.0.1:7070", "[::1]:7070", "[::1]", "carrel.example.com"] {
            assert!(hosts("127.0.0.1").knows(host), "{host}");
        }
    }

    #[test]
    fn foreign_names_are_not_known() {
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1", "localhost:x"]
        {
            assert!(!hosts("127.0.0.1").knows(host), "{host}");
        }
    }

    #[test]
    fn listening_everywhere_takes_every_address_and_no_other_name() {
        assert!(hosts("0.0.0.0").knows("10.0.0.1:7070"));
        assert!(!hosts("0.0.0.0").knows("evil.example"));
    }

    #[test]
    fn an_origin_is_the_host_with_the_schemes_port_left_out() {
        let origin = Url::parse("https://carrel.example.com").expect("a URL");
        assert!(same_place(&origin, "carrel.example.com"));
        assert!(same_place(&origin, "carrel.example.com:443"));
        assert!(!same_place(&origin, "carrel.example.com:8443"));
    }
}

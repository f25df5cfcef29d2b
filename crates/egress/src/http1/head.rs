//! Reads the head of an HTTP/1 request strictly (RFC 9112): what two servers could read differently is refused, so there is
//! nothing to smuggle a second request in.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::target::shown;

/// Longest head, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most header fields.
const MAX_FIELDS: usize = 128;

/// Headers that are between two neighbours and go no further, beside those that `connection` names. What is meant for a
/// proxy is not told to a server.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "content-length",
];
/// Headers that `connection` may not name: dropping them would change what a request is.
const NEVER_DROPPED: [&str; 4] = ["host", "content-length", "transfer-encoding", "authorization"];

/// Why a head is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidHead(pub(crate) String);

fn invalid<T>(why: impl Into<String>) -> Result<T, InvalidHead> {
    Err(InvalidHead(why.into()))
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// That many bytes, 0 where the client says so.
    Length(u64),
    /// As its chunks say.
    Chunked,
}

/// A request's head. The headers that are between neighbours have been taken out.
#[derive(Debug)]
pub(crate) struct Head {
    /// The method.
    pub(crate) method: Method,
    /// What stands between the method and the version: visible ASCII, not read any further.
    pub(crate) target: String,
    /// The one `host` header.
    pub(crate) host: Option<String>,
    /// All others.
    pub(crate) headers: HeaderMap,
    /// How the body is delimited.
    pub(crate) framing: Framing,
    /// Whether another request may follow.
    pub(crate) keeps_alive: bool,
    /// HTTP/1.0, which knows no chunks.
    pub(crate) is_old: bool,
    /// Whether the client waits to be told to go on before it sends the body.
    pub(crate) expects_continue: bool,
    /// Whether it asks for a WebSocket.
    pub(crate) is_websocket: bool,
}

/// Looks for the end of a head among bytes of which the first `scanned` have been looked at; `None` while more are needed.
///
/// # Errors
/// As soon as there is what no head has.
pub(crate) fn find_end(bytes: &[u8], scanned: usize) -> Result<Option<usize>, InvalidHead> {
    for (index, byte) in bytes.iter().enumerate().skip(scanned) {
        match byte {
            b'\n' if index == 0 || bytes[index - 1] != b'\r' => {
                return invalid("a line ends without a carriage return");
            }
            b'\n' if bytes[..index].ends_with(b"\r\n\r") => return Ok(Some(index + 1)),
            b'\n' if index == 1 => return invalid("a request begins with an empty line"),
            b'\n' => {}
            _ if index > 0 && bytes[index - 1] == b'\r' => return invalid("a carriage return stands alone"),
            0 => return invalid("a head has a NUL in it"),
            _ => {}
        }
    }
    if bytes.len() > MAX_HEAD_BYTES { invalid("the head of a request is longer than 64 KiB") } else { Ok(None) }
}

/// Reads a head that [`find_end`] found the end of.
pub(crate) fn read(bytes: &[u8]) -> Result<Head, InvalidHead> {
    if bytes.len() > MAX_HEAD_BYTES {
        return invalid("the head of a request is longer than 64 KiB");
    }
    let text = bytes.strip_suffix(b"\r\n\r\n").ok_or_else(|| InvalidHead("a head has no end".into()))?;
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target, is_old) = read_request_line(lines.next().unwrap_or_default())?;
    let mut headers = HeaderMap::new();
    for (count, line) in lines.enumerate() {
        if count == MAX_FIELDS {
            return invalid("a request has more than 128 header fields");
        }
        let (name, value) = read_field(line)?;
        headers.append(name, value);
    }
    let framing = read_framing(&headers, is_old)?;
    let host = read_host(&headers, is_old)?;
    let options = connection_options(&headers)?;
    let has = |option: &str| options.iter().any(|named| named == option);
    let upgrades_to = headers.get(header::UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_websocket = has("upgrade") && upgrades_to.eq_ignore_ascii_case(b"websocket") && method == Method::GET;
    if is_websocket && framing != Framing::Empty {
        return invalid("a request for a WebSocket has a body");
    }
    let expects_continue = match headers.get(header::EXPECT).map(HeaderValue::as_bytes) {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => !is_old,
        Some(_) => return invalid("a request expects something else than 100-continue"),
    };
    let keeps_alive = if is_old { has("keep-alive") } else { !has("close") };
    drop_hop_by_hop(&mut headers, &options);
    Ok(Head { method, target, host, headers, framing, keeps_alive, is_old, expects_continue, is_websocket })
}

fn read_request_line(line: &[u8]) -> Result<(Method, String, bool), InvalidHead> {
    let Ok(line) = std::str::from_utf8(line) else { return invalid("a request's first line is not ASCII") };
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return invalid("a request's first line is not `METHOD target HTTP/1.1`");
    };
    let is_old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        "HTTP/2.0" => return invalid("HTTP/2 without TLS is not spoken here; use HTTP/1.1"),
        _ => return invalid("a request is neither HTTP/1.1 nor HTTP/1.0"),
    };
    let is_token = !method.is_empty()
        && method.len() <= 32
        && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let method = match Method::from_bytes(method.as_bytes()) {
        Ok(method) if is_token => method,
        _ => return invalid(format!("`{}` is no method", shown(method))),
    };
    if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid("a request's target has something else in it than visible ASCII");
    }
    Ok((method, target.to_owned(), is_old))
}

fn read_field(line: &[u8]) -> Result<(HeaderName, HeaderValue), InvalidHead> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return invalid("a header is folded over two lines");
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return invalid("a header has no colon");
    };
    // `from_bytes` takes tokens only: no space before the colon.
    let Ok(name) = HeaderName::from_bytes(&line[..colon]) else {
        return invalid(format!("`{}` is no name of a header", shown(&String::from_utf8_lossy(&line[..colon]))));
    };
    let Ok(value) = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()) else {
        return invalid(format!("the header {name} has control characters in it"));
    };
    Ok((name, value))
}

fn read_framing(headers: &HeaderMap, is_old: bool) -> Result<Framing, InvalidHead> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() {
        return invalid("a request says more than once how long its body is");
    }
    match (length, coding) {
        (None, None) => Ok(Framing::Empty),
        (Some(_), Some(_)) => invalid("a request has both content-length and transfer-encoding"),
        (None, Some(coding)) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && !is_old => Ok(Framing::Chunked),
        (None, Some(_)) => invalid("a request has another transfer-encoding than chunked"),
        (Some(length), None) => {
            let digits = length.as_bytes();
            let is_plain = !digits.is_empty() && digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit);
            match length.to_str().unwrap_or_default().parse() {
                Ok(length) if is_plain => Ok(Framing::Length(length)),
                _ => invalid("a request's content-length is no number"),
            }
        }
    }
}

fn read_host(headers: &HeaderMap, is_old: bool) -> Result<Option<String>, InvalidHead> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if is_old => Ok(None),
        (None, _) => invalid("a request has no host header"),
        (Some(_), Some(_)) => invalid("a request has two host headers"),
        (Some(host), None) => match host.to_str() {
            Ok(host) => Ok(Some(host.to_owned())),
            Err(_) => invalid("a request's host header is not ASCII"),
        },
    }
}

fn connection_options(headers: &HeaderMap) -> Result<Vec<String>, InvalidHead> {
    let mut options = Vec::new();
    for value in headers.get_all(header::CONNECTION).iter().chain(headers.get_all("proxy-connection")) {
        let Ok(value) = value.to_str() else { return invalid("a request's connection header is not ASCII") };
        options.extend(value.split(',').map(|option| option.trim().to_ascii_lowercase()));
    }
    match options.iter().find(|option| NEVER_DROPPED.contains(&option.as_str())) {
        Some(option) => invalid(format!("a request's connection header would take {option} away")),
        None => Ok(options),
    }
}

/// Takes out what is between two neighbours.
pub(crate) fn drop_hop_by_hop(headers: &mut HeaderMap, options: &[String]) {
    for name in HOP_BY_HOP.iter().copied().chain(options.iter().map(String::as_str)) {
        headers.remove(name);
    }
    headers.remove(header::HOST);
    let for_proxies: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned().collect();
    for name in for_proxies {
        headers.remove(name);
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;

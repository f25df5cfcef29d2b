//! Network secrets: a placeholder becomes the value on its way out, and the value a placeholder on its way back.
//!
//! Only inside TLS that was opened, only for the hosts that a secret is for, and only in headers and in the address. A
//! placeholder on its way to anywhere else is refused: whoever sends it there expects a secret.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use carrel_domain::Redactor;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::body::{Body, BodyError};
use crate::decide::Refused;
use crate::policy::NetworkSecret;
use crate::target::{Host, shown};
use crate::upstream::{Origin, Scheme};

/// Shortest placeholder that is looked for: a shorter one would be found in ordinary text.
const MIN_PLACEHOLDER_BYTES: usize = 16;

/// Headers that ask for a part of an answer, those of old and of object stores among them.
const ASK_FOR_A_PART: [&str; 4] = ["range", "if-range", "request-range", "x-ms-range"];

/// The secrets of a session.
#[derive(Debug)]
pub(crate) struct Secrets {
    all: Vec<NetworkSecret>,
    /// Finds placeholders, by their index in `all`.
    placeholders: Option<AhoCorasick>,
    /// For each secret, how its value is found in what comes back.
    forms: Vec<Vec<String>>,
}

impl Secrets {
    pub(crate) fn new(secrets: Vec<NetworkSecret>) -> Self {
        let (all, useless): (Vec<_>, Vec<_>) =
            secrets.into_iter().partition(|secret| secret.placeholder.len() >= MIN_PLACEHOLDER_BYTES);
        for secret in useless {
            tracing::warn!(name = secret.name, "a network secret's placeholder is too short; the secret is not used");
        }
        let patterns = all.iter().map(|secret| secret.placeholder.as_bytes());
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
        let placeholders = built.ok().filter(|_| !all.is_empty());
        let forms = all.iter().map(forms_of).collect();
        Self { all, placeholders, forms }
    }

    /// Whether TLS to this host is opened for a secret.
    pub(crate) fn are_for(&self, host: &Host) -> bool {
        self.all.iter().any(|secret| is_for(secret, host))
    }

    /// The name of a secret whose value this server may be sent, if there is one: then whatever it answers has to be read.
    pub(crate) fn first_for(&self, origin: &Origin) -> Option<&str> {
        let is_sent = |secret: &&NetworkSecret| origin.scheme == Scheme::Https && is_for(secret, &origin.target.host);
        self.all.iter().find(is_sent).map(|secret| secret.name.as_str())
    }

    /// Puts values where placeholders are, in the path and in headers.
    pub(crate) fn put_in(&self, origin: &Origin, path: &mut String, headers: &mut HeaderMap) -> Result<(), Refused> {
        let Some(placeholders) = &self.placeholders else { return Ok(()) };
        if let Some(new) = self.replaced(placeholders, origin, path.as_bytes(), percent_encoded)? {
            *path = String::from_utf8(new).map_err(|_| Refused::malformed("a path is no text"))?;
        }
        for (name, value) in headers.iter_mut() {
            let plain = self.replaced(placeholders, origin, value.as_bytes(), as_it_is)?;
            let new = match plain {
                Some(new) => Some(new),
                None if name == header::AUTHORIZATION => self.replaced_in_basic(placeholders, origin, value)?,
                None => None,
            };
            if let Some(new) = new {
                let mut new = HeaderValue::from_maybe_shared(Bytes::from(new)).map_err(|_| {
                    Refused::malformed(format!(
                        "the value of a secret for {} cannot stand in a header",
                        origin.target.host
                    ))
                })?;
                new.set_sensitive(true);
                *value = new;
            }
        }
        if self.first_for(origin).is_some() {
            // So that an answer that repeats the value can be read, and has the value whole.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            for name in ASK_FOR_A_PART {
                headers.remove(name);
            }
        }
        Ok(())
    }

    /// `Basic` credentials are base64, where a placeholder does not show.
    fn replaced_in_basic(
        &self,
        placeholders: &AhoCorasick,
        origin: &Origin,
        value: &HeaderValue,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let bytes = value.as_bytes();
        let Some((scheme, credentials)) = bytes.split_at_checked(6) else { return Ok(None) };
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return Ok(None);
        }
        let Ok(plain) = STANDARD.decode(credentials.trim_ascii()) else { return Ok(None) };
        let new = self.replaced(placeholders, origin, &plain, as_it_is)?;
        Ok(new.map(|new| format!("Basic {}", STANDARD.encode(new)).into_bytes()))
    }

    /// The text with values in place of placeholders; `None` when there are none.
    fn replaced(
        &self,
        placeholders: &AhoCorasick,
        origin: &Origin,
        text: &[u8],
        encoded: fn(&str) -> String,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let mut new = Vec::new();
        let mut copied = 0;
        for found in placeholders.find_iter(text) {
            let secret = &self.all[found.pattern().as_usize()];
            check(secret, origin)?;
            new.extend_from_slice(&text[copied..found.start()]);
            new.extend_from_slice(encoded(secret.value.expose()).as_bytes());
            copied = found.end();
        }
        if copied == 0 {
            return Ok(None);
        }
        new.extend_from_slice(&text[copied..]);
        Ok(Some(new))
    }

    /// How values are taken out of answers of this server; `None` when it gets none.
    pub(crate) fn take_out(&self, origin: &Origin) -> Option<TakeOut> {
        if origin.scheme != Scheme::Https {
            return None;
        }
        let mut patterns = Vec::new();
        let mut placeholders = Vec::new();
        for (secret, forms) in
            self.all.iter().zip(&self.forms).filter(|(secret, _)| is_for(secret, &origin.target.host))
        {
            for form in forms {
                patterns.push(form.clone().into_bytes());
                placeholders.push(Bytes::from(secret.placeholder.clone()));
            }
        }
        if patterns.is_empty() {
            return None;
        }
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns).ok()?;
        Some(TakeOut(Arc::new(Known { finder, patterns, placeholders })))
    }
}

fn is_for(secret: &NetworkSecret, host: &Host) -> bool {
    matches!(host, Host::Name(name) if secret.hosts.contains(name))
}

fn check(secret: &NetworkSecret, origin: &Origin) -> Result<(), Refused> {
    let host = &origin.target.host;
    if !is_for(secret, host) {
        let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
        let why = format!("the secret {} is not for {host} but for {}", secret.name, hosts.join(", "));
        return Err(Refused::by_policy(why, None));
    }
    if origin.scheme != Scheme::Https {
        let why = format!("the secret {} is sent over HTTPS only, and this is plain HTTP to {host}", secret.name);
        return Err(Refused::by_policy(why, None));
    }
    Ok(())
}

fn as_it_is(value: &str) -> String {
    value.to_owned()
}

fn percent_encoded(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(encode).collect()
}

/// The encoding of an answer in which a value would not be found; `None` when it is written plainly. That of the
/// transfer counts as well, beside the chunks that are undone on the way.
pub(crate) fn encoding(headers: &HeaderMap) -> Option<String> {
    let listed = |name, plain: &'static [&'static str]| {
        headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).find(
            move |coding| {
                let coding = coding.trim_ascii();
                !coding.is_empty() && !plain.iter().any(|plain| coding.eq_ignore_ascii_case(plain.as_bytes()))
            },
        )
    };
    listed(header::CONTENT_ENCODING, &["identity"])
        .or_else(|| listed(header::TRANSFER_ENCODING, &["identity", "chunked"]))
        .map(|coding| shown(&String::from_utf8_lossy(coding.trim_ascii())))
}

/// The ways in which an answer may repeat a value.
fn forms_of(secret: &NetworkSecret) -> Vec<String> {
    let value = secret.value.expose();
    let mut forms = Redactor::new([&secret.value]).forms();
    forms.push(value.to_owned());
    forms.push(percent_encoded(value));
    forms.sort();
    forms.dedup();
    forms.retain(|form| !form.is_empty());
    forms
}

/// Takes values out of an answer.
#[derive(Debug, Clone)]
pub(crate) struct TakeOut(Arc<Known>);

#[derive(Debug)]
struct Known {
    finder: AhoCorasick,
    patterns: Vec<Vec<u8>>,
    placeholders: Vec<Bytes>,
}

impl Known {
    /// The text with placeholders, up to where a value may begin whose end has not come yet; what is from there on is
    /// left in `text`.
    fn take_out(&self, text: &mut BytesMut, is_end: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(text.len());
        let mut copied = 0;
        for found in self.finder.find_iter(&text[..]) {
            out.extend_from_slice(&text[copied..found.start()]);
            out.extend_from_slice(&self.placeholders[found.pattern().as_usize()]);
            copied = found.end();
        }
        let rest = &text[copied..];
        let open = if is_end { 0 } else { self.open_end(rest) };
        out.extend_from_slice(&rest[..rest.len() - open]);
        let _ = text.split_to(text.len() - open);
        out.freeze()
    }

    /// How many bytes at the end may be the beginning of a value.
    fn open_end(&self, text: &[u8]) -> usize {
        let open = |pattern: &Vec<u8>| {
            let longest = text.len().min(pattern.len() - 1);
            (1..=longest).rev().find(|length| pattern.starts_with(&text[text.len() - length..]))
        };
        self.patterns.iter().filter_map(open).max().unwrap_or(0)
    }
}

impl TakeOut {
    /// Takes values out of headers.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if self.0.finder.is_match(value.as_bytes()) {
                let new = self.0.take_out(&mut BytesMut::from(value.as_bytes()), true);
                // A placeholder has no character that a header may not have.
                *value = HeaderValue::from_maybe_shared(new).unwrap_or(HeaderValue::from_static(""));
            }
        }
    }

    /// Takes values out of a body as it passes.
    pub(crate) fn body(&self, inner: Body) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Restored { inner, known: Arc::clone(&self.0), held: BytesMut::new(), trailers: None, is_done: false }
            .boxed_unsync()
    }
}

struct Restored {
    inner: Body,
    known: Arc<Known>,
    /// What may be the beginning of a value.
    held: BytesMut,
    trailers: Option<HeaderMap>,
    is_done: bool,
}

impl http_body::Body for Restored {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        while !this.is_done {
            let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else { return Poll::Pending };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.held.extend_from_slice(&data);
                        let out = this.known.take_out(&mut this.held, false);
                        if !out.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(out))));
                        }
                    }
                    Err(other) => this.trailers = other.into_trailers().ok(),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.is_done = true;
                    let out = this.known.take_out(&mut this.held, true);
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out))));
                    }
                }
            }
        }
        Poll::Ready(this.trailers.take().map(|mut trailers| {
            TakeOut(Arc::clone(&this.known)).headers(&mut trailers);
            Ok(Frame::trailers(trailers))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;

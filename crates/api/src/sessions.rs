//! `/sessions`, `/owner-links` and `/me`: signing in, and who is signed in.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod me;
pub(crate) mod owner_link;
pub(crate) mod show;

use axum::http::HeaderValue;
use axum_extra::extract::cookie::{Cookie, SameSite};
use carrel_identity::SESSION_LIFE;

use crate::Shared;
use crate::caller::COOKIE;

/// The session cookie: for this site only, out of reach of scripts, and over TLS only where the service has it.
fn cookie(shared: &Shared, value: &str) -> HeaderValue {
    let secure = shared.public_url.scheme() == "https";
    let life = if value.is_empty() { 0 } else { SESSION_LIFE.as_secs().cast_signed() };
    let mut cookie = Cookie::new(COOKIE, value);
    cookie.set_path("/");
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_secure(secure);
    let text = format!("{cookie}; Max-Age={life}");
    HeaderValue::from_str(&text).expect("the cookie's value is base64url")
}

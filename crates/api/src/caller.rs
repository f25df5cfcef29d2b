//! Who is asking: a program by its bearer token, a browser by its session cookie. Denied unless proved.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum_extra::extract::cookie::CookieJar;
use carrel_domain::Secret;
use carrel_identity::Identity;
use carrel_store::Principal;

use crate::problem::ApiError;
use crate::{Shared, guard};

/// The name of the session cookie.
pub(crate) const COOKIE: &str = "carrel_session";

/// Who is asking, and how they proved it.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    Token(Secret),
    Session(Secret),
}

impl Caller {
    /// Whether the proof still holds: asked again and again on streams that live long.
    pub(crate) async fn still_holds(&self, identity: &Identity) -> bool {
        let holder = match &self.proof {
            Proof::Token(token) => identity.by_token(token.expose()).await,
            Proof::Session(cookie) => identity.by_session(cookie.expose()).await,
        };
        holder.is_ok_and(|holder| holder == Some(self.principal))
    }

    /// The session cookie, for signing out.
    pub(crate) const fn session(&self) -> Option<&Secret> {
        match &self.proof {
            Proof::Session(cookie) => Some(cookie),
            Proof::Token(_) => None,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// Lets nobody through who has not proved who they are.
pub(crate) async fn require(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = identify(&shared, request.headers()).await?;
    if matches!(caller.proof, Proof::Session(_)) {
        guard::require_own_origin(&shared, request.method(), request.headers())?;
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Who is signed in with the browser that sends these, if somebody is.
pub(crate) async fn of_session(shared: &Shared, headers: &HeaderMap) -> Result<Option<Principal>, ApiError> {
    match CookieJar::from_headers(headers).get(COOKIE) {
        Some(cookie) => Ok(shared.identity.by_session(cookie.value()).await?),
        None => Ok(None),
    }
}

async fn identify(shared: &Shared, headers: &HeaderMap) -> Result<Caller, ApiError> {
    // A request with a token is a program's, whatever cookies come with it.
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(bearer).ok_or_else(unauthenticated)?;
        let principal = shared.identity.by_token(token).await?.ok_or_else(|| {
            unauthenticated().detail(
                "the token is not known here, or was revoked; the local one is in the data folder's file `token`",
            )
        })?;
        return Ok(Caller { principal, proof: Proof::Token(Secret::new(token)) });
    }
    let jar = CookieJar::from_headers(headers);
    let cookie = jar.get(COOKIE).ok_or_else(unauthenticated)?.value();
    let principal = shared.identity.by_session(cookie).await?.ok_or_else(|| {
        unauthenticated().detail("the session has ended; run `carrel owner-link` for a fresh sign-in link")
    })?;
    Ok(Caller { principal, proof: Proof::Session(Secret::new(cookie)) })
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn unauthenticated() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated").detail(
        "send `Authorization: Bearer TOKEN` (the local token is in the data folder's file `token`), or sign in with the \
         link that `carrel owner-link` prints",
    )
}

//! Errors on their way out: every one is a problem document that names the thing and the way out.

mod words;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use carrel_control::ControlError;
use carrel_identity::IdentityError;
use carrel_store::StoreError;
use carrel_wire::{FieldError, Problem};

use crate::MAX_BODY_BYTES;
use words::Complaint;

/// An error as it goes out.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    errors: Vec<FieldError>,
}

impl ApiError {
    /// An error whose title says it all.
    pub(crate) fn new(status: StatusCode, kind: &'static str) -> Self {
        Self { status, kind, detail: title(kind).to_owned(), errors: Vec::new() }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(crate) fn not_found(noun: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found").detail(format!("there is no such {noun}"))
    }

    /// One field of the request is wrong.
    pub(crate) fn field(field: &str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self {
            errors: vec![FieldError { field: field.to_owned(), message: message.clone() }],
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request").detail(message)
        }
    }

    /// What was sent could not be read: `Failed to deserialize …: ` and what serde says.
    fn unread(text: &str) -> Self {
        let what = text.split_once(": ").map_or(text, |(_, what)| what);
        let Complaint { field, message } = words::complaint(what);
        match field {
            Some(field) => Self::field(&field, message),
            None => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request").detail(message),
        }
    }
}

/// The kinds of problems, in words.
fn title(kind: &str) -> &'static str {
    match kind {
        "not-found" => "there is no such thing",
        "method-not-allowed" => "this route does not take that method",
        "unauthenticated" => "sign in, or send a token",
        "sign-in-link-spent" => "the sign-in link does not work any more",
        "foreign-origin" => "the request comes from another site",
        "unknown-host" => "the service is not known under that name",
        "invalid-request" => "the request is not valid",
        "too-large" => "the request is too large",
        "not-now" => "that cannot be done as things stand",
        "not-a-websocket" => "the route is a WebSocket",
        "no-model" => "no model is configured",
        "budget-exhausted" => "a budget is used up",
        "not-allowed" => "the person may not do that",
        "name-taken" => "the name is taken",
        "artifacts-unavailable" => "the bytes cannot be had or kept now",
        "secret-unusable" => "a secret's value cannot be used",
        "conflict" => "somebody else has changed it in the meantime",
        _ => "the service has a problem",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("urn:carrel:problem:{}", self.kind),
            title: title(self.kind).to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            errors: self.errors,
        };
        let body = serde_json::to_vec(&problem).expect("a problem is plain data");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { noun } => Self::not_found(noun),
            StoreError::UnknownEnvironment { .. } => Self::not_found("environment").detail(error.to_string()),
            StoreError::EnvironmentExists { .. } => {
                Self { status: StatusCode::CONFLICT, kind: "name-taken", ..Self::field("name", error) }
            }
            StoreError::UnknownAttachment { .. } => Self::field("attachments", error),
            StoreError::NotCovered { .. } => Self::field("environment", error),
            StoreError::TooManyEnvironments { .. }
            | StoreError::TooLate { .. }
            | StoreError::TooManyMessages { .. }
            | StoreError::TooManyAttachments { .. }
            | StoreError::NotRetried { .. }
            | StoreError::Impossible(_)
            | StoreError::EnvironmentDeleted { .. }
            | StoreError::EnvironmentInUse { .. }
            | StoreError::DefaultEnvironment => Self::new(StatusCode::CONFLICT, "not-now").detail(error.to_string()),
            StoreError::SecretGone { .. } | StoreError::SecretClosed { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "secret-unusable").detail(error.to_string())
            }
            StoreError::Artifacts { .. } | StoreError::ArtifactLost { .. } => {
                tracing::error!(%error, "a request failed for an artifact");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "artifacts-unavailable")
                    .detail(format!("{error}; nothing was changed"))
            }
            StoreError::OwnersOnly { .. } => Self::new(StatusCode::FORBIDDEN, "not-allowed").detail(error.to_string()),
            StoreError::Conflict { noun } => Self::new(StatusCode::CONFLICT, "conflict")
                .detail(format!("the {noun} was changed by somebody else in the meantime; look at it and try again")),
            other => {
                tracing::error!(error = %other, "a request failed in the store");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable").detail(format!(
                    "{other}; nothing was changed. Check the disk of the data folder and the service's log, then try again"
                ))
            }
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Invalid { field, message } => Self::field(field, message),
            ControlError::NotNow(reason) => Self::new(StatusCode::CONFLICT, "not-now").detail(reason),
            ControlError::Exhausted(reason) => Self::new(StatusCode::CONFLICT, "budget-exhausted").detail(reason),
            ControlError::NoModel(reason) => Self::new(StatusCode::CONFLICT, "no-model").detail(reason),
            ControlError::Store(error) => error.into(),
        }
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Store(error) => error.into(),
            IdentityError::LinkSpent => {
                Self::new(StatusCode::UNAUTHORIZED, "sign-in-link-spent").detail(error.to_string())
            }
            IdentityError::TokenFile { .. } | IdentityError::Random(_) => {
                tracing::error!(%error, "a request failed");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "identity-unavailable").detail(error.to_string())
            }
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::new(status, "too-large").detail(format!(
                "the request has more than {MAX_BODY_BYTES} bytes ({} MiB), and the service takes no larger one; what is \
                 that long belongs into a file of the repository or of the image",
                MAX_BODY_BYTES >> 20
            ));
        }
        match &rejection {
            JsonRejection::JsonDataError(_) => Self { status, ..Self::unread(&rejection.body_text()) },
            JsonRejection::JsonSyntaxError(_) => {
                let text = rejection.body_text();
                let what = text.split_once(": ").map_or(text.as_str(), |(_, what)| what);
                Self::new(status, "invalid-request").detail(format!("the body is no JSON: {what}"))
            }
            JsonRejection::MissingJsonContentType(_) => Self::new(status, "invalid-request")
                .detail("the request does not say that its body is JSON; send `content-type: application/json`"),
            _ => Self::new(status, "invalid-request").detail(rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::unread(&rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found").detail(rejection.body_text())
    }
}

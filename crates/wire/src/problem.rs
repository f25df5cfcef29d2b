//! Errors as RFC 9457 problem details: `application/problem+json`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was refused (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem for programs: `urn:carrel:problem:<kind>`.
    #[serde(rename = "type")]
    #[schema(example = "urn:carrel:problem:invalid-request")]
    pub kind: String,
    /// The kind in words.
    #[schema(example = "the request is not valid")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What is wrong this time, and the way out.
    #[schema(example = "the prompt is empty; say what is to be done")]
    pub detail: String,
    /// Which fields of the request are wrong, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The field's name.
    #[schema(example = "prompt")]
    pub field: String,
    /// What is wrong with it.
    #[schema(example = "the prompt is empty; say what is to be done")]
    pub message: String,
}

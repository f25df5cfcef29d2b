//! What commands print, on its way to two readers: people, who get clean text in bounded events ([`show`]), and the
//! model, which gets what it asked for within its budget ([`keep`]) and can read more of it later ([`recorded`]).

pub(crate) mod bare;
pub(crate) mod clean;
pub(crate) mod ends;
pub(crate) mod keep;
pub(crate) mod recorded;
pub(crate) mod show;

use carrel_domain::{EventBody, Redactor};
use serde_json::Value;

/// An event as people may see it: without secrets, and with nothing in it that does not show. Items of the
/// conversation are for the model, and are left as they are.
#[must_use]
pub fn for_people(body: EventBody, redactor: &Redactor) -> EventBody {
    if matches!(body, EventBody::ConversationItem { .. } | EventBody::ContextCompacted { .. }) {
        return body;
    }
    let kind = body.kind();
    let shown = serde_json::to_value(body).map(|value| visible_json(redactor.redact_json(value)));
    // An event whose very form was taken for a secret is worth less than the secret.
    let left_out = || EventBody::Warning { message: format!("an event of kind {kind} is left out") };
    shown.and_then(serde_json::from_value).unwrap_or_else(|_| left_out())
}

fn visible_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean::visible(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(visible_json).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, visible_json(value))).collect())
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar,
    }
}

//! The errors that any request may end in, described once for all operations of the OpenAPI document.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};

/// Errors of every operation.
const ALWAYS: [(&str, &str); 3] = [
    ("403", "The request comes from another site"),
    ("421", "The service is not known under that name"),
    ("503", "The service's database cannot be used now; nothing was changed"),
];

/// Errors of operations that take a body.
const WITH_BODY: [(&str, &str); 4] = [
    ("400", "The body is not JSON"),
    ("413", "The body is too large"),
    ("415", "The body is not declared as JSON"),
    ("422", "A field makes no sense"),
];

/// Adds them to every operation that does not describe them itself.
pub(crate) fn describe(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let with_body = if operation.request_body.is_some() { WITH_BODY.as_slice() } else { &[] };
            for (status, description) in ALWAYS.iter().chain(with_body) {
                add(operation, status, description);
            }
        }
    }
}

fn add(operation: &mut Operation, status: &str, description: &str) {
    let responses = &mut operation.responses.responses;
    responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
}

fn problem(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

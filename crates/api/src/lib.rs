//! The HTTP API under `/api/v1`, its event stream, and the embedded web app.
//!
//! Reads come from `carrel-store`, changes go through `carrel-control`. One verb of one noun is one file, with its
//! documentation and its errors. Nothing is answered without authentication but what [`router`] lists as open.

mod agents;
mod assets;
mod attachments;
mod attempts;
mod budgets;
mod caller;
mod environments;
mod extract;
mod guard;
mod health;
mod metrics;
mod models;
mod problem;
mod publications;
mod repositories;
mod sessions;
mod shared_errors;
mod tasks;
mod terminals;
mod trace;
mod view;
mod workers;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router, middleware};
use carrel_control::Control;
use carrel_identity::Identity;
use tokio_util::sync::CancellationToken;
use tower_http::trace::TraceLayer;
use url::Url;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use guard::Hosts;
pub use metrics::figures;
use problem::ApiError;
pub use sessions::owner_link::sign_in_url;

/// The largest request, in bytes. The limits of single fields are lower and have errors of their own.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// What the API stands on.
pub struct ApiOptions {
    /// Takes changes.
    pub control: Control,
    /// Says who is asking.
    pub identity: Identity,
    /// Names under which the service may be addressed.
    pub hosts: Hosts,
    /// Where browsers find the service; links begin with it.
    pub public_url: Url,
    /// Ends the event streams when the process is to stop.
    pub stop: CancellationToken,
}

type Shared = Arc<ApiOptions>;

/// Every route, ready to be served.
///
/// Open to everybody: `/healthz`, `/readyz`, `/api/v1/openapi.json`, the web app's own files (which hold no data), and
/// `POST /api/v1/sessions`, whose body is the proof. `/metrics` wants a proof.
pub fn router(options: ApiOptions) -> Router {
    let shared: Shared = Arc::new(options);
    let (open, document) = open_routes().split_for_parts();
    let (closed, rest) = closed_routes().split_for_parts();
    let mut document = document;
    document.merge(rest);
    let document = Arc::new(with_security(document));
    let api = closed
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), caller::require))
        .merge(open)
        .route("/openapi.json", get(move || async move { Json(Arc::unwrap_or_clone(document)) }))
        .fallback(async || ApiError::not_found("route"))
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"))
        .layer(middleware::map_response(guard::api_headers));
    let metrics = Router::new()
        .route("/metrics", get(metrics::show))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), caller::require));
    Router::new()
        .nest("/api/v1", api)
        .route("/api/{*rest}", axum::routing::any(async || ApiError::not_found("route")))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(metrics)
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::check))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), metrics::time))
        .layer(TraceLayer::new_for_http().make_span_with(trace::span))
        .with_state(shared)
}

/// What a process serves that works and answers no API: `/healthz` and `/readyz`, open to everybody, and `/metrics`, which
/// wants a proof.
pub fn worker_router(options: ApiOptions) -> Router {
    let shared: Shared = Arc::new(options);
    let metrics = Router::new()
        .route("/metrics", get(metrics::show))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), caller::require));
    let elsewhere = async || {
        ApiError::not_found("route")
            .detail("this process is a worker and serves no API; ask one that was started with the role `api` or `all`")
    };
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(metrics)
        .fallback(elsewhere)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::check))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), metrics::time))
        .layer(TraceLayer::new_for_http().make_span_with(trace::span))
        .with_state(shared)
}

/// The OpenAPI document, as it is served.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = open_routes().into_openapi();
    document.merge(closed_routes().into_openapi());
    with_security(document)
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Carrel",
        description = "A coding agent that works in a cloud its user owns. Errors are `application/problem+json` \
                       (RFC 9457). Times are RFC 3339 in UTC, ids are UUIDs, sizes are bytes.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/api/v1")),
    components(schemas(carrel_wire::TerminalRequest, carrel_wire::TerminalNews)),
    tags(
        (name = "tasks", description = "Things delegated, their turns and their logs"),
        (name = "attachments", description = "Files given with a prompt"),
        (name = "attempts", description = "The agents' runs and what they leave"),
        (name = "publications", description = "Patches on their way to a git remote"),
        (name = "environments", description = "How sandboxes are made ready, and what they may reach"),
        (name = "models", description = "What tasks may be given to"),
        (name = "budgets", description = "What may be spent in a month and run at once, and what was"),
        (name = "repositories", description = "What was worked on"),
        (name = "workers", description = "The processes of the installation"),
        (name = "sessions", description = "Signing in, and who is signed in"),
    )
)]
struct Document;

fn open_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(sessions::create::create))
        .routes(routes!(sessions::show::show))
}

fn closed_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(tasks::list::list, tasks::create::create))
        .routes(routes!(tasks::changes::changes))
        .routes(routes!(tasks::show::show))
        .routes(routes!(tasks::events::events))
        .routes(routes!(tasks::follow_up::follow_up))
        .routes(routes!(attachments::show::show))
        .merge(OpenApiRouter::default().routes(routes!(attachments::create::create)).layer(attachments::create::room()))
        .routes(routes!(attempts::patch::patch))
        .routes(routes!(attempts::artifacts::artifacts))
        .routes(routes!(attempts::artifact::artifact))
        .routes(routes!(attempts::cancel::cancel))
        .routes(routes!(attempts::message::message))
        .routes(routes!(attempts::retry::retry))
        .routes(routes!(attempts::terminal::terminal))
        .routes(routes!(publications::create::create))
        .routes(routes!(environments::list::list, environments::create::create))
        .routes(routes!(environments::show::show, environments::edit::edit, environments::delete::delete))
        .routes(routes!(environments::allow_domain::allow_domain))
        .routes(routes!(environments::reset_cache::reset_cache))
        .routes(routes!(environments::terminal::terminal))
        .routes(routes!(models::list::list))
        .routes(routes!(agents::list::list))
        .routes(routes!(budgets::list::list))
        .routes(routes!(budgets::set::set))
        .routes(routes!(repositories::list::list))
        .routes(routes!(workers::list::list))
        .routes(routes!(sessions::me::me))
        .routes(routes!(sessions::delete::delete))
        .routes(routes!(sessions::owner_link::create))
}

/// Adds what all routes share: how to prove who is asking, and the errors any request may end in.
fn with_security(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    shared_errors::describe(&mut document);
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "token",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A program's token, such as the one in the data folder's file `token`"))
                .build(),
        ),
    );
    components.add_security_scheme(
        "session",
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            caller::COOKIE,
            "A browser's session; requests that change something need a matching `Origin`",
        ))),
    );
    document
}

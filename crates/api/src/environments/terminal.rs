//! `GET /environments/{name}/terminal`.

use axum::extract::State;
use axum::response::Response;
use carrel_domain::RepositoryLocation;
use carrel_wire::Problem;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Name;
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Params;
use crate::problem::ApiError;
use crate::terminals::{self, Upgrade};

/// What to try, and the terminal to open.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TryEnvironment {
    /// The repository to try it on. Default: the environment's first.
    repository: Option<String>,
    /// Characters in a line, 1 to 10000. Without `columns` and `rows` the shell gets pipes instead of a terminal: it shows
    /// no prompt and repeats nothing that is typed.
    #[param(minimum = 1, maximum = 10_000)]
    columns: Option<u16>,
    /// Lines, 1 to 10000.
    #[param(minimum = 1, maximum = 10_000)]
    rows: Option<u16>,
}

/// A shell in a fresh sandbox of an environment
///
/// A WebSocket. The sandbox is prepared as for an attempt on the repository's default branch, which is told in text frames
/// of `TerminalNews`; then the shell starts, and binary frames are bytes, typed by the client and shown by the shell. The
/// client's text frames are `TerminalRequest`. The sandbox ends with the connection. A browser's request needs a matching
/// `Origin`.
#[utoipa::path(
    get, path = "/environments/{name}/terminal", tag = "environments", operation_id = "try_environment",
    security(("token" = []), ("session" = [])),
    params(("name" = String, Path, description = "The environment"), TryEnvironment),
    responses(
        (status = 101, description = "The connection is a WebSocket now"),
        (status = 400, description = "The request is none for a WebSocket", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The request comes from another site", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Too many terminals are open, or environments being tried", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A parameter makes no sense, or the environment is not for the repository", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn terminal(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
    Params(params): Params<TryEnvironment>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let size = terminals::size(params.columns, params.rows)?;
    let repository = params.repository.map(|text| text.trim().parse::<RepositoryLocation>()).transpose();
    let repository = repository.map_err(|error| ApiError::field("repository", error))?;
    let terminal = shared.control.try_environment(caller.principal, &name, repository, size).await?;
    Ok(terminals::open(shared, caller, upgrade, terminal))
}

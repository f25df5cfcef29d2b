//! `GET /attempts/{id}/terminal`.

use axum::extract::State;
use axum::response::Response;
use carrel_domain::AttemptId;
use carrel_wire::Problem;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::Shared;
use crate::caller::Caller;
use crate::extract::{Id, Params};
use crate::problem::ApiError;
use crate::terminals::{self, Upgrade};

/// The terminal to open.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenTerminal {
    /// Characters in a line, 1 to 10000. Without `columns` and `rows` the shell gets pipes instead of a terminal: it shows
    /// no prompt and repeats nothing that is typed.
    #[param(minimum = 1, maximum = 10_000)]
    columns: Option<u16>,
    /// Lines, 1 to 10000.
    #[param(minimum = 1, maximum = 10_000)]
    rows: Option<u16>,
}

/// A shell in a running attempt
///
/// A WebSocket. Binary frames are bytes, typed by the client and shown by the shell; text frames are `TerminalRequest` from
/// the client and `TerminalNews` from the service, which is the last frame before it closes. The shell and all it started
/// end with the connection. The task's log says who opened and closed it. A browser's request needs a matching `Origin`.
#[utoipa::path(
    get, path = "/attempts/{id}/terminal", tag = "attempts", operation_id = "open_attempt_terminal",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attempt"), OpenTerminal),
    responses(
        (status = 101, description = "The connection is a WebSocket now"),
        (status = 400, description = "The request is none for a WebSocket", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The request comes from another site", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The attempt does not run, or too many terminals are open", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A parameter makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn terminal(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<AttemptId>,
    Params(params): Params<OpenTerminal>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let size = terminals::size(params.columns, params.rows)?;
    let terminal = shared.control.attempt_terminal(caller.principal, id, size).await?;
    Ok(terminals::open(shared, caller, upgrade, terminal))
}

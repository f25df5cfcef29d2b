//! `GET /agents`.

use axum::Json;
use axum::extract::State;
use carrel_control::OWN_AGENT;
use carrel_wire::{Agent, AgentList, Problem};

use crate::Shared;
use crate::caller::Caller;

/// Lists the agents
///
/// Carrel's own is the default, and always there; the others run in the sandbox.
#[utoipa::path(
    get, path = "/agents", tag = "models", operation_id = "list_agents", security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "The agents, Carrel's own first", body = AgentList),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(shared): State<Shared>, _caller: Caller) -> Json<AgentList> {
    let own = Agent { name: OWN_AGENT.to_owned(), is_default: true, protocol: None, speaks: None };
    let guests = shared.control.agents().guests().map(|agent| Agent {
        name: agent.guest.name.clone(),
        is_default: false,
        protocol: Some(agent.guest.protocol.word().to_owned()),
        speaks: Some(agent.speaks.word().to_owned()),
    });
    Json(AgentList { items: std::iter::once(own).chain(guests).collect() })
}

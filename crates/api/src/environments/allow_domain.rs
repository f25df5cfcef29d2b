//! `POST /environments/{name}/domains`.

use axum::Json;
use axum::extract::State;
use carrel_control::EnvironmentEdit;
use carrel_wire::{AllowDomain, EditEnvironment, Environment, NetworkChange, Problem};

use super::{Name, change, shown};
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Body;
use crate::problem::ApiError;

/// Allows the agent one more host
///
/// The environment's next version allows it; one that allows it already stays as it is.
#[utoipa::path(
    post, path = "/environments/{name}/domains", tag = "environments", operation_id = "allow_domain",
    security(("token" = []), ("session" = [])),
    params(("name" = String, Path, description = "The environment")),
    request_body = AllowDomain,
    responses(
        (status = 200, description = "The environment, which allows it", body = Environment),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The domain makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn allow_domain(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
    Body(request): Body<AllowDomain>,
) -> Result<Json<Environment>, ApiError> {
    let _checked_under_its_own_name = change::domain("domain", &request.domain)?;
    let edit = EnvironmentEdit {
        organization: caller.principal.organization,
        name,
        expected: None,
        by: caller.principal.user,
    };
    let network = NetworkChange { domains_add: vec![request.domain], ..NetworkChange::default() };
    let wanted = EditEnvironment { agent_network: Some(Some(network)), ..EditEnvironment::default() };
    let change = |current: &carrel_domain::Environment| change::understood(&current.spec, wanted.clone());
    let environment = shared.control.edit_environment(&edit, change).await?;
    Ok(Json(shown(&shared, environment).await?))
}

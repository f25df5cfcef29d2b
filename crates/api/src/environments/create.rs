//! `POST /environments`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use carrel_domain::EnvironmentSpec;
use carrel_store::NewEnvironment;
use carrel_wire::{CreateEnvironment, Environment, Problem};

use super::{change, shown};
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Body;
use crate::problem::ApiError;

/// Makes an environment
///
/// Values of secrets are sealed, and never come back out of any route.
#[utoipa::path(
    post, path = "/environments", tag = "environments", operation_id = "create_environment",
    security(("token" = []), ("session" = [])),
    request_body = CreateEnvironment,
    responses(
        (status = 201, description = "The environment", body = Environment, headers(("location" = String, description = "Its URL"))),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    Body(request): Body<CreateEnvironment>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Environment>), ApiError> {
    let name = request.name.parse().map_err(|error| ApiError::field("name", error))?;
    let new = NewEnvironment {
        organization: caller.principal.organization,
        created_by: caller.principal.user,
        name,
        content: change::understood(&EnvironmentSpec::default(), request.into())?,
    };
    let environment = shared.control.create_environment(new).await?;
    let place = format!("/api/v1/environments/{}", environment.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(shown(&shared, environment).await?)))
}

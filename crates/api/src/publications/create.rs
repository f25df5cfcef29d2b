//! `POST /attempts/{id}/publications`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use carrel_control::PublicationRequest;
use carrel_domain::AttemptId;
use carrel_wire::{CreatePublication, Problem, Publication};

use crate::Shared;
use crate::caller::Caller;
use crate::extract::{Body, Id};
use crate::problem::ApiError;

/// Publishes an attempt's patch as a branch
///
/// The wish is stored and worked on in the background; the task shows how it goes on, and so does the event
/// `publication.state`. The same wish again gives the same publication; one that has failed is tried again.
#[utoipa::path(
    post, path = "/attempts/{id}/publications", tag = "publications", operation_id = "create_publication",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attempt")),
    request_body = CreatePublication,
    responses(
        (status = 201, description = "The publication", body = Publication),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The attempt has nothing to publish", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    Id(attempt): Id<AttemptId>,
    Body(request): Body<CreatePublication>,
) -> Result<(StatusCode, Json<Publication>), ApiError> {
    let wish = PublicationRequest {
        organization: caller.principal.organization,
        attempt,
        branch: request.branch.parse().map_err(|error| ApiError::field("branch", error))?,
        message: request.message,
        by: caller.principal.user,
    };
    let publication = shared.control.publish(wish).await?;
    Ok((StatusCode::CREATED, Json(publication.into())))
}

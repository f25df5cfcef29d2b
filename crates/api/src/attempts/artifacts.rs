//! `GET /attempts/{id}/artifacts`.

use axum::Json;
use axum::extract::State;
use carrel_domain::AttemptId;
use carrel_wire::{Artifact, ArtifactList, Problem};

use super::artifact::kind;
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Id;
use crate::problem::ApiError;

/// The files an attempt's agent attached
///
/// Screenshots, reports, builds: whatever the agent kept for people beside its patch. By name.
#[utoipa::path(
    get, path = "/attempts/{id}/artifacts", tag = "attempts", operation_id = "list_artifacts",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attempt")),
    responses(
        (status = 200, description = "The files", body = ArtifactList),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn artifacts(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<AttemptId>,
) -> Result<Json<ArtifactList>, ApiError> {
    let store = shared.control.store();
    let organization = caller.principal.organization;
    store.attempt(organization, id).await?;
    let mut items = Vec::new();
    for attached in store.attachments(organization, id).await? {
        let media_type = kind(&attached.artifact.path).await?.media_type().to_owned();
        let (name, size_bytes) = (attached.name, attached.artifact.size_bytes);
        items.push(Artifact { name, size_bytes, media_type, created_at: attached.created_at });
    }
    Ok(Json(ArtifactList { items }))
}

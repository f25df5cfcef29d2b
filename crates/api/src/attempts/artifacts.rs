//! `GET /attempts/{id}/artifacts`.

use axum::Json;
use axum::extract::State;
use carrel_domain::AttemptId;
use carrel_wire::{Artifact, ArtifactList, Problem};
use futures::{StreamExt, TryStreamExt};

use super::artifact::kind;
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Id;
use crate::problem::ApiError;

/// So many are looked into at the same time.
const AT_ONCE: usize = 8;

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
    let all = store.attachments(organization, id).await?;
    let looked_at = futures::stream::iter(all).map(|attached| async move {
        let media_type = kind(store, &attached.artifact).await?.media_type().to_owned();
        let (name, size_bytes) = (attached.name, attached.artifact.size_bytes);
        Ok::<_, ApiError>(Artifact { name, size_bytes, media_type, created_at: attached.created_at })
    });
    Ok(Json(ArtifactList { items: looked_at.buffered(AT_ONCE).try_collect().await? }))
}

//! `GET /attempts/{id}/patch`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, header};
use carrel_domain::AttemptId;
use carrel_store::StoreError;
use carrel_wire::Problem;
use tokio_util::io::ReaderStream;

use crate::Shared;
use crate::caller::Caller;
use crate::extract::Id;
use crate::problem::ApiError;

/// An attempt's patch
///
/// In the form of `git diff --binary --full-index` against the attempt's base commit: `git apply` takes it.
#[utoipa::path(
    get, path = "/attempts/{id}/patch", tag = "attempts", operation_id = "get_patch",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attempt")),
    responses(
        (status = 200, description = "The patch", body = String, content_type = "text/x-diff"),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt, or it has no patch", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn patch(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<AttemptId>,
) -> Result<([(HeaderName, String); 3], Body), ApiError> {
    let store = shared.control.store();
    let organization = caller.principal.organization;
    let attempt = store.attempt(organization, id).await?;
    let artifact = store.artifact(organization, id, "patch").await.map_err(|error| match error {
        StoreError::NotFound { .. } => {
            ApiError::not_found("patch").detail(format!("the attempt has no patch; it is {}", attempt.state.word()))
        }
        other => other.into(),
    })?;
    let file = tokio::fs::File::open(store.artifact_path(&artifact).await?).await.map_err(StoreError::from)?;
    let headers = [
        (header::CONTENT_TYPE, "text/x-diff; charset=utf-8".to_owned()),
        (header::CONTENT_LENGTH, artifact.size_bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.patch\"")),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))))
}

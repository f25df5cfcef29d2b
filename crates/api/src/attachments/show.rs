//! `GET /attachments/{id}`: bytes that somebody chose, so a browser must take them for nothing but what they are.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, header};
use carrel_domain::AttachmentId;
use carrel_store::StoreError;
use carrel_wire::Problem;
use tokio_util::io::ReaderStream;

use crate::Shared;
use crate::attempts::artifact::encoded;
use crate::caller::Caller;
use crate::extract::Id;
use crate::problem::ApiError;

/// One file that was given with a prompt
///
/// Images are sent as what they are, everything else as `application/octet-stream` to be saved.
#[utoipa::path(
    get, path = "/attachments/{id}", tag = "attachments", operation_id = "get_attachment",
    security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The attachment")),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attachment", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<AttachmentId>,
) -> Result<([(HeaderName, String); 3], Body), ApiError> {
    let store = shared.control.store();
    let (attachment, file) = store.attachment_file(caller.principal.organization, id).await?;
    let bytes = tokio::fs::File::open(store.artifact_path(&file).await?).await.map_err(StoreError::from)?;
    let shown = if attachment.media_type.is_some() { "inline" } else { "attachment" };
    let headers = [
        (header::CONTENT_TYPE, attachment.media_type.unwrap_or_else(|| "application/octet-stream".to_owned())),
        (header::CONTENT_LENGTH, file.size_bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("{shown}; filename*=UTF-8''{}", encoded(&attachment.name))),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(bytes))))
}

//! `GET /attempts/{id}/artifacts/{name}`: bytes that an agent chose, so a browser must take them for nothing but what they
//! are: pictures are shown, everything else is saved, and nothing runs.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use carrel_domain::AttemptId;
use carrel_store::{Artifact, Store, StoreError};
use carrel_wire::Problem;
use tokio_util::io::ReaderStream;

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// As many bytes as it takes to know a picture.
const MAGIC_BYTES: u64 = 12;

/// What a browser may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Show it, as this.
    Picture(&'static str),
    /// Save it.
    Other,
}

impl Kind {
    /// What a file is by its first bytes. What it is called says nothing.
    fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Self::Picture("image/png")
        } else if bytes.starts_with(b"\xff\xd8\xff") {
            Self::Picture("image/jpeg")
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Self::Picture("image/gif")
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Self::Picture("image/webp")
        } else {
            Self::Other
        }
    }

    /// The type it is sent as.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Picture(media_type) => media_type,
            Self::Other => "application/octet-stream",
        }
    }

    const fn disposition(self) -> &'static str {
        match self {
            Self::Picture(_) => "inline",
            Self::Other => "attachment",
        }
    }
}

/// One file an attempt's agent attached
///
/// Pictures (PNG, JPEG, GIF, WebP, by their content) are sent as what they are, everything else as
/// `application/octet-stream` to be saved.
#[utoipa::path(
    get, path = "/attempts/{id}/artifacts/{name}", tag = "attempts", operation_id = "get_artifact",
    security(("token" = []), ("session" = [])),
    params(
        ("id" = Uuid, Path, description = "The attempt"),
        ("name" = String, Path, description = "The file's name, as the list has it"),
    ),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such attempt or file", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn artifact(
    State(shared): State<Shared>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<([(HeaderName, String); 3], Body), ApiError> {
    let Path((id, name)) = path?;
    let id: AttemptId = id
        .parse()
        .map_err(|error: carrel_domain::ids::InvalidId| ApiError::not_found("route").detail(error.to_string()))?;
    let (store, organization) = (shared.control.store(), caller.principal.organization);
    store.attempt(organization, id).await?;
    let artifact = store.attachment(organization, id, &name).await?;
    let kind = kind(store, &artifact).await?;
    let file = tokio::fs::File::open(store.artifact_path(&artifact).await?).await.map_err(StoreError::from)?;
    let headers = [
        (header::CONTENT_TYPE, kind.media_type().to_owned()),
        (header::CONTENT_LENGTH, artifact.size_bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("{}; filename*=UTF-8''{}", kind.disposition(), encoded(&name))),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))))
}

/// What the file is by its first bytes.
pub(super) async fn kind(store: &Store, artifact: &Artifact) -> Result<Kind, StoreError> {
    Ok(Kind::of(&store.artifact_beginning(artifact, MAGIC_BYTES).await?))
}

/// A name as RFC 8187 has it in a header.
pub(crate) fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_are_shown() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\n...."[..], Kind::Picture("image/png")),
            (b"\xff\xd8\xff\xe0", Kind::Picture("image/jpeg")),
            (b"GIF89a", Kind::Picture("image/gif")),
            (b"RIFF\0\0\0\0WEBP", Kind::Picture("image/webp")),
            (b"<svg xmlns='http://www.w3.org/2000/svg'>", Kind::Other),
            (b"<html><script>", Kind::Other),
            (b"%PDF-1.7", Kind::Other),
            (b"RIFF", Kind::Other),
            (b"", Kind::Other),
        ] {
            assert_eq!(Kind::of(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_name_ends_no_header() {
        assert_eq!(encoded("a b\"\r\n;ü.txt"), "a%20b%22%0D%0A%3B%C3%BC.txt");
    }
}

//! Files that people give with a prompt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A file that a person gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// Its id.
    pub id: Uuid,
    /// What it is called; in a turn, the name it has in the folder `/attachments` of the sandbox.
    #[schema(example = "screenshot.png")]
    pub name: String,
    /// How long it is.
    pub size_bytes: u64,
    /// The type of an image, by its content; null for anything else.
    #[schema(example = "image/png")]
    pub media_type: Option<String>,
    /// When it was given.
    pub created_at: Timestamp,
}

impl From<carrel_domain::Attachment> for Attachment {
    fn from(attachment: carrel_domain::Attachment) -> Self {
        Self {
            id: attachment.id.as_uuid(),
            name: attachment.name,
            size_bytes: attachment.size_bytes,
            media_type: attachment.media_type,
            created_at: attachment.created_at,
        }
    }
}

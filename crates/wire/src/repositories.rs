//! Repositories the organization has worked on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repository {
    /// Its id.
    pub id: Uuid,
    /// Its path or URL.
    #[schema(example = "https://example.com/acme/api.git")]
    pub location: String,
    /// Its short name: the folder under `/workspace`.
    #[schema(example = "api")]
    pub name: String,
}

/// Repositories, the last used first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RepositoryList {
    /// At most a hundred.
    pub items: Vec<Repository>,
}

//! Signing in, and who is signed in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Redeems a one-time owner link.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// The part of the link behind `#`.
    pub owner_link: String,
}

/// A fresh one-time link that signs the owner in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct OwnerLink {
    /// Open it in a browser. It works once.
    pub url: String,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Who is asking, and what the service can do.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The person.
    pub user: Named,
    /// The tenant.
    pub organization: Named,
    /// The default model; null when none is configured, and then `model_hint` says what to do.
    pub model: Option<DefaultModel>,
    /// How to configure a model, when none is.
    pub model_hint: Option<String>,
    /// The service's version.
    pub version: String,
}

/// Something with an id and a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Named {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
}

/// The model that tasks get which name none. `GET /models` tells more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DefaultModel {
    /// Its name.
    pub name: String,
}

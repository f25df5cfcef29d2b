//! The agents tasks may be given to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every agent: Carrel's own first, then those that run in the sandbox, in the order they are configured in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// The agents.
    pub items: Vec<Agent>,
}

/// An agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// What tasks name it by.
    #[schema(example = "carrel")]
    pub name: String,
    /// Whether tasks get it that name none.
    pub is_default: bool,
    /// How it is spoken to, `codex-app-server` or `acp`; null for Carrel's own.
    pub protocol: Option<String>,
    /// The API that its models must be served by; null when any will do.
    #[schema(example = "responses")]
    pub speaks: Option<String>,
}

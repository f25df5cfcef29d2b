//! The models tasks may be given to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every model, in the order they are configured in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// The models.
    pub items: Vec<Model>,
}

/// A model.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// What tasks name it by.
    #[schema(example = "gpt-5-codex")]
    pub name: String,
    /// Who serves it.
    pub provider: String,
    /// Whether tasks get it that name none.
    pub is_default: bool,
    /// How many tokens a conversation and its answer may have; null when that is not configured.
    pub context_window: Option<u64>,
    /// The most tokens of one answer; null when that is not configured.
    pub max_output_tokens: Option<u64>,
    /// How hard it may be asked to think, the least first; none when it knows no such thing.
    #[schema(example = json!(["low", "medium", "high"]))]
    pub efforts: Vec<String>,
    /// What it is asked for when nobody says another; null for its server's default.
    pub default_effort: Option<String>,
    /// What it can do.
    pub abilities: ModelAbilities,
    /// What it costs; null when that is not configured.
    pub price: Option<ModelPrice>,
}

/// What a model and its server can do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct ModelAbilities {
    /// It takes images.
    pub images: bool,
    /// It may call several tools in one answer.
    pub parallel_calls: bool,
    /// It knows the freeform `apply_patch`.
    pub freeform_patch: bool,
    /// It thinks before it answers, and is asked to.
    pub reasoning: bool,
}

/// Prices in millionths of a US dollar per million tokens.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct ModelPrice {
    /// Tokens sent.
    #[schema(example = 1_250_000)]
    pub input: u64,
    /// Tokens sent that the server had in its cache.
    pub cached_input: u64,
    /// Tokens sent that the server put into its cache.
    pub cache_write: u64,
    /// Tokens produced.
    pub output: u64,
}

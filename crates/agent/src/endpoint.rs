//! Which model is asked, where it is served, and what its server can take.

use std::time::Duration;

use carrel_domain::Secret;
use url::Url;

/// A model behind a server that speaks OpenAI's Responses API.
#[derive(Debug, Clone)]
pub struct ModelEndpoint {
    /// The model's name, as the server knows it.
    pub name: String,
    /// Where the API begins, usually ending in `/v1`; requests go to `responses` below it.
    pub base_url: Url,
    /// Sent as a bearer token.
    pub key: Option<Secret>,
    /// In which form `apply_patch` is offered.
    pub patch_tool: PatchTool,
    /// What is asked of a reasoning model.
    pub reasoning: Reasoning,
    /// How long to wait for what.
    pub timeouts: ModelTimeouts,
    /// How often a request that did not work is made again. Default 5.
    pub retries: u32,
}

/// In which form `apply_patch` is offered to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchTool {
    /// A freeform tool with a grammar: for OpenAI's models from GPT-5 on.
    Freeform,
    /// A function with one string: for servers that know only functions.
    Function,
}

/// What is asked of a reasoning model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reasoning {
    /// Nothing about reasoning is sent: for models that do not reason, whose servers may refuse the fields.
    Off,
    /// The reasoning is asked for in encrypted form and sent back with each request, and its summary is recorded.
    On {
        /// `minimal`, `low`, `medium`, `high` or what else the server knows; `None` for the server's default.
        effort: Option<String>,
    },
}

/// How long to wait for a model server, once there is a connection (which may take 10 s).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelTimeouts {
    /// From the request to the beginning of the answer. Default 5 min.
    pub first_byte: Duration,
    /// Between two pieces of the answer. Default 5 min.
    pub idle: Duration,
}

impl ModelEndpoint {
    /// A model with the defaults for its name: OpenAI's reasoning models (`gpt-5…`, `o3…`, `…codex…`) are asked for
    /// their reasoning, and those that know the freeform `apply_patch` get it; every other model is offered plain
    /// functions only.
    #[must_use]
    pub fn new(name: impl Into<String>, base_url: Url, key: Option<Secret>) -> Self {
        let name = name.into();
        let bare = name.rsplit('/').next().unwrap_or(&name);
        let knows_patches = bare.starts_with("gpt-5") || bare.contains("codex");
        let reasons = knows_patches || ["o1", "o3", "o4", "gpt-oss"].iter().any(|family| bare.starts_with(family));
        Self {
            patch_tool: if knows_patches { PatchTool::Freeform } else { PatchTool::Function },
            reasoning: if reasons { Reasoning::On { effort: None } } else { Reasoning::Off },
            name,
            base_url,
            key,
            timeouts: ModelTimeouts::default(),
            retries: 5,
        }
    }
}

impl Default for ModelTimeouts {
    fn default() -> Self {
        Self { first_byte: Duration::from_mins(5), idle: Duration::from_mins(5) }
    }
}

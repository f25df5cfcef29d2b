//! Which model is asked, where it is served, which protocol its server speaks, and what both can take.

use std::time::Duration;

use carrel_domain::Secret;
use url::Url;

use crate::price::Price;

/// A model behind a server.
#[derive(Debug, Clone)]
pub struct ModelEndpoint {
    /// The model's name, as the server knows it.
    pub name: String,
    /// Which of the three APIs the server speaks.
    pub protocol: Protocol,
    /// Where the API begins, usually ending in `/v1`; its query goes with every request.
    pub base_url: Url,
    /// Sent as the protocol has it, or in `key_header`.
    pub key: Option<Secret>,
    /// The header the key goes into, as it is; `None` for the protocol's own way.
    pub key_header: Option<String>,
    /// Where the key was configured, for errors: `CARREL_MODEL_KEY`.
    pub key_from: String,
    /// Further headers of every request. Their values may be credentials.
    pub headers: Vec<(String, Secret)>,
    /// In which form `apply_patch` is offered. The freeform one exists in the Responses API only.
    pub patch_tool: PatchTool,
    /// What is asked of a reasoning model.
    pub reasoning: Reasoning,
    /// How an Anthropic model is asked to think.
    pub thinking: Thinking,
    /// Whether reasoning that came in plain text goes back to a Chat Completions server, which some models need.
    pub returns_reasoning: bool,
    /// Whether the model takes images; if not, it is told where one was left out.
    pub images: bool,
    /// Whether it may call several tools in one answer.
    pub parallel_calls: bool,
    /// Whether `prompt_cache_key` is sent: servers that check their fields refuse it unless they know it.
    pub cache_key: bool,
    /// Whether a Chat Completions server is asked to count the tokens of a streamed answer (`stream_options`): a few
    /// refuse the field. Default: yes.
    pub stream_usage: bool,
    /// How many tokens the conversation and the answer may have together, if that is known.
    pub context_window: Option<u64>,
    /// The most tokens of one answer. The Messages API needs a number and gets 32,000 when there is none here.
    pub max_output_tokens: Option<u64>,
    /// What tokens cost, if that is known.
    pub price: Option<Price>,
    /// How long to wait for what.
    pub timeouts: ModelTimeouts,
    /// How often a request that did not work is made again. Default 5.
    pub retries: u32,
}

/// An API that models are served over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OpenAI's Responses API: `POST responses`.
    Responses,
    /// OpenAI's older API, which most other servers imitate: `POST chat/completions`.
    ChatCompletions,
    /// Anthropic's Messages API: `POST v1/messages`.
    Messages,
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
    /// The reasoning is asked for in the form that can be sent back with each request, and is recorded for people.
    On {
        /// `minimal`, `low`, `medium`, `high` or what else the server knows; `None` for the server's default.
        effort: Option<String>,
    },
}

/// How an Anthropic model is asked to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// As much as it finds right, guided by the effort: models from Claude 4.6 on.
    Adaptive,
    /// Up to a number of tokens, which follows from the effort: models before.
    Budget,
}

/// How long to wait for a model server, once there is a connection (which may take 10 s).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelTimeouts {
    /// From the request to the beginning of the answer. Default 5 min.
    pub first_byte: Duration,
    /// Between two pieces of the answer. Default 5 min.
    pub idle: Duration,
    /// Between two that say something: a server that only keeps its connection alive is at work, or has forgotten us.
    /// Default 20 min.
    pub silent: Duration,
}

impl Protocol {
    /// The name it is configured by.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Responses => "responses",
            Self::ChatCompletions => "chat_completions",
            Self::Messages => "messages",
        }
    }

    /// The name people know it by.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Responses => "Responses API",
            Self::ChatCompletions => "Chat Completions API",
            Self::Messages => "Messages API",
        }
    }
}

/// A protocol that is none of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no protocol; give one of responses, chat_completions, messages")]
pub struct UnknownProtocol(String);

impl std::str::FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Responses, Self::ChatCompletions, Self::Messages]
            .into_iter()
            .find(|protocol| protocol.word() == text)
            .ok_or_else(|| UnknownProtocol(text.to_owned()))
    }
}

impl ModelEndpoint {
    /// A model behind a Responses API with the defaults for its name.
    #[must_use]
    pub fn new(name: impl Into<String>, base_url: Url, key: Option<Secret>) -> Self {
        Self::speaking(Protocol::Responses, name, base_url, key)
    }

    /// A model with the defaults for its protocol and its name: models that are known to reason are asked for their
    /// reasoning, those that know the freeform `apply_patch` get it, and every other one is offered plain functions.
    #[must_use]
    pub fn speaking(protocol: Protocol, name: impl Into<String>, base_url: Url, key: Option<Secret>) -> Self {
        let name = name.into();
        let bare = name.rsplit('/').next().unwrap_or(&name).to_ascii_lowercase();
        let is_openai = base_url.host_str().is_some_and(|host| host == "api.openai.com");
        let knows_patches = protocol == Protocol::Responses && (bare.starts_with("gpt-5") || bare.contains("codex"));
        Self {
            patch_tool: if knows_patches { PatchTool::Freeform } else { PatchTool::Function },
            reasoning: if reasons(protocol, &bare) { Reasoning::On { effort: None } } else { Reasoning::Off },
            thinking: if thinks_by_budget(&bare) { Thinking::Budget } else { Thinking::Adaptive },
            returns_reasoning: ["deepseek", "kimi", "minimax", "glm-"].iter().any(|family| bare.starts_with(family)),
            images: sees(&bare),
            parallel_calls: true,
            stream_usage: true,
            cache_key: protocol == Protocol::Responses || is_openai,
            context_window: None,
            max_output_tokens: None,
            price: None,
            key_header: None,
            key_from: "CARREL_MODEL_KEY".to_owned(),
            headers: Vec::new(),
            timeouts: ModelTimeouts::default(),
            retries: 5,
            protocol,
            name,
            base_url,
            key,
        }
    }

    /// The same model, asked with this effort; with its own when there is none.
    #[must_use]
    pub fn with_effort(mut self, effort: Option<&str>) -> Self {
        if let (Some(wanted), Reasoning::On { effort }) = (effort, &mut self.reasoning) {
            *effort = Some(wanted.to_owned());
        }
        self
    }

    /// The longest side of an image in pixels, if the model takes images: Anthropic takes no more than 2,000 once there are
    /// over 20 images in a request, and others 8,000.
    pub(crate) const fn image_side(&self) -> Option<u32> {
        match (self.images, self.protocol) {
            (false, _) => None,
            (true, Protocol::Messages) => Some(1999),
            (true, Protocol::Responses | Protocol::ChatCompletions) => Some(8000),
        }
    }

    /// What reasoning of this model is marked with: only the same model behind the same server may see it again.
    pub(crate) fn origin(&self) -> String {
        let host = self.base_url.host_str().unwrap_or_default();
        format!("{} {host} {}", self.protocol.word(), self.name)
    }

    /// Where requests go: this path below the base URL, whether that ends in a slash or not.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        let base = self.base_url.path().trim_end_matches('/');
        let last = base.rsplit('/').next().unwrap_or_default();
        let has_version =
            last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        // Anthropic's own clients are given the URL without the version.
        let version = if self.protocol == Protocol::Messages && !has_version { "/v1" } else { "" };
        url.set_path(&format!("{base}{version}/{path}"));
        url
    }
}

/// Whether a model of this name is known to reason when it is asked to.
fn reasons(protocol: Protocol, bare: &str) -> bool {
    match protocol {
        Protocol::Responses | Protocol::ChatCompletions => {
            bare.contains("codex") || ["gpt-5", "gpt-oss", "o1", "o3", "o4"].iter().any(|one| bare.starts_with(one))
        }
        Protocol::Messages => {
            let before = ["claude-3-5", "claude-3-opus", "claude-3-sonnet", "claude-3-haiku", "claude-2"];
            let bare = dashed(bare);
            bare.contains("claude") && !before.iter().any(|one| bare.contains(one))
        }
    }
}

/// Claude 3.7 to 4.5. Names go `claude-sonnet-4-5-20250929` and `claude-opus-4`.
fn thinks_by_budget(bare: &str) -> bool {
    let bare = dashed(bare);
    ["claude-3", "-4-0", "-4-1", "-4-2025", "-4-5"].iter().any(|one| bare.contains(one)) || bare.ends_with("-4")
}

/// A name as Anthropic writes it: gateways write `claude-sonnet-4.5` and `claude-sonnet-4@20250514`.
fn dashed(bare: &str) -> String {
    bare.replace(['.', '@'], "-")
}

/// Whether a model of this name is known to take images.
fn sees(bare: &str) -> bool {
    let families = ["gpt-5", "gpt-4o", "gpt-4.1", "o3", "o4", "codex", "claude", "gemini"];
    families.iter().any(|family| bare.starts_with(family))
        || ["-vl", "vision", "pixtral"].iter().any(|one| bare.contains(one))
}

impl Default for ModelTimeouts {
    fn default() -> Self {
        Self { first_byte: Duration::from_mins(5), idle: Duration::from_mins(5), silent: Duration::from_mins(20) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(protocol: Protocol, name: &str, base: &str) -> ModelEndpoint {
        ModelEndpoint::speaking(protocol, name, base.parse().expect("a URL"), None)
    }

    #[test]
    fn requests_go_below_the_base_url() {
        use Protocol::{ChatCompletions, Messages, Responses};

        for (protocol, path, base, expected) in [
            (Responses, "responses", "https://api.example.com/v1", "https://api.example.com/v1/responses"),
            (Responses, "responses", "https://api.example.com/v1/", "https://api.example.com/v1/responses"),
            (ChatCompletions, "chat/completions", "http://localhost:8000", "http://localhost:8000/chat/completions"),
            (Messages, "messages", "https://api.example.com", "https://api.example.com/v1/messages"),
            (Messages, "messages", "https://api.example.com/v1/", "https://api.example.com/v1/messages"),
            (Messages, "messages", "https://example.com/anthropic", "https://example.com/anthropic/v1/messages"),
            (
                Responses,
                "responses",
                "https://x.example.com/openai?api-version=1",
                "https://x.example.com/openai/responses?api-version=1",
            ),
        ] {
            assert_eq!(endpoint(protocol, "m", base).url(path).as_str(), expected);
        }
    }

    #[test]
    fn what_a_model_can_is_guessed_from_its_name_and_protocol() {
        use Protocol::{ChatCompletions, Messages, Responses};

        let base = "http://localhost/v1";
        let codex = endpoint(Responses, "gpt-5-codex", base);
        let same = endpoint(ChatCompletions, "gpt-5-codex", base);
        let qwen = endpoint(ChatCompletions, "Qwen/Qwen3-Coder", base);
        let sonnet = endpoint(Messages, "claude-sonnet-4-5-20250929", base);
        let opus = endpoint(Messages, "claude-opus-4-7", base);

        assert_eq!((codex.patch_tool, same.patch_tool), (PatchTool::Freeform, PatchTool::Function));
        assert_eq!((qwen.reasoning, qwen.images, qwen.cache_key), (Reasoning::Off, false, false));
        assert_eq!((sonnet.thinking, opus.thinking), (Thinking::Budget, Thinking::Adaptive));
        assert_eq!(opus.reasoning, Reasoning::On { effort: None });
        assert_eq!(endpoint(Messages, "claude-3-5-haiku-latest", base).reasoning, Reasoning::Off);
        for name in ["anthropic/claude-sonnet-4.5", "claude-haiku-4.5", "claude-sonnet-4@20250514"] {
            assert_eq!(endpoint(Messages, name, base).thinking, Thinking::Budget, "{name}");
        }
        assert_eq!(endpoint(Messages, "claude-3.5-haiku", base).reasoning, Reasoning::Off);
    }

    #[test]
    fn an_effort_is_only_asked_of_models_that_reason() {
        let asked =
            |name| endpoint(Protocol::Responses, name, "http://localhost/v1").with_effort(Some("high")).reasoning;

        assert_eq!(asked("gpt-5"), Reasoning::On { effort: Some("high".to_owned()) });
        assert_eq!(asked("qwen3"), Reasoning::Off);
    }

    #[test]
    fn a_protocol_is_read_by_its_name() {
        assert_eq!("messages".parse(), Ok(Protocol::Messages));
        assert!("grpc".parse::<Protocol>().expect_err("unknown").to_string().contains("chat_completions"));
    }
}

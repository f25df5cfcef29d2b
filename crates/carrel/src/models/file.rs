//! The file of models: providers, and the models each of them serves. `docs/models.md` describes it for people.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carrel_agent::{ModelEndpoint, ModelTimeouts, PatchTool, Price, Protocol, Reasoning, Thinking};
use carrel_control::Model;
use carrel_domain::Secret;
use serde::Deserialize;
use url::Url;

use super::{Configured, Lookup, fits_header};
use crate::exit::Failure;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// So many times as long as between two pieces it may take between two that say something.
const SILENT_FACTOR: u32 = 4;

/// The longest that a server may be waited for, in seconds.
const MAX_TIMEOUT_SECONDS: f64 = 3600.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The model tasks get that name none. Default: the first.
    default: Option<String>,
    providers: BTreeMap<String, Provider>,
    models: Vec<Entry>,
}

/// A server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    protocol: String,
    base_url: String,
    /// Where the key is: one of these, or none where the server wants none.
    key_variable: Option<String>,
    key_file: Option<PathBuf>,
    key: Option<String>,
    /// The header the key goes into, as it is. Default: the protocol's own.
    key_header: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Headers whose values are in variables.
    #[serde(default)]
    header_variables: BTreeMap<String, String>,
    /// What goes with the URL of every request.
    #[serde(default)]
    query: BTreeMap<String, String>,
    /// How often a request that did not work is made again.
    retries: Option<u32>,
    /// How long it may take to begin to answer, and to go on.
    timeout_seconds: Option<f64>,
}

/// A model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    provider: String,
    /// What the server calls it. Default: its name.
    id: Option<String>,
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    price: Option<Prices>,
    efforts: Option<Vec<String>>,
    /// The effort it is asked for when nobody says another. Default: the server's.
    effort: Option<String>,
    images: Option<bool>,
    parallel_calls: Option<bool>,
    freeform_patch: Option<bool>,
    reasoning: Option<bool>,
    thinking: Option<ThinkingWord>,
    returns_reasoning: Option<bool>,
    prompt_cache_key: Option<bool>,
    stream_usage: Option<bool>,
}

/// US dollars per million tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    input: f64,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    output: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ThinkingWord {
    Adaptive,
    Budget,
}

/// Reads the file and the keys it names.
pub(super) fn load(path: &Path, lookup: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Configured, Failure> {
    let failed = |problem: String| Failure::usage(format!("CARREL_MODELS_FILE {}: {problem}", path.display()));
    let meta = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(failed(format!("it is no file of at most {MAX_BYTES} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let (configured, has_key) = parse(&text, &lookup).map_err(failed)?;
    if has_key && meta.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others may read the keys in the file of models: chmod 600 it");
    }
    Ok(configured)
}

/// The models in a text, and whether there is a key in it.
fn parse(text: &str, lookup: Lookup<'_>) -> Result<(Configured, bool), String> {
    // The error's own form shows the line, which may be one with a key.
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        format!("{}{}", line.map(|line| format!("line {line}: ")).unwrap_or_default(), error.message())
    })?;
    let mut configured = Configured { default: file.default.clone(), ..Configured::default() };
    for entry in file.models {
        let name = entry.name.trim().to_owned();
        if name.is_empty() || configured.models.iter().any(|(known, _)| *known == name) {
            return Err(format!("the model `{name}` has no name, or one that another has"));
        }
        let Some(provider) = file.providers.get(&entry.provider) else {
            let known = file.providers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "the model `{name}` has a provider `{}` that is not there; there are {known}",
                entry.provider
            ));
        };
        let model =
            model(&name, entry, provider, lookup).map_err(|problem| format!("the model `{name}`: {problem}"))?;
        configured.add(name, model);
    }
    match &configured.default {
        None => return Err("it has no models; add a [[models]]".to_owned()),
        Some(default) if !configured.models.iter().any(|(name, _)| name == default) => {
            return Err(format!("the default `{default}` is none of its models"));
        }
        Some(_) => {}
    }
    Ok((configured, file.providers.values().any(|provider| provider.key.is_some())))
}

fn model(name: &str, entry: Entry, provider: &Provider, lookup: Lookup<'_>) -> Result<Model, String> {
    let protocol = super::protocol(&provider.protocol)?;
    let (key, key_from) = key(provider, &entry.provider, lookup)?;
    let id = entry.id.as_deref().unwrap_or(name);
    let mut endpoint = ModelEndpoint::speaking(protocol, id, url(provider)?, key);
    endpoint.key_from = key_from;
    endpoint.key_header.clone_from(&provider.key_header);
    endpoint.headers = headers(provider, lookup)?;
    endpoint.retries = provider.retries.unwrap_or(endpoint.retries);
    if let Some(seconds) = provider.timeout_seconds {
        if !(0.001..=MAX_TIMEOUT_SECONDS).contains(&seconds) {
            return Err(format!("its provider's timeout_seconds is not between 0.001 and {MAX_TIMEOUT_SECONDS}"));
        }
        let timeout = Duration::from_secs_f64(seconds);
        endpoint.timeouts = ModelTimeouts { first_byte: timeout, idle: timeout, silent: timeout * SILENT_FACTOR };
    }
    endpoint.stream_usage = entry.stream_usage.unwrap_or(endpoint.stream_usage);
    endpoint.context_window = entry.context_window;
    endpoint.max_output_tokens = entry.max_output_tokens;
    endpoint.price = entry.price.map(|prices| price(&prices, protocol)).transpose()?;
    endpoint.images = entry.images.unwrap_or(endpoint.images);
    endpoint.parallel_calls = entry.parallel_calls.unwrap_or(endpoint.parallel_calls);
    endpoint.returns_reasoning = entry.returns_reasoning.unwrap_or(endpoint.returns_reasoning);
    endpoint.cache_key = entry.prompt_cache_key.unwrap_or(endpoint.cache_key);
    endpoint.patch_tool = match entry.freeform_patch {
        Some(true) if protocol != Protocol::Responses => {
            return Err("freeform_patch is only there with the protocol `responses`".to_owned());
        }
        Some(true) => PatchTool::Freeform,
        Some(false) => PatchTool::Function,
        None => endpoint.patch_tool,
    };
    endpoint.thinking = match entry.thinking {
        Some(ThinkingWord::Adaptive) => Thinking::Adaptive,
        Some(ThinkingWord::Budget) => Thinking::Budget,
        None => endpoint.thinking,
    };
    // Efforts are only of use to a model that is asked to reason.
    let names_efforts = entry.effort.is_some() || entry.efforts.as_ref().is_some_and(|efforts| !efforts.is_empty());
    endpoint.reasoning = match entry.reasoning {
        Some(false) if names_efforts => return Err("it has efforts, and reasoning is off".to_owned()),
        Some(false) => Reasoning::Off,
        Some(true) => Reasoning::On { effort: None },
        None if names_efforts => Reasoning::On { effort: None },
        None => endpoint.reasoning,
    };
    let mut model = Model::from(endpoint);
    model.provider = entry.provider;
    model.efforts = entry.efforts.unwrap_or(model.efforts);
    if let Some(effort) = entry.effort {
        if !model.efforts.contains(&effort) {
            return Err(format!("its effort `{effort}` is none of {}", model.efforts.join(", ")));
        }
        model.endpoint = model.endpoint.with_effort(Some(&effort));
    }
    Ok(model)
}

fn url(provider: &Provider) -> Result<Url, String> {
    let mut url: Url = provider.base_url.parse().map_err(|_| format!("base_url `{}` is no URL", provider.base_url))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("base_url is no http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("base_url has a credential in it; give it as the key".to_owned());
    }
    if !provider.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&provider.query);
    }
    Ok(url)
}

/// The key, and where a person finds it.
fn key(provider: &Provider, name: &str, lookup: Lookup<'_>) -> Result<(Option<Secret>, String), String> {
    let (key, from) = match (&provider.key_variable, &provider.key_file, &provider.key) {
        (None, None, None) => return Ok((None, format!("the provider `{name}` in CARREL_MODELS_FILE"))),
        (Some(variable), None, None) => (value(variable, lookup)?, variable.clone()),
        (None, Some(file), None) => {
            let key = fs::read_to_string(file).map_err(|error| format!("key_file {}: {error}", file.display()))?;
            (key.trim().to_owned(), file.display().to_string())
        }
        (None, None, Some(key)) => (key.clone(), format!("the provider `{name}` in CARREL_MODELS_FILE")),
        _ => return Err("its provider has more than one of key_variable, key_file and key".to_owned()),
    };
    if key.is_empty() || !fits_header(&key) {
        return Err(format!("the key in {from} is empty, or has a character that no HTTP header takes"));
    }
    Ok((Some(Secret::new(key)), from))
}

fn value(variable: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let value = lookup(variable).and_then(|value| value.into_string().ok()).map(|value| value.trim().to_owned());
    value.filter(|value| !value.is_empty()).ok_or_else(|| format!("the variable {variable} is not set"))
}

fn headers(provider: &Provider, lookup: Lookup<'_>) -> Result<Vec<(String, Secret)>, String> {
    let plain = provider.headers.iter().map(|(name, value)| Ok((name.clone(), value.clone())));
    let looked_up =
        provider.header_variables.iter().map(|(name, variable)| Ok((name.clone(), value(variable, lookup)?)));
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_value = |value: &str| value.chars().all(|character| character == ' ' || character.is_ascii_graphic());
    plain
        .chain(looked_up)
        .map(|header: Result<(String, String), String>| match header? {
            (name, value) if is_name(&name) && is_value(&value) => Ok((name, Secret::new(value))),
            (name, _) => Err(format!("the header `{name}` is none that HTTP takes")),
        })
        .collect()
}

fn price(prices: &Prices, protocol: Protocol) -> Result<Price, String> {
    let micros = |dollars: f64| {
        (0.0..=1_000_000.0)
            .contains(&dollars)
            .then(|| (dollars * 1e6).round() as u64)
            .ok_or_else(|| format!("the price {dollars} is no number of dollars per million tokens"))
    };
    // Anthropic asks a quarter more for what it puts into its cache.
    let written = if protocol == Protocol::Messages { prices.input * 1.25 } else { prices.input };
    Ok(Price {
        input: micros(prices.input)?,
        cached_input: micros(prices.cached_input.unwrap_or(prices.input))?,
        cache_write: micros(prices.cache_write.unwrap_or(written))?,
        output: micros(prices.output)?,
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

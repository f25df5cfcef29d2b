//! The models the service is configured with: one by variables, and any number by a file.

mod file;

use std::ffi::OsString;

use carrel_agent::{ModelEndpoint, Protocol};
use carrel_control::Model;
use carrel_domain::Secret;

use crate::exit::Failure;
use crate::settings::{ModelSettings, ModelsSettings};

/// How many models beside the default one are named in words.
const MAX_NAMED: usize = 5;

/// All models, and what must never be seen of them.
#[derive(Debug, Default)]
pub(crate) struct Configured {
    /// The models by name, in order.
    pub(crate) models: Vec<(String, Model)>,
    /// The name of the one that tasks get which name none.
    pub(crate) default: Option<String>,
    /// Keys, and headers that may be keys.
    pub(crate) secrets: Vec<Secret>,
}

impl Configured {
    /// The models in words, for the banner and for `carrel doctor`.
    pub(crate) fn words(&self) -> Option<String> {
        let named = |wanted: &str| self.models.iter().find(|(name, _)| name == wanted);
        let (name, model) = named(self.default.as_deref()?)?;
        let others: Vec<&str> =
            self.models.iter().map(|(other, _)| other.as_str()).filter(|other| other != name).collect();
        let more = match others.len() {
            0 => String::new(),
            1..=MAX_NAMED => format!(", and {}", others.join(", ")),
            more => format!(", and {}, and {} more", others[..MAX_NAMED].join(", "), more - MAX_NAMED),
        };
        let endpoint = &model.endpoint;
        let key = if endpoint.key.is_some() { "with a key" } else { "without a key" };
        Some(format!("{name} at {} ({}, {key}){more}", without_query(endpoint), endpoint.protocol.word()))
    }

    fn add(&mut self, name: String, model: Model) {
        self.secrets.extend(model.endpoint.key.clone());
        self.secrets.extend(model.endpoint.headers.iter().map(|(_, value)| value.clone()));
        self.default.get_or_insert_with(|| name.clone());
        self.models.push((name, model));
    }
}

fn without_query(endpoint: &ModelEndpoint) -> String {
    let mut url = endpoint.base_url.clone();
    url.set_query(None);
    url.to_string()
}

/// Reads the file of models, if there is one, and the keys it names.
///
/// # Errors
/// When it is not there or not understood. The message names the place in it, and never a key.
pub(crate) fn load(settings: &ModelsSettings) -> Result<Configured, Failure> {
    let mut configured = match &settings.file {
        Some(file) => file::load(file, |name| std::env::var_os(name))?,
        None => Configured::default(),
    };
    if let Some(one) = settings.one.as_ref().filter(|one| settings.file.is_none() || one.is_asked_for) {
        if configured.models.iter().any(|(name, _)| *name == one.name) {
            let problem = format!("the model `{}` is in CARREL_MODELS_FILE, and CARREL_MODEL names it too", one.name);
            return Err(Failure::usage(format!("{problem}; give it in one place")));
        }
        configured.add(one.name.clone(), from_variables(one).into());
    }
    Ok(configured)
}

fn from_variables(one: &ModelSettings) -> ModelEndpoint {
    let endpoint = ModelEndpoint::speaking(one.protocol, &one.name, one.url.clone(), one.key.clone());
    ModelEndpoint { retries: one.retries, key_from: one.key_from.to_owned(), ..endpoint }
}

/// The protocol in a setting.
pub(crate) fn protocol(text: &str) -> Result<Protocol, String> {
    text.parse().map_err(|error: carrel_agent::UnknownProtocol| error.to_string())
}

/// Whether a key can be in an HTTP header.
pub(crate) fn fits_header(key: &str) -> bool {
    key.chars().all(|character| character.is_ascii_graphic())
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

//! Where models are configured: one by variables, others in a file.

use std::ffi::OsString;
use std::path::PathBuf;

use carrel_agent::Protocol;
use carrel_domain::Secret;
use url::Url;

use super::{InvalidSetting, Variables, invalid};
use crate::models::{fits_header, protocol};

/// What is known of one vendor: where it is, which model to take, and which variables its own programs read.
struct Vendor {
    url: &'static str,
    model: &'static str,
    url_variable: &'static str,
    key_variable: &'static str,
}

const OPENAI: Vendor = Vendor {
    url: "https://api.openai.com/v1",
    model: "gpt-5-codex",
    url_variable: "OPENAI_BASE_URL",
    key_variable: "OPENAI_API_KEY",
};

const ANTHROPIC: Vendor = Vendor {
    url: "https://api.anthropic.com",
    model: "claude-sonnet-5-5",
    url_variable: "ANTHROPIC_BASE_URL",
    key_variable: "ANTHROPIC_API_KEY",
};

/// Where models are configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelsSettings {
    /// The one that variables describe.
    pub(crate) one: Option<ModelSettings>,
    /// A file of others.
    pub(crate) file: Option<PathBuf>,
}

/// A model server and a model.
#[derive(Debug, Clone)]
pub(crate) struct ModelSettings {
    pub(crate) protocol: Protocol,
    pub(crate) url: Url,
    pub(crate) key: Option<Secret>,
    /// The variable the key is in, or would be.
    pub(crate) key_from: &'static str,
    pub(crate) name: String,
    /// How often a request that did not work is made again.
    pub(crate) retries: u32,
    /// Whether our own variables ask for it, and not only those of a vendor that happen to be set.
    pub(crate) is_asked_for: bool,
}

impl<L: Fn(&str) -> Option<OsString>> Variables<L> {
    pub(super) fn models(&self) -> Result<ModelsSettings, InvalidSetting> {
        Ok(ModelsSettings { one: self.model()?, file: self.file("CARREL_MODELS_FILE")? })
    }

    fn model(&self) -> Result<Option<ModelSettings>, InvalidSetting> {
        let own_url = self.url("CARREL_MODEL_URL")?;
        let own_key = self.text("CARREL_MODEL_KEY")?;
        let is_asked_for = own_url.is_some() || own_key.is_some();
        let asked = match self.text("CARREL_MODEL_PROTOCOL")? {
            Some(text) => Some(protocol(&text).map_err(|_| invalid("CARREL_MODEL_PROTOCOL", &no_protocol(&text)))?),
            None => None,
        };
        let set = |vendor: &Vendor| self.os(vendor.key_variable).or_else(|| self.os(vendor.url_variable)).is_some();
        // Anthropic's key alone means Anthropic.
        let protocol = asked.unwrap_or_else(|| match is_asked_for || set(&OPENAI) || !set(&ANTHROPIC) {
            true => Protocol::Responses,
            false => Protocol::Messages,
        });
        let vendor = if protocol == Protocol::Messages { ANTHROPIC } else { OPENAI };
        let url = match own_url {
            Some(url) => Some(url),
            None => self.url(vendor.url_variable)?,
        };
        let (key, key_from) = match own_key {
            Some(key) => (Some(key), "CARREL_MODEL_KEY"),
            None => match self.text(vendor.key_variable)? {
                Some(key) => (Some(key), vendor.key_variable),
                None => (None, "CARREL_MODEL_KEY"),
            },
        };
        if url.is_none() && key.is_none() {
            return Ok(None);
        }
        if key.as_ref().is_some_and(|key| !fits_header(key)) {
            return Err(invalid(key_from, "has a character that no HTTP header takes"));
        }
        let default = || Url::parse(vendor.url).expect("the default is a URL");
        Ok(Some(ModelSettings {
            protocol,
            url: url.unwrap_or_else(default),
            key: key.map(Secret::new),
            key_from,
            name: self.text("CARREL_MODEL")?.unwrap_or_else(|| vendor.model.to_owned()),
            retries: self.parsed("CARREL_MODEL_RETRIES", "is not a whole number")?.unwrap_or(5),
            is_asked_for,
        }))
    }
}

/// What is wrong with the name of a protocol, behind the name of its variable.
fn no_protocol(text: &str) -> String {
    let known = [Protocol::Responses, Protocol::ChatCompletions, Protocol::Messages].map(Protocol::word);
    format!("is `{}`, which is no protocol; set it to one of {}", text.escape_debug(), known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn model(variables: &[(&str, &str)]) -> ModelSettings {
        let settings = Settings::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        });
        settings.expect("settings").models.one.expect("a model")
    }

    #[test]
    fn the_variables_of_openai_are_fallen_back_to_one_by_one() {
        let model = model(&[
            ("OPENAI_BASE_URL", "http://other/v1"),
            ("OPENAI_API_KEY", "sk-other"),
            ("CARREL_MODEL_URL", "http://own/v1"),
            ("CARREL_MODEL", "own-model"),
        ]);

        assert_eq!((model.url.as_str(), model.name.as_str()), ("http://own/v1", "own-model"));
        assert_eq!((model.key, model.key_from), (Some(Secret::new("sk-other")), "OPENAI_API_KEY"));
    }

    #[test]
    fn a_key_alone_means_its_vendor() {
        let openai = model(&[("OPENAI_API_KEY", "sk-x")]);
        let anthropic = model(&[("ANTHROPIC_API_KEY", "sk-ant-x")]);
        let both = model(&[("OPENAI_API_KEY", "sk-x"), ("ANTHROPIC_API_KEY", "sk-ant-x")]);

        assert_eq!((openai.url.as_str(), openai.name.as_str()), ("https://api.openai.com/v1", "gpt-5-codex"));
        assert_eq!((anthropic.url.as_str(), anthropic.protocol), ("https://api.anthropic.com/", Protocol::Messages));
        assert_eq!(anthropic.key_from, "ANTHROPIC_API_KEY");
        assert_eq!(both.protocol, Protocol::Responses);
        assert!(!openai.is_asked_for && !anthropic.is_asked_for);
    }

    #[test]
    fn a_protocol_that_there_is_not_is_named_in_one_sentence() {
        let error = Settings::from_lookup(|name| (name == "CARREL_MODEL_PROTOCOL").then(|| "xx".into()));

        assert_eq!(
            error.expect_err("no protocol").to_string(),
            "CARREL_MODEL_PROTOCOL is `xx`, which is no protocol; set it to one of responses, chat_completions, messages"
        );
    }

    #[test]
    fn the_protocol_decides_on_the_vendor() {
        let messages = model(&[
            ("CARREL_MODEL_PROTOCOL", "messages"),
            ("OPENAI_API_KEY", "sk-x"),
            ("ANTHROPIC_API_KEY", "sk-ant-x"),
        ]);
        let chat =
            model(&[("CARREL_MODEL_PROTOCOL", "chat_completions"), ("CARREL_MODEL_URL", "http://localhost:8000/v1")]);

        assert_eq!(messages.key, Some(Secret::new("sk-ant-x")));
        assert_eq!((chat.protocol, chat.key, chat.is_asked_for), (Protocol::ChatCompletions, None, true));
    }
}

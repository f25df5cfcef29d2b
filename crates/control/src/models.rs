//! The models tasks may be given to, by name.

use std::collections::BTreeMap;

use carrel_agent::ModelEndpoint;

use crate::ControlError;

/// What to do when there is no model.
pub const CONFIGURE_A_MODEL: &str = "no model is configured: start the service with CARREL_MODEL_URL (such as \
    https://api.openai.com/v1), CARREL_MODEL_KEY and CARREL_MODEL set";

/// The installation's models.
#[derive(Debug, Clone, Default)]
pub struct Models {
    default: Option<String>,
    endpoints: BTreeMap<String, ModelEndpoint>,
}

impl Models {
    /// No model at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a model that is used only when a task names it.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, endpoint: ModelEndpoint) -> Self {
        self.endpoints.insert(name.into(), endpoint);
        self
    }

    /// Adds the model that tasks get that name none.
    #[must_use]
    pub fn with_default(mut self, name: impl Into<String>, endpoint: ModelEndpoint) -> Self {
        let name = name.into();
        self.default = Some(name.clone());
        self.with(name, endpoint)
    }

    /// The name of the default model.
    #[must_use]
    pub fn default_name(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// A model by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ModelEndpoint> {
        self.endpoints.get(name)
    }

    /// The name of the model a task gets that asks for this one, or for none.
    pub(crate) fn choose(&self, asked: Option<&str>) -> Result<String, ControlError> {
        match (asked, &self.default) {
            (Some(name), _) if self.endpoints.contains_key(name) => Ok(name.to_owned()),
            (None, Some(name)) => Ok(name.clone()),
            (None, None) => Err(ControlError::NoModel(CONFIGURE_A_MODEL.to_owned())),
            (Some(name), Some(default)) => Err(ControlError::invalid(
                "model",
                format!("there is no model `{name}`; the default one is `{default}`"),
            )),
            (Some(name), None) => {
                Err(ControlError::invalid("model", format!("there is no model `{name}`; {CONFIGURE_A_MODEL}")))
            }
        }
    }
}

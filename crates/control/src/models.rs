//! The models tasks may be given to, by name, and how hard each can be asked to think.

use carrel_agent::{ModelEndpoint, PatchTool, Protocol, Reasoning, Thinking};

use crate::ControlError;

/// What to do when there is no model.
pub const CONFIGURE_A_MODEL: &str = "no model is configured: start the service with CARREL_MODEL_URL (such as \
    https://api.openai.com/v1), CARREL_MODEL_KEY and CARREL_MODEL set, or with a file of models in CARREL_MODELS_FILE";

/// A model and what people are told of it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Where it is asked, and what it can take.
    pub endpoint: ModelEndpoint,
    /// Who serves it, as it was configured.
    pub provider: String,
    /// The efforts it may be asked for, the least first; none when it has no such thing.
    pub efforts: Vec<String>,
    /// Whether people are told of it. The demo's is there for whoever names it.
    pub is_listed: bool,
}

impl Model {
    /// The effort it is asked for when nobody says another.
    #[must_use]
    pub fn default_effort(&self) -> Option<&str> {
        match &self.endpoint.reasoning {
            Reasoning::On { effort } => effort.as_deref(),
            Reasoning::Off => None,
        }
    }

    /// Whether `apply_patch` is offered to it in its freeform form.
    #[must_use]
    pub fn knows_freeform_patch(&self) -> bool {
        self.endpoint.patch_tool == PatchTool::Freeform
    }

    /// Whether it is asked to think before it answers.
    #[must_use]
    pub fn reasons(&self) -> bool {
        self.endpoint.reasoning != Reasoning::Off
    }
}

impl From<ModelEndpoint> for Model {
    /// A model with the efforts its name is known for, called after its server.
    fn from(endpoint: ModelEndpoint) -> Self {
        let efforts = known_efforts(&endpoint).iter().map(|effort| (*effort).to_owned()).collect();
        let provider = endpoint.base_url.host_str().unwrap_or_default().to_owned();
        Self { endpoint, provider, efforts, is_listed: true }
    }
}

fn known_efforts(endpoint: &ModelEndpoint) -> &'static [&'static str] {
    let bare = endpoint.name.rsplit('/').next().unwrap_or_default();
    match (&endpoint.reasoning, endpoint.protocol, endpoint.thinking) {
        (Reasoning::Off, _, _) => &[],
        (Reasoning::On { .. }, Protocol::Messages, Thinking::Adaptive) => &["low", "medium", "high", "max"],
        (Reasoning::On { .. }, Protocol::Responses | Protocol::ChatCompletions, _)
            if matches!(bare, "gpt-5" | "gpt-5-mini" | "gpt-5-nano") =>
        {
            &["minimal", "low", "medium", "high"]
        }
        (Reasoning::On { .. }, _, _) => &["low", "medium", "high"],
    }
}

/// The installation's models, in the order they were configured in.
#[derive(Debug, Clone, Default)]
pub struct Models {
    default: Option<String>,
    all: Vec<(String, Model)>,
}

/// What an attempt is pinned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The model's name.
    pub(crate) model: String,
    /// The effort it is asked for, if it knows efforts.
    pub(crate) effort: Option<String>,
}

impl Models {
    /// No model at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a model that is used only when a task names it; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, model: impl Into<Model>) -> Self {
        let (name, model) = (name.into(), model.into());
        self.all.retain(|(known, _)| *known != name);
        self.all.push((name, model));
        self
    }

    /// Adds the model that tasks get that name none.
    #[must_use]
    pub fn with_default(mut self, name: impl Into<String>, model: impl Into<Model>) -> Self {
        let name = name.into();
        self.default = Some(name.clone());
        self.with(name, model)
    }

    /// The name of the default model.
    #[must_use]
    pub fn default_name(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// A model by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.all.iter().find(|(known, _)| known == name).map(|(_, model)| model)
    }

    /// The models people may choose from, with their names.
    pub fn listed(&self) -> impl Iterator<Item = (&str, &Model)> {
        self.all.iter().filter(|(_, model)| model.is_listed).map(|(name, model)| (name.as_str(), model))
    }

    /// What a task gets that asks for this model and this effort, or for none. `before` is what its turn before had: it
    /// is kept as far as it is still there.
    pub(crate) fn choose(
        &self,
        model: Option<&str>,
        effort: Option<&str>,
        before: Option<&Choice>,
    ) -> Result<Choice, ControlError> {
        let kept = before.filter(|before| self.get(&before.model).is_some());
        let name = match (model, kept, &self.default) {
            (Some(name), _, _) => name,
            (None, Some(before), _) => &before.model,
            (None, None, Some(default)) => default,
            (None, None, None) => return Err(ControlError::NoModel(CONFIGURE_A_MODEL.to_owned())),
        };
        let found = self.get(name).ok_or_else(|| self.unknown(name))?;
        let kept_effort = kept.filter(|before| before.model == name).and_then(|before| before.effort.as_deref());
        let effort = match effort {
            Some(asked) if found.efforts.iter().any(|known| known == asked) => Some(asked),
            Some(asked) => return Err(unknown_effort(name, asked, &found.efforts)),
            None => kept_effort
                .filter(|kept| found.efforts.iter().any(|known| known == kept))
                .or_else(|| found.default_effort()),
        };
        Ok(Choice { model: name.to_owned(), effort: effort.map(str::to_owned) })
    }

    fn unknown(&self, name: &str) -> ControlError {
        let names: Vec<String> = self.listed().map(|(name, _)| format!("`{name}`")).collect();
        let way_out = match names.as_slice() {
            [] => CONFIGURE_A_MODEL.to_owned(),
            [one] => format!("the only one is {one}"),
            more => format!("there are {}", more.join(", ")),
        };
        ControlError::invalid("model", format!("there is no model `{name}`; {way_out}"))
    }
}

fn unknown_effort(model: &str, asked: &str, efforts: &[String]) -> ControlError {
    let way_out =
        if efforts.is_empty() { "it takes none".to_owned() } else { format!("it has {}", efforts.join(", ")) };
    ControlError::invalid("effort", format!("the model `{model}` has no effort `{asked}`; {way_out}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        let endpoint = |protocol, name| {
            ModelEndpoint::speaking(protocol, name, "http://localhost/v1".parse().expect("a URL"), None)
        };
        let sonnet = endpoint(Protocol::Messages, "claude-sonnet-4-5").with_effort(Some("medium"));
        let hidden = Model { is_listed: false, ..endpoint(Protocol::Responses, "recorded").into() };
        Models::none()
            .with_default("gpt", endpoint(Protocol::Responses, "gpt-5"))
            .with("sonnet", sonnet)
            .with("qwen", endpoint(Protocol::ChatCompletions, "qwen3"))
            .with("hidden", hidden)
    }

    fn choice(model: &str, effort: Option<&str>) -> Choice {
        Choice { model: model.to_owned(), effort: effort.map(str::to_owned) }
    }

    fn said(result: Result<Choice, ControlError>) -> String {
        result.expect_err("a refusal").to_string()
    }

    #[test]
    fn a_task_gets_what_it_asks_for_or_the_default() {
        let models = models();

        assert_eq!(models.choose(None, None, None).expect("a choice"), choice("gpt", None));
        assert_eq!(models.choose(Some("sonnet"), None, None).expect("a choice"), choice("sonnet", Some("medium")));
        assert_eq!(models.choose(None, Some("minimal"), None).expect("a choice"), choice("gpt", Some("minimal")));
        assert_eq!(models.choose(Some("hidden"), None, None).expect("a choice").model, "hidden");
    }

    #[test]
    fn a_follow_up_keeps_what_it_does_not_change() {
        let models = models();
        let before = choice("sonnet", Some("high"));
        let follow = |model, effort| models.choose(model, effort, Some(&before)).expect("a choice");

        assert_eq!(follow(None, None), before);
        assert_eq!(follow(None, Some("low")), choice("sonnet", Some("low")));
        assert_eq!(follow(Some("gpt"), None), choice("gpt", None));
        let gone = choice("gone", Some("high"));
        assert_eq!(models.choose(None, None, Some(&gone)).expect("a choice"), choice("gpt", None));
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let models = models();

        assert_eq!(
            said(models.choose(Some("gpt-9"), None, None)),
            "there is no model `gpt-9`; there are `gpt`, `sonnet`, `qwen`"
        );
        assert_eq!(
            said(models.choose(Some("sonnet"), Some("extreme"), None)),
            "the model `sonnet` has no effort `extreme`; it has low, medium, high"
        );
        assert_eq!(
            said(models.choose(Some("qwen"), Some("low"), None)),
            "the model `qwen` has no effort `low`; it takes none"
        );
        assert!(said(Models::none().choose(None, None, None)).contains("CARREL_MODELS_FILE"));
    }
}

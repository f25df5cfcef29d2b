//! The agents tasks may be given to: our own, which is always there, and those that run in the sandbox.

use std::path::PathBuf;

use carrel_agent::{Guest, Protocol};
use carrel_sandbox::ReadOnlyMount;

use crate::ControlError;
use crate::models::Model;

/// The name of our own agent.
pub const OWN_AGENT: &str = "carrel";

/// An agent that runs in the sandbox, and what it takes.
#[derive(Debug, Clone)]
pub struct Agent {
    /// What is started, and how it is spoken to.
    pub guest: Guest,
    /// The API of models that it speaks.
    pub speaks: Protocol,
    /// Its program: where it lies in the sandbox, and on this machine. Shown read-only, never copied.
    pub folders: Vec<(String, PathBuf)>,
}

/// The installation's agents, in the order they were configured in.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    all: Vec<Agent>,
}

impl Agents {
    /// Our own, and these.
    #[must_use]
    pub const fn new(all: Vec<Agent>) -> Self {
        Self { all }
    }

    /// Those that run in the sandbox.
    pub fn guests(&self) -> impl Iterator<Item = &Agent> {
        self.all.iter()
    }

    /// One that runs in the sandbox, by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Agent> {
        self.all.iter().find(|agent| agent.guest.name == name)
    }

    /// What a task gets that asks for this agent, or for none: then it keeps the one of its turn before. `None` is our own.
    pub(crate) fn choose(
        &self,
        asked: Option<&str>,
        before: Option<&str>,
        model: &str,
        found: Option<&Model>,
    ) -> Result<Option<String>, ControlError> {
        let name = match (asked, before) {
            (Some(name), _) => name,
            (None, Some(before)) if self.get(before).is_some() => before,
            (None, _) => OWN_AGENT,
        };
        if name == OWN_AGENT {
            return Ok(None);
        }
        let agent = self.get(name).ok_or_else(|| self.unknown(name))?;
        match found {
            Some(found) if found.endpoint.protocol != agent.speaks => {
                let (speaks, served) = (agent.speaks.word(), found.endpoint.protocol.word());
                Err(ControlError::invalid(
                    "agent",
                    format!(
                        "the agent `{name}` speaks `{speaks}` with its model, and `{model}` is served by `{served}`; choose another model"
                    ),
                ))
            }
            _ => Ok(Some(name.to_owned())),
        }
    }

    fn unknown(&self, name: &str) -> ControlError {
        let names: Vec<String> = std::iter::once(OWN_AGENT)
            .chain(self.all.iter().map(|agent| agent.guest.name.as_str()))
            .map(|name| format!("`{name}`"))
            .collect();
        let way_out = match names.as_slice() {
            [one] => format!("there is only {one}; others are configured in CARREL_AGENTS_FILE (docs/agents.md)"),
            more => format!("there are {}", more.join(", ")),
        };
        ControlError::invalid("agent", format!("there is no agent `{name}`; {way_out}"))
    }
}

impl Agent {
    /// What is shown of it in a sandbox.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = ReadOnlyMount> {
        self.folders.iter().map(|(target, source)| ReadOnlyMount { source: source.clone(), target: target.clone() })
    }
}

#[cfg(test)]
mod tests {
    use carrel_agent::{GuestProtocol, ModelEndpoint};

    use super::*;

    fn agents() -> Agents {
        let guest = Guest {
            name: "codex".to_owned(),
            protocol: GuestProtocol::CodexAppServer,
            command: vec!["/opt/codex".to_owned()],
            environment: Vec::new(),
        };
        Agents::new(vec![Agent { guest, speaks: Protocol::Responses, folders: Vec::new() }])
    }

    fn model(protocol: Protocol) -> Model {
        ModelEndpoint::speaking(protocol, "m", "http://localhost/v1".parse().expect("a URL"), None).into()
    }

    #[test]
    fn a_turn_keeps_the_agent_of_the_one_before_unless_it_names_another() {
        let (agents, model) = (agents(), model(Protocol::Responses));
        let chosen = |asked, before| agents.choose(asked, before, "m", Some(&model)).expect("a choice");

        assert_eq!(chosen(None, None), None);
        assert_eq!(chosen(Some("codex"), None).as_deref(), Some("codex"));
        assert_eq!(chosen(None, Some("codex")).as_deref(), Some("codex"));
        assert_eq!(chosen(Some("carrel"), Some("codex")), None);
        assert_eq!(chosen(None, Some("gone")), None);
    }

    #[test]
    fn an_agent_that_is_not_there_or_cannot_speak_with_the_model_is_refused_with_the_way_out() {
        let said = |asked, protocol| {
            agents().choose(Some(asked), None, "m", Some(&model(protocol))).expect_err("a refusal").to_string()
        };

        assert_eq!(said("goose", Protocol::Responses), "there is no agent `goose`; there are `carrel`, `codex`");
        assert!(said("codex", Protocol::Messages).contains("`m` is served by `messages`"));
        let none = Agents::default().choose(Some("x"), None, "m", None).expect_err("a refusal");
        assert!(none.to_string().contains("CARREL_AGENTS_FILE"));
    }
}

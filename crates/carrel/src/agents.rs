//! The file of agents that run in the sandbox. `docs/agents.md` describes it for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use carrel_agent::{Guest, GuestProtocol, Protocol, UnknownGuestProtocol, UnknownProtocol};
use carrel_control::{Agent, Agents, OWN_AGENT};
use serde::Deserialize;

use crate::exit::Failure;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Folders of a sandbox that no program may be put over.
const TAKEN: [&str; 8] = ["/", "/workspace", "/attachments", "/proc", "/sys", "/dev", "/tmp", "/etc"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agents: Vec<Entry>,
}

/// An agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// What is spoken with it.
    protocol: String,
    /// Its program and its arguments, as they are in the sandbox.
    command: Vec<String>,
    /// Where its program lies in the sandbox, and on this machine.
    #[serde(default)]
    folders: BTreeMap<String, PathBuf>,
    /// What it speaks with its model. Default: `responses`.
    speaks: Option<String>,
    /// Variables of its own.
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// Reads the file, if there is one.
///
/// # Errors
/// When it is not there or not understood. The message names the place in it.
pub(crate) fn load(path: Option<&Path>) -> Result<Agents, Failure> {
    let Some(path) = path else { return Ok(Agents::default()) };
    let failed = |problem: String| Failure::usage(format!("CARREL_AGENTS_FILE {}: {problem}", path.display()));
    let meta = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(failed(format!("it is no file of at most {MAX_BYTES} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(failed)
}

fn parse(text: &str) -> Result<Agents, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("{}{}", line.map(|line| format!("line {line}: ")).unwrap_or_default(), error.message())
    })?;
    let mut all: Vec<Agent> = Vec::new();
    for entry in file.agents {
        let name = entry.name.clone();
        if all.iter().any(|known| known.guest.name == name) {
            return Err(format!("there are two agents `{name}`; give one another name"));
        }
        all.push(agent(entry).map_err(|problem| format!("the agent `{name}`: {problem}"))?);
    }
    Ok(Agents::new(all))
}

fn agent(entry: Entry) -> Result<Agent, String> {
    let is_name = |name: &str| {
        (1..=40).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if !is_name(&entry.name) || entry.name == OWN_AGENT {
        return Err(format!("name is not 1 to 40 of a-z, 0-9 and `-`, or it is `{OWN_AGENT}`, which is Carrel's own"));
    }
    let protocol: GuestProtocol =
        entry.protocol.parse().map_err(|error: UnknownGuestProtocol| format!("protocol: {error}"))?;
    let speaks = entry.speaks.as_deref().unwrap_or(Protocol::Responses.word());
    let speaks: Protocol = speaks.parse().map_err(|error: UnknownProtocol| format!("speaks: {error}"))?;
    if protocol == GuestProtocol::CodexAppServer && speaks != Protocol::Responses {
        return Err("speaks: codex-app-server speaks `responses` and nothing else".to_owned());
    }
    if entry.command.first().is_none_or(|program| !program.starts_with('/')) {
        return Err("command does not begin with an absolute path in the sandbox".to_owned());
    }
    for (target, source) in &entry.folders {
        folder(target, source)?;
    }
    if let Some(name) = entry.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(format!("env: `{name}` is no name of a variable"));
    }
    let (environment, folders) = (entry.env.into_iter().collect(), entry.folders.into_iter().collect());
    let guest = Guest { name: entry.name, protocol, command: entry.command, environment };
    Ok(Agent { guest, speaks, folders })
}

fn folder(target: &str, source: &Path) -> Result<(), String> {
    let is_plain = target.starts_with('/') && !target.split('/').any(|part| part == "..") && !target.ends_with('/');
    let is_taken =
        TAKEN.iter().any(|taken| target == *taken || (*taken != "/" && target.starts_with(&format!("{taken}/"))));
    if !is_plain || is_taken {
        return Err(format!("folders: `{target}` is no place for a program in a sandbox; take one such as /opt/agent"));
    }
    if !source.is_absolute() || !source.exists() {
        return Err(format!(
            "folders: `{}` is not there on this machine, or is not an absolute path",
            source.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        parse(text).expect_err("a mistake")
    }

    #[test]
    fn an_agent_is_read_with_its_defaults() {
        let text = "[[agents]]\nname = \"codex\"\nprotocol = \"codex-app-server\"\ncommand = [\"/opt/codex\", \"app-server\"]\n\
                    folders = { \"/opt/codex\" = \"/bin/sh\" }\nenv = { A = \"b\" }\n";

        let agents = parse(text).expect("it is right");

        let agent = agents.get("codex").expect("it is there");
        assert_eq!(agent.speaks, Protocol::Responses);
        assert_eq!(agent.guest.environment, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(agent.folders, [("/opt/codex".to_owned(), PathBuf::from("/bin/sh"))]);
    }

    #[test]
    fn a_mistake_is_named_by_its_key() {
        let entry = |name: &str, protocol: &str, rest: &str| {
            format!("[[agents]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\ncommand = [\"/a\"]\n{rest}\n")
        };

        assert!(said(&entry("carrel", "acp", "")).contains("name is not"));
        assert!(said(&entry("x", "mcp", "")).contains("protocol: `mcp`"));
        assert!(said(&entry("x", "acp", "speaks = \"soap\"")).contains("speaks: `soap`"));
        assert!(said(&entry("x", "codex-app-server", "speaks = \"messages\"")).contains("speaks: "));
        assert!(said(&entry("x", "acp", "folders = { \"/etc/x\" = \"/bin\" }")).contains("folders: `/etc/x`"));
        assert!(
            said(&entry("x", "acp", "folders = { \"/opt/x\" = \"/not/there\" }")).contains("folders: `/not/there`")
        );
        assert!(said(&entry("x", "acp", "colour = 1")).contains("line 5: unknown field `colour`"));
        assert!(said(&(entry("x", "acp", "") + &entry("x", "acp", ""))).contains("two agents `x`"));
        assert!(said("[[agents]]\nname = \"x\"\nprotocol = \"acp\"\ncommand = [\"a\"]\n").contains("command does not"));
    }
}

//! What a repository's `devcontainer.json` says that Carrel honours: the image, the commands that make it ready, and
//! variables. The rest is named in a warning, not guessed at.
//!
//! The format: <https://containers.dev/implementors/json_reference/>, JSON with comments and trailing commas.

mod jsonc;
mod substitution;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::environment_file::{InvalidFile, MAX_BYTES, RepositorySettings, check_value, image_of, shown};
use crate::{Setup, VariableName};
use substitution::{Folder, Substituted};

/// Where the file may be in a repository; the first that is there counts.
pub const PATHS: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

/// Commands that are run before a snapshot is kept, in this order.
const COMMANDS: [&str; 3] = ["onCreateCommand", "updateContentCommand", "postCreateCommand"];
/// Most commands of one file.
const MAX_COMMANDS: usize = 100;
/// Most variables of one file.
const MAX_VARIABLES: usize = 200;

/// What is there in many files, changes what a program would find, and is not honoured.
const NOT_HONOURED: [(&str, &str); 17] = [
    ("features", "install what they bring in a setup script, or choose an image that has it"),
    ("build", "build the image elsewhere and name it in `image`"),
    ("dockerFile", "build the image elsewhere and name it in `image`"),
    ("dockerComposeFile", "a sandbox is one container; name its image in `image`"),
    ("initializeCommand", "it is meant for a developer's own machine"),
    ("postStartCommand", "put what it does into a maintenance script"),
    ("postAttachCommand", "nobody attaches to a sandbox"),
    ("mounts", "a sandbox has no folders of the host"),
    ("workspaceMount", "a sandbox has no folders of the host"),
    ("workspaceFolder", "the repository is at /workspace/<repository>"),
    ("runArgs", "what a sandbox may do is up to the environment"),
    ("privileged", "what a sandbox may do is up to the environment"),
    ("capAdd", "what a sandbox may do is up to the environment"),
    ("securityOpt", "what a sandbox may do is up to the environment"),
    ("remoteUser", "commands run as the sandbox's own user"),
    ("containerUser", "commands run as the sandbox's own user"),
    ("hostRequirements", "limits are up to the environment"),
];

/// Reads a `devcontainer.json`. `workspace` is where the repository is in the sandbox.
///
/// # Errors
///
/// [`InvalidFile`] when it is no JSON, no object, or longer than 64 KiB. What is merely not honoured is a warning.
pub fn parse(path: &'static str, text: &str, workspace: &str) -> Result<RepositorySettings, InvalidFile> {
    let refuse = |line, problem| InvalidFile { file: path, line, problem };
    if text.len() > MAX_BYTES {
        return Err(refuse(None, format!("it has {} bytes; {MAX_BYTES} are the most", text.len())));
    }
    let read = serde_json::from_str::<Value>(&jsonc::plain(text)).map_err(|error| {
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default();
        refuse(Some(error.line()), shown(problem))
    })?;
    let Value::Object(keys) = read else { return Err(refuse(None, "it is no JSON object".to_owned())) };
    let mut reading =
        Reading { path, folder: Folder::new(workspace), container: BTreeMap::new(), warnings: Vec::new() };
    let mut settings = RepositorySettings { source: path, ..RepositorySettings::default() };
    settings.image = keys.get("image").and_then(|image| reading.image(image));
    settings.variables = reading.variables(&keys);
    settings.setup = reading.commands(&keys);
    let ignored = NOT_HONOURED.iter().filter(|(key, _)| keys.get(*key).is_some_and(|value| !is_nothing(value)));
    for (key, way_out) in ignored {
        reading.warn(format!("`{key}` is not honoured: {way_out}"));
    }
    settings.warnings = reading.warnings;
    Ok(settings)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

struct Reading {
    path: &'static str,
    folder: Folder,
    /// `containerEnv` as it was read, for `${containerEnv:NAME}`.
    container: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Reading {
    fn warn(&mut self, problem: String) {
        self.warnings.push(format!("`{}`: {problem}", self.path));
    }

    fn image(&mut self, image: &Value) -> Option<crate::Image> {
        let read = image.as_str().ok_or_else(|| "it is no string".to_owned()).and_then(image_of);
        read.map_err(|problem| self.warn(format!("`image` does not count: {problem}"))).ok()
    }

    /// `containerEnv`, and `remoteEnv` over it.
    fn variables(&mut self, keys: &Map<String, Value>) -> BTreeMap<VariableName, String> {
        let mut variables = BTreeMap::new();
        for key in ["containerEnv", "remoteEnv"] {
            let Some(values) = keys.get(key) else { continue };
            let Some(values) = values.as_object() else {
                self.warn(format!("`{key}` does not count: it is no object"));
                continue;
            };
            for (name, value) in values {
                // `null` takes a variable away, and there is nothing below these to take away from.
                if value.is_null() {
                    continue;
                }
                if variables.len() == MAX_VARIABLES {
                    self.warn(format!("only {MAX_VARIABLES} variables count"));
                    return variables;
                }
                match self.variable(name, value) {
                    Ok((variable, value)) => {
                        if key == "containerEnv" {
                            self.container.insert(name.clone(), value.clone());
                        }
                        variables.insert(variable, value);
                    }
                    Err(problem) => self.warn(format!("the variable `{}` of `{key}` {problem}", shown(name))),
                }
            }
        }
        variables
    }

    fn variable(&mut self, name: &str, value: &Value) -> Result<(VariableName, String), String> {
        let variable = name.parse::<VariableName>().map_err(|_| "does not count: that is no name".to_owned())?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err("does not count: its value is no string".to_owned());
            }
        };
        let Substituted { text, local, unknown } = self.folder.substitute(&text, &self.container);
        if let Some(unknown) = unknown.first() {
            let unknown = shown(unknown);
            return Err(format!("does not count: what `{unknown}` stands for is not known before the image runs"));
        }
        check_value(&text).map_err(|problem| format!("does not count: its value {problem}"))?;
        if !local.is_empty() {
            self.warn(format!(
                "the variable `{name}` names one of a developer's own machine, which is empty here; set it in the environment"
            ));
        }
        Ok((variable, text))
    }

    /// The commands as one bash script that stops at the first that fails.
    fn commands(&mut self, keys: &Map<String, Value>) -> Option<Setup> {
        let mut script = String::new();
        let mut count = 0;
        for key in COMMANDS {
            let Some(value) = keys.get(key).filter(|value| !is_nothing(value)) else { continue };
            for (name, command) in self.named(key, value) {
                let Some(line) = self.line(&command) else {
                    self.warn(format!("`{key}` does not count: a command is a string or a list of strings"));
                    return None;
                };
                count += 1;
                if count > MAX_COMMANDS || script.len() + line.len() > MAX_BYTES {
                    self.warn(format!("its commands do not count: they are more than {MAX_COMMANDS}, or too long"));
                    return None;
                }
                let of = name.map(|name| format!(" {}", shown(&name))).unwrap_or_default();
                script.push_str(&format!("# {key}{of}\n{line}\n"));
            }
        }
        (!script.is_empty()).then(|| Setup::Script(format!("set -e\n{script}")))
    }

    /// A command, or several that have names.
    fn named(&mut self, key: &str, value: &Value) -> Vec<(Option<String>, Value)> {
        let Value::Object(commands) = value else { return vec![(None, value.clone())] };
        if commands.len() > 1 {
            self.warn(format!("the commands of `{key}` are run one after the other, in the order of their names"));
        }
        commands.iter().map(|(name, command)| (Some(name.clone()), command.clone())).collect()
    }

    /// A command as a line of bash: a string is given to a shell, a list is run as it is.
    fn line(&mut self, command: &Value) -> Option<String> {
        let words: Vec<String> = match command {
            Value::String(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
            Value::Array(words) if !words.is_empty() => {
                words.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let mut quoted = Vec::new();
        for word in words {
            let Substituted { text, local, .. } = self.folder.substitute(&word, &self.container);
            if !local.is_empty() {
                self.warn("a command names a variable of a developer's own machine, which is empty here".to_owned());
            }
            if text.contains('\0') {
                return None;
            }
            quoted.push(format!("'{}'", text.replace('\'', r"'\''")));
        }
        Some(quoted.join(" "))
    }
}

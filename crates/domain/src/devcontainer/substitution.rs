//! The variables that a `devcontainer.json` may use in its values:
//! <https://containers.dev/implementors/json_reference/#variables-in-devcontainerjson>.

use std::collections::BTreeMap;

/// Where the repository is.
pub(super) struct Folder {
    path: String,
}

/// A value with its variables replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    pub(super) text: String,
    /// Variables of a developer's own machine, for which their default or nothing was put.
    pub(super) local: Vec<String>,
    /// Variables whose value is not known; they stand as they were.
    pub(super) unknown: Vec<String>,
}

impl Folder {
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned() }
    }

    /// Replaces every `${...}`. What is put in is not looked at again.
    pub(super) fn substitute(&self, value: &str, container: &BTreeMap<String, String>) -> Substituted {
        let mut done = Substituted { text: String::new(), local: Vec::new(), unknown: Vec::new() };
        let mut rest = value;
        while let Some((before, after)) = rest.split_once("${") {
            done.text.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                rest = &rest[before.len()..];
                break;
            };
            match self.one(name, container) {
                Known::Value(value) => done.text.push_str(&value),
                Known::Local(default) => {
                    done.local.push(name.to_owned());
                    done.text.push_str(&default);
                }
                Known::Not => {
                    done.unknown.push(format!("${{{name}}}"));
                    done.text.push_str(&format!("${{{name}}}"));
                }
                Known::Foreign => done.text.push_str(&format!("${{{name}}}")),
            }
            rest = after;
        }
        done.text.push_str(rest);
        done
    }

    fn one(&self, name: &str, container: &BTreeMap<String, String>) -> Known {
        let base = || self.path.rsplit('/').next().unwrap_or_default().to_owned();
        match name {
            "containerWorkspaceFolder" | "localWorkspaceFolder" => return Known::Value(self.path.clone()),
            "containerWorkspaceFolderBasename" | "localWorkspaceFolderBasename" => return Known::Value(base()),
            "devcontainerId" => return Known::Not,
            _ => {}
        }
        let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
        let (variable, default) = rest.split_once(':').map_or((rest, None), |(name, default)| (name, Some(default)));
        let default = || default.map(str::to_owned);
        match kind {
            // `env` is what `localEnv` was called before.
            "localEnv" | "env" => Known::Local(default().unwrap_or_default()),
            "containerEnv" => container.get(variable).cloned().or_else(default).map_or(Known::Not, Known::Value),
            _ => Known::Foreign,
        }
    }
}

/// What is known of a `${...}`.
enum Known {
    Value(String),
    /// A default or nothing, for a variable of a developer's own machine.
    Local(String),
    Not,
    /// None of the format's: a shell's own, in a command.
    Foreign,
}

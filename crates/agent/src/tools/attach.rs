//! `attach_artifact`: a file of the sandbox that stays when the sandbox goes. Its bytes go up through the journal,
//! together with the call's result, so that it is kept once, however often a worker dies.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use carrel_domain::EventBody;
use carrel_sandbox::SandboxError;
use serde_json::Value;

use super::{ATTACH, Outcome, Tools, arguments, is_about_the_request};
use crate::journal::Attachment;
use crate::model::Call;
use crate::{AgentError, AgentTask};

/// The longest file.
const MAX_FILE_BYTES: u64 = 10 << 20;

/// How many one attempt may keep.
const MAX_ARTIFACTS: usize = 20;

/// How much of a description is kept.
const MAX_DESCRIPTION_CHARS: usize = 500;

/// The longest name.
const MAX_NAME_BYTES: usize = 100;

/// How a result begins; the name follows, in backticks.
const ATTACHED: &str = "The file is attached as `";

/// The names of what the attempt has kept so far.
#[derive(Debug, Default)]
pub(crate) struct Attached(Mutex<BTreeSet<String>>);

impl Attached {
    /// Those of before a resumption.
    pub(crate) fn of(task: &AgentTask) -> Self {
        let name = |item: &Value| {
            let (name, _) = item["output"].as_str()?.strip_prefix(ATTACHED)?.split_once('`')?;
            Some(name.to_owned())
        };
        let results = task.resumed.iter().filter(|item| item["type"] == "function_call_output");
        Self(Mutex::new(results.filter_map(name).collect()))
    }

    /// Whether there is room for this name; and if so, whether something of this name is replaced.
    fn take(&self, name: &str) -> Option<bool> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return Some(true);
        }
        (names.len() < MAX_ARTIFACTS && names.insert(name.to_owned())).then_some(false)
    }
}

impl Tools {
    /// Keeps a file.
    pub(super) async fn attach_artifact(&self, call: &Call) -> Result<Outcome, AgentError> {
        let arguments = match arguments::Attach::parse(&call.input) {
            Ok(arguments) => arguments,
            Err(problem) => return Ok(Outcome::refused(ATTACH, problem)),
        };
        let path = super::patch::join(&self.workspace, &arguments.path);
        let bytes = match self.sessions.sandbox().read_file(&path, MAX_FILE_BYTES).await {
            Ok(bytes) => bytes,
            Err(SandboxError::TooLarge { size_bytes, .. }) => {
                let what = format!(
                    "`{path}` has {size_bytes} bytes, and an artifact at most {MAX_FILE_BYTES}; attach a part of it, or compress it"
                );
                return Ok(Outcome::refused(ATTACH, what));
            }
            Err(error) if is_about_the_request(&error) => return Ok(Outcome::refused(ATTACH, error.to_string())),
            Err(source) => return Err(AgentError::Sandbox { action: "read an artifact", source }),
        };
        let wanted = arguments.name.filter(|name| !name.trim().is_empty()).unwrap_or(path);
        let name = file_name(&self.sessions.redactor().redact(&wanted));
        let Some(replaces) = self.attached.take(&name) else {
            let what = format!(
                "the attempt has {MAX_ARTIFACTS} artifacts, which is the most it may have; put several files into one archive"
            );
            return Ok(Outcome::refused(ATTACH, what));
        };
        let size_bytes = bytes.len() as u64;
        let note = if replaces { ", in place of the earlier one of that name" } else { "" };
        let text = format!("{ATTACHED}{name}` ({size_bytes} bytes){note}. The person can download it.");
        let description =
            arguments.description.map(|text| text.chars().take(MAX_DESCRIPTION_CHARS).collect::<String>());
        let description = description.filter(|text| !text.trim().is_empty());
        let event = EventBody::ArtifactAttached { name: name.clone(), size_bytes, description };
        Ok(Outcome { attachments: vec![Attachment { name, bytes }], ..Outcome::plain(text).with(event) })
    }
}

/// A name that is one everywhere, out of whatever a model calls its file: the last part of a path, with nothing in it
/// that a shell, a browser or a file system could take for something else.
fn file_name(wanted: &str) -> String {
    let last = wanted.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
    let plain =
        |character: char| if character.is_alphanumeric() || "._-+@ ".contains(character) { character } else { '_' };
    let name: String = last.chars().map(plain).collect();
    let name = name.trim_start_matches(['.', '-', ' ']).trim_end_matches(['.', ' ']);
    if name.is_empty() {
        return "artifact".to_owned();
    }
    // The end is what says of which kind a file is.
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) if ending.len() < MAX_NAME_BYTES / 2 && !stem.is_empty() => (stem, format!(".{ending}")),
        _ => (name, String::new()),
    };
    format!("{}{ending}", &stem[..stem.floor_char_boundary(MAX_NAME_BYTES - ending.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_harmless_whatever_the_model_wants() {
        for (wanted, expected) in [
            ("/workspace/x/report.html", "report.html"),
            ("..", "artifact"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\y.txt", "y.txt"),
            ("-rf *.txt", "rf _.txt"),
            ("a\nb\u{202e}\"'`$c.png", "a_b_____c.png"),
            (".hidden/", "hidden"),
            ("Größe 2.csv ", "Größe 2.csv"),
            ("  ", "artifact"),
        ] {
            assert_eq!(file_name(wanted), expected, "{wanted:?}");
        }
        let long = file_name(&format!("{}.tar.gz", "ä".repeat(500)));
        assert!(long.len() <= MAX_NAME_BYTES && long.ends_with(".gz"), "{long}");
    }

    #[test]
    fn there_is_room_for_twenty_names_and_for_each_again() {
        let attached = Attached::default();

        assert!((0..MAX_ARTIFACTS).all(|number| attached.take(&number.to_string()) == Some(false)));
        assert_eq!((attached.take("more"), attached.take("7")), (None, Some(true)));
    }
}

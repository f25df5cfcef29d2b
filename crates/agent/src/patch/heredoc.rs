//! Recognises a shell command that is nothing but a patch: `apply_patch <<'EOF'` and its lines, perhaps after
//! `cd folder &&`. Models that were trained on it write it; there is no such program in the sandbox.

/// A patch found in a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The folder of the `cd`, if there was one.
    pub(crate) folder: Option<String>,
    /// The patch.
    pub(crate) patch: String,
}

/// The patch, when the command is one and does nothing else.
pub(crate) fn recognise(command: &str) -> Option<Heredoc> {
    let command = command.trim();
    let (folder, rest) = match command.strip_prefix("cd ") {
        Some(rest) => {
            let (folder, rest) = word(rest.trim_start())?;
            (Some(folder), rest.trim_start().strip_prefix("&&")?.trim_start())
        }
        None => (None, command),
    };
    let rest = rest.strip_prefix("apply_patch").or_else(|| rest.strip_prefix("applypatch"))?;
    let rest = rest.trim_start_matches([' ', '\t']).strip_prefix("<<")?.trim_start_matches([' ', '\t']);
    let (head, body) = rest.split_once('\n')?;
    let (delimiter, after) = word(head)?;
    if delimiter.is_empty() || !after.trim().is_empty() {
        return None;
    }
    let (patch, last) = body.rsplit_once('\n')?;
    (last.trim_end() == delimiter && !patch.lines().any(|line| line == delimiter))
        .then(|| Heredoc { folder, patch: patch.to_owned() })
}

/// The first word, quoted or plain, and what follows. A word the shell would expand is none.
fn word(text: &str) -> Option<(String, &str)> {
    for quote in ['\'', '"'] {
        if let Some(rest) = text.strip_prefix(quote) {
            let (word, rest) = rest.split_once(quote)?;
            return (quote == '\'' || !word.contains(['$', '`', '\\'])).then(|| (word.to_owned(), rest));
        }
    }
    let end = text.find([' ', '\t', '\n', ';', '&', '|', '<', '>']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let plain = !word.is_empty() && !word.contains(['$', '`', '\\', '\'', '"', '*', '?', '(', ')', '~']);
    plain.then(|| (word.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "*** Begin Patch\n*** Delete File: a\n*** End Patch";

    #[test]
    fn a_command_that_is_a_patch_is_recognised() {
        for head in ["apply_patch <<'EOF'", "applypatch <<EOF", "apply_patch <<\"EOF\"", "apply_patch << 'EOF'"] {
            let found = recognise(&format!("{head}\n{PATCH}\nEOF\n")).expect(head);
            assert_eq!(found, Heredoc { folder: None, patch: PATCH.to_owned() });
        }
    }

    #[test]
    fn a_folder_may_be_entered_first() {
        for (cd, folder) in [("cd src", "src"), ("cd 'my src'", "my src"), ("cd \"a b\"", "a b")] {
            let found = recognise(&format!("{cd} && apply_patch <<'X'\n{PATCH}\nX")).expect(cd);
            assert_eq!(found.folder.as_deref(), Some(folder));
        }
    }

    #[test]
    fn a_command_that_does_more_is_not() {
        for command in [
            format!("echo a; apply_patch <<'EOF'\n{PATCH}\nEOF"),
            format!("apply_patch <<'EOF'\n{PATCH}\nEOF\necho b"),
            format!("apply_patch <<'EOF' && echo b\n{PATCH}\nEOF"),
            format!("cd $HOME && apply_patch <<'EOF'\n{PATCH}\nEOF"),
            format!("cd a || apply_patch <<'EOF'\n{PATCH}\nEOF"),
            "apply_patch --help".to_owned(),
            "cat file".to_owned(),
            String::new(),
        ] {
            assert_eq!(recognise(&command), None, "{command}");
        }
    }
}

//! What a person asks for: text with a beginning and a limit.

use serde::Serialize;

use crate::git::is_invisible;

/// The longest prompt, in bytes of UTF-8. More than that fits no model's window beside the work itself.
pub const MAX_PROMPT_BYTES: usize = 256 * 1024;

/// Letters of a title.
const TITLE_CHARS: usize = 100;

/// A prompt that is neither empty nor too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Prompt(String);

/// Why a text cannot be a prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrompt {
    /// Nothing but white space.
    #[error("the prompt is empty; say what is to be done")]
    Empty,
    /// Longer than [`MAX_PROMPT_BYTES`].
    #[error(
        "the prompt has {size_bytes} bytes, more than the {MAX_PROMPT_BYTES} allowed; put long material into a file of the repository and name it"
    )]
    TooLong {
        /// Its length.
        size_bytes: usize,
    },
    /// A NUL, which no terminal, database or model takes.
    #[error("the prompt has a NUL character at byte {at}; remove it")]
    Nul {
        /// Where.
        at: usize,
    },
}

impl Prompt {
    /// Checks a text.
    ///
    /// # Errors
    /// When it is empty, too long, or has a NUL.
    pub fn parse(text: &str) -> Result<Self, InvalidPrompt> {
        if text.chars().all(|character| character.is_whitespace() || is_invisible(character)) {
            return Err(InvalidPrompt::Empty);
        }
        if text.len() > MAX_PROMPT_BYTES {
            return Err(InvalidPrompt::TooLong { size_bytes: text.len() });
        }
        if let Some(at) = text.find('\0') {
            return Err(InvalidPrompt::Nul { at });
        }
        Ok(Self(text.to_owned()))
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first line, cut to a hundred letters: what a list shows.
    #[must_use]
    pub fn title(&self) -> String {
        let line = self.0.trim().lines().next().unwrap_or_default().trim_end();
        match line.char_indices().nth(TITLE_CHARS) {
            Some((end, _)) => format!("{}…", line[..end].trim_end()),
            None => line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_of_white_space_is_refused() {
        assert_eq!(Prompt::parse(" \n\t"), Err(InvalidPrompt::Empty));
        assert_eq!(Prompt::parse("\u{200b}"), Err(InvalidPrompt::Empty));
    }

    #[test]
    fn a_megabyte_is_refused_with_its_size() {
        let error = Prompt::parse(&"x".repeat(1 << 20)).expect_err("too long");

        assert!(error.to_string().contains("1048576"), "{error}");
    }

    #[test]
    fn the_title_is_the_first_line_cut_between_letters() {
        let prompt = Prompt::parse(&format!("\n  {}\nmore", "ä".repeat(150))).expect("a prompt");

        assert_eq!(prompt.title(), format!("{}…", "ä".repeat(100)));
    }
}

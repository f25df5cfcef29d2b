//! How the program ends when it did not work: a message on standard error and an exit code that scripts can tell apart.
//! The codes are part of `carrel --help`.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use carrel_wire::{FieldError, Problem};
use clap::error::ErrorKind;

/// Why the program could not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    /// What the service has against single fields of the request.
    fields: Vec<FieldError>,
}

impl Failure {
    /// The work itself failed.
    pub(crate) fn work(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// Something that ran for the person ended with a code of its own, and has said whatever there was to say.
    pub(crate) fn exit(code: u8) -> Self {
        Self::new(code, "")
    }

    /// The command line or the settings make no sense.
    pub(crate) fn usage(message: impl ToString) -> Self {
        Self::new(2, message.to_string())
    }

    /// The command line is not one of this program's: what is wrong, without the help that people get with it.
    pub(crate) fn command_line(error: &clap::Error) -> Self {
        if matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
            return Self::usage("a command is missing; `--help` lists them");
        }
        let text = error.render().to_string();
        let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more "));
        let said: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
        let said = said.join("\n");
        Self::usage(said.strip_prefix("error: ").unwrap_or(&said))
    }

    /// The service refused.
    pub(crate) fn refused(problem: &Problem) -> Self {
        let code = if problem.status >= 500 { 5 } else { 3 };
        Self { fields: problem.errors.clone(), ..Self::new(code, problem.detail.as_str()) }
    }

    /// The service would refuse, as can be told without asking it.
    pub(crate) fn refused_here(message: impl Into<String>) -> Self {
        Self::new(3, message)
    }

    /// The service cannot be reached.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(4, message)
    }

    /// Whether the service could not be reached.
    pub(crate) const fn is_unreachable(&self) -> bool {
        self.code == 4
    }

    /// The service, or this program, has a problem.
    pub(crate) fn service(message: impl Into<String>) -> Self {
        Self::new(5, message)
    }

    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fields: Vec::new() }
    }

    /// The same, with what is said about fields in other words where there are some.
    pub(crate) fn reworded(self, words: impl Fn(&FieldError) -> Option<String>) -> Self {
        let said: Option<Vec<String>> = self.fields.iter().map(words).collect();
        match said {
            Some(said) if !said.is_empty() => Self { message: said.join("\n"), ..self },
            Some(_) | None => self,
        }
    }

    /// What happened, and the way out.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Prints the message, for programs as JSON, on standard error, and gives the code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if self.message.is_empty() {
            return ExitCode::from(self.code);
        }
        if json {
            anstream::eprintln!("{}", serde_json::json!({ "code": self.code, "error": self.message }));
            return ExitCode::from(self.code);
        }
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        anstream::eprintln!("{red}error:{red:#} {}", self.message);
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_is_wrong_with_a_command_line_is_said_without_the_help() {
        for (arguments, expected) in [
            (&["task", "create"][..], "the following required arguments were not provided:\n<PROMPT>"),
            (&["task"], "a command is missing; `--help` lists them"),
            (&[], "a command is missing; `--help` lists them"),
            (&["task", "list", "--limit", "0"], "invalid value '0' for '--limit <LIMIT>': 0 is not in 1..=100"),
            (
                &["task", "create", "--attempts", "5", "x"],
                "invalid value '5' for '--attempts <ATTEMPTS>': 5 is not in 1..=4",
            ),
        ] {
            let error =
                Cli::try_parse_from([&["carrel", "--json"], arguments].concat()).expect_err("it makes no sense");

            let failure = Failure::command_line(&error);

            assert_eq!((failure.code, failure.message()), (2, expected));
        }
    }
}

//! How the program ends when it did not work: a message on standard error and an exit code that scripts can tell apart.
//! The codes are part of `carrel --help`.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use carrel_wire::{FieldError, Problem};

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

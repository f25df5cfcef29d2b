//! How the program ends when it did not work: a message on standard error and an exit code that scripts can tell apart.
//! The codes are part of `carrel --help`.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use carrel_wire::Problem;

/// Why the program could not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The work itself failed.
    pub(crate) fn work(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Something that ran for the person ended with a code of its own, and has said whatever there was to say.
    pub(crate) fn exit(code: u8) -> Self {
        Self { code, message: String::new() }
    }

    /// The command line or the settings make no sense.
    pub(crate) fn usage(message: impl ToString) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The service refused.
    pub(crate) fn refused(problem: &Problem) -> Self {
        let code = if problem.status >= 500 { 5 } else { 3 };
        Self { code, message: problem.detail.clone() }
    }

    /// The service would refuse, as can be told without asking it.
    pub(crate) fn refused_here(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    /// The service cannot be reached.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 4, message: message.into() }
    }

    /// Whether the service could not be reached.
    pub(crate) const fn is_unreachable(&self) -> bool {
        self.code == 4
    }

    /// The service, or this program, has a problem.
    pub(crate) fn service(message: impl Into<String>) -> Self {
        Self { code: 5, message: message.into() }
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

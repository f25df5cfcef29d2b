//! The service's log: readable lines on standard error. Every line passes the redactor before it is written.

use std::io::{self, Write};

use carrel_domain::Redactor;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::Failure;

/// Starts logging. Called again, it leaves the first log as it is.
pub(super) fn start(filter: &str, redactor: Redactor) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Failure::usage(format!("CARREL_LOG makes no sense: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(Redacting(redactor));
    // The demo starts a service inside a process that may have a log already.
    let _already_started = log.try_init();
    Ok(())
}

struct Redacting(Redactor);

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// One line: the formatter hands it over whole.
struct Line<'a>(&'a Redactor);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        io::stderr().lock().write_all(self.0.redact(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

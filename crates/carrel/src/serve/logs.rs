//! The service's log on standard error: readable lines, or one JSON object a line. Every line passes the redactor before it
//! is written.

use std::io::{self, Write};

use carrel_domain::Redactor;
use opentelemetry_sdk::trace::Tracer;
use serde_json::Value;
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::exit::Failure;
use crate::settings::LogFormat;

/// Starts logging, and tracing where there is a tracer. Called again, it leaves the first log as it is.
pub(super) fn start(
    filter: &str,
    format: LogFormat,
    redactor: Redactor,
    tracer: Option<Tracer>,
) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Failure::usage(format!("CARREL_LOG makes no sense: {error}")))?;
    // Spans of our own alone, whatever is logged: what is logged may hold anything, and stays here.
    let of_ours = filter_fn(|metadata| {
        metadata.is_span() && *metadata.level() <= Level::INFO && metadata.target().starts_with("carrel")
    });
    let traces = tracer.map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        layer.with_level(false).with_target(false).with_filter(of_ours)
    });
    let log = tracing_subscriber::fmt::layer().with_writer(Redacting { redactor, format });
    let log = match format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    // The demo starts a service inside a process that may have a log already.
    let _already_started = tracing_subscriber::registry().with(traces).with(log.with_filter(filter)).try_init();
    Ok(())
}

struct Redacting {
    redactor: Redactor,
    format: LogFormat,
}

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One line: the formatter hands it over whole.
struct Line<'a>(&'a Redacting);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        io::stderr().lock().write_all(self.0.redacted(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Redacting {
    fn redacted(&self, line: &str) -> String {
        match (self.format, serde_json::from_str::<Value>(line)) {
            // Each text by itself: JSON writes a quote or a line end in another way, and a secret may have one.
            (LogFormat::Json, Ok(mut value)) => {
                self.redact(&mut value);
                format!("{value}\n")
            }
            (LogFormat::Text, _) | (LogFormat::Json, Err(_)) => self.redactor.redact(line).to_string(),
        }
    }

    fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redactor.redact(text).to_string(),
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.redact(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use carrel_domain::Secret;

    use super::*;

    #[test]
    fn a_secret_with_a_quote_in_it_does_not_get_through_a_line_of_json() {
        let secret = "pa\"ss\\word\nof two lines";
        let redacting = Redacting { redactor: Redactor::new(&[Secret::new(secret)]), format: LogFormat::Json };
        let line = serde_json::json!({"message": format!("it is {secret}!"), "span": {"job": "1", "x": [secret]}});

        let written = redacting.redacted(&format!("{line}\n"));

        let value: Value = serde_json::from_str(&written).expect("still JSON");
        assert!(
            written.ends_with("}\n") && !written.contains("ss\\\\word") && !written.contains("two lines"),
            "{written}"
        );
        assert_eq!(value["span"]["job"], "1");
        assert!(value["message"].as_str().is_some_and(|text| text.starts_with("it is ") && text.ends_with('!')));
    }
}

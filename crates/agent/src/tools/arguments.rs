//! What a model calls tools with, as far as it makes sense.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::model::{Call, CallKind};

/// How long a new command is waited for unless the model says otherwise, and the shortest and longest it can say.
const START_YIELD_MS: (u64, u64, u64) = (10_000, 250, 30_000);

/// The same after input was written to a command.
const WRITE_YIELD_MS: (u64, u64, u64) = (250, 250, 30_000);

/// The same for a call that only asks what there is.
const POLL_YIELD_MS: (u64, u64, u64) = (5_000, 5_000, 300_000);

/// How much output a model gets unless it says otherwise, in tokens.
pub(super) const DEFAULT_OUTPUT_TOKENS: usize = 10_000;

/// The arguments of `exec_command`.
#[derive(Debug, Deserialize)]
pub(super) struct Exec {
    pub(super) cmd: String,
    #[serde(default)]
    pub(super) workdir: Option<String>,
    #[serde(default)]
    pub(super) shell: Option<String>,
    #[serde(default)]
    pub(super) login: Option<bool>,
    #[serde(default)]
    pub(super) tty: Option<bool>,
    #[serde(default, deserialize_with = "number")]
    yield_time_ms: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    max_output_tokens: Option<u64>,
}

/// The arguments of `write_stdin`.
#[derive(Debug, Deserialize)]
pub(super) struct Write {
    #[serde(deserialize_with = "number")]
    session_id: Option<u64>,
    #[serde(default)]
    pub(super) chars: String,
    #[serde(default, deserialize_with = "number")]
    yield_time_ms: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    max_output_tokens: Option<u64>,
}

impl Exec {
    /// Reads them, or says to the model what is wrong.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        let exec: Self = parse(json)?;
        if exec.cmd.contains('\0') {
            return Err("`cmd` has a NUL character, which no command can have".to_owned());
        }
        Ok(exec)
    }

    pub(super) fn yield_time(&self) -> Duration {
        clamped(self.yield_time_ms, START_YIELD_MS)
    }

    pub(super) fn output_tokens(&self) -> usize {
        output_tokens(self.max_output_tokens)
    }
}

impl Write {
    /// Reads them, or says to the model what is wrong.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        parse(json)
    }

    /// The session; one that cannot be for a number that is none.
    pub(super) fn session(&self) -> usize {
        self.session_id.and_then(|id| usize::try_from(id).ok()).unwrap_or(usize::MAX)
    }

    pub(super) fn yield_time(&self) -> Duration {
        clamped(self.yield_time_ms, if self.chars.is_empty() { POLL_YIELD_MS } else { WRITE_YIELD_MS })
    }

    pub(super) fn output_tokens(&self) -> usize {
        output_tokens(self.max_output_tokens)
    }
}

/// The text of a patch, however it was handed over.
pub(super) fn patch(call: &Call) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Input {
        #[serde(alias = "patch")]
        input: String,
    }
    match call.kind {
        CallKind::Custom => Ok(call.input.clone()),
        CallKind::Function => parse::<Input>(&call.input).map(|arguments| arguments.input),
    }
}

/// Whether a call of `exec_command` is nothing but a patch.
pub(super) fn is_patch(json: &str) -> bool {
    Exec::parse(json).is_ok_and(|exec| super::as_patch(&exec.cmd).is_some())
}

/// Whether a call of `write_stdin` writes anything.
pub(super) fn has_input(json: &str) -> bool {
    Write::parse(json).is_ok_and(|write| !write.chars.is_empty())
}

fn parse<'j, T: Deserialize<'j>>(json: &'j str) -> Result<T, String> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| format!("the arguments are not understood: {error}"))
}

fn clamped(asked_ms: Option<u64>, (default, least, most): (u64, u64, u64)) -> Duration {
    Duration::from_millis(asked_ms.unwrap_or(default).clamp(least, most))
}

fn output_tokens(asked: Option<u64>) -> usize {
    asked.map_or(DEFAULT_OUTPUT_TOKENS, |tokens| usize::try_from(tokens).unwrap_or(usize::MAX))
}

/// A whole number, also as `10.0` and `"10"`, as some models write it; null is none.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| de::Error::custom(format!("expected a whole number instead of {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_within_their_bounds() {
        for (arguments, ms) in [
            (r#"{"cmd":"x"}"#, 10_000),
            (r#"{"cmd":"x","yield_time_ms":1}"#, 250),
            (r#"{"cmd":"x","yield_time_ms":"1000"}"#, 1000),
            (r#"{"cmd":"x","yield_time_ms":1e9}"#, 30_000),
        ] {
            assert_eq!(Exec::parse(arguments).expect(arguments).yield_time(), Duration::from_millis(ms), "{arguments}");
        }
        for (arguments, ms) in [
            (r#"{"session_id":1}"#, 5000),
            (r#"{"session_id":1,"yield_time_ms":60000}"#, 60_000),
            (r#"{"session_id":1,"chars":"a"}"#, 250),
            (r#"{"session_id":"1","chars":"a","yield_time_ms":60000}"#, 30_000),
        ] {
            assert_eq!(
                Write::parse(arguments).expect(arguments).yield_time(),
                Duration::from_millis(ms),
                "{arguments}"
            );
        }
    }

    #[test]
    fn nonsense_is_answered_with_what_is_wrong() {
        for (arguments, expected) in [
            ("", "missing field `cmd`"),
            ("{", "EOF"),
            ("[1]", "invalid"),
            (r#"{"cmd":7}"#, "expected a string"),
            (r#"{"cmd":"x","yield_time_ms":"soon"}"#, "whole number"),
            (r#"{"cmd":"x\u0000"}"#, "NUL"),
        ] {
            let problem = Exec::parse(arguments).expect_err(arguments);
            assert!(problem.contains(expected), "{arguments}: {problem}");
        }
    }
}

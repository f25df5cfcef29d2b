//! What a model calls tools with, as far as it makes sense: what is meant is taken for what is said where nothing else
//! can be meant (`"10"` for 10), and the rest is answered with what is wrong.

use std::time::Duration;

use regex::RegexBuilder;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::model::{Call, CallKind};
use crate::output::recorded::Part;

/// How long a new command is waited for unless the model says otherwise, and the shortest and longest it can say.
const START_YIELD_MS: (u64, u64, u64) = (10_000, 250, 30_000);

/// The same after input was written to a command.
const WRITE_YIELD_MS: (u64, u64, u64) = (250, 250, 30_000);

/// The same for a call that only asks what there is.
const POLL_YIELD_MS: (u64, u64, u64) = (5_000, 5_000, 300_000);

/// How much output a model gets unless it says otherwise, in tokens.
pub(super) const DEFAULT_OUTPUT_TOKENS: usize = 10_000;

/// How many matches `read_output` shows unless the model says otherwise, and at most.
const MATCHES: (u64, u64) = (50, 1000);

/// The most lines shown before and after a match.
const MAX_CONTEXT: u64 = 50;

/// How large a compiled pattern may become, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The arguments of `exec_command`.
#[derive(Debug, Deserialize)]
pub(super) struct Exec {
    #[serde(alias = "command", deserialize_with = "command")]
    pub(super) cmd: String,
    #[serde(default, alias = "cwd")]
    pub(super) workdir: Option<String>,
    #[serde(default)]
    pub(super) shell: Option<String>,
    #[serde(default, deserialize_with = "truth")]
    pub(super) login: Option<bool>,
    #[serde(default, deserialize_with = "truth")]
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

/// The arguments of `read_output`, understood.
#[derive(Debug)]
pub(super) struct Read {
    chunk_id: Option<String>,
    session_id: Option<u64>,
    pub(super) part: Part,
    pub(super) output_tokens: usize,
}

/// The same as they are written.
#[derive(Debug, Deserialize)]
struct RawRead {
    #[serde(default, alias = "chunk", deserialize_with = "name")]
    chunk_id: Option<String>,
    #[serde(default, deserialize_with = "number")]
    session_id: Option<u64>,
    #[serde(default, deserialize_with = "signed")]
    start_line: Option<i64>,
    #[serde(default, deserialize_with = "signed")]
    end_line: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    start_byte: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    end_byte: Option<u64>,
    #[serde(default)]
    search: Option<String>,
    #[serde(default, deserialize_with = "truth")]
    regex: Option<bool>,
    #[serde(default, deserialize_with = "number")]
    max_matches: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    context_lines: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    max_output_tokens: Option<u64>,
}

/// The arguments of `view_image`.
#[derive(Debug, Deserialize)]
pub(super) struct View {
    pub(super) path: String,
}

/// The arguments of `attach_artifact`.
#[derive(Debug, Deserialize)]
pub(super) struct Attach {
    pub(super) path: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) description: Option<String>,
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

impl Read {
    /// Reads them, or says to the model what is wrong.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        let raw: RawRead = parse(json)?;
        let bounded = |asked: Option<u64>, default: u64, most: u64| {
            usize::try_from(asked.unwrap_or(default).min(most)).unwrap_or(usize::MAX)
        };
        let part = match &raw.search {
            Some(search) if !search.is_empty() => {
                let pattern = if raw.regex == Some(true) { search.clone() } else { regex::escape(search) };
                let built = RegexBuilder::new(&pattern).size_limit(MAX_PATTERN_BYTES).build();
                let pattern = built.map_err(|error| format!("`search` is no regular expression: {error}"))?;
                let max = bounded(raw.max_matches, MATCHES.0, MATCHES.1);
                Part::Matches { pattern, max, context: bounded(raw.context_lines, 0, MAX_CONTEXT) }
            }
            Some(_) | None if raw.start_byte.is_some() || raw.end_byte.is_some() => {
                Part::Bytes { first: raw.start_byte.unwrap_or_default(), end: raw.end_byte }
            }
            Some(_) | None => Part::Lines { first: raw.start_line.unwrap_or(1), last: raw.end_line },
        };
        let output_tokens = output_tokens(raw.max_output_tokens);
        Ok(Self { chunk_id: raw.chunk_id, session_id: raw.session_id, part, output_tokens })
    }

    /// The chunk that is named, if one is.
    pub(super) fn chunk_id(&self) -> Option<&str> {
        self.chunk_id.as_deref().filter(|id| !id.is_empty())
    }

    /// The session that is named, if one is.
    pub(super) fn session(&self) -> Option<usize> {
        self.session_id.and_then(|id| usize::try_from(id).ok())
    }
}

impl View {
    /// Reads them, or says to the model what is wrong.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        parse(json)
    }
}

impl Attach {
    /// Reads them, or says to the model what is wrong.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        parse(json)
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
        // The patch itself, where a model takes the function for a freeform tool.
        CallKind::Function if call.input.trim_start().starts_with("*** Begin Patch") => Ok(call.input.clone()),
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
    serde_json::from_str(json).map_err(|error| {
        let what = if error.is_data() { "" } else { "; send one JSON object, whole, with strings quoted and escaped" };
        format!("the arguments are not understood: {}{what}", without_names_of_ours(&error.to_string()))
    })
}

/// What a parser says, without what our types are called.
fn without_names_of_ours(said: &str) -> String {
    let Some((before, after)) = said.split_once("expected struct ") else { return said.to_owned() };
    let (_name, after) = after.split_once(' ').unwrap_or((after, ""));
    format!("{before}expected one JSON object with the tool's parameters {after}")
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

/// A whole number that may be negative.
fn signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|n| n as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| de::Error::custom(format!("expected a whole number instead of {value}")))
}

/// Yes or no, also as `"true"` and `"false"`; null is neither.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match value.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("true") => return Ok(Some(true)),
        Some("false") => return Ok(Some(false)),
        _ => {}
    }
    match value {
        Value::Null => Ok(None),
        Value::Bool(truth) => Ok(Some(truth)),
        value => Err(de::Error::custom(format!("expected true or false instead of {value}"))),
    }
}

/// A name that may look like a number.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(name) => Ok(Some(name)),
        Value::Number(number) => Ok(Some(format!("{number:0>6}", number = number.to_string()))),
        value => Err(de::Error::custom(format!("expected a name instead of {value}"))),
    }
}

/// A command for a shell, also as the list of its words, as a model writes it that knows another tool.
fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let words: Vec<String> = match Value::deserialize(deserializer)? {
        Value::String(command) => return Ok(command),
        Value::Array(words) if !words.is_empty() && words.iter().all(Value::is_string) => {
            words.into_iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        }
        value => return Err(de::Error::custom(format!("invalid type: expected a string instead of {value}"))),
    };
    Ok(match words.as_slice() {
        [shell, flag, script] if shell.ends_with("sh") && ["-c", "-lc"].contains(&flag.as_str()) => script.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    })
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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

    #[test]
    fn what_can_only_mean_one_thing_is_taken_for_it() {
        let exec =
            Exec::parse(r#"{"command":["bash","-lc","ls | wc"],"tty":"True","login":null}"#).expect("understood");
        assert_eq!((exec.cmd.as_str(), exec.tty, exec.login), ("ls | wc", Some(true), None));
        let exec = Exec::parse(r#"{"cmd":["echo","it's","a b"]}"#).expect("understood");
        assert_eq!(exec.cmd, r"echo 'it'\''s' 'a b'");

        let read = Read::parse(r#"{"chunk_id":12345,"start_line":"-3"}"#).expect("understood");
        assert_eq!(read.chunk_id(), Some("012345"));
        assert!(matches!(read.part, Part::Lines { first: -3, last: None }));

        let call = |input: &str| Call {
            call_id: String::new(),
            name: String::new(),
            input: input.to_owned(),
            kind: CallKind::Function,
        };
        assert_eq!(patch(&call("*** Begin Patch\n")), Ok("*** Begin Patch\n".to_owned()));
        assert_eq!(patch(&call(r#"{"patch":"x"}"#)), Ok("x".to_owned()));
    }

    #[test]
    fn a_search_is_for_the_text_itself_unless_it_is_said_to_be_an_expression() {
        let found = |json: &str| match Read::parse(json).map(|read| read.part) {
            Ok(Part::Matches { pattern, max, context }) => (pattern.is_match("a+b"), max, context),
            other => panic!("{other:?}"),
        };

        assert_eq!(found(r#"{"search":"a+b"}"#), (true, 50, 0));
        assert_eq!(found(r#"{"search":"a+b","regex":true,"max_matches":9999,"context_lines":"2"}"#), (false, 1000, 2));
        assert!(Read::parse(r#"{"search":"(","regex":true}"#).expect_err("no expression").contains("`search`"));
        assert!(Read::parse(r#"{"search":"(.{999}){999}","regex":true}"#).is_err(), "it would grow too large");
    }

    #[test]
    fn what_is_wrong_with_arguments_is_said_without_names_of_ours() {
        for odd in ["\"ls\"", "[1]", "3"] {
            let Err(said) = Exec::parse(odd) else { panic!("{odd} is understood") };
            assert!(!said.contains("Exec") && !said.contains("struct"), "{said}");
        }
        assert!(Write::parse("\"x\"").is_err_and(|said| said.contains("one JSON object with the tool's parameters")));
    }
}

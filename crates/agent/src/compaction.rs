//! What takes the place of a conversation that has become too long: the person's messages, and a summary of the rest by
//! the model and by the record. Here it is decided what that is; asking the model is the run's.

mod record;

use serde_json::{Value, json};

use crate::frame::framed;
use crate::history::live;
use crate::model::{NOTE, STANDS_FOR};
use crate::preamble;
pub(crate) use record::{Record, one_line};

/// What the model is asked for.
pub(crate) const REQUEST: &str = include_str!("prompt/compaction.md");

/// The most that is kept of the person's messages, and of a summary, in tokens.
const MAX_MESSAGES: u64 = 20_000;
const MAX_SUMMARY: u64 = 8_000;
const MAX_RECORD: u64 = 4_000;

/// The part of the room for messages that is kept free for what the model was told of its environment, as one of so many.
const FACTS_PART: usize = 4;

/// Less than this of a message says nothing.
const LEAST_BYTES: usize = 200;

/// What an output is shortened to, in bytes, when the conversation is too long even to be summarised.
const SHORT_OUTPUT: usize = 400;

/// About how many bytes a token has. Less than most have, so that what is cut by it is short enough.
const TOKEN_BYTES: u64 = 3;

/// How much room there is for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    messages: usize,
    summary: usize,
    record: usize,
}

impl Budget {
    /// That of a conversation which may have so many tokens; less of everything where that was still too much.
    pub(crate) fn of(room_tokens: u64, is_harder: bool) -> Self {
        let divisor = if is_harder { 3 } else { 1 };
        let bytes = |percent: u64, most: u64| {
            let tokens = (room_tokens / 100).saturating_mul(percent).min(most) / divisor;
            usize::try_from(tokens.saturating_mul(TOKEN_BYTES)).unwrap_or(usize::MAX)
        };
        Self { messages: bytes(30, MAX_MESSAGES), summary: bytes(20, MAX_SUMMARY), record: bytes(15, MAX_RECORD) }
    }
}

/// The new conversation: what a person said, as far as there is room, and what stands for the rest.
pub(crate) fn items(all: &[Value], summary: Option<&str>, record: &Record, budget: Budget) -> Vec<Value> {
    let mut items = messages(live(all), budget.messages);
    let by = if summary.is_some() { "you" } else { "the service, because you could not be asked" };
    let summary = summary.map_or_else(|| record.last_words(budget.summary), |text| shortened(text, budget.summary));
    let text = format!(
        "[Context summary {}] The conversation up to here was longer than your context window. The person's messages \
         above are as they were said; everything else is replaced by this summary. Go on from here: what is done is \
         done, and the files are as you left them.\n\n<summary by=\"{by}\">\n{}\n</summary>\n{}",
        record.compactions + 1,
        framed(summary.trim()),
        record.render(budget.record),
    );
    let mut item = preamble::message(&text);
    item[STANDS_FOR] = json!("summary");
    items.push(item);
    items
}

/// The messages to the model, in their order, as far as there is room: what the person asked first, what was said last,
/// and what was said before that; then what was told of the environment last, for which a part of the room is kept free.
/// What we said of an answer or of a limit goes with what it was about. What is too long loses its middle, and what is
/// old its images.
fn messages(live: &[Value], room: usize) -> Vec<Value> {
    let told = live.iter().enumerate().filter(|(_, item)| item["role"] == "user" && item[STANDS_FOR].is_null());
    let (notes, said): (Vec<_>, Vec<_>) = told.partition(|(_, item)| item[NOTE].is_string());
    let facts =
        preamble::LASTING.iter().filter_map(|kind| notes.iter().rfind(|(_, item)| item[NOTE] == *kind).copied());
    let facts: Vec<(usize, &Value)> = facts.collect();
    let last = said.last().map(|(at, _)| *at);
    // The last word counts as much as the first one.
    let first = said.first().into_iter().chain(said.get(1..).and_then(<[_]>::last));
    let between = said.get(1..said.len().saturating_sub(1)).unwrap_or_default();

    let mut kept: Vec<(usize, Value)> = Vec::new();
    let mut keep = |(at, item): (usize, &Value), left: &mut usize| {
        let (most, is_last) = ((*left).min(room / 2), Some(at) == last);
        if most >= LEAST_BYTES.min(text_bytes(item)) || is_last {
            let item = shortened_message(item, most.max(LEAST_BYTES), is_last);
            *left = left.saturating_sub(text_bytes(&item));
            kept.push((at, item));
        }
    };
    let reserve = facts.iter().map(|(_, item)| text_bytes(item)).sum::<usize>().min(room / FACTS_PART);
    let mut left = room - reserve;
    first.chain(between.iter().rev()).for_each(|message| keep(*message, &mut left));
    left += reserve;
    facts.into_iter().for_each(|fact| keep(fact, &mut left));
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter().map(|(_, item)| item).collect()
}

fn shortened_message(item: &Value, most: usize, keeps_images: bool) -> Value {
    let mut item = item.clone();
    match item.get_mut("content") {
        Some(Value::String(text)) => *text = shortened(text, most),
        Some(Value::Array(parts)) => {
            let mut left = most;
            for part in parts {
                if let Some(text) = part["text"].as_str() {
                    let text = shortened(text, left);
                    left = left.saturating_sub(text.len()).max(LEAST_BYTES);
                    part["text"] = json!(text);
                } else if !keeps_images {
                    *part = json!({ "type": "input_text", "text": "[an image was left out here]" });
                }
            }
        }
        _ => {}
    }
    item
}

fn text_bytes(item: &Value) -> usize {
    match &item["content"] {
        Value::String(text) => text.len(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).map(str::len).sum(),
        _ => 0,
    }
}

/// The items with their outputs shortened, the oldest first, until they have no more than so many tokens or nothing can be
/// shortened any more, and how many they have then: for asking for a summary of what does not fit.
pub(crate) fn squeezed(
    items: &[Value],
    mut tokens: u64,
    target: u64,
    count: impl Fn(&Value) -> u64,
) -> (Vec<Value>, u64) {
    let mut items = items.to_vec();
    for most in [SHORT_OUTPUT, LEAST_BYTES] {
        for item in &mut items {
            if tokens <= target {
                return (items, tokens);
            }
            let before = count(item);
            shorten_output(item, most);
            tokens = tokens.saturating_sub(before.saturating_sub(count(item)));
        }
    }
    (items, tokens)
}

/// Shortens the output of a call, and the arguments of none: servers check their form.
fn shorten_output(item: &mut Value, most: usize) {
    match item.get_mut("output") {
        Some(Value::String(text)) => *text = shortened(text, most),
        Some(output @ Value::Array(_)) => {
            let parts = output.as_array().map(Vec::as_slice).unwrap_or_default();
            let texts = parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n");
            *output = json!(format!("{}\n[an image was left out here]", shortened(&texts, most)));
        }
        _ => {}
    }
}

/// A text of at most about so many bytes: without its middle.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let half = most / 2;
    let head = text.floor_char_boundary(half);
    let tail = text.ceil_char_boundary(text.len() - half);
    format!("{}\n[… {} bytes were left out here …]\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests;

//! How many tokens a conversation has: by its length until that matters, then by the vocabulary of current OpenAI
//! models, and always corrected by what the server says it counted ([`Meter`]). Each item is counted once.
//!
//! The vocabulary takes 45 MB and half a second to load, and nothing in a process whose conversations stay far from
//! their windows and whose servers count.

mod image;
mod meter;
mod tools;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tiktoken_rs::o200k_base_singleton;

pub(crate) use image::ImageRule;
pub(crate) use meter::Meter;
use tools::of_tools;

/// What is around a message: who speaks, where it begins and ends.
const MESSAGE: u64 = 4;

/// What is around a call or its result.
const CALL: u64 = 8;

/// The longest piece that is counted at once. What a hostile output makes hard to count stays short that way.
const PIECE_BYTES: usize = 4 << 10;

/// How much of an image is decoded to learn its size.
const HEADER_CHARS: usize = 64 << 10;

/// How texts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Four bytes a token, which is near the truth for English and code.
    Rough,
    /// By the vocabulary.
    Exact,
}

/// Loads the vocabulary: once in a process.
pub(crate) async fn load() {
    let loading = tokio::task::spawn_blocking(|| o200k_base_singleton().count_ordinary("a"));
    if let Err(error) = loading.await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

impl Count {
    /// The tokens of a text.
    pub(crate) fn of_text(self, text: &str) -> u64 {
        match self {
            Self::Rough => (text.len() as u64).div_ceil(4),
            Self::Exact => exactly(text),
        }
    }

    /// The tokens of an item.
    pub(crate) fn of_item(self, item: &Value, images: ImageRule) -> u64 {
        let field = |name: &str| item[name].as_str().map_or(0, |text| self.of_text(text));
        match item["type"].as_str() {
            Some("function_call" | "custom_tool_call") => CALL + field("name") + field("arguments") + field("input"),
            Some("function_call_output" | "custom_tool_call_output") => CALL + self.of_content(&item["output"], images),
            Some("reasoning") => self.of_reasoning(item),
            _ => MESSAGE + self.of_content(&item["content"], images),
        }
    }

    /// The tokens of what a message or a result consists of: a text, or parts.
    fn of_content(self, content: &Value, images: ImageRule) -> u64 {
        match content {
            Value::String(text) => self.of_text(text),
            Value::Array(parts) => parts.iter().map(|part| self.of_part(part, images)).sum(),
            _ => 0,
        }
    }

    fn of_part(self, part: &Value, images: ImageRule) -> u64 {
        if let Some(text) = part["text"].as_str().or_else(|| part["refusal"].as_str()) {
            return self.of_text(text);
        }
        part["image_url"].as_str().map_or(0, |url| images.tokens(image_size(url)))
    }

    /// Reasoning in plain is what it is. Encrypted, its length tells: base64 of a frame of about 650 bytes and the text.
    fn of_reasoning(self, item: &Value) -> u64 {
        let encrypted = ["encrypted_content", "redacted"].iter().find_map(|field| item[*field].as_str());
        if let Some(encrypted) = encrypted {
            return (encrypted.len() as u64 * 3 / 4).saturating_sub(650) / 4;
        }
        ["content", "details"].iter().map(|field| self.of_content(&item[*field], ImageRule::NONE)).sum()
    }
}

fn exactly(text: &str) -> u64 {
    let vocabulary = o200k_base_singleton();
    let (mut rest, mut tokens) = (text, 0);
    while rest.len() > PIECE_BYTES {
        let head = &rest[..rest.floor_char_boundary(PIECE_BYTES)];
        // A line end closes a token, and a space begins one.
        let end = head.rfind('\n').map(|at| at + 1).or_else(|| head.rfind(' ')).filter(|at| *at > 0);
        let (piece, more) = rest.split_at(end.unwrap_or(head.len()));
        tokens += vocabulary.count_ordinary(piece) as u64;
        rest = more;
    }
    tokens + vocabulary.count_ordinary(rest) as u64
}

/// The size of an image by its URL, if that has the image in it.
pub(crate) fn image_size(url: &str) -> Option<(u32, u32)> {
    let (_, encoded) = url.split_once(";base64,")?;
    // Whole groups of four characters can be decoded by themselves.
    let head = encoded.get(..encoded.len().min(HEADER_CHARS) / 4 * 4)?;
    let header = crate::tools::image_header(&STANDARD.decode(head).ok()?)?;
    Some((header.width, header.height))
}

#[cfg(test)]
mod tests;

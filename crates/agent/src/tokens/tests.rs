//! Our counts against those of another program. The figures are those of the npm package `gpt-tokenizer` 4.0.0:
//! `import {encode} from "gpt-tokenizer/encoding/o200k_base"; console.log(encode(text).length)`.

use serde_json::json;

use super::*;

const ENGLISH: &str =
    "The agent thinks outside and acts inside. Its loop runs in the service's process and holds the model key.";
const CODE: &str = "pub(crate) async fn load() -> Result<u64, Error> {\n    let loading = spawn(|| count(\"a\"));\n    loading.await.map_err(Error::from)\n}\n";
const OTHER: &str = "模型的上下文窗口快满了。 Çà et là — naïve façade, Ωμέγα 🦀🚀\n";
const LOG: &str = "test api::tasks::create ... ok\ntest api::tasks::cancel ... FAILED (0.034s)\n";

#[test]
fn texts_have_as_many_tokens_as_another_program_counts() {
    for (text, expected) in [(ENGLISH, 22), (CODE, 35), (OTHER, 27), (LOG, 23)] {
        assert_eq!(Count::Exact.of_text(text), expected, "{text}");
    }
}

#[test]
fn a_long_text_is_counted_in_pieces_and_hardly_otherwise() {
    let all = [
        (LOG.repeat(200), 4600),
        (format!("{ENGLISH} ").repeat(100), 2201),
        (CODE.repeat(100), 3500),
        ("a".repeat(10_000), 1250),
    ];

    for (text, expected) in all {
        let counted = Count::Exact.of_text(&text);
        assert!(counted.abs_diff(expected) * 200 <= expected, "{counted} {expected}");
    }
}

#[test]
fn what_is_hard_to_count_is_counted() {
    for text in [" ".repeat(50_000), "\n".repeat(50_000), "\u{fffd}\u{300}".repeat(10_000), "🦀".repeat(10_000)] {
        let tokens = Count::Exact.of_text(&text);

        assert!((1..text.len() as u64).contains(&tokens), "{tokens}");
    }
}

#[test]
fn an_image_counts_for_its_size_and_not_for_its_bytes() {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([0, 0, 4, 0, 0, 0, 4, 0]);
    png.resize(1 << 20, 0);
    let url = format!("data:image/png;base64,{}", STANDARD.encode(png));
    let item =
        json!({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": url}]});

    let tokens = Count::Rough.of_item(&item, ImageRule::Tiles { base: 85, tile: 170 });

    assert_eq!(tokens, CALL + 765);
}

#[test]
fn reasoning_counts_for_what_is_in_it() {
    let encrypted = json!({"type": "reasoning", "summary": [], "encrypted_content": "A".repeat(4_200)});
    let plain = json!({"type": "reasoning", "content": [{"type": "reasoning_text", "text": "12345678"}]});

    assert_eq!(Count::Rough.of_item(&encrypted, ImageRule::NONE), 625);
    assert_eq!(Count::Rough.of_item(&plain, ImageRule::NONE), 2);
}

#[tokio::test]
async fn the_vocabulary_is_loaded_beside_the_runtime() {
    load().await;

    assert_eq!(Count::Exact.of_text("hello world"), 2);
}

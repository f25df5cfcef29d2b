//! A few bytes of patch that ask git for gigabytes.

use std::fmt::Write;
use std::fs;

use carrel_forge::ForgeError;

use crate::support::{World, branch, request};

/// What one instruction of the delta copies: all of the file.
const COPIED: u64 = 0x0f_ffff;

/// A zlib stream that compresses nothing.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let length = u16::try_from(bytes.len()).expect("one block");
    stream.push(1);
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(bytes);
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

/// Git's lines of base 85.
fn base85(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 85] =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let mut text = String::new();
    for line in bytes.chunks(52) {
        let length = u8::try_from(line.len()).expect("at most 52");
        text.push(char::from(if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 }));
        for group in line.chunks(4) {
            let mut value = (0..4).fold(0, |value, at| value << 8 | u32::from(*group.get(at).unwrap_or(&0)));
            let mut letters = [0; 5];
            for letter in letters.iter_mut().rev() {
                *letter = ALPHABET[(value % 85) as usize];
                value /= 85;
            }
            text.extend(letters.map(char::from));
        }
        text.push('\n');
    }
    text
}

fn size(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[tokio::test]
async fn a_binary_delta_that_unpacks_to_gigabytes_stops_at_the_memory_limit() {
    let world = World::new();
    let length = usize::try_from(COPIED).expect("a length");
    world.source.write("zeros.bin", vec![0; length]);
    world.source.commit("zeros");
    let mirror = world.fetch().await.expect("a mirror");
    let base = mirror.resolve(&branch("main")).await.expect("main").commit;
    let copies = 6_400_u64;
    let mut delta = [size(COPIED), size(COPIED * copies)].concat();
    for _ in 0..copies {
        delta.extend([0xf0, 0xff, 0xff, 0x0f]);
    }
    let oid = world.source.git(&["rev-parse", "HEAD:zeros.bin"]);
    let mut text = format!("diff --git a/zeros.bin b/zeros.bin\nindex {oid}..{} 100644\n", "1".repeat(40));
    write!(text, "GIT binary patch\ndelta {}\n{}\n", delta.len(), base85(&stored(&delta))).expect("a text");
    let patch = world.path("bomb.patch");
    fs::write(&patch, text).expect("a patch");

    let error = mirror.commit_patch(&request(&base, &patch)).await.expect_err("too much");

    assert!(matches!(&error, ForgeError::PatchDoesNotApply { words } if words.contains("emory")), "{error:?}");
}

//! JSON with comments and trailing commas, made plain. Lines stay where they are, so errors name the right one.

/// The text with comments and trailing commas as blanks.
pub(super) fn plain(text: &str) -> String {
    let mut plain: Vec<u8> = Vec::with_capacity(text.len());
    // Where the last comma is that only blanks have followed.
    let mut comma = None;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        let length = match (byte, bytes.get(at + 1).copied()) {
            (b'"', _) => string_length(&bytes[at..]),
            (b'/', Some(b'/')) => bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at),
            (b'/', Some(b'*')) => block_length(&bytes[at..]),
            _ => 1,
        };
        let part = &bytes[at..at + length];
        at += length;
        if byte == b'/' && length > 1 {
            plain.extend(part.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            continue;
        }
        match byte {
            b',' => comma = Some(plain.len()),
            b']' | b'}' => {
                if let Some(comma) = comma.take() {
                    plain[comma] = b' ';
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => comma = None,
        }
        plain.extend_from_slice(part);
    }
    // Only whole comments and single commas were replaced, so it is text as before.
    String::from_utf8(plain).expect("parts of UTF-8 between ASCII")
}

/// Bytes of a string with its quotes, or to the end where it does not end.
fn string_length(bytes: &[u8]) -> usize {
    let mut is_escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// Bytes of a block comment, or to the end where it does not end.
fn block_length(bytes: &[u8]) -> usize {
    bytes.windows(2).skip(2).position(|two| two == b"*/").map_or(bytes.len(), |at| at + 4)
}

//! File names as git writes them in a patch: plain, or in double quotes with the escapes of C.

/// The name in quotes at the beginning, and what follows it. Git's own set of escapes, and no other.
pub(super) fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                rest = after;
                name.push(match escaped {
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    b'r' => b'\r',
                    b'"' | b'\\' => *escaped,
                    b'0'..=b'3' => {
                        let (digits, after) = rest.split_at_checked(2)?;
                        rest = after;
                        digits.iter().try_fold(escaped - b'0', |value, digit| {
                            matches!(digit, b'0'..=b'7').then(|| value << 3 | (digit - b'0'))
                        })?
                    }
                    _ => return None,
                });
            }
            byte if is_plain(*byte) => name.push(*byte),
            _ => return None,
        }
    }
}

/// A name that takes all of the text, plain or in quotes.
pub(super) fn whole(text: &[u8]) -> Option<Vec<u8>> {
    if text.starts_with(b"\"") {
        return unquote(text).filter(|(_, rest)| rest.is_empty()).map(|(name, _)| name);
    }
    plain(text)
}

/// The one name that both sides of a `diff --git` line have after their prefixes.
pub(super) fn both(text: &[u8]) -> Option<Vec<u8>> {
    let (old, new) = if text.starts_with(b"\"") {
        let (old, rest) = unquote(text)?;
        (old, whole(rest.strip_prefix(b" ")?)?)
    } else {
        // `a/N b/N`: only one place can be the middle.
        let middle = text.len() / 2;
        let (old, new) = text.split_at_checked(middle)?;
        (plain(old)?, plain(new.strip_prefix(b" ")?)?)
    };
    let old = old.strip_prefix(b"a/")?;
    (new.strip_prefix(b"b/")? == old).then(|| old.to_vec())
}

/// Whether a `diff --git` line has these two names.
pub(super) fn are(text: &[u8], old: &str, new: &str) -> bool {
    let rest = if text.starts_with(b"\"") {
        unquote(text).filter(|(name, _)| name.strip_prefix(b"a/") == Some(old.as_bytes())).map(|(_, rest)| rest)
    } else {
        text.strip_prefix(b"a/").and_then(|text| text.strip_prefix(old.as_bytes()))
    };
    let named = rest.and_then(|rest| rest.strip_prefix(b" ")).and_then(whole);
    named.is_some_and(|name| name.strip_prefix(b"b/") == Some(new.as_bytes()))
}

/// A name outside of quotes: git would have quoted one with control characters, quotes or backslashes.
fn plain(text: &[u8]) -> Option<Vec<u8>> {
    text.iter().all(|byte| is_plain(*byte) && !matches!(byte, b'"' | b'\\')).then(|| text.to_vec())
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f
}

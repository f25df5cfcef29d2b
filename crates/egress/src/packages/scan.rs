//! Small readers for text of which only a few words matter and which may be cut off in the middle: JSON, HTML, XML and
//! scripts. None of them recurses, and none keeps more than it was asked for.

/// Most values that are taken from one page.
const MAX_VALUES: usize = 200;
/// Longest string that is taken, in bytes.
const MAX_STRING_BYTES: usize = 4096;

/// The string values of these keys anywhere in JSON, in order, also of a text that ends in the middle.
pub(super) fn values(json: &[u8], keys: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut is_wanted = false;
    while found.len() < MAX_VALUES {
        let Some(open) = json[at..].iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) else {
            break;
        };
        at += open;
        if json[at] != b'"' {
            is_wanted = false;
            at += 1;
            continue;
        }
        let Some(length) = string_length(&json[at..]) else { break };
        let text = string(&json[at..at + length]);
        at += length;
        let after = json[at..].iter().position(|byte| !byte.is_ascii_whitespace()).map_or(json.len(), |gap| at + gap);
        let is_key = json.get(after) == Some(&b':');
        if is_key {
            is_wanted = text.as_deref().is_some_and(|text| keys.contains(&text));
            at = after + 1;
        } else {
            found.extend(text.filter(|_| is_wanted));
            is_wanted = false;
        }
    }
    found
}

/// Bytes from one quote to the other, both counted. `None` where the text ends before.
fn string_length(json: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in json.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn string(quoted: &[u8]) -> Option<String> {
    if quoted.len() > MAX_STRING_BYTES {
        return None;
    }
    serde_json::from_slice(quoted).ok()
}

/// The values of `href` in HTML, in order, as far as they are whole and quoted.
pub(super) fn links(html: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(html);
    let mut found = Vec::new();
    let mut rest = text.as_ref();
    while let Some(at) = rest.find("href=").filter(|_| found.len() < MAX_VALUES) {
        rest = &rest[at + "href=".len()..];
        let Some(quote) = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else { continue };
        let Some((value, after)) = rest[1..].split_once(quote) else { break };
        if value.len() <= MAX_STRING_BYTES {
            found.push(value.replace("&amp;", "&"));
        }
        rest = after;
    }
    found
}

/// The texts of an XML element without attributes.
pub(super) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(open.as_str()).skip(1).take(MAX_VALUES);
    parts.filter_map(|part| Some(part.split_once(close.as_str())?.0.trim().to_owned())).collect()
}

/// The text without its comments; one that does not end takes the rest with it.
pub(super) fn without_comments(text: &str, open: &str, close: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(open) {
        kept.push_str(before);
        rest = after.split_once(close).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

/// The first http or https address in a line, up to a quote, a blank or a closing bracket.
pub(super) fn first_address(line: &str) -> Option<String> {
    let begin = ["https://", "http://"].iter().filter_map(|scheme| line.find(scheme)).min()?;
    let ends =
        |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`' | ')' | '>' | ',' | ';' | '|');
    line[begin..].split(ends).next().map(str::to_owned)
}

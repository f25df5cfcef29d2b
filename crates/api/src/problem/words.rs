//! What is wrong with a body or a query that could not be read, in our words: which field, and what it is to be. The value is
//! never repeated, for it may be a secret; only a word that should have been one of a few is.

/// What a reader complains of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The field, as a path, where it is known.
    pub(super) field: Option<String>,
    /// What is wrong, and what would be right.
    pub(super) message: String,
}

/// Reads what serde says about a value: `limits.steps: invalid type: string "x", expected u32 at line 1 column 9`.
pub(super) fn complaint(text: &str) -> Complaint {
    let text = without_position(text);
    let (path, what) = match text.split_once(": ") {
        Some((path, what)) if is_path(path) => (path, what),
        _ => ("", text),
    };
    if let Some(complaint) = about_a_name(path, what) {
        return complaint;
    }
    let field = if path.is_empty() { "the request".to_owned() } else { format!("`{path}`") };
    let message = match about_a_value(what) {
        Some(words) => format!("{field} {words}"),
        None if path.is_empty() => without_values(text),
        None => format!("{field}: {}", without_values(what)),
    };
    Complaint { field: (!path.is_empty()).then(|| path.to_owned()), message }
}

/// Complaints whose field stands in their own words.
fn about_a_name(path: &str, what: &str) -> Option<Complaint> {
    let (problem, rest) = what.split_once(" field `")?;
    let (name, rest) = rest.split_once('`')?;
    let is_named = path == name || path.strip_suffix(name).is_some_and(|before| before.ends_with('.'));
    let field = if path.is_empty() || is_named { name.to_owned() } else { format!("{path}.{name}") };
    let message = match problem {
        "missing" => format!("`{field}` is missing"),
        "duplicate" => format!("`{field}` is given twice"),
        "unknown" => match expected(rest) {
            Some(known) => format!("there is no field `{field}`; there is {known}"),
            None => format!("there is no field `{field}`"),
        },
        _ => return None,
    };
    Some(Complaint { field: Some(field), message })
}

/// The names in ``, expected one of `a`, `b` ``.
fn expected(text: &str) -> Option<String> {
    let names = text.strip_prefix(", expected ")?;
    let names = names.strip_prefix("one of ").unwrap_or(names);
    Some(names.replace("` or `", "`, `"))
}

/// What is wrong with a field's value, behind its name.
fn about_a_value(what: &str) -> Option<String> {
    if let Some(rest) = what.strip_prefix("unknown variant `") {
        let (value, rest) = rest.split_once("`, ")?;
        let known = expected(&format!(", {rest}"))?;
        return Some(format!("is `{value}`; it may be {known}"));
    }
    for begin in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = what.strip_prefix(begin) {
            // The value may hold anything, also what looks like the end of it.
            let (found, wanted) = rest.rsplit_once(", expected ")?;
            return Some(format!("is {}; it must be {}", kind(found), wanted_words(wanted)));
        }
    }
    if let Some(rest) = what.strip_prefix("invalid length ") {
        let (_, wanted) = rest.rsplit_once(", expected ")?;
        return wanted.starts_with("struct ").then(|| "is a list; it must be an object".to_owned());
    }
    let words = match what {
        "invalid digit found in string" | "cannot parse integer from empty string" => "must be a whole number",
        "number too large to fit in target type" => "is a number too large",
        "number too small to fit in target type" => "is a number too small",
        what if what.starts_with("UUID parsing failed") => "is no id",
        "provided string was not `true` or `false`" => "must be `true` or `false`",
        _ => return None,
    };
    Some(words.to_owned())
}

/// What was found in place of something else, without its value.
fn kind(found: &str) -> &str {
    match found.split([' ', '`']).next().unwrap_or_default() {
        "string" | "character" => "text",
        "integer" | "floating" => "a number that does not fit",
        "boolean" => "a truth value",
        "map" => "an object",
        "sequence" => "a list",
        "null" | "unit" => "null",
        _ => "something else",
    }
}

/// What should have been there.
fn wanted_words(wanted: &str) -> String {
    let words = match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "str" => "text",
        "a boolean" => "true or false",
        "a map" => "an object",
        "a sequence" => "a list",
        wanted if wanted.starts_with("struct ") || wanted.starts_with("internally tagged enum ") => "an object",
        wanted if wanted.starts_with("a UUID") || wanted.contains("UUID") => "an id",
        other => return without_values(other),
    };
    words.to_owned()
}

/// The place in the body helps nobody who has not written it by hand.
fn without_position(text: &str) -> &str {
    match text.rsplit_once(" at line ") {
        Some((before, place)) if place.bytes().all(|byte| byte.is_ascii_digit() || b" column".contains(&byte)) => {
            before
        }
        _ => text,
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-[]".contains(&byte))
}

/// A complaint in serde's words without the value it complains of: `invalid type: string "…", expected a map` keeps only the
/// kind of value.
fn without_values(text: &str) -> String {
    for kind in ["string \"", "integer `", "floating point `", "character `"] {
        let begins = ["invalid type: ", "invalid value: "].map(|what| format!("{what}{kind}"));
        let Some(begin) = begins.iter().find_map(|begin| Some(text.find(begin)? + begin.len())) else { continue };
        // The value may hold anything, also what looks like the end of it.
        let quote = if kind.ends_with('"') { '"' } else { '`' };
        if let Some(end) = text.rfind(&format!("{quote}, expected")) {
            let end = end.max(begin);
            return format!("{}…{}", &text[..begin], &text[end..]);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (Option<String>, String) {
        let Complaint { field, message } = complaint(text);
        (field, message)
    }

    #[test]
    fn a_complaint_names_the_field_and_what_it_is_to_be() {
        for (text, field, message) in [
            ("missing field `repository` at line 1 column 2", "repository", "`repository` is missing"),
            ("limits: missing field `steps` at line 1 column 2", "limits.steps", "`limits.steps` is missing"),
            (
                "atempts: unknown field `atempts`, expected one of `attempts`, `mode` at line 1 column 9",
                "atempts",
                "there is no field `atempts`; there is `attempts`, `mode`",
            ),
            (
                "unknown field `x`, expected `limit` or `before`",
                "x",
                "there is no field `x`; there is `limit`, `before`",
            ),
            ("a: duplicate field `a`", "a", "`a` is given twice"),
            (
                "mode: unknown variant `play`, expected `ask` or `code`",
                "mode",
                "`mode` is `play`; it may be `ask`, `code`",
            ),
            (
                "attempts: invalid type: null, expected u32",
                "attempts",
                "`attempts` is null; it must be a whole number, 0 or more",
            ),
            (
                "attempts: invalid value: integer `-1`, expected u32",
                "attempts",
                "`attempts` is a number that does not fit; it must be a whole number, 0 or more",
            ),
            ("prompt: invalid type: map, expected a string", "prompt", "`prompt` is an object; it must be text"),
            ("limit: invalid digit found in string", "limit", "`limit` must be a whole number"),
            ("before: UUID parsing failed: invalid length", "before", "`before` is no id"),
        ] {
            assert_eq!(said(text), (Some(field.to_owned()), message.to_owned()));
        }
    }

    #[test]
    fn a_complaint_about_all_of_it_names_no_field() {
        for (text, message) in [
            (
                "invalid type: sequence, expected struct CreateTask at line 1 column 0",
                "the request is a list; it must be an object",
            ),
            (
                "invalid length 0, expected struct CreateTask with 12 elements",
                "the request is a list; it must be an object",
            ),
            ("something that serde has never said", "something that serde has never said"),
        ] {
            assert_eq!(said(text), (None, message.to_owned()));
        }
    }

    #[test]
    fn a_complaint_does_not_repeat_the_value() {
        for (text, message) in [
            (
                r#"secrets.T: invalid type: string "hunter2", expected a map"#,
                "`secrets.T` is text; it must be an object",
            ),
            (r#"a: invalid type: string "x, expected y", expected a map"#, "`a` is text; it must be an object"),
            (
                "a: invalid type: integer `123456`, expected a string",
                "`a` is a number that does not fit; it must be text",
            ),
            (
                r#"?: invalid value: string "hunter2", expected a day"#,
                r#"?: invalid value: string "…", expected a day"#,
            ),
        ] {
            assert_eq!(said(text).1, message);
        }
    }
}
